"""Executes the notebooks of `examples/` and stores their output.

    python scripts/run_notebooks.py [NAME ...]

Needs `pip install 'seqloom[examples]'`. Progress bars are left out of the stored output.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
_TIMEOUT_S = 900


def execute(path: Path) -> None:
    """Executes a notebook in `examples/` and writes it back, without the times of the machine."""
    import nbformat
    from nbclient import NotebookClient

    os.environ["SEQLOOM_PROGRESS"] = "off"
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(EXAMPLES)}}
    NotebookClient(
        notebook, timeout=_TIMEOUT_S, kernel_name="python3", resources=resources
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":  # warnings name folders of this machine
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, path)


def main() -> None:
    """Executes all notebooks, or the named ones."""
    chosen = [EXAMPLES / name for name in sys.argv[1:]] or sorted(EXAMPLES.glob("*.ipynb"))
    for path in chosen:
        execute(path)
        print(f"{path.name}: executed")


if __name__ == "__main__":
    main()
