"""Keywords of public functions: the fields of an options model, and suggestions for mistyped ones."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from seqloom.core.config import Config
from seqloom.core.suggestions import suggest

P = ParamSpec("P")
R = TypeVar("R")
Options = TypeVar("Options", bound=Config)
Hint = Callable[[str, tuple[Any, ...], Mapping[str, Any]], str | None]
"""Explains an unknown keyword of a call with these arguments; None where it has nothing to say."""


def public_function(
    options: type[Config] | None = None, *, parameter: str = "options", hint: Hint | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declares a function that people call by keywords.

    An unknown keyword is a `TypeError` with a suggestion. With `options`, the function takes the fields of
    that model as keywords in place of its `parameter`; its own signature says so by
    `**keywords: Unpack[...]`, and `inspect.signature` (completion, help) lists the fields.

    Args:
        hint: explains an unknown keyword that belongs somewhere else.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = _with_fields(inspect.signature(function), options)
        known = set(signature.parameters)

        @functools.wraps(function)
        def call(*args: P.args, **keywords: P.kwargs) -> R:
            unknown = next((name for name in keywords if name not in known), None)
            if unknown is not None:
                hinted = hint(unknown, args, dict(keywords)) if hint is not None else None
                raise TypeError(
                    f"{function.__name__}() got an unexpected keyword argument {unknown!r}"
                    f"{hinted or suggest(unknown, known)}"
                )
            return function(*args, **keywords)

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.options_parameter = parameter if options else None  # type: ignore[attr-defined]
        return call

    return decorate


def _with_fields(signature: inspect.Signature, options: type[Config] | None) -> inspect.Signature:
    """Lists the fields of a model in place of `**keywords`."""
    if options is None:
        return signature
    fields = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.get_default(call_default_factory=True, validated_data={})
            if not field.is_required()
            else inspect.Parameter.empty,
            annotation=field.annotation,
        )
        for name, field in options.model_fields.items()
    ]
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    taken = {each.name for each in own}
    return signature.replace(parameters=[*own, *(f for f in fields if f.name not in taken)])


def merge_options(
    model: type[Options],
    options: Options | Mapping[str, Any] | None,
    keywords: Mapping[str, Any],
) -> Options:
    """Builds the options of a call from an options object or mapping, and keywords, which take precedence.

    Raises:
        ConfigError: a value is not allowed.
    """
    if isinstance(options, model) and not keywords:
        return options
    given = options.model_dump(exclude_unset=True) if isinstance(options, Config) else options
    return model.build({**(given or {}), **keywords})
