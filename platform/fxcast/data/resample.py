"""Make longer candles of shorter ones, on the grid of the trading day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.candle import CandleSeries, FloatArray, TimeArray, to_datetime64
from fxcast.domain.market import ASK, BID, DETAILS, MarketCandles, no_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles

IntArray = NDArray[np.int64]

_OPENS, _HIGHS, _LOWS, _CLOSES = zip(BID, ASK, strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """Candles of a longer timeframe; the last may still be growing.

    So may the one before it, on the Sunday on which New York's clock goes back: the grid starts again an hour before the candle of
    the old grid closes. The market is closed then.
    """

    data: MarketCandles
    growing: int

    @property
    def last_is_partial(self) -> bool:
        return self.growing > 0

    @property
    def complete(self) -> MarketCandles:
        """The candles whose close has been reached."""
        return self.data.slice(0, len(self.data) - self.growing)


def resample(data: MarketCandles, timeframe: Timeframe, *, as_of: datetime | None = None) -> Resampled:
    """Put the candles of a series together to candles of a longer timeframe.

    Open is the first, high the highest, low the lowest, close the last; volumes are sums of the known ones and the spread is the
    last known. Bid and ask go alike. A time without a candle gets none. Resampled in two steps or in one, the candles are the same
    (volumes as far as their sums are exact).

    A candle is partial until `as_of` has reached its close. No other rule is needed for the end of the week: Friday 17:00
    New York is a close on the grid of every timeframe, so no candle goes on after it and none is waited for.

    Args:
        data: The shorter candles.
        timeframe: A multiple of theirs; their own gives them back.
        as_of: The moment at which one looks, by default the close of the last candle; what closes later is left out.

    Raises:
        BadCandles: If the timeframe is shorter or no multiple, or a candle does not lie within one of the longer ones (4h candles
            counted from midnight UTC in days that end at 17:00 New York).
    """
    source = data.timeframe
    if timeframe.minutes < source.minutes or timeframe.minutes % source.minutes:
        raise BadCandles("timeframe", f"{timeframe} from candles of {source}", f"{source} or a multiple of it")
    if as_of is not None:
        known = int(np.searchsorted(data.candles.close_times, to_datetime64(as_of), side="right"))
        data = data.slice(0, known)
    if timeframe == source or not len(data):
        empty = CandleSeries(symbol=data.symbol, timeframe=timeframe, open_times=data.open_times, values=data.candles.values)
        return Resampled(data=MarketCandles(candles=empty, side=data.side, details=data.details), growing=0)
    opens = timeframe.opening(data.open_times)
    _require_within(data, opens, timeframe)
    starts = np.flatnonzero(np.concatenate([[True], opens[1:] != opens[:-1]]))  # (bars,)
    candles = CandleSeries(
        symbol=data.symbol, timeframe=timeframe, open_times=opens[starts], values=_values(data.candles.values, starts)
    )
    seen_until = data.candles.close_times[-1] if as_of is None else to_datetime64(as_of)
    return Resampled(
        data=MarketCandles(candles=candles, side=data.side, details=_details(data.details, starts)),
        growing=int(np.count_nonzero(candles.close_times > seen_until)),
    )


def _require_within(data: MarketCandles, opens: TimeArray, timeframe: Timeframe) -> None:
    beyond = np.flatnonzero(data.candles.close_times > opens + timeframe.step)
    if len(beyond):
        first = int(beyond[0])
        found = f"{data.open_times[first]}, a candle of {data.timeframe} that closes after the {timeframe} candle of {opens[first]}"
        raise BadCandles(f"candles[{first}].open_time", found, f"candles that lie within one of {timeframe}")


def _values(values: FloatArray, starts: IntArray) -> FloatArray:
    """Return open, high, low, close and volume of each bar, (bars, 5), of candles, (n, 5)."""
    ends = np.append(starts[1:], len(values)) - 1
    return np.column_stack(
        [
            values[starts, 0],
            np.maximum.reduceat(values[:, 1], starts),
            np.minimum.reduceat(values[:, 2], starts),
            values[ends, 3],
            np.add.reduceat(values[:, 4], starts),
        ]
    )


def _details(details: FloatArray, starts: IntArray) -> FloatArray:
    """Return what is known of each bar, (bars, 11), of what is known of candles, (n, 11)."""
    made = no_details(len(starts)).copy()
    for column, name in enumerate(DETAILS):
        known = ~np.isnan(details[:, column])
        if not known.any():  # most series know few details
            continue
        given = details[:, column]
        if name in _OPENS:
            made[:, column] = _first_known(given, known, starts)
        elif name in _HIGHS:
            made[:, column] = np.fmax.reduceat(given, starts)
        elif name in _LOWS:
            made[:, column] = np.fmin.reduceat(given, starts)
        elif name in _CLOSES or name == "spread":
            made[:, column] = _last_known(given, known, starts)
        else:
            sums = np.add.reduceat(np.where(known, given, 0.0), starts)
            made[:, column] = np.where(np.logical_or.reduceat(known, starts), sums, np.nan)
    return made


def _first_known(given: FloatArray, known: NDArray[np.bool_], starts: IntArray) -> FloatArray:
    positions = np.where(known, np.arange(len(given)), len(given))
    first = np.minimum.reduceat(positions, starts)
    return np.append(given, np.nan)[first]


def _last_known(given: FloatArray, known: NDArray[np.bool_], starts: IntArray) -> FloatArray:
    positions = np.where(known, np.arange(len(given)), -1)
    last = np.maximum.reduceat(positions, starts)
    return np.append(given, np.nan)[last]  # position -1 is the NaN
