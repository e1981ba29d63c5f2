"""Loading what other libraries wrote: every weight of the model is read from the folder, or it is an error.

transformers fills weights that a folder lacks with random numbers and passes over those that it does not
know. Here both are errors, apart from what a model without its head has no use for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from seqloom.core.errors import AssetError
from seqloom.hub.quiet import quiet_transformers

LOCAL: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
"""Arguments of every `from_pretrained`: no code of the folder, nothing from a hub."""
_SHOWN = 5
# Top modules that stand beside the body in checkpoints of other tasks.
_UNUSED = ("decoder", "pooler")


def load_settings(auto: Any, folder: Path, name: object, **options: Any) -> Any:
    """The configuration or the tokenizer in `folder`, by `AutoConfig` or `AutoTokenizer`.

    Raises:
        AssetError: it cannot be read.
    """
    with quiet_transformers():
        try:
            return auto.from_pretrained(folder, **LOCAL, **options)
        except Exception as error:  # a library on a file from anywhere raises anything
            raise AssetError(f"{name} cannot be loaded: {reason(error)}") from error


def load_pretrained(
    auto: Any, folder: Path, name: object, *, what: str, cut: range = range(0), **options: Any
) -> Any:
    """The model in `folder`, with all its weights.

    Args:
        auto: an auto class or a model class of transformers.
        name: what the user calls the model; for errors.
        what: what the model is loaded as; for errors.
        cut: numbers of the layers that the configuration leaves out.
        options: further arguments of `from_pretrained`.

    Raises:
        AssetError: the folder cannot be read, lacks weights of the model's body, has some that the model
            does not know, or some are NaN or infinite.
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
    """Refuse a model of which weights were missing in its folder, or left over.

    A head may be left over, and so may what a model without the head does not have: the layers in `cut`, an
    unused decoder. A pooler may be missing, unless it is used (`pooled`).

    Raises:
        AssetError: names the weights.
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
    """Raises AssetError where weights are missing in a folder, or left over; names them."""
    kinds = (("lacks", missing), ("has weights that the model does not know:", left))
    problems = [f"{kind} {_some(keys)}" for kind, keys in kinds if keys]
    if problems:
        raise AssetError(
            f"{name} {' and '.join(problems)}. The weights do not belong to the model's configuration or are "
            "damaged; fetch the model again, or merge an adapter into its base first"
        )


def check_finite(model: Any, name: object) -> None:
    """Refuse a model with weights that are no numbers.

    Raises:
        AssetError: names the weights.
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
    """Make sure that a model that another library has loaded from `folder` came whole from there.

    Raises:
        AssetError: see `load_pretrained`.
    """
    with quiet_transformers():
        try:
            _, info = type(model).from_pretrained(
                folder,
                config=model.config,
                device_map="meta",  # the names and shapes alone
                output_loading_info=True,
                use_safetensors=True,
                **LOCAL,
            )
        except Exception as error:
            raise AssetError(f"{name} cannot be loaded: {reason(error)}") from error
    _check_complete(model, info, name, pooled=pooled)


def at(name: str, folder: Path) -> str:
    """A model's name with its folder, where that is another."""
    return name if name == str(folder) else f"{name} ({folder})"


def reason(error: Exception) -> str:
    """What a library's error says, with its kind where the words alone say little."""
    text = str(error).strip()
    return (
        text
        if isinstance(error, ValueError | OSError) and text
        else f"{type(error).__name__}: {text}"
    )


def _is_pooler(key: str, prefix: str) -> bool:
    return key.removeprefix(prefix).startswith("pooler.")


def _is_body(key: str, children: Collection[str]) -> bool:
    """Whether a weight that nobody asked for is of a model's body, by its name without the prefix.

    It is if its top module is one of the body's, or if it lies deep inside numbered layers of a foreign model
    (`transformer.h.0.attn.weight`; the layers of a classifier are `classifier.0.weight`).
    """
    parts = key.split(".")
    if parts[0] in children:
        return True
    return parts[0] not in _UNUSED and len(parts) > 3 and _layer(key) is not None


def _layer(key: str) -> int | None:
    """The number of the layer that a weight belongs to."""
    return next((int(part) for part in key.split(".") if part.isdecimal()), None)


def _some(keys: Iterable[str]) -> str:
    keys = sorted(keys)
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
