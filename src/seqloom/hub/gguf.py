"""Converts GGUF files into ordinary model folders.

Differs: transformers marks a model loaded from GGUF as quantised, although it has restored float32
weights, and then refuses `.float()` and `save_pretrained`. So the weights are copied into a plain model of
the same configuration and saved as safetensors.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

from seqloom.core.files import atomic_folder, sha256_file
from seqloom.core.progress import SILENT, Progress
from seqloom.hub.assets import cache_root, lock, report_disk_errors
from seqloom.hub.pretrained import load_pretrained, load_settings
from seqloom.hub.quiet import quiet_transformers

_NAME = "model.gguf"


def convert_gguf(file: Path, progress: Progress = SILENT) -> Path:
    """Returns a folder with the model (float32 safetensors) and tokenizer of a GGUF file.

    The result is cached under the file's SHA-256; later calls only hash the file.

    Raises:
        AssetError: transformers cannot read the file, weights are missing, NaN or infinite, or the disk is
            full.
    """
    folder = cache_root() / "converted" / f"{file.stem}-{sha256_file(file)[:16]}"
    if folder.is_dir():
        return folder
    with report_disk_errors(folder), lock(folder):
        if not folder.is_dir():
            progress.note(f"converting {file.name} to safetensors (once)")
            _convert(file, folder)
    return folder


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The gguf reader draws a progress bar on standard error; errors are raised. It also reads settings files
    # beside the file, so it gets a folder that holds the file alone.
    with (
        quiet_transformers(),
        contextlib.redirect_stderr(io.StringIO()),
        tempfile.TemporaryDirectory() as alone,
    ):
        (Path(alone) / _NAME).symlink_to(file.resolve())
        tokenizer = load_settings(AutoTokenizer, Path(alone), file, gguf_file=_NAME)
        loaded = load_pretrained(
            AutoModelForCausalLM,
            Path(alone),
            file,
            what="causal LM",
            gguf_file=_NAME,
            dtype=torch.float32,
        )
        config = loaded.config.__class__.from_dict(
            {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
        )
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(loaded.state_dict())
        plain.generation_config = loaded.generation_config
        with atomic_folder(folder) as work:
            plain.save_pretrained(work)
            tokenizer.save_pretrained(work)
            for written in work.iterdir():
                written.chmod(0o644)
