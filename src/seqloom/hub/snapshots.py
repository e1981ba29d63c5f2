"""Downloads model files from the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path

from seqloom.core.errors import AssetError

_COMMON = ["*.json", "*.txt", "*.model", "*.jinja"]
_WEIGHTS = "*.safetensors"
_OTHER_RUNTIMES = ["onnx/*", "openvino/*", "coreml/*", "runs/*"]


def is_hub_offline() -> bool:
    """Returns whether HF_HUB_OFFLINE forbids access to the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def download_snapshot(repository: str) -> Path:
    """Downloads the configuration, tokenizer and safetensors weights of a repository; returns their folder.

    Raises:
        AssetError: the repository does not exist, has no such weights, or cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = Path(
            snapshot_download(
                repository, allow_patterns=[*_COMMON, _WEIGHTS], ignore_patterns=_OTHER_RUNTIMES
            )
        )
    except HFValidationError:
        raise AssetError(f"{repository!r} is neither a folder nor a name on the hub") from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        offline = " (HF_HUB_OFFLINE is set)" if is_hub_offline() else ""
        raise AssetError(
            f"cannot fetch {repository!r} from the hub{offline}: {first_line}; give a local "
            f"folder, or fetch it where there is a network"
        ) from None
    if not any(folder.rglob(_WEIGHTS)):
        raise AssetError(
            f"the hub's {repository!r} holds no {_WEIGHTS}; other weights, such as .bin, are pickles and not "
            "read. Take a revision or a model with safetensors"
        )
    return folder
