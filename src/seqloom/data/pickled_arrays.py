"""Reads numpy arrays from pickle files without Python's unpickler.

A pickle is a program, and loading one from an unknown source can run any code. This module reads it as
data: it knows only the opcodes that numpy writes for an array, maps numpy's names to harmless objects
of this module, and refuses every other name and opcode.

The number of opcodes, sizes and the text of error messages are bounded too: a few bytes can describe
nested tuples whose text has 2^40 letters, or request more memory than the machine has.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from reprlib import repr as short
from typing import Any, BinaryIO

import numpy as np

from seqloom.core.errors import DataError

_NUMBERS = re.compile(r"[<>|=]?(f[248]|[iu][1248]|b1)")
_VALUES = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    ]
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_SKIPPED = frozenset(("PROTO", "FRAME"))
_MOST_STEPS = 1000
"""Limit of opcodes; numpy writes about fifty for an array."""
_MOST_SIDES = 64
"""Limit of dimensions, as in numpy."""


def read_pickled_array(path: Path) -> np.ndarray[Any, Any]:
    """Reads a pickle file that holds one array of numbers.

    Raises:
        DataError: the file is not a pickle or is truncated, or it holds anything but an array of numbers.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; check the path")
    try:
        with path.open("rb") as handle:
            content = _read(_Bounded(handle, path.stat().st_size))
    except DataError as error:
        raise DataError(
            f"{path} {error}. No code of the file was run; only a pickle of one numpy array of numbers is "
            "allowed"
        ) from None
    except Exception as error:
        raise DataError(f"{path} cannot be read as a pickled array: {short(error)}") from None
    if not isinstance(content, _Array) or content.value is None:
        raise DataError(
            f"{path} holds no array; only a pickle of one numpy array of numbers is allowed"
        )
    return content.value


def _read(handle: Any) -> Any:
    """Executes the known opcodes and returns the object that the pickle describes."""
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(handle)):
        if count == _MOST_STEPS:
            raise DataError(f"has more than {_MOST_STEPS} steps, which no array needs")
        machine.step(opcode.name, argument)
    (result,) = machine.stack
    return result


class _Bounded:
    """A file whose `read` requests no more bytes than are left, since memory is allocated before reading."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self.readline, self.tell = file.readline, file.tell

    def read(self, count: int) -> bytes:
        """Reads the next `count` bytes, or the rest."""
        return self._file.read(min(count, self._size - self._file.tell()))


class _Machine:
    """The stack and the memory of a pickle, with the few opcodes that an array needs."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Executes one opcode.

        Raises:
            DataError: the opcode, or a name that it requests, is not part of an array.
        """
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _PUTS or name == "MEMOIZE":
            self.memory[len(self.memory) if name == "MEMOIZE" else int(argument)] = stack[-1]
        elif name in _GETS:
            stack.append(self.memory[int(argument)])
        elif name in _TUPLES or name == "TUPLE":
            self._tuple(_TUPLES.get(name))
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "GLOBAL":
            stack.append(_find(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_find(module, attribute))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        elif name not in _SKIPPED and name != "STOP":
            raise DataError(f"has the step {name}, which is not part of an array")

    def _tuple(self, size: int | None) -> None:
        if size is None:
            size = self.stack[::-1].index(_MARK)
            del self.stack[len(self.stack) - size - 1]
        start = len(self.stack) - size
        self.stack[start:] = [tuple(self.stack[start:])]


_MARK = object()


class _Function:
    """The harmless function that a name of numpy maps to."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


def _find(module: Any, name: Any) -> _Function:
    if not isinstance(module, str) or not isinstance(name, str):
        raise DataError("requests a name that is not text")
    place = module.replace("numpy._core.", "numpy.core.")
    if (place, name) not in _ALLOWED:
        raise DataError(f"requests {module[:50]}.{name[:50]}, which is not part of an array")
    return _Function(_ALLOWED[place, name])


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Function) or not isinstance(arguments, tuple):
        raise DataError("calls an object that is not a function")
    return function.call(*arguments)


def _build(target: Any, state: Any) -> None:
    if not isinstance(target, _DType | _Array) or not isinstance(state, tuple):
        raise DataError("changes an object that is not an array")
    target.fill(state)


class _DType:
    """The type and byte order of numbers."""

    def __init__(self, code: str) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise DataError(f"holds values of type {short(code)}; only numbers are read")
        self.value = np.dtype(code)

    def fill(self, state: tuple[Any, ...]) -> None:
        """Sets the byte order."""
        order = state[1]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise DataError("holds an array of records; only arrays of numbers are read")
        self.value = self.value.newbyteorder(order)


class _Array:
    """An array; `value` is None until its numbers are read."""

    def __init__(self) -> None:
        self.value: np.ndarray[Any, Any] | None = None

    def fill(self, state: tuple[Any, ...]) -> None:
        """Sets the shape, the type and the numbers."""
        _, shape, kind, is_fortran, numbers = state
        if isinstance(numbers, str):  # written by Python 2
            numbers = numbers.encode("latin1")
        self.value = _from_bytes(numbers, kind, shape, "F" if is_fortran else "C")


def _from_bytes(numbers: Any, kind: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(kind, _DType) or not isinstance(numbers, bytes | bytearray):
        raise DataError("holds an array of objects; only arrays of numbers are read")
    sides = shape if isinstance(shape, tuple) else (shape,)
    if len(sides) > _MOST_SIDES or any(type(n) is not int or not 0 <= n < 2**63 for n in sides):
        raise DataError(f"holds an array of the shape {short(shape)}")
    if math.prod(sides) * kind.value.itemsize != len(numbers):
        raise DataError(f"holds an array of shape {short(sides)} with {len(numbers)} bytes")
    return np.frombuffer(numbers, kind.value).reshape(sides, order="F" if order == "F" else "C")


def _empty(*_: Any) -> _Array:
    return _Array()


def _filled(numbers: Any, kind: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.value = _from_bytes(numbers, kind, shape, order)
    return array


def _dtype(code: Any, *_: Any) -> _DType:
    return _DType(code)


def _encode(text: str, *_: Any) -> bytes:
    """Replaces `_codecs.encode`, by which old pickles write bytes as text."""
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Replaces `bytes()`, the numbers of an empty array in old pickles."""
    return b""


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty,
    ("numpy.core.numeric", "_frombuffer"): _filled,
    ("numpy", "ndarray"): _empty,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}
