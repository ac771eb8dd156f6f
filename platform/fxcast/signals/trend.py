"""Trade with the trend: two moving averages and the slope of the slow one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.signal import Direction, Signal, SignalSource


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendRule:
    """Lengths in candles; stop and target in multiples of the average true range (Wilder's 14 candles)."""

    fast_bars: int = 12
    slow_bars: int = 48
    slope_bars: int = 6
    range_bars: int = 14
    stop_ranges: float = 2.0
    target_ranges: float = 3.0
    horizon_bars: int = 24

    @property
    def needed_bars(self) -> int:
        return max(self.slow_bars + self.slope_bars, self.range_bars + 1)


def trend_signal(window: CandleSeries, rule: TrendRule) -> Signal | None:
    """Return bull if the fast average is above the slow one and that one rises, bear for the reverse, else neutral.

    The strength is the distance of the averages over the average true range, at most 1. None if the window is too short.
    """
    if len(window) < rule.needed_bars:
        return None
    closes = window.closes
    price = float(closes[-1])
    gap = float(closes[-rule.fast_bars :].mean() - closes[-rule.slow_bars :].mean())
    slope = average_slope(window, rule.slow_bars, rule.slope_bars)
    true_range = average_true_range(window, rule.range_bars)
    direction = Direction.NEUTRAL
    if true_range > 0 and gap * slope > 0:
        direction = Direction.BULL if gap > 0 else Direction.BEAR
    return Signal(
        source=SignalSource.TREND,
        symbol=window.symbol,
        made_at=to_datetime(window.close_times[-1]),
        horizon_minutes=rule.horizon_bars * window.timeframe.minutes,
        direction=direction,
        strength=min(abs(gap) / true_range, 1.0) if true_range > 0 else 0.0,
        price=price,
        stop=price - direction.sign * rule.stop_ranges * true_range,
        target=price + direction.sign * rule.target_ranges * true_range,
    )


def average_slope(window: CandleSeries, average_bars: int, slope_bars: int) -> float:
    """Return by how much a moving average of closes moved over the last `slope_bars` candles (quote currency)."""
    closes = window.closes[-(average_bars + slope_bars) :]
    return float(closes[-average_bars:].mean() - closes[:average_bars].mean())


def average_true_range(window: CandleSeries, bars: int) -> float:
    """Return the mean true range of the last `bars` candles (quote currency): with the gap from the close before."""
    _, high, low, _, _ = window.values[-bars:].T
    before = window.closes[-bars - 1 : -1]
    return float(np.mean(np.maximum(high, before) - np.minimum(low, before)))
