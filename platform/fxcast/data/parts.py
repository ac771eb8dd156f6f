"""The files of a candle store: small Parquet files that are written once, whole, and never changed."""

from __future__ import annotations

import os
import re
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from pyarrow import fs

from fxcast.domain.candle import COLUMNS, CandleSeries
from fxcast.domain.market import DETAILS, MarketCandles, PriceSide, no_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting, StoreUnavailable

_SIDE = b"fxcast.side"
_TIME = pa.field("open_time", pa.timestamp("s", tz="UTC"))
_SCHEMA = pa.schema([_TIME, *((name, pa.float64()) for name in (*COLUMNS, *DETAILS))])
_PART_FILE = re.compile(r"(?P<month>\d{4}-\d{2})(?:\.(?P<serial>[0-9a-f]{16}-[0-9a-f]{8}))?\.parquet")
_KEPT_CANDLES = 200_000  # in memory, about 27 MB
_KEPT_PARTS = 2_000  # a feed that runs for weeks writes many of one candle
_LISTINGS = 20  # tries, while others write
_TURN_S = 60.0
_SETTLED_NS = 120 * 10**9
_STALE_S = 3600.0  # a temporary file this old belongs to a writer that died


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """One file; parts of a month in the order of their serials: what an earlier one says, a later one does not change."""

    month: str
    serial: str  # empty for a month that a version before 0.2 wrote
    path: str


def new_serial(after: str) -> str:
    """Return a name that sorts by the time of writing, behind all that were there, and that no other writer makes."""
    written_ns = max(time.time_ns(), _written_ns(after) + 1)
    return f"{written_ns:016x}-{uuid.uuid4().hex[:8]}"


def serial_in_place_of(first: Part) -> str:
    """Return a name for what several parts, of which this is the first, are put together to."""
    return f"{_written_ns(first.serial):016x}-{uuid.uuid4().hex[:8]}"


def is_settled(part: Part) -> bool:
    """Tell whether a part is so old that every writer which could contradict it has looked at it, also by a clock a bit off."""
    return time.time_ns() - _written_ns(part.serial) > _SETTLED_NS


def _written_ns(serial: str) -> int:
    return int(serial.split("-", maxsplit=1)[0], 16) if serial else 0


class PartFiles:
    """The parts of all series below a root.

    Args:
        root: A folder, or a URI that `pyarrow.fs` knows, as in `s3://bucket/candles`.

    Raises:
        BadSetting: If the URI's scheme is unknown.
    """

    def __init__(self, root: str | Path) -> None:
        self._filesystem: fs.FileSystem
        self._root: str
        if isinstance(root, str) and "://" in root:
            if urlsplit(root).username is not None:
                raise BadSetting("store: found a URI with a key in it; allowed: keys in the environment, as AWS_ACCESS_KEY_ID")
            try:
                self._filesystem, path = fs.FileSystem.from_uri(root)
            except (pa.ArrowException, ValueError) as error:
                raise BadSetting(f"store {root.split('?')[0]!r}: {error}") from None
            self._root = path.rstrip("/")
        else:
            self._filesystem, self._root = fs.LocalFileSystem(), Path(root).expanduser().absolute().as_posix()
        self._local = isinstance(self._filesystem, fs.LocalFileSystem)
        self._kept: OrderedDict[str, MarketCandles] = OrderedDict()  # parts never change: the last ones used are kept
        self._kept_candles = 0
        self._keeping = threading.Lock()

    @property
    def held(self) -> tuple[int, int]:
        """How many parts and candles are held in memory."""
        with self._keeping:
            return len(self._kept), self._kept_candles

    @property
    def is_locked_while_writing(self) -> bool:
        """Whether `writing` keeps other writers out."""
        return self._local

    @contextmanager
    def writing(self, symbol: str, timeframe: Timeframe) -> Generator[None]:
        """Write to a series; in a folder, other writers wait for their turn, and the kernel ends that of one that dies.

        Raises:
            StoreUnavailable: If the turn does not come within a minute.
        """
        if not self._local:
            yield
            return
        folder = Path(self._folder(symbol, timeframe))
        with self._answering():
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".lock", timeout=_TURN_S)
            try:
                lock.acquire()
            except Timeout:
                raise StoreUnavailable(self._root, f"another writer keeps {symbol} {timeframe} for {_TURN_S:.0f} s") from None
        try:
            yield
        finally:
            lock.release()

    @property
    def root(self) -> str:
        """Where the store is, without what a URI says of access."""
        return self._root

    def series(self) -> list[tuple[str, Timeframe]]:
        """Return symbol and timeframe of every series that has a part, in alphabetical order, shortest timeframe first."""
        return sorted(self.newest(), key=lambda each: (each[0], each[1].minutes))

    def newest(self) -> dict[tuple[str, Timeframe], str]:
        """Return the name of every series' newest part: another one once a candle was stored, or parts were put together."""
        paths = [info.path for info in self._list(self._root, recursive=True) if info.type == fs.FileType.File]
        found: dict[tuple[str, str], str] = {}
        for path in paths:
            folders, _, name = path.removeprefix(self._root).strip("/").rpartition("/")
            symbol, _, timeframe = folders.partition("/")
            if _PART_FILE.fullmatch(name) and re.fullmatch(r"[A-Z]{6}", symbol) and re.fullmatch(r"\d+[mhd]", timeframe):
                found[symbol, timeframe] = max(name, found.get((symbol, timeframe), ""))
        return {(symbol, Timeframe(timeframe)): name for (symbol, timeframe), name in found.items()}

    def parts(self, symbol: str, timeframe: Timeframe) -> list[Part]:
        """Return a series' parts by month and serial; none if there is no such series."""
        folder = self._folder(symbol, timeframe)
        parts: list[Part] = []
        for info in self._list(folder, recursive=False):
            name = _PART_FILE.fullmatch(info.base_name)  # temporary names don't match
            if name is not None and info.type == fs.FileType.File:
                parts.append(Part(month=name["month"], serial=name["serial"] or "", path=info.path))
        return sorted(parts)

    def read(self, part: Part, symbol: str, timeframe: Timeframe) -> MarketCandles | None:
        """Return what a part holds, or None if it is gone (its candles were put together with others).

        Raises:
            BadCandles: If it is no file of this store.
        """
        with self._keeping:
            kept = self._kept.get(part.path)
            if kept is not None:
                self._kept.move_to_end(part.path)
        if kept is not None:
            return kept
        with self._answering():
            try:
                with self._filesystem.open_input_stream(part.path) as file:
                    content = file.read()
            except OSError:  # of another kind on each file system, if the file is gone
                if self._exists(part):
                    raise
                return None
        try:
            data = _decode(content, symbol, timeframe)
        except (pa.ArrowException, KeyError, ValueError, BadCandles) as error:
            raise BadCandles(part.path, f"no candles: {error}", "a Parquet file that this store wrote") from None
        self._keep(part, data)
        return data

    def write(self, data: MarketCandles, month: str, serial: str) -> Part:
        """Write a part; others see it whole or not at all."""
        folder = self._folder(data.symbol, data.timeframe)
        part = Part(month=month, serial=serial, path=f"{folder}/{month}.{serial}.parquet")
        content = _encode(data)
        with self._answering():
            self._filesystem.create_dir(folder, recursive=True)
            if self._local:
                _write_whole(Path(part.path), content)
            else:  # an object appears when its upload is complete
                with self._filesystem.open_output_stream(part.path) as file:
                    file.write(content)
        self._keep(part, data)
        return part

    def delete(self, part: Part) -> None:
        """Remove a part, if it is still there."""
        with self._keeping:
            kept = self._kept.pop(part.path, None)
            self._kept_candles -= 0 if kept is None else len(kept)
        with self._answering():
            try:
                self._filesystem.delete_file(part.path)
            except OSError:
                if self._exists(part):
                    raise

    def sweep(self, symbol: str, timeframe: Timeframe) -> None:
        """Remove the temporary files of writers that died."""
        if self._local:
            for leftover in Path(self._folder(symbol, timeframe)).glob(".*.tmp"):
                with suppress(FileNotFoundError):  # of a writer that is alive and has just done
                    if time.time() - leftover.stat().st_mtime > _STALE_S:
                        leftover.unlink()

    def _exists(self, part: Part) -> bool:
        return self._filesystem.get_file_info(part.path).type == fs.FileType.File

    def _list(self, folder: str, *, recursive: bool) -> list[Any]:
        """List a folder; none if it is not there."""
        selector = fs.FileSelector(folder, allow_not_found=True, recursive=recursive)
        with self._answering():
            for _ in range(_LISTINGS):
                with suppress(FileNotFoundError):  # a local listing trips over a file or folder that comes or goes meanwhile
                    return self._filesystem.get_file_info(selector)
            return self._filesystem.get_file_info(selector)

    def _keep(self, part: Part, data: MarketCandles) -> None:
        with self._keeping:
            before = self._kept.pop(part.path, None)
            self._kept[part.path] = data
            self._kept_candles += len(data) - (0 if before is None else len(before))
            while len(self._kept) > 1 and (self._kept_candles > _KEPT_CANDLES or len(self._kept) > _KEPT_PARTS):
                self._kept_candles -= len(self._kept.popitem(last=False)[1])

    def _folder(self, symbol: str, timeframe: Timeframe) -> str:
        return f"{self._root}/{symbol}/{timeframe.name}"

    @contextmanager
    def _answering(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(self._root, error.strerror or str(error)) from error


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _encode(data: MarketCandles) -> bytes:
    times = pa.array(data.open_times).cast(_TIME.type)
    columns = [times, *(pa.array(column) for column in data.candles.values.T)]
    columns += [pa.array(column, from_pandas=True) for column in data.details.T]  # NaN is null: an unknown column takes no room
    table = pa.Table.from_arrays(columns, schema=_SCHEMA.with_metadata({_SIDE: data.side.value}))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _decode(content: bytes, symbol: str, timeframe: Timeframe) -> MarketCandles:
    file = pq.ParquetFile(pa.BufferReader(content))
    schema = file.schema_arrow
    side = PriceSide((schema.metadata or {}).get(_SIDE, PriceSide.UNSTATED.value.encode()).decode())
    known = [
        name for position, name in enumerate(schema.names) if name in DETAILS and not _all_null(file, position)
    ]  # most series know few details, and reading nulls costs as much as reading numbers
    table = file.read(columns=["open_time", *COLUMNS, *known])
    times = table["open_time"].cast(_TIME.type).to_numpy().astype("datetime64[s]")
    values = np.column_stack([table[name].cast(pa.float64()).to_numpy() for name in COLUMNS])
    details = no_details(len(times))
    if known:
        details = details.copy()
    for name in known:
        details[:, DETAILS.index(name)] = table[name].to_numpy()
    candles = CandleSeries(symbol=symbol, timeframe=timeframe, open_times=times, values=values)
    return MarketCandles(candles=candles, side=side, details=details)


def _all_null(file: pq.ParquetFile, position: int) -> bool:
    groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    columns = [group.column(position).statistics for group in groups]
    return all(column is not None and column.null_count == group.num_rows for column, group in zip(columns, groups, strict=True))
