"""The rolling windows of an evaluated period."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.errors import BadCandles


def rolling_ends(series: CandleSeries, start: datetime, stop: datetime, *, step_bars: int) -> NDArray[np.int64]:
    """Return the positions of the last candles of the windows whose forecasts are made in [start, stop), ascending.

    Windows lie on a grid of the clock, not on one that begins at the start: so a longer, shorter or later period asks for the same
    forecasts again, and a candle that is missing moves no other window.

    Args:
        series: Candles that reach back `CONTEXT_BARS` before the start where they can.
        start: The first moment at which a forecast may be made, when a window's last candle has closed.
        stop: Where the period ends.
        step_bars: Candles from one window to the next.

    Raises:
        BadCandles: If there is none.
    """
    closed = series.close_times
    first, last = (int(np.searchsorted(closed, to_datetime64(moment))) for moment in (start, stop))
    positions = np.arange(max(first, CONTEXT_BARS - 1), last, dtype=np.int64)
    bar = closed[positions].astype(np.int64) // (60 * series.timeframe.minutes)
    ends = positions[bar % step_bars == 0]
    if not len(ends):
        found = f"no window of {CONTEXT_BARS} candles of {series.symbol} {series.timeframe} in {start:%Y-%m-%d} to {stop:%Y-%m-%d}"
        raise BadCandles("candles", found, "a period with candles in the store")
    return ends
