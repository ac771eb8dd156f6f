"""Past candles, handed out one by one as if they closed now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime

import numpy as np

from fxcast.adapters.clock import ReplayClock
from fxcast.data.windows import window_at
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.errors import BadSetting
from fxcast.trading.ports import ClosedCandle


class Pace:
    """When the candles of a replay are due, by the first of them: pauses that were too long are made up for, so nothing drifts.

    Args:
        speed: How many times faster than the market, gaps and weekends included; None: as fast as candles are consumed.
        now_s: A clock in seconds that never goes back.

    Raises:
        BadSetting: If the speed is not above zero.
    """

    def __init__(self, speed: float | None, now_s: Callable[[], float] = time.monotonic) -> None:
        if speed is not None and not speed > 0:
            raise BadSetting(f"speed: found {speed:g}; allowed: a number above 0")
        self._speed = speed
        self._now_s = now_s
        self._began: tuple[datetime, float] | None = None

    def pause_s(self, closed_at: datetime) -> float:
        """Return how long to wait before a candle is handed out, in seconds; 0 if it is due. The first one is."""
        if self._speed is None:
            return 0.0
        if self._began is None:
            self._began = closed_at, self._now_s()
        first, began_s = self._began
        due_s = began_s + (closed_at - first).total_seconds() / self._speed
        return max(0.0, due_s - self._now_s())


class ReplayFeed:
    """Implements `trading.ports.Feed` over a series.

    Args:
        start: Candles that close before it only fill the first windows.
        stop: Candles that close at or after it stay unseen.
        clock: Moved to each candle's close as it is handed out.
        speed: How many times faster than the market; None: as fast as candles are consumed.
        sleep: Waits for a number of seconds.
        now_s: A clock in seconds that never goes back.

    Raises:
        BadSetting: If the speed is not above zero.
    """

    def __init__(
        self,
        series: CandleSeries,
        *,
        start: datetime,
        stop: datetime,
        clock: ReplayClock,
        speed: float | None = None,
        sleep: Callable[[float], object] = time.sleep,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._series = series
        self._start = start
        self._stop = stop
        self._clock = clock
        self._pace = Pace(speed, now_s)
        self._sleep = sleep

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
            pause_s = self._pace.pause_s(closed_at)
            if pause_s > 0:
                self._sleep(pause_s)
            self._clock.advance_to(closed_at)
            yield ClosedCandle(window=window_at(self._series, closed_at))
