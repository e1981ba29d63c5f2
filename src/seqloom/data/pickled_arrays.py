"""Numpy arrays out of pickle files, without running what a pickle may run.

A pickle is a program: loading one from elsewhere with `pickle.load` can do anything. Here the names
that numpy writes for an array stand for harmless objects of this module, and no other name is let in.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seqloom.core.errors import DataError

_NUMBERS = re.compile(r"[<>|=]?(f[248]|[iu][1248]|b1)")
_MOST_MEMOS = 10_000
"""An array needs about ten; a larger number only serves to take up memory."""
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


def read_pickled_array(path: Path) -> np.ndarray[Any, Any]:
    """The one array of numbers that a pickle file holds.

    Raises:
        DataError: the file is no pickle or is cut off, or it holds anything but an array of numbers.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file; check the path")
    try:
        with path.open("rb") as handle:
            _check_size(path, handle)
            handle.seek(0)
            found = _Reader(path, handle).load()
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read as a pickled array: {error}") from None
    if not isinstance(found, _Array) or found.value is None:
        raise DataError(
            f"{path} holds {_what(found)}; only a pickle of one numpy array of numbers is read"
        )
    return found.value


def _check_size(path: Path, handle: Any) -> None:
    """Walk the pickle without running it: it is whole, and its memory is used with measure."""
    for opcode, argument, _ in pickletools.genops(handle):
        if opcode.name in _PUTS and int(argument or 0) > _MOST_MEMOS:
            raise DataError(f"{path} is no pickle that numpy writes (memo {argument}); not read")


class _Reader(pickle.Unpickler):
    """Knows the names that numpy writes for arrays, and no other."""

    def __init__(self, path: Path, handle: Any) -> None:
        super().__init__(handle, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name of numpy.

        Raises:
            DataError: any other name.
        """
        place = module.replace("numpy._core.", "numpy.core.")
        if (place, name) not in _ALLOWED:
            raise DataError(
                f"{self._path} asks for {module}.{name}, which is no part of an array; nothing of it "
                "was run. Only a pickle of one numpy array of numbers is read"
            )
        return _Sealed(_ALLOWED[place, name])


class _Sealed:
    """A function that a pickle may call but not change."""

    __slots__ = ("call",)
    call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a pickle may not change it")


class _DType:
    """A number's type and byte order."""

    def __init__(self, code: str) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise DataError(f"it holds values of type {code!r}; only numbers are read")
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise DataError("it holds an array of records; only arrays of numbers are read")
        self.value = self.value.newbyteorder(order)


class _Array:
    """An array, once its numbers are known."""

    def __init__(self) -> None:
        self.value: np.ndarray[Any, Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, is_fortran, numbers = state
        if isinstance(numbers, str):  # written by Python 2
            numbers = numbers.encode("latin1")
        self.value = _from_bytes(numbers, kind, shape, "F" if is_fortran else "C")


def _from_bytes(numbers: Any, kind: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(kind, _DType) or not isinstance(numbers, bytes | bytearray):
        raise DataError("it holds an array of objects; only arrays of numbers are read")
    sides = shape if isinstance(shape, tuple) else (shape,)
    if any(type(side) is not int or side < 0 for side in sides):
        raise DataError(f"its array has the shape {shape!r}")
    if math.prod(sides) * kind.value.itemsize != len(numbers):
        raise DataError(f"its array of shape {sides} has {len(numbers)} bytes; the file is damaged")
    return np.frombuffer(numbers, kind.value).reshape(sides, order="F" if order == "F" else "C")


def _empty(*_: Any) -> _Array:
    return _Array()


def _filled(numbers: Any, kind: Any, shape: Any, order: Any) -> _Array:
    made = _Array()
    made.value = _from_bytes(numbers, kind, shape, order)
    return made


def _dtype(code: Any, *_: Any) -> _DType:
    return _DType(code)


def _encode(text: str, *_: Any) -> bytes:
    """What `_codecs.encode` is for here: bytes written as text by old pickles."""
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """What `bytes()` is for here: the numbers of an empty array in old pickles."""
    return b""


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty,
    ("numpy.core.numeric", "_frombuffer"): _filled,
    ("numpy", "ndarray"): _empty,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}


def _what(found: Any) -> str:
    return "an empty array" if isinstance(found, _Array) else f"a {type(found).__name__}"
