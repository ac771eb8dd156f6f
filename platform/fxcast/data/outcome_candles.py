"""The candles that say what became of forecasts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import numpy as np

from fxcast.data.store import CandleStore
from fxcast.data.windows import stored_candles
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import CandleSeries
from fxcast.domain.timeframe import Timeframe

# Thin minutes without a quote, and the hour or two that many sources lack at the turn of the day, are a market at rest: the next
# candle is the outcome, in evaluations as here. More is an outage, whose candles may still be filled in.
LONGEST_REST = timedelta(hours=2)

_BEFORE = timedelta(days=2)  # reaches the open of the candle that closed when a forecast was made
_HOLIDAYS = timedelta(days=5)
_STEP_S = 60


def latest_outcome(made_at: datetime, horizon_minutes: int) -> datetime:
    """Return a moment before which the outcome is known, weekends and holidays included, unless candles are missing."""
    return made_at + timedelta(minutes=horizon_minutes) * 7 / 5 + _HOLIDAYS


def outcome_candles(
    store: CandleStore, symbol: str, timeframe: Timeframe, forecasts: Iterable[tuple[datetime, int]], now: datetime
) -> Iterator[CandleSeries]:
    """Yield the candles from each forecast to its outcome, as far as they are known; reads only the months it needs.

    Args:
        forecasts: When each was made, and its horizon in minutes.
        now: What closes later is left out.

    Yields:
        Series without an outage inside (`unbroken`), none touching another.

    Raises:
        BadCandles: If the store holds no such series (names what it holds).
        StoreUnavailable: If an object store does not answer.
    """
    for start, stop in _together((made_at - _BEFORE, latest_outcome(made_at, minutes)) for made_at, minutes in forecasts):
        if start < now:
            yield from unbroken(stored_candles(store, symbol, timeframe, start, min(stop, now)))


def unbroken(series: CandleSeries) -> Iterator[CandleSeries]:
    """Yield the parts of a series between which the open market lacks more than `LONGEST_REST` of candles."""
    between = series.open_times[1:] - series.close_times[:-1]
    rest = np.timedelta64(LONGEST_REST)
    start = 0
    for position in np.flatnonzero(between > rest):
        minutes = np.arange(series.close_times[position], series.open_times[position + 1], np.timedelta64(_STEP_S, "s"))
        if int(open_mask(minutes).sum()) * np.timedelta64(_STEP_S, "s") > rest:
            yield series.slice(start, int(position) + 1)
            start = int(position) + 1
    yield series.slice(start, len(series))


def _together(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Return the union of spans, oldest first, as spans that don't touch."""
    joined: list[tuple[datetime, datetime]] = []
    for start, stop in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined
