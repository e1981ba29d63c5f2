"""The examples: the sample is what its script makes, and the notebooks run."""

from __future__ import annotations

import csv
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.documented_commands import ROOT

EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def cells(notebook: Path) -> list[dict[str, Any]]:
    """The code cells of a notebook."""
    document = json.loads(notebook.read_text(encoding="utf-8"))
    return [cell for cell in document["cells"] if cell["cell_type"] == "code"]


def test_the_sample_is_made_by_its_script(tmp_path: Path) -> None:
    runpy.run_path(str(EXAMPLES / "shop/make_sample.py"))["main"](tmp_path)
    for name in ("purchases.csv", "products.csv"):
        assert (tmp_path / name).read_bytes() == (EXAMPLES / "shop" / name).read_bytes(), name


def test_the_description_states_the_numbers_of_the_sample() -> None:
    text = (EXAMPLES / "shop/README.md").read_text(encoding="utf-8")
    with (EXAMPLES / "shop/purchases.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (EXAMPLES / "shop/products.csv").open(encoding="utf-8") as file:
        products = list(csv.DictReader(file))
    assert f"{len(rows):,} purchases of {len({row['customer'] for row in rows})} customers" in text
    assert f"{len(products)} products" in text
    assert {row["product"] for row in rows} <= {each["product"] for each in products}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_executed(notebook: Path) -> None:
    code = cells(notebook)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert outputs
    assert not any(output["output_type"] == "error" for output in outputs)
    assert not re.search(r"/(home|root|work)/", json.dumps(outputs))


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(notebook: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="pip install 'seqloom[examples]'")
    pytest.importorskip("ipykernel", reason="pip install 'seqloom[examples]'")
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    command: list[str | Path] = [
        sys.executable,
        tmp_path / "scripts/run_notebooks.py",
        notebook.name,
    ]
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths})
    counts = [cell["execution_count"] for cell in cells(tmp_path / "examples" / notebook.name)]
    assert counts == list(range(1, len(counts) + 1))
