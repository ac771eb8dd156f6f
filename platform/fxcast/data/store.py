"""Candles on disk or in an object store: Parquet by symbol, timeframe and month."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from itertools import groupby
from pathlib import Path

import numpy as np

from fxcast.data.merge import Merged, merge
from fxcast.data.parts import Part, PartFiles, is_settled, new_serial, serial_in_place_of
from fxcast.domain.candle import COLUMNS, CandleSeries, to_datetime, to_datetime64
from fxcast.domain.market import MarketCandles, concatenate, no_details, without_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles

_MANY_PARTS = 16  # of one month; more are put together


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendResult:
    """What became of the candles of one append.

    Attributes:
        added: How many were new.
        completed: How many were stored with less detail, which was filled in.
        already_there: How many said nothing new.
        conflicting: Open times where the stored candle differs, and stayed.
    """

    added: int
    completed: int
    already_there: int
    conflicting: tuple[datetime, ...]


def absolute_location(root: str | Path) -> str:
    """Return a store's root as every process of a cluster finds it: a URI as it is, a folder with its absolute path."""
    return root if isinstance(root, str) and "://" in root else str(Path(root).expanduser().absolute())


class CandleStore:
    """Candles under one root, as `SYMBOL/TIMEFRAME/YYYY-MM.SERIAL.parquet`.

    An append writes one new file a month, whole, and changes none; files of a month are put together when they are many. So a
    writer may be killed at any moment, and a reader sees an append of a month or does not. In a folder, writers of a series take
    turns. An object store can't make them: there each looks again at what is there after it has written, and takes its own file
    back if another one's says otherwise.

    Args:
        root: A folder, or a URI that `pyarrow.fs` knows, as in `s3://bucket/candles`.

    Raises:
        BadSetting: If the URI's scheme is unknown.
        StoreUnavailable: By every method, if the disk is full or the object store does not answer.
    """

    def __init__(self, root: str | Path) -> None:
        self._files = PartFiles(root)

    def append(self, data: MarketCandles | CandleSeries) -> AppendResult:
        """Store candles; what is stored already stays as it is, but for details that it lacks.

        Args:
            data: Candles in any relation to the stored ones: before, after, between, the same.

        Raises:
            BadCandles: If a stored file can't be read, or the series holds prices of another side.
        """
        given = without_details(data) if isinstance(data, CandleSeries) else data
        added, completed, already_there, conflicting = 0, 0, 0, list[datetime]()
        if len(given):
            months = given.open_times.astype("datetime64[M]")
            starts = np.flatnonzero(np.concatenate([[True], months[1:] != months[:-1]]))
            with self._files.writing(given.symbol, given.timeframe):
                for start, stop in zip(starts, [*starts[1:], len(given)], strict=True):
                    part = given.slice(int(start), int(stop))
                    merged = self._append_month(part, str(months[start]))
                    added += int(merged.added.sum())
                    completed += int(merged.completed.sum())
                    already_there += int((~merged.added & ~merged.completed & ~merged.conflicting).sum())
                    conflicting += [to_datetime(moment) for moment in part.open_times[merged.conflicting]]
        return AppendResult(added=added, completed=completed, already_there=already_there, conflicting=tuple(conflicting))

    def read(self, symbol: str, timeframe: Timeframe, start: datetime | None = None, stop: datetime | None = None) -> CandleSeries:
        """Return the stored candles that open in [start, stop), oldest first; none if none open then.

        Raises:
            BadCandles: If there is no such series (names those that exist), a time has no zone, or a file can't be read.
        """
        return self.read_market(symbol, timeframe, start, stop).candles

    def read_market(
        self, symbol: str, timeframe: Timeframe, start: datetime | None = None, stop: datetime | None = None
    ) -> MarketCandles:
        """Return the same with bid, ask, spread and volumes, where they are known.

        Raises:
            BadCandles: As `read`.
        """
        first = None if start is None else _whole_second(start)
        last = None if stop is None else _whole_second(stop)

        def wanted(month: str) -> bool:
            opens = np.datetime64(month, "M")
            return not ((last is not None and opens >= last) or (first is not None and opens + 1 <= first))

        months = self._read_months(symbol, timeframe, wanted)
        if not months:
            if not self.has(symbol, timeframe):
                raise BadCandles("series", f"{symbol} {timeframe}", self._existing())
            return without_details(_no_candles(symbol, timeframe))
        data = concatenate(list(months.values()))
        begin = 0 if first is None else int(np.searchsorted(data.open_times, first))
        end = len(data) if last is None else int(np.searchsorted(data.open_times, last))
        return data if (begin, end) == (0, len(data)) else data.slice(begin, max(begin, end))

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that have candles, in alphabetical order."""
        return tuple(sorted({symbol for symbol, _ in self._files.series()}))

    def timeframes(self, symbol: str) -> tuple[Timeframe, ...]:
        """Return the timeframes that a symbol's candles are stored in, shortest first."""
        return tuple(timeframe for name, timeframe in self._files.series() if name == symbol)

    def newest_parts(self) -> dict[tuple[str, Timeframe], str]:
        """Return a name for every series that differs once a candle of it was stored; costs one listing, and reads no file."""
        return self._files.newest()

    def has(self, symbol: str, timeframe: Timeframe) -> bool:
        """Tell whether there is such a series."""
        return bool(self._files.parts(symbol, timeframe))

    def span(self, symbol: str, timeframe: Timeframe) -> tuple[datetime, datetime] | None:
        """Return the open of the first stored candle and the close of the last, None if there is no such series."""
        months = [part.month for part in self._files.parts(symbol, timeframe)]
        if not months:
            return None
        ends = self._read_months(symbol, timeframe, lambda month: month in {months[0], months[-1]})
        oldest, newest = ends[min(ends)].candles, ends[max(ends)].candles
        return to_datetime(oldest.open_times[0]), to_datetime(newest.close_times[-1])

    def _append_month(self, given: MarketCandles, month: str) -> Merged:
        symbol, timeframe = given.symbol, given.timeframe
        while True:
            known = set(self._files.parts(symbol, timeframe))
            self._require_side(given, known)
            parts, stored = self._read_month(given, month)
            merged = merge(stored, given)
            fresh = merged.added | merged.completed
            if not fresh.any():
                return merged
            news = _rows(given, fresh) if not merged.completed.any() else _rows_at(merged.data, given.open_times[fresh])
            written = self._files.write(news, month, new_serial(after=max((part.serial for part in parts), default="")))
            known |= {*parts, written}
            try:
                others = self._read_others(given, known)
                _require_same_side(given, others.values())
            except BaseException:  # nothing was told, so nothing may stay
                self._files.delete(written)
                raise
            if not any(part.month == month and bool(merge(other, news).conflicting.any()) for part, other in others.items()):
                self._put_together(given, month)
                return merged
            # Another writer stored other candles of the same times meanwhile, and may not have seen ours: theirs stay.
            self._files.delete(written)
            time.sleep(random.uniform(0.0, 0.1))  # or two that both took theirs back would meet again, and again

    def _require_side(self, given: MarketCandles, known: set[Part]) -> None:
        last_month = max((part.month for part in known), default="")
        _require_same_side(given, self._read_months(given.symbol, given.timeframe, lambda month: month == last_month).values())

    def _read_others(self, given: MarketCandles, known: set[Part]) -> dict[Part, MarketCandles]:
        return self._read_parts(given.symbol, given.timeframe, lambda part: part not in known)

    def _put_together(self, like: MarketCandles, month: str) -> None:
        """Write the union of a month's parts, if they are many, then remove them.

        Killed in between, the month holds the same candles twice. Where other writers can't be kept out, only parts that their
        writers have long looked at are touched.
        """
        parts = [part for part in self._files.parts(like.symbol, like.timeframe) if part.month == month]
        if not self._files.is_locked_while_writing:
            parts = [part for part in parts if is_settled(part)]
        if len(parts) <= _MANY_PARTS:
            return
        read = self._read_parts(like.symbol, like.timeframe, lambda part: part in parts)
        union = _union(read.values())
        self._files.write(union, month, serial_in_place_of(next(iter(read))))
        for part in read:
            self._files.delete(part)
        self._files.sweep(like.symbol, like.timeframe)

    def _read_month(self, like: MarketCandles, month: str) -> tuple[list[Part], MarketCandles]:
        """Return a month's parts and their union: without candles, but of the side of `like`, if there are none."""
        read = self._read_parts(like.symbol, like.timeframe, lambda part: part.month == month)
        if not read:
            nothing = _no_candles(like.symbol, like.timeframe)
            return [], MarketCandles(candles=nothing, side=like.side, details=no_details(0))
        return list(read), _union(read.values())

    def _read_months(self, symbol: str, timeframe: Timeframe, wanted: Callable[[str], bool]) -> dict[str, MarketCandles]:
        read = self._read_parts(symbol, timeframe, lambda part: wanted(part.month))
        return {month: _union(read[part] for part in parts) for month, parts in groupby(read, key=lambda part: part.month)}

    def _read_parts(self, symbol: str, timeframe: Timeframe, wanted: Callable[[Part], bool]) -> dict[Part, MarketCandles]:
        """Read some parts, until two listings in a row name the same ones.

        A folder may be listed while its files are being put together, and the listing may then lack both the old ones and the new.
        """
        read: dict[Part, MarketCandles | None] = {}
        listed: list[Part] | None = None
        while True:
            parts = [part for part in self._files.parts(symbol, timeframe) if wanted(part)]
            for part in parts:
                if read.get(part) is None:
                    read[part] = self._files.read(part, symbol, timeframe)
            found = {part: data for part in parts if (data := read[part]) is not None}
            if parts == listed and len(found) == len(parts):
                return found
            listed = parts

    def _existing(self) -> str:
        named = ", ".join(f"{symbol} {timeframe}" for symbol, timeframe in self._files.series())
        return named or f"none: {self._files.root} is empty"


def _require_same_side(given: MarketCandles, stored: Iterable[MarketCandles]) -> None:
    other = next((part.side for part in stored if part.side != given.side), None)
    if other is not None:
        allowed = f"{other} prices, as those stored; or another store"
        raise BadCandles(f"{given.symbol} {given.timeframe}", f"{given.side} prices", allowed)


def _union(parts: Iterable[MarketCandles]) -> MarketCandles:
    return reduce(lambda earlier, later: merge(earlier, later).data, parts)


def _rows(data: MarketCandles, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> MarketCandles:
    candles = data.candles
    kept = CandleSeries(
        symbol=candles.symbol, timeframe=candles.timeframe, open_times=candles.open_times[mask], values=candles.values[mask]
    )
    return MarketCandles(candles=kept, side=data.side, details=data.details[mask])


def _rows_at(data: MarketCandles, open_times: np.ndarray[tuple[int], np.dtype[np.datetime64]]) -> MarketCandles:
    return _rows(data, np.isin(data.open_times, open_times))


def _no_candles(symbol: str, timeframe: Timeframe) -> CandleSeries:
    nothing = np.empty((0, len(COLUMNS)))
    return CandleSeries(symbol=symbol, timeframe=timeframe, open_times=np.empty(0, dtype="datetime64[s]"), values=nothing)


def _whole_second(moment: datetime) -> np.datetime64:
    """Round up: candles open on whole seconds, so one that opens within the second before `moment` opens before it."""
    return to_datetime64(moment + timedelta(microseconds=999_999))
