"""Trade with the trend: two moving averages and the slope of the slow one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fxcast.domain.candle import CandleSeries, FloatArray, to_datetime
from fxcast.domain.signal import Direction, Signal, SignalKind, SignalSource
from fxcast.signals.sources import MarketView


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendSource:
    """The trend as a source."""

    rule: TrendRule = field(default_factory=TrendRule)

    @property
    def name(self) -> str:
        return SignalSource.TREND

    @property
    def timeframes(self) -> tuple[str, ...]:
        return ()

    def signals(self, view: MarketView) -> tuple[Signal, ...]:
        """Return its opinion, none on a window that is too short."""
        signal = trend_signal(view.window, self.rule)
        return () if signal is None else (signal,)


def trend_signal(window: CandleSeries, rule: TrendRule) -> Signal | None:
    """Return bull if the fast average is above the slow one and that one rises, bear for the reverse, else neutral.

    The strength is the distance of the averages over the average true range, at most 1. None if the window is too short.
    """
    if len(window) < rule.needed_bars:
        return None
    closes = window.closes
    price = float(closes[-1])
    gap = float(closes[-rule.fast_bars :].sum()) / rule.fast_bars - float(closes[-rule.slow_bars :].sum()) / rule.slow_bars
    slope = average_slope(window, rule.slow_bars, rule.slope_bars)
    true_range = average_true_range(window, rule.range_bars)
    direction = Direction.NEUTRAL
    if true_range > 0 and gap * slope > 0:
        direction = Direction.BULL if gap > 0 else Direction.BEAR
    return Signal(
        source=SignalSource.TREND,
        kind=SignalKind.TREND,
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
    return slope_of(window.values, average_bars, slope_bars)


def average_true_range(window: CandleSeries, bars: int) -> float:
    """Return the mean true range of the last `bars` candles (quote currency): with the gap from the close before."""
    return true_range_of(window.values, bars)


def slope_of(values: FloatArray, average_bars: int, slope_bars: int) -> float:
    """Return the `average_slope` of candles, (n, 5)."""
    closes = values[-(average_bars + slope_bars) :, 3]
    return (float(closes[-average_bars:].sum()) - float(closes[:average_bars].sum())) / average_bars


def true_range_of(values: FloatArray, bars: int) -> float:
    """Return the `average_true_range` of candles, (n, 5)."""
    recent, before = values[-bars:], values[-bars - 1 : -1, 3]
    ranges = np.maximum(recent[:, 1], before) - np.minimum(recent[:, 2], before)
    return float(ranges.sum()) / bars
