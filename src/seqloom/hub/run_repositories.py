"""Runs on the Hugging Face hub: a repository of safetensors, Parquet and text files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seqloom.core.errors import AssetError
from seqloom.hub.snapshots import is_hub_offline

SCHEME = "hf://"
SUFFIXES = (".safetensors", ".parquet", ".json", ".jsonl", ".yaml", ".txt", ".model", ".jinja")
"""Kinds of files that are fetched: none of them is a pickle or code."""
_ADDRESS = re.compile(r"hf:/{1,2}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def is_hub_address(path: str | Path) -> bool:
    """Returns whether a path is the address of a repository: `hf://org/name`, or with `@revision`."""
    return str(path).startswith("hf:/")


def parse_address(address: str | Path) -> tuple[str, str | None]:
    """Returns repository and revision of `hf://org/name@revision`.

    Raises:
        AssetError: it has another form.
    """
    # A pathlib path has lost one of the slashes.
    found = _ADDRESS.fullmatch(str(address))
    if found is None:
        raise AssetError(
            f"{str(address)!r} is no address of a run; write hf://org/name or hf://org/name@revision"
        )
    return found[1], found[2]


def fetch_run(address: str | Path) -> Path:
    """Downloads a run into the hub's cache and returns its folder, which must not be changed.

    Raises:
        AssetError: the address is none, the repository does not exist or holds no run, or the hub
            cannot be reached.
    """
    from huggingface_hub import snapshot_download

    repository, revision = parse_address(address)
    with _reporting(f"fetch {SCHEME}{repository}"):
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=[f"*{suffix}" for suffix in SUFFIXES],
        )
    if not (Path(folder) / "manifest.json").exists():
        raise AssetError(
            f"{SCHEME}{repository} is no run: it has no manifest.json; a run gets there by push_to_hub"
        )
    return Path(folder)


def upload_run(folder: Path, repository: str, *, private: bool, message: str) -> str:
    """Uploads a folder as the content of a repository, which is created if it is missing.

    Returns:
        The address of the repository's page.

    Raises:
        AssetError: the name is not allowed, there is no valid token, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    repository, _ = parse_address(f"{SCHEME}{repository.removeprefix(SCHEME)}")
    with _reporting(f"push to {SCHEME}{repository}"):
        if is_hub_offline():
            raise OSError("nothing is sent")
        api = HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=message,
            delete_patterns=["*.safetensors", "*.parquet", "*.json", "*.jsonl", "model/*"],
        )
    return str(address)


@contextmanager
def _reporting(what: str) -> Iterator[None]:
    """Turns errors of the hub's client within the block into `AssetError`s."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        yield
    except HFValidationError as error:
        raise AssetError(f"cannot {what}: {error}") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        offline = " because HF_HUB_OFFLINE is set" if is_hub_offline() else ""
        raise AssetError(
            f"cannot {what}{offline}: {first_line}; check the name, the network and the token "
            "(`hf auth login`, or HF_TOKEN)"
        ) from None
