"""Checks a prepared data set against its manifest and its split."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from seqloom.core.errors import ArtefactError
from seqloom.data.cold_split import cold_users
from seqloom.data.split import Split, drop_targets, leave_one_out, temporal_split
from seqloom.data.statistics import describe_split
from seqloom.data.store import Dataset, fingerprint
from seqloom.data.timestamps import SECOND, parse_moment
from seqloom.pipelines.audit.report import Checks
from seqloom.pipelines.train.foundation import merge_events

_AGAIN = "run `seqloom prepare` again, then embed and train again"


def check_dataset(data: Dataset, checks: Checks) -> None:
    """Checks the fingerprint, the split, the hash of the training part, and the statistics."""
    actual = fingerprint(data.item_ids, data.user_ids, data.events, data.num_cold_items)
    checks.judge(
        "events, users, items",
        "the log",
        actual == data.fingerprint,
        good="ids, events and split have the manifest's fingerprint",
        bad=f"the manifest's fingerprint is {data.fingerprint[:12]}, the files' is {actual[:12]}",
        action=_AGAIN,
    )
    if "origins" in data.manifest.options:
        _check_origins(data, checks)
    else:
        _check_split(data, checks)
    _check_hash(data, checks)
    _check_statistics(data, checks)
    if data.num_cold_items:
        _check_cold(data, checks)


def _check_cold(data: Dataset, checks: Checks) -> None:
    """Checks that cold items occur only as test targets."""
    events = data.events
    elsewhere = events.items > data.warm.num_items
    elsewhere[events.test[events.test >= 0]] = False
    count = int(elsewhere.sum())
    checks.judge(
        "cold items",
        "no event except test targets",
        not count,
        good=f"{data.num_cold_items:,} items are in no training part, no history and no validation target",
        bad=f"{count} events of cold items are not test targets",
        action=_AGAIN,
    )


def _check_split(data: Dataset, checks: Checks) -> None:
    rule = str(data.manifest.options.get("split"))
    what = ("held-out positions", f"the rule {data.split!r}")
    split = _split_again(data, rule)
    if split is None:
        checks.unknown(*what, "the data set does not name the rule of its split")
        return
    wrong = torch.zeros(data.num_users, dtype=torch.bool)
    for name in ("train_end", "valid", "test"):
        wrong |= getattr(data.events, name) != torch.from_numpy(getattr(split, name))
    users = torch.nonzero(wrong).flatten().tolist()
    checks.judge(
        *what,
        not users,
        good="each user's training part, validation and test target are where the rule puts them",
        bad=f"{len(users)} users have them elsewhere, the first is {_first_user(data, users)}",
        action=_AGAIN,
    )


def _check_origins(data: Dataset, checks: Checks) -> None:
    """Merges the data sets of a foundation run again and checks each of them."""
    what = ("held-out positions", "what each merged data set holds out")
    origins = data.manifest.options["origins"]
    try:
        parts = [Dataset.load(origin["path"]) for origin in origins]
    except ArtefactError as error:
        checks.unknown(*what, str(error), "keep the data sets that were merged")
        return
    same = all(
        part.fingerprint == origin["fingerprint"]
        for part, origin in zip(parts, origins, strict=True)
    )
    remade = merge_events([part.warm for part in parts]).tensors() if same else {}
    kept = data.events.tensors()
    wrong = [n for n in kept if n not in remade or not torch.equal(kept[n], remade[n])]
    checks.judge(
        *what,
        not wrong,
        good=f"{len(parts)} data sets, merged again, give these events and parts",
        bad=f"{', '.join(wrong)} are not what the data sets give" if same else "a data set changed",
        action="train the foundation run again",
    )
    for part, origin in zip(parts, origins, strict=True):
        check_dataset(part, checks.within(origin["name"]))


def _first_user(data: Dataset, users: list[int]) -> str:
    return repr(data.user_ids[users[0]]) if users else ""


def _split_again(data: Dataset, rule: str) -> Split | None:
    offsets = data.events.offsets.numpy()
    if data.manifest.options.get("ties") == "drop-targets":
        split = _split_all_again(data, rule)
        if split is None or data.tied is None:
            return None
        return drop_targets(split, data.tied.numpy(), offsets)
    return _split_all_again(data, rule)


def _split_all_again(data: Dataset, rule: str) -> Split | None:
    """Splits again, tied targets included."""
    events, offsets = data.events, data.events.offsets.numpy()
    if data.has_cold_users:
        return _split_users_again(data)
    if rule == "leave-one-out":
        return leave_one_out(offsets)
    facts = data.manifest.statistics
    if rule != "temporal" or events.timestamps is None or "valid_from" not in facts:
        return None
    bounds = (parse_moment(facts[key], key) for key in ("valid_from", "test_from"))
    users = np.repeat(np.arange(data.num_users), np.diff(offsets))
    return temporal_split(events.timestamps.numpy() * SECOND, users, offsets, *bounds)


def _split_users_again(data: Dataset) -> Split:
    """Splits by users: those with a test target, or without any training event, are cold."""
    events, offsets = data.events, data.events.offsets.numpy()
    valid, test = (at.numpy() >= 0 for at in (events.valid, events.test))
    neither = (events.train_end.numpy() == offsets[:-1]) & ~valid
    return cold_users(offsets, valid, test | neither)


def _check_hash(data: Dataset, checks: Checks) -> None:
    what = ("training part", "events before the held-out ones")
    recorded = data.manifest.training
    if not recorded:
        checks.unknown(*what, "an older seqloom made the data set and kept no hash", _AGAIN)
        return
    checks.judge(
        *what,
        recorded == data.training_hash,
        good=f"its hash is the manifest's ({recorded[:12]})",
        bad=f"the manifest's hash is {recorded[:12]}, that of the events {data.training_hash[:12]}",
        action=_AGAIN,
    )


def _check_statistics(data: Dataset, checks: Checks) -> None:
    events = data.events
    split = Split(events.train_end.numpy(), events.valid.numpy(), events.test.numpy())
    offsets = events.offsets.numpy()
    counted = describe_split(events.items.numpy() - 1, offsets, split, data.num_items)
    counted["repeats"] = data.repeats.facts()
    stated: dict[str, Any] = data.manifest.statistics
    # The events no longer contain what the split left unused.
    wrong = [k for k in counted if k in stated and k != "unused_events" and stated[k] != counted[k]]
    first = wrong[0] if wrong else ""
    checks.judge(
        "statistics",
        "training part; targets are counted",
        not wrong,
        good="the counts of the manifest are those of the events",
        bad=f"{first} is {stated.get(first)} in the manifest, {counted.get(first)} in the events",
        action=_AGAIN,
    )
