"""The model card of a run: README.md of its repository on the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from seqloom.core.errors import SeqloomError
from seqloom.core.tabular import text_of
from seqloom.runs.manifest import RunManifest
from seqloom.runs.trained_run import TrainedRun

CARD = "README.md"
_SHOWN = ("hr@10", "ndcg@10", "mrr")


def model_card(
    run: TrainedRun,
    manifest: RunManifest,
    evaluations: Sequence[Mapping[str, Any]],
    *,
    licence: str | None,
) -> str:
    """Renders the card from the manifest and the stored evaluations.

    Args:
        licence: an identifier of the hub, such as `apache-2.0`; None is stated as such.
    """
    header: dict[str, Any] = {
        "library_name": "seqloom",
        "tags": ["recommendation", "sequential-recommendation", manifest.system],
    }
    if licence is not None:
        header["license"] = licence
    sections = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n",
        f"# {run.name}\n\nA `{manifest.system}` run of "
        f"[seqloom](https://pypi.org/project/seqloom/) {manifest.seqloom}: next-item recommendations over a "
        f"catalogue of {manifest.sizes.num_items:,} items.\n",
        _USE,
        _data(run, manifest),
        _training(run, manifest),
        _results(evaluations),
        _limits(run, manifest, evaluations),
        "## Licence\n\n" + (f"`{licence}`\n" if licence else "The publisher states no licence.\n"),
    ]
    return "\n".join(sections)


_USE = """## Use

```python
import seqloom

run = seqloom.load_run("hf://ORG/NAME")  # the address of this repository
print(run.recommend(run.item_ids[:2], k=10))
```
"""


def _data(run: TrainedRun, manifest: RunManifest) -> str:
    rows: dict[str, Any] = {
        "data set": manifest.dataset.path,
        "split": manifest.dataset.split,
        "items": manifest.sizes.num_items,
    }
    try:
        statistics = run.dataset(with_cold=True).manifest.statistics
    except SeqloomError:
        statistics = {}
    for name, label in (
        ("users", "users"),
        ("events", "events"),
        ("mean_length", "events per user"),
        ("first_date", "first event"),
        ("last_date", "last event"),
    ):
        if name in statistics:
            rows[label] = statistics[name]
    rows["fingerprint"] = f"`{manifest.dataset.fingerprint[:16]}`"
    if manifest.texts:
        rows["text embeddings"] = ", ".join(str(text.get("name")) for text in manifest.texts)
    if manifest.base:
        rows["language model"] = manifest.base.get("name")
    return f"## Data\n\n{_table(('', ''), rows.items())}"


def _training(run: TrainedRun, manifest: RunManifest) -> str:
    cost = manifest.cost
    rows = {
        "epochs": cost.epochs,
        "best epoch": manifest.best_epoch,
        "seconds": cost.seconds_with_members,
        "device": cost.device,
        "parameters": manifest.parameters,
        **{f"validation {name}": value for name, value in manifest.valid.items()},
    }
    config = run.system.config.to_yaml().strip()
    return (
        f"## Training\n\n{_table(('', ''), rows.items())}\nThe weights are those of the best validation. "
        f"Configuration:\n\n```yaml\n{config}\n```\n"
    )


def _results(evaluations: Sequence[Mapping[str, Any]]) -> str:
    if not evaluations:
        return "## Results\n\nThe run was not evaluated on a test part.\n"
    parts = ["## Results\n"]
    for each in evaluations:
        names = [name for name in _SHOWN if name in each["metrics"]]
        rows = [("all", each["users"], *(each["metrics"][name] for name in names))]
        rows += [
            (group, found["users"], *((found["metrics"] or {}).get(name) for name in names))
            for group, found in each["groups"].items()
        ]
        parts.append(f"{each['statement']}\n\n{_table(('users', 'number', *names), rows)}")
    return "\n".join(parts)


def _limits(
    run: TrainedRun, manifest: RunManifest, evaluations: Sequence[Mapping[str, Any]]
) -> str:
    limits = [
        "It recommends items of its own catalogue alone; unknown ids are left out of histories.",
        "It was trained on one log, whose users and exposure it repeats: items that few people met are "
        "recommended less (compare `tail_item` with `head_item` above).",
        "Scores are comparable within one list only, and are no probabilities.",
    ]
    if manifest.added_items:
        limits.append(f"{manifest.added_items:,} items were added after training, by their texts.")
    if run.system.uses_language_model:
        limits.append("What its language model has learnt of the world, errors included, is in it.")
    if not evaluations:
        limits.append("Without an evaluation nothing is known of its quality.")
    lines = "\n".join(f"- {limit}" for limit in limits)
    return f"## Limits\n\n{lines}\n"


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    return text_of(value).replace("|", "\\|").replace("\n", " ")
