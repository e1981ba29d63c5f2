"""Opens text files of users, in the same way everywhere.

A byte order mark decides the encoding (UTF-8, UTF-16, UTF-32) and is removed. Lines end in LF, CR LF
or CR. Files with the suffix `.gz` are decompressed.
"""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from seqloom.core.errors import DataError, SeqloomError

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PEEK = 1 << 16
_CHUNK = 1 << 20


def read_text(path: Path, what: str, error: type[SeqloomError] = DataError) -> str:
    """Reads a whole UTF-8 file; `what` names it in errors.

    Raises:
        SeqloomError: of type `error`; the file is missing, a folder, unreadable or not UTF-8 text.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError:
        raise error(f"{what} {path} does not exist; check the path") from None
    except IsADirectoryError:
        raise error(f"{what} {path} is a folder; a file is needed") from None
    except (OSError, EOFError) as problem:
        raise error(f"{what} {path} cannot be read: {problem}") from None
    return decode_text(data, f"{what} {path}", error)


def decode_text(data: bytes, name: str, error: type[SeqloomError] = DataError) -> str:
    """Decodes the bytes of a whole text file; lines of the result end in LF.

    Raises:
        SeqloomError: of type `error`; the bytes are not text in the encoding of their mark, or not UTF-8
            where there is no mark. The message names the line.
    """
    codec = _marked(data) or "utf-8"
    if looks_like_unmarked_utf16(data[:_PEEK]):
        raise error(f"{name} looks like UTF-16 without a byte order mark; save it as UTF-8")
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as problem:
        line = len(data[: problem.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
        reason = f"byte 0x{data[problem.start]:02x} is not UTF-8"
        if codec in ("utf-16", "utf-32"):
            declared = _plain_name(codec)
            reason = f"the bytes are not {declared}, as their mark declares, and not UTF-8 either"
        raise error(f"{name}, line {line}: {reason}; save the file as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def open_text(path: Path) -> IO[bytes]:
    """Opens a large text file as bytes: recoded to UTF-8 if it has a mark, else unchanged.

    The mark is removed. Lines that end in CR alone then end in LF.

    Raises:
        OSError: the file cannot be opened or decompressed.
        DataError: the bytes do not match the encoding of their mark (while reading).
    """
    start = _peek(path)
    codec = _marked(start)
    handle = _opened(path)
    if codec == "utf-8-sig":
        handle.seek(len(codecs.BOM_UTF8))
        codec = None
    if codec is None and not _ends_in_cr(start):
        return handle
    return map_stream(handle, _Recoder(path, codec))


def marked_encoding(path: Path, otherwise: str) -> str:
    """Returns the encoding of the bytes from `open_text`: UTF-8 if the file has a mark."""
    return "utf-8" if _marked(_peek(path, 4)) else otherwise


def is_plain(path: Path) -> bool:
    """Returns whether `open_text` leaves all bytes unchanged, apart from decompression."""
    start = _peek(path)
    return _marked(start) is None and not _ends_in_cr(start)


def looks_like_unmarked_utf16(start: bytes) -> bool:
    """Returns whether so many bytes are zero that this must be UTF-16 without a mark."""
    return _marked(start) is None and 4 * start.count(b"\0") > len(start) > 0


def split_lines(handle: IO[bytes]) -> Iterator[bytes]:
    """Yields the lines without their ends (LF, CR LF or CR)."""
    for line in handle:
        whole = line.removesuffix(b"\n").removesuffix(b"\r")
        if b"\r" in whole:
            yield from whole.split(b"\r")
        else:
            yield whole


def map_stream(source: IO[bytes], transform: Callable[[bytes, bool], bytes]) -> IO[bytes]:
    """Wraps a file in a stream of `transform(block, final)` for each block; closing it closes `source`.

    After the last block, `transform` is called with an empty block and `final`.
    """
    return io.BufferedReader(_MappedStream(source, transform), _CHUNK)


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))


def _peek(path: Path, size: int = _PEEK) -> bytes:
    with _opened(path) as handle:
        return handle.read(size)


def _ends_in_cr(start: bytes) -> bool:
    return b"\r" in start[:-1] and b"\n" not in start


def _marked(start: bytes) -> str | None:
    return next((codec for mark, codec in _MARKS if start.startswith(mark)), None)


def _plain_name(codec: str) -> str:
    return codec.removesuffix("-sig").upper()


class _MappedStream(io.RawIOBase):
    def __init__(self, source: IO[bytes], transform: Callable[[bytes, bool], bytes]) -> None:
        self._source, self._transform = source, transform
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._ended:
            data = self._source.read(_CHUNK)
            self._ended = not data
            self._ready = self._transform(data, self._ended)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


class _Recoder:
    """Turns blocks of a text file into UTF-8 (unchanged if `codec` is None), with lines ending in LF."""

    def __init__(self, path: Path, codec: str | None) -> None:
        self._path, self._codec = path, codec
        # Latin-1 maps every byte to one character and back.
        decoder = codecs.getincrementaldecoder(codec or "latin-1")()
        self._decoder: Any = io.IncrementalNewlineDecoder(decoder, translate=True)

    def __call__(self, block: bytes, final: bool) -> bytes:
        try:
            text = self._decoder.decode(block, final=final)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self._path} begins with the mark of {_plain_name(self._codec or '')}, but is "
                f"not {_plain_name(self._codec or '')} ({error.reason}); save it as UTF-8"
            ) from None
        return cast(str, text).encode("utf-8" if self._codec else "latin-1")
