"""Trade where several timeframes agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from fxcast.domain.candle import COLUMNS, CandleSeries, to_datetime
from fxcast.domain.signal import Direction, Signal, SignalKind, SignalSource
from fxcast.domain.timeframe import Timeframe
from fxcast.signals.sources import MarketView
from fxcast.signals.trend import average_true_range, slope_of, true_range_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiTimeframeRule:
    """Which timeframes must agree, and on what; lengths in candles of each, stop and target in the traded one's true ranges.

    Attributes:
        timeframes: Those shorter than the traded one are left out.
        min_share: Share of the known ones that must agree,
        min_agreeing: and how many at least.
    """

    timeframes: tuple[str, ...] = ("5m", "15m", "1h", "4h")
    average_bars: int = 20
    slope_bars: int = 5
    min_share: float = 1.0
    min_agreeing: int = 2
    range_bars: int = 14
    stop_ranges: float = 2.0
    target_ranges: float = 3.0
    horizon_bars: int = 24

    def __post_init__(self) -> None:
        if not 0.5 < self.min_share <= 1.0:
            raise ValueError(f"min_share {self.min_share} is outside (0.5, 1]: at one half both directions could have it")
        if self.min_agreeing < 2:
            raise ValueError(f"min_agreeing {self.min_agreeing} is below 2: one timeframe agrees with nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiTimeframeSource:
    """Agreement of several timeframes as a source."""

    rule: MultiTimeframeRule = field(default_factory=MultiTimeframeRule)

    @property
    def name(self) -> str:
        return SignalSource.MULTI_TIMEFRAME

    @property
    def timeframes(self) -> tuple[str, ...]:
        return self.rule.timeframes

    def signals(self, view: MarketView) -> tuple[Signal, ...]:
        """Return its opinion, none where fewer timeframes are known than must agree."""
        signal = multi_timeframe_signal(view, self.rule)
        return () if signal is None else (signal,)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeframeTrend:
    """Where one timeframe points, and the slope of its average over its average true range, at most 1."""

    direction: Direction
    steepness: float


def multi_timeframe_signal(view: MarketView, rule: MultiTimeframeRule) -> Signal | None:
    """Return bull or bear if enough timeframes point there, else neutral.

    The strength is the share that agrees times their mean steepness. None if fewer timeframes are known than must agree, or the
    price stood still.
    """
    window = view.window
    if len(window) <= rule.range_bars:
        return None
    true_range = average_true_range(window, rule.range_bars)
    trends = list(_known_trends(view, rule))
    if len(trends) < rule.min_agreeing or not true_range > 0:
        return None
    bulls, bears = ([each for each in trends if each.direction is side] for side in (Direction.BULL, Direction.BEAR))
    agreeing = bulls if len(bulls) > len(bears) else bears
    share = len(agreeing) / len(trends)
    enough = len(agreeing) >= rule.min_agreeing and share >= rule.min_share
    direction = agreeing[0].direction if enough else Direction.NEUTRAL
    price = float(window.closes[-1])
    return Signal(
        source=SignalSource.MULTI_TIMEFRAME,
        kind=SignalKind.CONFLUENCE,
        symbol=window.symbol,
        made_at=to_datetime(window.close_times[-1]),
        horizon_minutes=rule.horizon_bars * window.timeframe.minutes,
        direction=direction,
        strength=min(sum(each.steepness for each in agreeing) / len(trends), 1.0),
        price=price,
        stop=price - direction.sign * rule.stop_ranges * true_range,
        target=price + direction.sign * rule.target_ranges * true_range,
    )


def timeframe_trend(candles: CandleSeries, price: float, rule: MultiTimeframeRule) -> TimeframeTrend | None:
    """Return bull if the price is above the moving average of the closes and that rises, bear for the reverse, else neutral.

    Args:
        candles: Closed ones, of any timeframe.
        price: The newest close known; a longer candle's own may be hours old.

    Returns:
        None if there are too few candles.
    """
    needed_bars = max(rule.average_bars + rule.slope_bars, rule.range_bars + 1)
    if len(candles) < needed_bars:
        return None
    newest = candles.values[-needed_bars:].tobytes()
    average, slope, true_range = _shape(newest, rule.average_bars, rule.slope_bars, rule.range_bars)
    above = price - average
    direction = Direction.NEUTRAL
    if true_range > 0 and above * slope > 0:
        direction = Direction.BULL if slope > 0 else Direction.BEAR
    return TimeframeTrend(direction=direction, steepness=min(abs(slope) / true_range, 1.0) if true_range > 0 else 0.0)


@lru_cache(maxsize=1024)  # the longer candles are the same for minutes, and looked at twice in each: here, and for the quality
def _shape(newest: bytes, average_bars: int, slope_bars: int, range_bars: int) -> tuple[float, float, float]:
    """Return the average of the closes of candles, (n, 5) as bytes, its slope, and the average true range."""
    values = np.frombuffer(newest, dtype=np.float64).reshape(-1, len(COLUMNS))  # (n, 5)
    average = float(values[-average_bars:, 3].sum()) / average_bars
    return average, slope_of(values, average_bars, slope_bars), true_range_of(values, range_bars)


def _known_trends(view: MarketView, rule: MultiTimeframeRule) -> Iterator[TimeframeTrend]:
    window = view.window
    price = float(window.closes[-1])
    for name in rule.timeframes:
        candles = window if name == window.timeframe.name else view.higher.get(name)
        if candles is None or Timeframe(name).minutes < window.timeframe.minutes:
            continue
        trend = timeframe_trend(candles, price, rule)
        if trend is not None:
            yield trend
