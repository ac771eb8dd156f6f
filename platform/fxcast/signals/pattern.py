"""Candlestick patterns, and breakouts that volume confirms."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.candle import CandleSeries, FloatArray, to_datetime
from fxcast.domain.signal import Direction, Signal, SignalKind, SignalSource
from fxcast.signals.sources import MarketView
from fxcast.signals.trend import average_true_range

Recogniser = Callable[[FloatArray, FloatArray, FloatArray, FloatArray], NDArray[np.int32]]

_LONGEST_PATTERN_BARS = 3
# TA-Lib calls a body long or short against the ten candles before it.
_BODY_BARS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternRule:
    """What makes a pattern or a breakout worth a signal; ranges are average true ranges (Wilder's 14 candles).

    Attributes:
        trend_bars: A pattern turns the move of so many candles before it,
        trend_ranges: which must be at least so large.
        breakout_bars: A breakout closes beyond all highs, or lows, of so many candles before it,
        breakout_volume: on more than so many times their mean volume.
        full_volume: The multiple of the mean volume at which a breakout has its full strength.
        full_strength_ranges: The way back from a pattern's extreme at which it has its full strength.
        stop_margin_ranges: How far beyond the extreme the stop lies,
        least_stop_ranges: and how far from the price at least.
        reward: Distance to the target over that to the stop.
    """

    trend_bars: int = 10
    trend_ranges: float = 1.0
    breakout_bars: int = 20
    breakout_volume: float = 1.5
    full_volume: float = 3.0
    full_strength_ranges: float = 2.0
    range_bars: int = 14
    stop_margin_ranges: float = 0.1
    least_stop_ranges: float = 1.0
    reward: float = 2.0
    horizon_bars: int = 12

    def __post_init__(self) -> None:
        if self.breakout_volume < 1.0:  # a volume that never changes would confirm every breakout
            raise ValueError(f"breakout_volume {self.breakout_volume} is below 1")

    @property
    def needed_bars(self) -> int:
        return max(
            self.trend_bars + _LONGEST_PATTERN_BARS + 1,
            self.breakout_bars + 1,
            self.range_bars + 1,
            _BODY_BARS + _LONGEST_PATTERN_BARS,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """A pattern that the last candle completes; `extreme` is the price that proves it wrong."""

    direction: Direction
    extreme: float
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternSource:
    """Candlestick patterns and breakouts as a source. Loads TA-Lib when it is made, not at its first candle."""

    rule: PatternRule = field(default_factory=PatternRule)

    def __post_init__(self) -> None:
        _recognisers()

    @property
    def name(self) -> str:
        return SignalSource.PATTERN

    @property
    def timeframes(self) -> tuple[str, ...]:
        return ()

    def signals(self, view: MarketView) -> tuple[Signal, ...]:
        """Return its opinions, none on a window that is too short."""
        return pattern_signals(view.window, self.rule)


def pattern_signals(window: CandleSeries, rule: PatternRule) -> tuple[Signal, ...]:
    """Return a signal for each pattern and breakout that the last candle completes, a neutral one if there is none.

    The patterns turn the move before them: engulfing, harami, piercing line and dark cloud cover, hammer and shooting star,
    morning and evening star, three white soldiers and three black crows. TA-Lib knows their shapes but not what was before, so
    a bullish one counts only after a decline, a bearish one only after an advance. Hanging man and inverted hammer are left out:
    the textbook trades them only once a later candle has confirmed them.

    The stop lies beyond the extreme of the pattern (of a breakout: beyond its candle and the level it broke), at least one
    average true range away, the target at a multiple of that risk. The strength of a pattern is the way that the price has come
    back from its extreme, that of a breakout its volume.

    Returns:
        Nothing if the window is too short or the price stood still.

    Source: Nison, Japanese Candlestick Charting Techniques, 1991; shapes as in TA-Lib's CDL functions.
    """
    if len(window) < rule.needed_bars:
        return ()
    true_range = average_true_range(window, rule.range_bars)
    if not true_range > 0:
        return ()
    findings = (*_patterns(window, true_range, rule), *_breakouts(window, rule))
    return tuple(_signal(window, finding, true_range, rule) for finding in findings) or (_nothing(window, rule),)


@cache
def _recognisers() -> tuple[tuple[Recogniser, int], ...]:
    """Return TA-Lib's functions, each with the number of candles of its pattern."""
    import talib  # takes half a second, and imports pandas where that is installed

    recognisers: tuple[tuple[Recogniser, int], ...] = (
        (talib.CDLENGULFING, 2),
        (talib.CDLHARAMI, 2),
        (talib.CDLPIERCING, 2),
        (talib.CDLDARKCLOUDCOVER, 2),
        (talib.CDLHAMMER, 1),
        (talib.CDLSHOOTINGSTAR, 1),
        (talib.CDLMORNINGSTAR, 3),
        (talib.CDLEVENINGSTAR, 3),
        (talib.CDL3WHITESOLDIERS, 3),
        (talib.CDL3BLACKCROWS, 3),
    )
    # What TA-Lib wraps around them for pandas takes longer than they do.
    return tuple((inspect.unwrap(recognise), bars) for recognise, bars in recognisers)


def _patterns(window: CandleSeries, true_range: float, rule: PatternRule) -> Iterator[_Finding]:
    open_, high, low, close, _ = np.ascontiguousarray(window.values.T)  # each (n,)
    price = float(close[-1])
    for recognise, bars in _recognisers():
        found = int(recognise(open_, high, low, close)[-1])
        sign = (found > 0) - (found < 0)
        # The move that a bullish pattern turns is a decline, and the other way round.
        if not sign or -sign * float(close[-bars - 1] - close[-bars - 1 - rule.trend_bars]) < rule.trend_ranges * true_range:
            continue
        extreme = float(low[-bars:].min()) if sign > 0 else float(high[-bars:].max())
        yield _Finding(
            direction=Direction.BULL if sign > 0 else Direction.BEAR,
            extreme=extreme,
            strength=min(abs(price - extreme) / (rule.full_strength_ranges * true_range), 1.0),
        )


def _breakouts(window: CandleSeries, rule: PatternRule) -> Iterator[_Finding]:
    before = window.values[-rule.breakout_bars - 1 : -1]
    _, high, low, close, volume = window.values[-1].tolist()
    usual = float(before[:, 4].mean())
    if not volume > rule.breakout_volume * usual > 0:  # no volume is known: none confirms
        return
    highest, lowest = float(before[:, 1].max()), float(before[:, 2].min())
    strength = min(volume / (rule.full_volume * usual), 1.0)
    if close > highest:
        yield _Finding(direction=Direction.BULL, extreme=min(low, highest), strength=strength)
    elif close < lowest:
        yield _Finding(direction=Direction.BEAR, extreme=max(high, lowest), strength=strength)


def _signal(window: CandleSeries, finding: _Finding, true_range: float, rule: PatternRule) -> Signal:
    price, sign = float(window.closes[-1]), finding.direction.sign
    risk = sign * (price - finding.extreme) + rule.stop_margin_ranges * true_range
    risk = max(risk, rule.least_stop_ranges * true_range)
    return Signal(
        source=SignalSource.PATTERN,
        kind=SignalKind.PATTERN,
        symbol=window.symbol,
        made_at=to_datetime(window.close_times[-1]),
        horizon_minutes=rule.horizon_bars * window.timeframe.minutes,
        direction=finding.direction,
        strength=finding.strength,
        price=price,
        stop=price - sign * risk,
        target=price + sign * rule.reward * risk,
    )


def _nothing(window: CandleSeries, rule: PatternRule) -> Signal:
    price = float(window.closes[-1])
    nothing = _Finding(direction=Direction.NEUTRAL, extreme=price, strength=0.0)
    return _signal(window, nothing, 0.0, rule)
