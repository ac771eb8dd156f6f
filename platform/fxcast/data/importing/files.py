"""Find the files that a name means, and open them as text: plain, gzip, zip, Parquet; UTF-8 or UTF-16."""

from __future__ import annotations

import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as pa_csv

from fxcast.errors import BadCandles

_SNIFFED_BYTES = 65_536
_FILE_SUFFIXES = {".csv", ".txt", ".tsv", ".prn", ".zip", ".gz", ".parquet"}  # of a folder; others may lie beside them
_DATA_SUFFIXES = (".csv", ".txt", ".tsv", ".prn", ".hst.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One table of candles: a file, or an entry of a zip archive.

    Attributes:
        path: The file.
        entry: The archive's entry, empty for a plain file.
        is_parquet: Whether it is Parquet, which is read as the CSV that it would make: line 1 is its column names.
    """

    path: Path
    entry: str = ""
    is_parquet: bool = False

    @property
    def name(self) -> str:
        return f"{self.path}#{self.entry}" if self.entry else str(self.path)


def find_sources(source: str | Path) -> list[SourceFile]:
    """Return the tables that a file, a folder or a pattern such as `data/*.zip` holds, in alphabetical order.

    Raises:
        BadCandles: If there is none, or a file can't be read.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        paths = sorted(each for each in path.iterdir() if each.is_file() and each.suffix.lower() in _FILE_SUFFIXES)
    elif path.exists() or not any(letter in str(source) for letter in "*?["):
        paths = [path]
    else:
        paths = sorted(Path(each) for each in glob(str(path)))  # noqa: PTH207  # a pattern with folders in it
    found = [table for each in paths for table in _tables(each)]
    if not found:
        raise BadCandles(str(source), "no file of candles", "a file, a folder of files, or a pattern that matches some")
    return found


def _tables(path: Path) -> list[SourceFile]:
    with _readable(str(path)):
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"PAR1":
            return [SourceFile(path=path, is_parquet=True)]
        if magic == b"PK\x03\x04":
            with zipfile.ZipFile(path) as archive:
                entries = sorted(entry.filename for entry in archive.infolist() if not entry.is_dir())
            tables = [entry for entry in entries if entry.lower().endswith(".csv")]
            tables = tables or [entry for entry in entries if entry.lower().endswith(_DATA_SUFFIXES)]
            return [SourceFile(path=path, entry=entry) for entry in tables]
    return [SourceFile(path=path)]


def read_start(source: SourceFile) -> list[str]:
    """Return the first lines of a table, whole ones.

    Raises:
        BadCandles: If it can't be read, is empty or is not text.
    """
    with _readable(source.name), _bytes(source) as file:
        start = file.read(_SNIFFED_BYTES)
        whole = not file.read(1)
    text = start.decode(_encoding(start), errors="replace")
    if not text.strip():
        raise BadCandles(source.name, "an empty file", "rows of candles")
    head = text.splitlines()[0] if text.splitlines() else ""
    if "\0" in text or "\ufffd" in head:
        raise BadCandles(source.name, "not text", "UTF-8 or UTF-16 text")
    lines = text.splitlines()
    return lines if whole or len(lines) == 1 else lines[:-1]


@contextmanager
def open_lines(source: SourceFile) -> Generator[Iterator[str]]:
    """Open a table's lines, without their ends; a byte that is no text becomes U+FFFD.

    Raises:
        BadCandles: If it can't be read.
    """
    with ExitStack() as stack:
        with _readable(source.name):
            with _bytes(source) as sniffed:
                encoding = _encoding(sniffed.read(4))
            file = cast("io.BufferedReader", stack.enter_context(_bytes(source)))
            text = stack.enter_context(io.TextIOWrapper(file, encoding=encoding, errors="replace"))
        yield _lines(text, source.name)


def _lines(text: Iterable[str], name: str) -> Iterator[str]:
    with _readable(name):  # here, so that an error of what reads them does not pass for a damaged file
        for line in text:
            yield line.rstrip("\n")


def _encoding(start: bytes) -> str:
    return "utf-16" if start[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"


def _bytes(source: SourceFile) -> io.BufferedIOBase:
    if source.is_parquet:
        return _parquet_as_csv(source.path)
    if source.entry:
        return _ArchiveEntry(source.path, source.entry)
    with source.path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(source.path, "rb") if compressed else source.path.open("rb")


def _parquet_as_csv(path: Path) -> io.BytesIO:
    content = io.BytesIO()
    with path.open("rb") as file:  # an open file, not a path: given a path, pyarrow would read `key=value` folders as columns
        pa_csv.write_csv(pq.read_table(file), content)
    content.seek(0)
    return content


class _ArchiveEntry(io.BufferedReader):
    """An entry of a zip archive that closes its archive with itself."""

    def __init__(self, path: Path, entry: str) -> None:
        self._archive = zipfile.ZipFile(path)
        raw: Any = self._archive.open(entry)
        super().__init__(raw)

    def close(self) -> None:
        super().close()
        self._archive.close()


@contextmanager
def _readable(name: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise BadCandles(name, error.strerror or str(error) or type(error).__name__, "a readable file") from None
    except (
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        NotImplementedError,  # zipfile, of a compression that Python lacks
        RuntimeError,  # zipfile, of an archive that is encrypted
        pa.ArrowException,
    ) as error:
        raise BadCandles(name, f"a damaged or encrypted file: {error}", "a whole zip, gzip or Parquet file") from None
