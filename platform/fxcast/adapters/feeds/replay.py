"""Past candles, handed out one by one as if they closed now."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby

import numpy as np

from fxcast.adapters.clock import ReplayClock
from fxcast.data.higher_timeframes import HigherTimeframes
from fxcast.domain.candle import CandleSeries, to_datetime64
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
    """Implements `trading.ports.Feed` over one series a symbol, all of one timeframe.

    Args:
        series: One a symbol.
        start: Candles that close before it only fill the first windows.
        stop: Candles that close at or after it stay unseen.
        clock: Moved to each moment as its candles are handed out.
        timeframes: Longer ones whose closed candles are handed out beside each window.
        speed: How many times faster than the market; None: as fast as candles are consumed.
        sleep: Waits for a number of seconds.
        now_s: A clock in seconds that never goes back.

    Raises:
        BadSetting: If the speed is not above zero.
    """

    def __init__(
        self,
        series: Sequence[CandleSeries],
        *,
        start: datetime,
        stop: datetime,
        clock: ReplayClock,
        timeframes: Sequence[str] = (),
        speed: float | None = None,
        sleep: Callable[[float], object] = time.sleep,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._series = {each.symbol: each for each in series}
        self._start = start
        self._stop = stop
        self._clock = clock
        self._timeframes = tuple(timeframes)
        self._pace = Pace(speed, now_s)
        self._sleep = sleep

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._series)

    def window(self, symbol: str, closed_at: datetime) -> CandleSeries | None:
        """Return the window of a candle of the series, None if it has none."""
        series = self._series[symbol]
        closed = int(np.searchsorted(series.close_times, to_datetime64(closed_at), side="right"))
        return series.slice(closed - CONTEXT_BARS, closed) if closed >= CONTEXT_BARS else None

    def closed_candles(self, *, after: Mapping[str, datetime]) -> Iterator[tuple[ClosedCandle, ...]]:
        """Yield the period's candles that close after a moment; a symbol's first need `CONTEXT_BARS` candles up to them."""
        streams = [self._of_symbol(series, after.get(symbol)) for symbol, series in sorted(self._series.items())]
        together = groupby(heapq.merge(*streams, key=_close_time), key=_close_time)
        for closed_at, candles in together:
            pause_s = self._pace.pause_s(closed_at)
            if pause_s > 0:
                self._sleep(pause_s)
            self._clock.advance_to(closed_at)
            yield tuple(candles)

    def _of_symbol(self, series: CandleSeries, after: datetime | None) -> Iterator[ClosedCandle]:
        close_times = series.close_times
        first = int(np.searchsorted(close_times, to_datetime64(self._start)))
        if after is not None:
            first = max(first, int(np.searchsorted(close_times, to_datetime64(after), side="right")))
        first = max(first, CONTEXT_BARS - 1)
        last = int(np.searchsorted(close_times, to_datetime64(self._stop)))
        if first >= last:
            return
        higher = HigherTimeframes.of(series.slice(0, first), self._timeframes) if self._timeframes else None
        for position in range(first, last):
            if higher is not None:
                higher = higher.advanced_with(series.slice(position, position + 1))
            window = series.slice(position + 1 - CONTEXT_BARS, position + 1)
            yield ClosedCandle(window=window, higher={} if higher is None else higher.candles)


def _close_time(closed: ClosedCandle) -> datetime:
    return closed.closed_at
