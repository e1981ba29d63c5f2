"""`python -m benchmarks.scale`: write the figures into docs/scale.md, between their marks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.scale import figures
from benchmarks.scale.plan import ROOT, Plan, Prices, unit_costs

PAGE = ROOT / "docs" / "scale.md"
Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]


def tables(plan: Plan, prices: Prices, costs: dict[str, float]) -> dict[str, Table]:
    """Heads and rows by the name of their mark."""
    head = ("what", "figure", "from")
    return {
        "costs": (("unit cost", "measured"), [(f"`{k}`", f"{v:,g}") for k, v in costs.items()]),
        "limits": (
            ("what gives way", "at so many items", "from"),
            [(what, f"{at:,.0f}", why) for what, at, why in figures.limits(plan, costs)],
        ),
        "serving": (head, figures.serving(plan, costs)),
        "simulated": (
            (
                "busy",
                "p99",
                f"p99 after 1 of {plan.servers} has failed",
                f"p99 of {plan.shards} shards",
            ),
            figures.simulated(plan, costs),
        ),
        "memory": (head, figures.memory(plan, costs)),
        "events": (head, figures.events(plan, costs)),
        "training": (head, figures.training(plan, costs)),
        "bill": (("what", "a month", "from"), figures.bill(plan, costs, prices)),
    }


def filled(page: str, by_mark: dict[str, Table]) -> str:
    """The page with each table in its place: `<!-- NAME -->` ... `<!-- end -->`.

    Raises:
        KeyError: the page has a mark of no table.
    """

    def put(mark: re.Match[str]) -> str:
        head, rows = by_mark[mark[1]]
        lines = [head, ("---",) * len(head), *rows]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"<!-- {mark[1]} -->\n{text}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", put, page, flags=re.DOTALL)


def main() -> None:
    """Writes the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(page, tables(Plan(), Prices(), unit_costs())), encoding="utf-8")


if __name__ == "__main__":
    main()
