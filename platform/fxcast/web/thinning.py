"""Put candles together to so few bars that a chart stays quick, however many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.calendar import new_york_offset
from fxcast.domain.candle import CandleSeries, FloatArray, TimeArray

IntArray = NDArray[np.int64]
_Keys = Callable[[TimeArray], IntArray]

_DAY_S, _DAY_OPENS_S = 86_400, 17 * 3_600  # the trading day begins at 17:00 New York
_DAY_MINUTES = 1_440
_MINUTES = (2, 5, 10, 15, 30, 60, 120, 240, 480, 720, _DAY_MINUTES)
_MONDAY = 3  # 1 January 1970 was a Thursday
_MONTHS = {1: "1 month", 3: "3 months", 12: "1 year"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Candles of a chart, oldest first, each made of one candle or more.

    Attributes:
        open_times: Of the first candle in each, (n,) datetime64[s], UTC.
        values: (n, 5), columns open, high, low, close, volume.
        counts: How many candles are in each, (n,).
        length: The period that a bar covers, in words; empty if every bar is a candle.
    """

    open_times: TimeArray
    values: FloatArray
    counts: IntArray
    length: str

    def __len__(self) -> int:
        return len(self.open_times)


def thin(series: CandleSeries, at_most: int) -> Bars:
    """Put candles together to bars of the shortest period that leaves at most so many.

    Open is the first, high the highest, low the lowest, close the last, volume the sum. Periods lie on the calendar, so that a bar
    holds the same candles wherever one has panned to (but for the first and the last, which may lie partly outside): up to an hour
    they count from midnight UTC, up to a day from 17:00 New York, weeks, months and years are those of trading days.

    Raises:
        ValueError: If not even one bar is allowed.
    """
    if at_most < 1:
        raise ValueError(f"{at_most} bars: at least one is needed")
    opens = series.open_times.astype("datetime64[s]")
    if len(series) <= at_most:
        return Bars(open_times=opens, values=series.values, counts=np.ones(len(series), dtype=np.int64), length="")
    own = series.timeframe.minutes
    for minutes, length, keys_of in _periods():
        too_short = len(series) > at_most * ((minutes + 60) // own + 1)  # an hour more, when clocks go back
        if too_short or minutes <= own or (minutes <= _DAY_MINUTES and minutes % own):
            continue
        keys = keys_of(opens)
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))  # (bars,)
        if len(starts) <= at_most:
            return _bars(opens, series.values, starts, length)
    raise AssertionError("periods grow without end")


def _bars(opens: TimeArray, values: FloatArray, starts: NDArray[np.intp], length: str) -> Bars:
    stops = np.append(starts[1:], len(opens))
    joined = np.column_stack(
        [
            values[starts, 0],
            np.maximum.reduceat(values[:, 1], starts),
            np.minimum.reduceat(values[:, 2], starts),
            values[stops - 1, 3],
            np.add.reduceat(values[:, 4], starts),
        ]
    )
    return Bars(open_times=opens[starts], values=joined, counts=(stops - starts).astype(np.int64), length=length)


def _periods() -> Iterator[tuple[int, str, _Keys]]:
    """Yield periods, shortest first: minutes, words, and what numbers the period that each moment lies in."""
    for minutes in _MINUTES:
        yield minutes, _in_words(minutes), partial(_by_minutes, minutes=minutes)
    yield 7 * _DAY_MINUTES, "1 week", _by_week
    for months, words in _MONTHS.items():
        yield months * 31 * _DAY_MINUTES, words, partial(_by_months, months=months)
    years = 2
    while True:
        yield years * 366 * _DAY_MINUTES, f"{years} years", partial(_by_months, months=12 * years)
        years *= 2


def _in_words(minutes: int) -> str:
    if minutes == _DAY_MINUTES:
        return "1 day"
    if minutes < 60:
        return f"{minutes} minutes"
    return "1 hour" if minutes == 60 else f"{minutes // 60} hours"


def _by_minutes(moments: TimeArray, *, minutes: int) -> IntArray:
    seconds = moments.astype(np.int64) if minutes <= 60 else _trading_seconds(moments)
    return seconds // (60 * minutes)


def _by_week(moments: TimeArray) -> IntArray:
    return (_trading_days(moments) + _MONDAY) // 7


def _by_months(moments: TimeArray, *, months: int) -> IntArray:
    counted = _trading_days(moments).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return (counted + 12 * 1970) // months


def _trading_days(moments: TimeArray) -> IntArray:
    """Number trading days by the date on which they end: Sunday evening belongs to Monday."""
    return _trading_seconds(moments) // _DAY_S + 1


def _trading_seconds(moments: TimeArray) -> IntArray:
    return moments.astype(np.int64) + new_york_offset(moments).astype(np.int64) - _DAY_OPENS_S
