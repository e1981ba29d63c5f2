"""Numpy arrays out of pickle files, without Python's unpickler.

A pickle is a program: loading one from elsewhere can do anything. Here it is read as data, step by
step. Only the steps that numpy writes for an array are known, the names of numpy stand for harmless
objects of this module, and no other name or step is let in.

Steps, sizes and what errors show are bounded too: a few bytes can describe a tuple of tuples whose text would
have 2^40 letters, or ask for more memory than there is.
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
"""numpy takes about fifty for an array."""
_MOST_SIDES = 64
"""Of an array, as in numpy."""


def read_pickled_array(path: Path) -> np.ndarray[Any, Any]:
    """The one array of numbers that a pickle file holds.

    Raises:
        DataError: the file is no pickle or is cut off, or it holds anything but an array of numbers.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file; check the path")
    try:
        with path.open("rb") as handle:
            found = _read(_Bounded(handle, path.stat().st_size))
    except DataError as error:
        raise DataError(
            f"{path} {error}. Nothing of it was run; only a pickle of one numpy array of numbers is read"
        ) from None
    except Exception as error:
        raise DataError(f"{path} cannot be read as a pickled array: {short(error)}") from None
    if not isinstance(found, _Array) or found.value is None:
        raise DataError(
            f"{path} holds no array; only a pickle of one numpy array of numbers is read"
        )
    return found.value


def _read(handle: Any) -> Any:
    """What the pickle leaves at its end."""
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(handle)):
        if count == _MOST_STEPS:
            raise DataError(f"takes more than {_MOST_STEPS} steps, which no array needs")
        machine.step(opcode.name, argument)
    (found,) = machine.stack
    return found


class _Bounded:
    """A file of which no more is asked for than it holds: memory is taken before anything is read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self.readline, self.tell = file.readline, file.tell

    def read(self, count: int) -> bytes:
        """The next `count` bytes, or what is left."""
        return self._file.read(min(count, self._size - self._file.tell()))


class _Machine:
    """The stack and the memory of a pickle, with the few steps that an array needs."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Take one step.

        Raises:
            DataError: the step, or a name that it asks for, is no part of an array.
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
            raise DataError(f"takes the step {name}, which is no part of an array")

    def _tuple(self, size: int | None) -> None:
        if size is None:
            size = self.stack[::-1].index(_MARK)
            del self.stack[len(self.stack) - size - 1]
        start = len(self.stack) - size
        self.stack[start:] = [tuple(self.stack[start:])]


_MARK = object()


class _Function:
    """What a name of numpy stands for."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


def _find(module: Any, name: Any) -> _Function:
    if not isinstance(module, str) or not isinstance(name, str):
        raise DataError("asks for a name that is no text")
    place = module.replace("numpy._core.", "numpy.core.")
    if (place, name) not in _ALLOWED:
        raise DataError(f"asks for {module[:50]}.{name[:50]}, which is no part of an array")
    return _Function(_ALLOWED[place, name])


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Function) or not isinstance(arguments, tuple):
        raise DataError("calls what is no function")
    return function.call(*arguments)


def _build(target: Any, state: Any) -> None:
    if not isinstance(target, _DType | _Array) or not isinstance(state, tuple):
        raise DataError("changes what is no array")
    target.fill(state)


class _DType:
    """A number's type and byte order."""

    def __init__(self, code: str) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise DataError(f"holds values of type {short(code)}; only numbers are read")
        self.value = np.dtype(code)

    def fill(self, state: tuple[Any, ...]) -> None:
        """Take the byte order."""
        order = state[1]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise DataError("holds an array of records; only arrays of numbers are read")
        self.value = self.value.newbyteorder(order)


class _Array:
    """An array, once its numbers are known."""

    def __init__(self) -> None:
        self.value: np.ndarray[Any, Any] | None = None

    def fill(self, state: tuple[Any, ...]) -> None:
        """Take the shape, the type and the numbers."""
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
