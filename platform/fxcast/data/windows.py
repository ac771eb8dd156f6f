"""The one way to look at the past: what is known at a moment, and nothing later."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.errors import BadCandles


def known_at(series: CandleSeries, moment: datetime) -> CandleSeries:
    """Return the candles that have closed at or before a moment."""
    closed = int(np.searchsorted(series.close_times, to_datetime64(moment), side="right"))
    return series.slice(0, closed)


def window_at(series: CandleSeries, moment: datetime, bars: int = CONTEXT_BARS) -> CandleSeries:
    """Return the last `bars` candles known at a moment, oldest first.

    Raises:
        BadCandles: If fewer are known.
    """
    closed = int(np.searchsorted(series.close_times, to_datetime64(moment), side="right"))
    if closed < bars:
        raise BadCandles("candles", f"{closed} known at {moment.isoformat()}", f"at least {bars}")
    return series.slice(closed - bars, closed)


def window_ends(series: CandleSeries, *, future_bars: int, start: int = 0, stop: int | None = None) -> NDArray[np.int64]:
    """Return the positions of candles that can end a training window inside [start, stop).

    Both the `CONTEXT_BARS` candles up to the position and the `future_bars` after it lie inside, so that windows of one
    period never touch another.
    """
    stop = len(series) if stop is None else stop
    return np.arange(start + CONTEXT_BARS - 1, stop - future_bars, dtype=np.int64)
