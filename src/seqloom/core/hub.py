"""The Hugging Face hub: a repository's model files as a local folder."""

from __future__ import annotations

import os
from pathlib import Path

from seqloom.core.errors import AssetError

_COMMON = ["*.json", "*.txt", "*.model", "*.jinja"]
_OTHER_RUNTIMES = ["onnx/*", "openvino/*", "coreml/*", "runs/*"]


def hub_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def hub_snapshot(repository: str) -> Path:
    """Local folder with the configuration, tokenizer and weights of a hub repository.

    Safetensors weights are taken where there are any, else PyTorch's `.bin`.

    Raises:
        AssetError: the repository is not there, or cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        for weights in ("*.safetensors", "*.bin"):
            folder = Path(
                snapshot_download(
                    repository,
                    allow_patterns=[*_COMMON, weights],
                    ignore_patterns=_OTHER_RUNTIMES,
                )
            )
            if any(folder.glob(weights)):
                return folder
    except HFValidationError:
        raise AssetError(f"{repository!r} is neither a folder nor a name on the hub") from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        offline = " (HF_HUB_OFFLINE is set)" if hub_offline() else ""
        raise AssetError(
            f"cannot fetch {repository!r} from the hub{offline}: {first_line}; give a local "
            f"folder, or fetch it where there is a network"
        ) from None
    raise AssetError(f"the hub's {repository!r} holds no weights (*.safetensors, *.bin)")
