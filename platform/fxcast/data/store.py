"""Candles on disk or in an object store: Parquet by symbol, timeframe and month."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from fxcast.domain.candle import COLUMNS, CandleSeries, FloatArray, TimeArray, to_datetime, to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting

_MONTH_FILE = re.compile(r"(?P<symbol>[A-Z]{6})/(?P<timeframe>[0-9a-z]+)/(?P<month>\d{4}-\d{2})\.parquet")
_SCHEMA = pa.schema([("open_time", pa.timestamp("s", tz="UTC")), *((name, pa.float64()) for name in COLUMNS)])


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendResult:
    """What became of the candles of one append; `conflicting` lists the open times where the stored candle stayed."""

    added: int
    already_there: int
    conflicting: tuple[datetime, ...]


def absolute_location(root: str | Path) -> str:
    """Return a store's root as every process of a cluster finds it: a URI as it is, a folder with its absolute path."""
    return root if isinstance(root, str) and "://" in root else str(Path(root).expanduser().absolute())


class CandleStore:
    """Candles under one root, as `SYMBOL/TIMEFRAME/YYYY-MM.parquet`.

    A month's file is replaced as a whole, so a reader sees the old one or the new one. Two processes that append to the
    same month at the same time may lose one's candles: give each series one writer.

    Args:
        root: A folder, or a URI that `pyarrow.fs` knows, as in `s3://bucket/candles`.

    Raises:
        BadSetting: If the URI's scheme is unknown.
    """

    def __init__(self, root: str | Path) -> None:
        self._filesystem: fs.FileSystem
        self._root: str
        if isinstance(root, str) and "://" in root:
            try:
                self._filesystem, path = fs.FileSystem.from_uri(root)
            except (pa.ArrowException, ValueError) as error:
                raise BadSetting(f"store {root!r}: {error}") from None
            self._root = path.rstrip("/")
        else:
            self._filesystem, self._root = fs.LocalFileSystem(), Path(root).expanduser().absolute().as_posix()

    def append(self, series: CandleSeries) -> AppendResult:
        """Store candles; those stored already stay as they are.

        Args:
            series: Candles in any relation to the stored ones: before, after, between, the same.

        Returns:
            How many were new, how many were stored already, and where a stored candle differs from the given one.

        Raises:
            BadCandles: If a stored file can't be read.
        """
        added, already_there, conflicting = 0, 0, list[datetime]()
        months = series.open_times.astype("datetime64[M]")
        for month in np.unique(months):
            here = months == month
            times, values = series.open_times[here], series.values[here]
            path = f"{self._folder(series.symbol, series.timeframe)}/{month}.parquet"
            stored_times, stored_values = self._read_month(path) if self._exists(path) else _no_candles()
            _, new_at, stored_at = np.intersect1d(times, stored_times, assume_unique=True, return_indices=True)
            same = (values[new_at] == stored_values[stored_at]).all(axis=1)
            already_there += int(same.sum())
            conflicting += [to_datetime(moment) for moment in times[new_at[~same]]]
            fresh = np.setdiff1d(np.arange(len(times)), new_at)
            if len(fresh):
                merged_times = np.concatenate([stored_times, times[fresh]])
                merged_values = np.concatenate([stored_values, values[fresh]])
                order = np.argsort(merged_times)
                self._replace_month(path, merged_times[order], merged_values[order])
                added += len(fresh)
        return AppendResult(added=added, already_there=already_there, conflicting=tuple(conflicting))

    def read(self, symbol: str, timeframe: Timeframe, start: datetime | None = None, stop: datetime | None = None) -> CandleSeries:
        """Return the stored candles that open in [start, stop), oldest first; none if none open then.

        Raises:
            BadCandles: If there is no such series (names those that exist), a time has no zone, or a file can't be read.
        """
        first = None if start is None else _whole_second(start)
        last = None if stop is None else _whole_second(stop)
        stored = self._months()
        months = stored.get((symbol, timeframe.name))
        if months is None:
            existing = ", ".join(f"{name} {length}" for name, length in sorted(stored)) or f"none: {self._root} is empty"
            raise BadCandles("series", f"{symbol} {timeframe}", existing)
        parts = [_no_candles()]
        for month in months:
            month_starts = np.datetime64(month, "M")
            if (last is not None and month_starts >= last) or (first is not None and month_starts + 1 <= first):
                continue
            parts.append(self._read_month(f"{self._folder(symbol, timeframe)}/{month}.parquet"))
        times = np.concatenate([part[0] for part in parts])
        values = np.concatenate([part[1] for part in parts])
        inside = np.ones(len(times), dtype=bool)
        if first is not None:
            inside &= times >= first
        if last is not None:
            inside &= times < last
        return CandleSeries(symbol=symbol, timeframe=timeframe, open_times=times[inside], values=values[inside])

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that have candles, in alphabetical order."""
        return tuple(sorted({symbol for symbol, _ in self._months()}))

    def _months(self) -> dict[tuple[str, str], list[str]]:
        months: dict[tuple[str, str], list[str]] = {}
        listing = self._filesystem.get_file_info(fs.FileSelector(self._root, allow_not_found=True, recursive=True))
        for info in listing:
            name = _MONTH_FILE.fullmatch(info.path.removeprefix(self._root).strip("/"))  # temporary names don't match
            if name is not None and info.type == fs.FileType.File:
                months.setdefault((name["symbol"], name["timeframe"]), []).append(name["month"])
        return {series: sorted(found) for series, found in months.items()}

    def _folder(self, symbol: str, timeframe: Timeframe) -> str:
        return f"{self._root}/{symbol}/{timeframe.name}"

    def _exists(self, path: str) -> bool:
        return self._filesystem.get_file_info(path).type == fs.FileType.File

    def _read_month(self, path: str) -> tuple[TimeArray, FloatArray]:
        # An open file, not a path: given a path, pyarrow would read `key=value` folders in the root as columns.
        with self._filesystem.open_input_file(path) as file:
            try:
                table = pq.read_table(file, columns=_SCHEMA.names).cast(_SCHEMA)
            except (pa.ArrowException, KeyError) as error:
                raise BadCandles(path, f"no candles: {error}", "a Parquet file that this store wrote") from None
        times = table["open_time"].to_numpy().astype("datetime64[s]")
        return times, np.column_stack([table[name].to_numpy() for name in COLUMNS])

    def _replace_month(self, path: str, times: TimeArray, values: FloatArray) -> None:
        folder, _, name = path.rpartition("/")
        self._filesystem.create_dir(folder, recursive=True)
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex}.tmp"
        columns = [pa.array(times).cast(_SCHEMA.field("open_time").type), *(pa.array(column) for column in values.T)]
        try:
            with self._filesystem.open_output_stream(temporary) as file:
                pq.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA), file)
            self._filesystem.move(temporary, path)
        except BaseException:
            if self._exists(temporary):
                self._filesystem.delete_file(temporary)
            raise


def _no_candles() -> tuple[TimeArray, FloatArray]:
    return np.empty(0, dtype="datetime64[s]"), np.empty((0, len(COLUMNS)))


def _whole_second(moment: datetime) -> np.datetime64:
    """Round up: candles open on whole seconds, so one that opens within the second before `moment` opens before it."""
    return to_datetime64(moment + timedelta(microseconds=999_999))
