"""Arrays of numbers come out as they went in; nothing else comes out, and nothing runs."""

from __future__ import annotations

import collections
import os
import pickle
import time
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqloom.core.errors import DataError
from seqloom.data.pickled_arrays import read_pickled_array


def write(path: Path, value: Any, protocol: int = pickle.DEFAULT_PROTOCOL) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


ARRAYS = [
    np.arange(12, dtype=np.float64).reshape(3, 4) / 7,
    np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    np.arange(10, dtype=np.int64)[::2],
    np.arange(6, dtype=">i4").reshape(2, 3),
    np.zeros((0, 5), np.float16),
    np.array([[True, False]]),
    np.array(3.5),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays_of_every_protocol(array: np.ndarray, protocol: int, tmp_path: Path) -> None:
    actual = read_pickled_array(write(tmp_path / "a.pkl", array, protocol))
    assert actual.dtype == array.dtype
    assert actual.shape == array.shape
    np.testing.assert_array_equal(actual, array)


def test_names_of_older_numpy(tmp_path: Path) -> None:
    raw = pickle.dumps(np.arange(4.0), 2).replace(b"numpy._core.", b"numpy.core.")
    (tmp_path / "a.pkl").write_bytes(raw)
    np.testing.assert_array_equal(read_pickled_array(tmp_path / "a.pkl"), np.arange(4.0))


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def test_nothing_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(DataError, match=r"requests \w+\.system"):
        read_pickled_array(write(tmp_path / "evil.pkl", Evil(mark)))
    for value in ((np.zeros(2), Evil(mark)), [np.zeros(2), Evil(mark)], {"a": Evil(mark)}):
        with pytest.raises(DataError, match=r"No code of the file was run"):
            read_pickled_array(write(tmp_path / "evil.pkl", value))
    assert not mark.exists()
    pickle.loads((tmp_path / "evil.pkl").read_bytes())
    assert mark.exists(), "the test's own pickle is harmless, so it proves nothing"


@pytest.mark.parametrize(
    "value",
    [
        [1, 2],
        {"a": np.zeros(2)},
        [np.zeros(2)],
        "text",
        None,
        np.float64(2.0),
        np.array(["a", "b"]),
        np.array([Decimal(1)]),
        np.array([1 + 2j]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.dtype("f4"),
        np.ndarray,
        collections.OrderedDict(),
        range(3),
    ],
    ids=str,
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_anything_else_is_refused(value: Any, protocol: int, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_pickled_array(write(tmp_path / "a.pkl", value, protocol))


def test_a_subclass_of_an_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"requests numpy.*recarray"):
        read_pickled_array(write(tmp_path / "a.pkl", np.zeros(2).view(np.recarray)))


@pytest.mark.parametrize("cut", [0, 1, 20, 100, 250])
def test_a_file_that_is_cut_off_is_refused(cut: int, tmp_path: Path) -> None:
    whole = pickle.dumps(np.arange(40.0))
    (tmp_path / "a.pkl").write_bytes(whole[:cut])
    with pytest.raises(DataError, match="cannot be read as a pickled array"):
        read_pickled_array(tmp_path / "a.pkl")


def test_numbers_that_do_not_fill_the_shape_are_refused(tmp_path: Path) -> None:
    raw = pickle.dumps(np.zeros((2, 3)), 2).replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86")
    (tmp_path / "a.pkl").write_bytes(raw)
    with pytest.raises(DataError, match=r"shape \(2, 4\) with 48 bytes"):
        read_pickled_array(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cnumpy\ndtype\nN}X\x04\x00\x00\x00callK\x01s\x86b.", "step EMPTY_DICT"),
        (b"cnumpy\ndtype\n)b.", "changes an object that is not an array"),
        (b"K\x01)R.", "calls an object that is not a function"),
        (b"cnumpy\ndtype\n).", "cannot be read"),
        (b"cnumpy\ndtype\n.", "holds no array"),
        (b"(cos\nsystem\no.", "requests os.system"),
        (b"(S'x'\nios\nsystem\n.", "step INST"),
        (b"\x82\x01.", "step EXT1"),
        (b"Px\n.", "step PERSID"),
        (b"cnumpy\nndarray\n)\x81.", "step NEWOBJ"),
    ],
)
def test_other_programs_are_refused(program: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + program)
    with pytest.raises(DataError, match=message):
        read_pickled_array(tmp_path / "a.pkl")


def test_a_memo_of_two_billion_places_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02Nr\xff\xff\xff\x7f.")
    with pytest.raises(DataError, match="holds no array"):
        read_pickled_array(tmp_path / "a.pkl")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a file"):
        read_pickled_array(tmp_path / "none.pkl")


# x = (x, x) forty times: 2^40 leaves for whoever writes, hashes or compares it.
BOMB = b"\x80\x04N\x94" + b"".join(b"h%ch%c\x86\x94" % (n, n) for n in range(40))
TEXT = b"\x8c\x05numpy"
DTYPE = b"cnumpy\ndtype\n"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (BOMB + TEXT + b"h\x28\x93.", "requests a name that is not text"),
        (BOMB + b"h\x28" + TEXT + b"\x93.", "requests a name that is not text"),
        (BOMB + DTYPE + b"h\x28\x85R.", r"values of type \("),
        (
            BOMB + ARRAY + b"(K\x01h\x28" + DTYPE + b"X\x02\x00\x00\x00f8\x85R\x89C\x00tb.",
            "of the shape",
        ),
        (BOMB + ARRAY + b"h\x28b.", "cannot be read"),
        (BOMB + b"h\x28.", "cannot be read"),
        (BOMB + b"h\x28)R.", "calls an object that is not a function"),
        (b"\x80\x04" + b"N" * 2000 + b".", "more than 1000 steps"),
        (b"\x80\x04" + b"(" * 2000 + b"t" * 2000 + b".", "more than 1000 steps"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.", "cannot be read"),
        (b"\x80\x04\x96" + b"\x00" * 6 + b"\x10\x00.", "cannot be read"),
        (b"\x80\x04B\xff\xff\xff\x7f.", "cannot be read"),
        (b"\x80\x04\x8b\xff\xff\xff\x7f.", "cannot be read"),
        (b"\x80\x04\x95" + b"\xff" * 7 + b"\x0fN.", "holds no array"),
        (b"I" + b"9" * 100_000 + b"\n.", "cannot be read"),
    ],
)
def test_a_bomb_is_refused_immediately_and_takes_no_memory(
    program: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.pkl").write_bytes(program)
    started = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(DataError, match=message) as caught:
        read_pickled_array(tmp_path / "a.pkl")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - started < 5
    assert most < 20_000_000
    assert len(str(caught.value)) < 1000


def test_a_shape_of_endless_numbers_is_refused(tmp_path: Path) -> None:
    side = b"\x8a\xff" + b"\xff" * 254 + b"\x7f"
    shape = b"(" + side + b"".join(b"\x94h\x00" for _ in range(300)) + b"t"
    kind = DTYPE + b"X\x02\x00\x00\x00f8\x85R"
    (tmp_path / "a.pkl").write_bytes(
        b"\x80\x04" + ARRAY + b"(K\x01" + shape + kind + b"\x89C\x00tb."
    )
    with pytest.raises(DataError, match="of the shape"):
        read_pickled_array(tmp_path / "a.pkl")
