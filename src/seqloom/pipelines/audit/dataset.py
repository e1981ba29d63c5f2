"""Checks of a prepared data set: is it what it says, and is held out what the split holds out?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from seqloom.core.errors import ArtefactError
from seqloom.data.cold_split import cold_users
from seqloom.data.split import Split, leave_one_out, temporal_split
from seqloom.data.statistics import describe_split
from seqloom.data.store import Dataset, fingerprint
from seqloom.data.timestamps import SECOND, parse_moment
from seqloom.pipelines.audit.report import Checks
from seqloom.pipelines.train.foundation import merged_events

_AGAIN = "run `seqloom prepare` again, then embed and train again"


def check_dataset(data: Dataset, checks: Checks) -> None:
    """Fingerprint, split, hash of the training part, statistics."""
    found = fingerprint(data.item_ids, data.user_ids, data.events, data.num_cold_items)
    checks.judge(
        "events, users, items",
        "the log",
        found == data.fingerprint,
        good="ids, events and split have the manifest's fingerprint",
        bad=f"the manifest's fingerprint is {data.fingerprint[:12]}, the files' is {found[:12]}",
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
    """Cold items are test targets or nowhere."""
    events = data.events
    elsewhere = events.items > data.warm.num_items
    elsewhere[events.test[events.test >= 0]] = False
    found = int(elsewhere.sum())
    checks.judge(
        "cold items",
        "nothing: no event but test targets",
        not found,
        good=f"{data.num_cold_items:,} items are in no training part, no history and no validation target",
        bad=f"{found} events that are no test target are of cold items",
        action=_AGAIN,
    )


def _check_split(data: Dataset, checks: Checks) -> None:
    rule = str(data.manifest.options.get("split"))
    what = ("held-out positions", f"the rule {data.split!r}")
    wanted = _split_again(data, rule)
    if wanted is None:
        checks.unknown(*what, "the data set does not say by which rule it was split")
        return
    wrong = torch.zeros(data.num_users, dtype=torch.bool)
    for name in ("train_end", "valid", "test"):
        wrong |= getattr(data.events, name) != torch.from_numpy(getattr(wanted, name))
    users = torch.nonzero(wrong).flatten().tolist()
    checks.judge(
        *what,
        not users,
        good="each user's training part, validation and test target are where the rule puts them",
        bad=f"{len(users)} users have them elsewhere, the first is {_name(data, users)}",
        action=_AGAIN,
    )


def _check_origins(data: Dataset, checks: Checks) -> None:
    """Lay the data sets of a foundation run together again, and check each of them."""
    what = ("held-out positions", "what each data set that was laid in holds out")
    origins = data.manifest.options["origins"]
    try:
        parts = [Dataset.load(origin["path"]) for origin in origins]
    except ArtefactError as error:
        checks.unknown(*what, str(error), "keep the data sets that were laid together")
        return
    same = all(
        part.fingerprint == origin["fingerprint"]
        for part, origin in zip(parts, origins, strict=True)
    )
    wanted = merged_events([part.warm for part in parts]).tensors() if same else {}
    found = data.events.tensors()
    wrong = [n for n in found if n not in wanted or not torch.equal(found[n], wanted[n])]
    checks.judge(
        *what,
        not wrong,
        good=f"{len(parts)} data sets, laid together again, give these events and parts",
        bad=f"{', '.join(wrong)} are not what the data sets give" if same else "a data set changed",
        action="train the foundation run again",
    )
    for part, origin in zip(parts, origins, strict=True):
        check_dataset(part, checks.within(origin["name"]))


def _name(data: Dataset, users: list[int]) -> str:
    return repr(data.user_ids[users[0]]) if users else ""


def _split_again(data: Dataset, rule: str) -> Split | None:
    events, offsets = data.events, data.events.offsets.numpy()
    if data.has_cold_users:
        return _users_again(data)
    if rule == "leave-one-out":
        return leave_one_out(offsets)
    facts = data.manifest.statistics
    if rule != "temporal" or events.timestamps is None or "valid_from" not in facts:
        return None
    bounds = (parse_moment(facts[key], key) for key in ("valid_from", "test_from"))
    users = np.repeat(np.arange(data.num_users), np.diff(offsets))
    return temporal_split(events.timestamps.numpy() * SECOND, users, offsets, *bounds)


def _users_again(data: Dataset) -> Split:
    """Users with a target, and those without any training event, are cold; the others are not."""
    events, offsets = data.events, data.events.offsets.numpy()
    valid, test = (at.numpy() >= 0 for at in (events.valid, events.test))
    neither = (events.train_end.numpy() == offsets[:-1]) & ~valid
    return cold_users(offsets, valid, test | neither)


def _check_hash(data: Dataset, checks: Checks) -> None:
    what = ("training part", "events before the held-out ones")
    recorded = data.manifest.training
    if not recorded:
        checks.unknown(*what, "the data set is of an older seqloom, which kept no hash", _AGAIN)
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
    found = describe_split(events.items.numpy() - 1, offsets, split, data.num_items)
    told: dict[str, Any] = data.manifest.statistics
    # What the split leaves unused is not in the events any more, or counted by the split itself.
    wrong = [k for k in found if k in told and k != "unused_events" and told[k] != found[k]]
    first = wrong[0] if wrong else ""
    checks.judge(
        "statistics",
        "training part; targets are counted",
        not wrong,
        good="the counts of the manifest are those of the events",
        bad=f"{first} is {told.get(first)} in the manifest, {found.get(first)} in the events",
        action=_AGAIN,
    )
