"""One series, handed out candle by candle, of which some may be passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import numpy as np

from fxcast.adapters.clock import ReplayClock
from fxcast.backtest.regimes import first_candle
from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.trading.ports import ClosedCandle


class OneSeriesFeed:
    """Implements `trading.ports.Feed` as `adapters.feeds.replay.ReplayFeed` does, over one series and without longer timeframes.

    Attributes:
        next: Position of the candle that is handed out next.
        last: Position after the last one of the period.
    """

    def __init__(self, series: CandleSeries, *, start: datetime, stop: datetime, clock: ReplayClock) -> None:
        self.next = first_candle(series, start)
        self.last = int(np.searchsorted(series.close_times, to_datetime64(stop)))
        self._series = series
        self._clock = clock

    @property
    def symbols(self) -> tuple[str, ...]:
        return (self._series.symbol,)

    def window(self, symbol: str, closed_at: datetime) -> CandleSeries | None:
        """Return none: nothing is looked at again."""
        del symbol, closed_at
        return None

    def closed_candles(self, *, after: Mapping[str, datetime]) -> Iterator[tuple[ClosedCandle, ...]]:
        """Yield the period's candles; a run begins anew each time, so that there is nothing to be after."""
        assert not after, "a backtest goes on where it is"
        while self.next < self.last:
            self.next += 1
            closed = ClosedCandle(window=self.window_before(self.next))
            self._clock.advance_to(closed.closed_at)
            yield (closed,)

    def window_before(self, position: int) -> CandleSeries:
        """Return the last candles before a position."""
        return self._series.slice(position - CONTEXT_BARS, position)

    def pass_over(self, count: int) -> None:
        """Leave candles out, and let the clock stand where the last of them closed."""
        self.next += count
        self._clock.advance_to(self._series.close_time(self.next - 1))
