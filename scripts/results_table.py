"""Print the metrics of evaluated runs as a Markdown table, seeds of one configuration as mean ± std.

python scripts/results_table.py FOLDER [PROTOCOL]: a run NAME-SEED, or NAME,seed=SEED of a sweep, is
averaged with its like; NAME stands alone. PROTOCOL is `full` (the default) or `sampled`.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from seqloom.core.files import read_json
from seqloom.runs.manifest import RunManifest, read_manifest

METRICS = ("ndcg@10", "hr@10", "ndcg@20", "hr@20", "mrr", "coverage@10")
GROUPS = ("tail_item", "head_item", "tail_user", "head_user")
HISTORY_GROUPS = ("known_user", "new_user", "new_target")
"""Where there are new users or repeated targets; to be read first then, so with both metrics."""


def main() -> None:
    """Read every evaluated run below the folder."""
    found: dict[str, list[tuple[RunManifest, dict[str, float]]]] = defaultdict(list)
    sampled = sys.argv[2:] == ["sampled"]
    name_of_file = "metrics-sampled100.json" if sampled else "metrics.json"
    for file in sorted(Path(sys.argv[1]).glob(f"*/{name_of_file}")):
        name = re.sub(r"(-|,seed=)\d+$", "", file.parent.name)
        raw = read_json(file, "evaluation")
        values = {m: raw["metrics"][m] for m in METRICS if m in raw["metrics"]}
        shown = [(group, "hr@10") for group in GROUPS]
        shown += [
            (g, m) for g in HISTORY_GROUPS for m in ("ndcg@10", "hr@10") if g in raw["groups"]
        ]
        for group, metric in shown:
            metrics = raw["groups"][group]["metrics"] or {}
            values[f"{group} {metric}"] = metrics.get(metric, float("nan"))
        found[name].append((read_manifest(file.parent), values))
    if not found:
        sys.exit(f"no evaluated runs below {sys.argv[1]}; run `seqloom evaluate` on them first")
    columns = list(next(iter(found.values()))[0][1])
    print("| run | seeds | valid ndcg@10 | " + " | ".join(columns) + " |")
    print("|---|---|---|" + "---|" * len(columns))
    for name, runs in found.items():
        valid = [manifest.valid.get("ndcg@10", float("nan")) for manifest, _ in runs]
        cells = [_cell(valid), *(_cell([values[c] for _, values in runs]) for c in columns)]
        print(f"| {name} | {len(runs)} | " + " | ".join(cells) + " |")


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


if __name__ == "__main__":
    main()
