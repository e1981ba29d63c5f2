"""Measures of the package's structure, and the check that no modules import each other in a circle.

    python scripts/structure.py           the measures, as the table of docs/concepts/architecture.md
    python scripts/structure.py --write   writes that table into the page
    python scripts/structure.py --check   ends with 1 where modules import each other

Every import statement counts: at module level, inside functions and for types only.
"""

from __future__ import annotations

import argparse
import ast
import graphlib
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "src"
PAGE = SOURCES.parent / "docs" / "concepts" / "architecture.md"
PACKAGE = "seqloom"


def modules(sources: Path, package: str = PACKAGE) -> dict[str, ast.Module]:
    """Syntax trees of a package by dotted module name."""
    trees = {}
    for file in sorted((sources / package).rglob("*.py")):
        parts = file.relative_to(sources).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(file.read_text(encoding="utf-8"), str(file))
    return trees


def import_graph(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """For each module the modules of the package that it imports, wherever the statement stands.

    The front door (`seqloom`) names what it resolves on first use; its own imports do not count.
    """
    graph = {name: set(_imported(name, tree, trees)) for name, tree in trees.items()}
    front_door = min(trees, key=len)
    graph[front_door] = set()
    return graph


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle in the order in which they import each other; empty if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))
    return []


def unused_names(trees: dict[str, ast.Module]) -> list[str]:
    """Public top-level names, as `module.name`, that no other module of the package mentions."""
    mentions = {name: Counter(_mentioned(tree)) for name, tree in trees.items()}
    everywhere = sum(mentions.values(), Counter())
    return [
        f"{module}.{name}"
        for module, tree in trees.items()
        for name in _public(tree)
        if everywhere[name] == mentions[module][name]
    ]


def measures(trees: dict[str, ast.Module], sources: Path) -> dict[str, str]:
    """The table of docs/concepts/architecture.md."""
    files = [
        len(f.read_text(encoding="utf-8").splitlines()) for f in (sources / PACKAGE).rglob("*.py")
    ]
    functions = [
        node.end_lineno - node.lineno + 1
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]
    public = sum(len(list(_public(tree))) for tree in trees.values())
    return {
        "files": f"{len(files)}",
        "lines of source": f"{sum(files):,}",
        "lines of a file: median, 90th percentile": f"{_at(files, 0.5)}, {_at(files, 0.9)}",
        "functions": f"{len(functions):,}",
        "lines of a function: median, 90th percentile": (
            f"{_at(functions, 0.5)}, {_at(functions, 0.9)}"
        ),
        "circles": "none" if not find_circle(import_graph(trees)) else "some",
        "public top-level names": f"{public:,}",
        "public names that no other module uses": f"{len(unused_names(trees))}",
    }


def _imported(module: str, tree: ast.Module, known: dict[str, ast.Module]) -> Iterator[str]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in members]
        yield from (name for name in names if name in known and name != module)


def _mentioned(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name.rpartition(".")[2]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.rpartition(":")[2].rpartition(".")[2]


def _public(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (name for name in names if not name.startswith("_"))


def _at(values: list[int], quantile: float) -> int:
    return round(statistics.quantiles(values, n=100)[round(100 * quantile) - 1])


def main() -> int:
    """Run the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only look for circles")
    parser.add_argument("--unused", action="store_true", help="list public names used nowhere else")
    parser.add_argument("--write", action="store_true", help="write the table into its page")
    asked = parser.parse_args()
    trees = modules(SOURCES)
    if asked.check:
        circle = find_circle(import_graph(trees))
        if circle:
            print("modules import each other in a circle:", " -> ".join(circle), file=sys.stderr)
        return 1 if circle else 0
    if asked.unused:
        print("\n".join(unused_names(trees)))
        return 0
    rows = [f"| {name} | {value} |" for name, value in measures(trees, SOURCES).items()]
    table = "\n".join(["| measure | value |", "|---|---|", *rows])
    print(table)
    if asked.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- measures -->\n")
        after = rest.partition("<!-- end -->")[2]
        text = f"{before}<!-- measures -->\n{table}\n<!-- end -->{after}"
        PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
