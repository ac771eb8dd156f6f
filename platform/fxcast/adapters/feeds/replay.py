"""Past candles, handed out one by one as if they closed now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import numpy as np

from fxcast.adapters.clock import ReplayClock
from fxcast.data.windows import window_at
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.trading.ports import ClosedCandle


class ReplayFeed:
    """Implements `trading.ports.Feed` over a series.

    Args:
        start: Candles that close before it only fill the first windows.
        stop: Candles that close at or after it stay unseen.
        clock: Moved to each candle's close as it is handed out.
    """

    def __init__(self, series: CandleSeries, *, start: datetime, stop: datetime, clock: ReplayClock) -> None:
        self._series = series
        self._start = start
        self._stop = stop
        self._clock = clock

    @property
    def symbol(self) -> str:
        return self._series.symbol

    def closed_candles(self, *, after: datetime | None) -> Iterator[ClosedCandle]:
        """Yield the candles of the period that close after a moment; the first need `CONTEXT_BARS` candles up to them."""
        close_times = self._series.close_times
        first = int(np.searchsorted(close_times, to_datetime64(self._start)))
        if after is not None:
            first = max(first, int(np.searchsorted(close_times, to_datetime64(after), side="right")))
        last = int(np.searchsorted(close_times, to_datetime64(self._stop)))
        for position in range(max(first, CONTEXT_BARS - 1), last):
            closed_at = to_datetime(close_times[position])
            self._clock.advance_to(closed_at)
            yield ClosedCandle(window=window_at(self._series, closed_at))
