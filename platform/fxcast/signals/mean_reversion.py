"""Trade against extremes: Bollinger bands."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fxcast.domain.candle import CandleSeries, FloatArray, to_datetime
from fxcast.domain.signal import Direction, Signal, SignalKind, SignalSource
from fxcast.signals.sources import MarketView


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanReversionRule:
    """Bollinger's 20 candles and 2 standard deviations; the stop lies `stop_deviations` further out."""

    average_bars: int = 20
    entry_deviations: float = 2.0
    full_strength_deviations: float = 4.0
    stop_deviations: float = 1.5
    horizon_bars: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanReversionSource:
    """Mean reversion as a source."""

    rule: MeanReversionRule = field(default_factory=MeanReversionRule)

    @property
    def name(self) -> str:
        return SignalSource.MEAN_REVERSION

    @property
    def timeframes(self) -> tuple[str, ...]:
        return ()

    def signals(self, view: MarketView) -> tuple[Signal, ...]:
        """Return its opinion, none on a window that is too short."""
        signal = mean_reversion_signal(view.window, self.rule)
        return () if signal is None else (signal,)


def mean_reversion_signal(window: CandleSeries, rule: MeanReversionRule) -> Signal | None:
    """Return bear if the close is more than 2 deviations above its average, bull if below, else neutral.

    The target is the average; the strength |z| / `full_strength_deviations`, at most 1. None if the window is too short.
    """
    if len(window) < rule.average_bars:
        return None
    closes = window.closes[-rule.average_bars :]
    price, average, deviation = float(closes[-1]), *mean_and_deviation(closes)
    score = (price - average) / deviation if deviation > 0 else 0.0
    direction = Direction.NEUTRAL
    if abs(score) > rule.entry_deviations:
        direction = Direction.BEAR if score > 0 else Direction.BULL
    directional = direction is not Direction.NEUTRAL
    return Signal(
        source=SignalSource.MEAN_REVERSION,
        kind=SignalKind.MEAN_REVERSION,
        symbol=window.symbol,
        made_at=to_datetime(window.close_times[-1]),
        horizon_minutes=rule.horizon_bars * window.timeframe.minutes,
        direction=direction,
        strength=min(abs(score) / rule.full_strength_deviations, 1.0),
        price=price,
        stop=price - direction.sign * rule.stop_deviations * deviation,
        target=average if directional else price,
    )


def mean_and_deviation(values: FloatArray) -> tuple[float, float]:
    """Return the mean and the standard deviation of some values, (n,); numpy's own to the last digit, in half the time."""
    mean = float(values.sum()) / len(values)
    apart = values - mean
    return mean, math.sqrt(float((apart * apart).sum()) / len(values))
