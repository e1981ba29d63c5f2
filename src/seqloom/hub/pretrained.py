"""Loads models of other libraries and makes sure that every weight comes from the folder.

transformers fills missing weights with random numbers and ignores unknown ones. Here both are errors, except
for weights that a model without its head does not use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from seqloom.core.errors import AssetError
from seqloom.hub.quiet import quiet_transformers

LOCAL: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
"""Arguments of every `from_pretrained`: run no code of the folder, fetch nothing from a hub."""
_SHOWN = 5
# Top-level modules beside the body in checkpoints of other tasks.
_UNUSED = ("decoder", "pooler")


def load_settings(auto: Any, folder: Path, name: object, **options: Any) -> Any:
    """Loads the configuration or the tokenizer in `folder` by `AutoConfig` or `AutoTokenizer`.

    Raises:
        AssetError: the files cannot be read.
    """
    with quiet_transformers():
        try:
            return auto.from_pretrained(folder, **LOCAL, **options)
        except Exception as error:  # libraries raise errors of any type on damaged files
            raise AssetError(f"{name} cannot be loaded: {reason(error)}") from error


def load_pretrained(
    auto: Any, folder: Path, name: object, *, what: str, cut: range = range(0), **options: Any
) -> Any:
    """Loads the model in `folder` with all its weights.

    Args:
        auto: an auto class or a model class of transformers.
        name: the model's name in error messages.
        what: the kind of model in error messages.
        cut: numbers of the layers that the configuration omits.
        options: further arguments of `from_pretrained`.

    Raises:
        AssetError: the folder cannot be read, lacks weights of the model's body, has unknown ones, or some
            are NaN or infinite.
    """
    with quiet_transformers():
        try:
            model, info = auto.from_pretrained(
                folder, output_loading_info=True, use_safetensors=True, **LOCAL, **options
            )
        except MemoryError:
            raise
        except Exception as error:
            raise AssetError(f"{name} cannot be loaded as a {what}: {reason(error)}") from error
    _check_complete(model, info, name, cut=cut)
    check_finite(model, name)
    return model


def _check_complete(
    model: Any, info: dict[str, Any], name: object, *, cut: range = range(0), pooled: bool = False
) -> None:
    """Refuses a model with weights missing from its folder, or left over in it.

    A head may be left over, and so may the layers in `cut` and an unused decoder. A pooler may be missing,
    unless it is used (`pooled`).

    Raises:
        AssetError: weights are missing or left over; the message names them.
    """
    prefix = f"{model.base_model_prefix}."
    children = {child for child, _ in model.base_model.named_children()}
    missing = {key for key in info["missing_keys"] if pooled or not _is_pooler(key, prefix)}
    missing |= {str(entry[0]) for entry in info["mismatched_keys"]}
    left = {
        key
        for key in info["unexpected_keys"]
        if _layer(key) not in cut and _is_body(key.removeprefix(prefix), children)
    }
    check_keys(missing, left, name)


def check_keys(missing: Iterable[str], left: Iterable[str], name: object) -> None:
    """Raises AssetError, with their names, if weights are missing from a folder or left over."""
    kinds = (("lacks", missing), ("has weights that the model does not know:", left))
    problems = [f"{kind} {_some(keys)}" for kind, keys in kinds if keys]
    if problems:
        raise AssetError(
            f"{name} {' and '.join(problems)}. The weights do not belong to the model's configuration or are "
            "damaged; fetch the model again, or merge an adapter into its base first"
        )


def check_finite(model: Any, name: object) -> None:
    """Refuses a model with NaN or infinite weights.

    Raises:
        AssetError: some weights are not finite; the message names them.
    """
    bad = [
        key
        for key, value in model.state_dict().items()
        if value.is_floating_point() and not bool(value.isfinite().all())
    ]
    if bad:
        raise AssetError(
            f"{name} has NaN or infinite weights in {_some(bad)}; the model is damaged, fetch it again"
        )


def check_module(model: Any, folder: Path, name: object, *, pooled: bool) -> None:
    """Checks that a model loaded by another library has all its weights from `folder`.

    Raises:
        AssetError: see `load_pretrained`.
    """
    with quiet_transformers():
        try:
            _, info = type(model).from_pretrained(
                folder,
                config=model.config,
                device_map="meta",  # names and shapes without data
                output_loading_info=True,
                use_safetensors=True,
                **LOCAL,
            )
        except Exception as error:
            raise AssetError(f"{name} cannot be loaded: {reason(error)}") from error
    _check_complete(model, info, name, pooled=pooled)


def at(name: str, folder: Path) -> str:
    """Returns a model's name, followed by its folder if the two differ."""
    return name if name == str(folder) else f"{name} ({folder})"


def reason(error: Exception) -> str:
    """Returns the text of a library's error, with its type unless the text explains itself."""
    text = str(error).strip()
    return (
        text
        if isinstance(error, ValueError | OSError) and text
        else f"{type(error).__name__}: {text}"
    )


def _is_pooler(key: str, prefix: str) -> bool:
    return key.removeprefix(prefix).startswith("pooler.")


def _is_body(key: str, children: Collection[str]) -> bool:
    """Returns whether an unexpected weight belongs to a model's body, by its name without the prefix.

    It does if its top-level module is one of the body's, or if it lies deep inside numbered layers of a
    foreign model (`transformer.h.0.attn.weight`, in contrast to a classifier's `classifier.0.weight`).
    """
    parts = key.split(".")
    if parts[0] in children:
        return True
    return parts[0] not in _UNUSED and len(parts) > 3 and _layer(key) is not None


def _layer(key: str) -> int | None:
    """Returns the number of the layer that a weight belongs to, if any."""
    return next((int(part) for part in key.split(".") if part.isdecimal()), None)


def _some(keys: Iterable[str]) -> str:
    keys = sorted(keys)
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
