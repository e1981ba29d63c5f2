"""Builds wheel and sdist, installs the wheel with the extra `serve` into a new environment, and uses it.

    python scripts/check_wheel.py [--dist dist] [--keep FOLDER]

Needs a package index; pip's own configuration is respected. Exits with 1 if anything fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IN_WHEEL = (
    "seqloom/py.typed",
    "seqloom/cli/main.py",
    "seqloom/serving/http/static/index.html",
    "seqloom/serving/http/static/vendor/swagger-ui-bundle.js",
    "seqloom/serving/http/static/vendor/swagger-ui-license.txt",
    "seqloom/reports/templates/page.html.j2",
    "seqloom/text/templates/item-full.txt",
)
IN_SDIST = ("src/seqloom/__init__.py", "README.md", "LICENSE", "pyproject.toml")
_START_S = 120.0


def build(dist: Path) -> tuple[Path, Path]:
    """Builds wheel and sdist; returns both."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(dist)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    newest = lambda pattern: max(dist.glob(pattern), key=lambda f: f.stat().st_mtime)  # noqa: E731
    return newest("seqloom-*.whl"), newest("seqloom-*.tar.gz")


def check_content(wheel: Path, sdist: Path) -> None:
    """Checks that both archives hold what they must, and the wheel nothing but the package."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    missing = [wanted for wanted in IN_WHEEL if not any(n.startswith(wanted) for n in names)]
    foreign = [n for n in names if not n.startswith(("seqloom/", "seqloom-"))]
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    missing += [wanted for wanted in IN_SDIST if wanted not in packed]
    if missing or foreign:
        sys.exit(f"missing: {missing}, foreign: {foreign}")


def install(wheel: Path, folder: Path) -> Path:
    """Makes an environment with the wheel and its extra; returns its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check"]
    # First, so that a CPU build is taken where pip knows one of this version.
    subprocess.run([*pip, "install", "-q", "-r", ROOT / "requirements-torch.lock"], check=True)
    subprocess.run([*pip, "install", "-q", f"{wheel}[serve]"], check=True)
    subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)
    return python


def use(python: Path, folder: Path) -> None:
    """Prepares the sample, trains a run and asks a server for recommendations."""
    seqloom = python.with_name("seqloom")
    shop, data, run = ROOT / "examples/shop", folder / "data", folder / "run"
    columns = ["--user-column", "customer", "--item-column", "product"]
    columns += ["--timestamp-column", "purchased_at", "--items-id-column", "product"]
    for arguments in (
        [
            "prepare",
            shop / "purchases.csv",
            "--items",
            shop / "products.csv",
            "--out",
            data,
            *columns,
        ],
        ["train", data, "--system", "popularity", "--out", run],
    ):
        subprocess.run(
            [seqloom, *map(str, arguments), "--quiet"],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
    command = [
        seqloom,
        "serve",
        run,
        "--port",
        "0",
        "--store",
        f"sqlite:///{folder}/store.db",
        "--json",
    ]
    server = subprocess.Popen(
        [str(c) for c in command], stdout=subprocess.PIPE, text=True, cwd=folder
    )
    try:
        assert server.stdout is not None
        text = ""
        for line in server.stdout:
            text += line
            if line.rstrip() == "}":
                break
        address = json.loads(text)["url"]
        request = urllib.request.Request(
            f"{address}/v1/recommend",
            json.dumps({"history": ["P10000"], "k": 3}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_START_S) as answer:
            items = json.loads(answer.read())["items"]
        with urllib.request.urlopen(address, timeout=_START_S) as page:
            explorer = page.read()
    finally:
        server.terminate()
        server.wait()
    if len(items) != 3 or b"<html" not in explorer:
        sys.exit(f"the server answered {items}")


def main() -> None:
    """Runs all steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    parser.add_argument("--keep", type=Path, help="folder of the environment, kept afterwards")
    options = parser.parse_args()
    started = time.monotonic()
    wheel, sdist = build(options.dist)
    check_content(wheel, sdist)
    with tempfile.TemporaryDirectory() as scratch:
        python = install(wheel, options.keep or Path(scratch) / "venv")
        use(python, Path(scratch))
    print(
        f"{wheel.name} ({wheel.stat().st_size >> 10} KiB) and {sdist.name} "
        f"({sdist.stat().st_size >> 10} KiB) work in a new environment ({time.monotonic() - started:.0f} s)"
    )


if __name__ == "__main__":
    main()
