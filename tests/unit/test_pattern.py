"""Candlesticks drawn by hand, in pips around the last close, and breakouts with and without volume."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fxcast.domain.candle import CandleSeries
from fxcast.domain.signal import Direction, Signal, SignalKind
from fxcast.signals.pattern import PatternRule, PatternSource, pattern_signals
from fxcast.signals.trend import average_true_range
from tests.factories import make_series
from tests.signal_factories import make_view

RULE = PatternRule()
PIP = 0.0001
Sketch = Sequence[tuple[float, float, float, float]]  # open, high, low, close of each candle, in pips

# Bullish shapes; the first candle opens where the decline before it has ended (0). Upside down they are the bearish ones.
SHAPES: dict[str, Sketch] = {
    "engulfing": [(0, 0.5, -5.5, -5), (-6, 1.5, -6.5, 1)],
    "harami": [(0, 0.5, -12.5, -12), (-8, -5.5, -8.5, -6)],
    "piercing line, dark cloud": [(0, 0.5, -11, -10), (-12, -2.5, -12.5, -3)],
    "hammer, shooting star": [(-2, -0.9, -9, -1)],
    "morning star, evening star": [(0, 0.5, -10.5, -10), (-12, -11, -13, -11.5), (-11, -1.5, -11.5, -2)],
    "three soldiers, three crows": [(0, 6.1, -0.5, 6), (3, 10.1, 2.5, 10), (7, 14.1, 6.5, 14)],
}
BULL_AND_BEAR = pytest.mark.parametrize(("sign", "direction"), [(1, Direction.BULL), (-1, Direction.BEAR)])


def drawn(shape: Sketch, *, sign: int = 1, before: float = -4.0) -> CandleSeries:
    """Draw 30 candles that move by `before` pips each, then a shape; upside down if the sign is −1."""
    closes = before * np.arange(-29.0, 1.0)  # the last is 0, where the shape begins
    opens = closes - before
    move = np.column_stack([opens, np.maximum(opens, closes) + 1, np.minimum(opens, closes) - 1, closes])
    pips = np.concatenate([move, np.array(shape, dtype=np.float64)])
    return series_of(1.1 + sign * PIP * (pips if sign > 0 else pips[:, [0, 2, 1, 3]]), [1000.0] * len(pips))


def series_of(prices: NDArray[np.floating[Any]], volumes: Sequence[float]) -> CandleSeries:
    series = make_series(bars=len(prices))
    return replace(series, values=np.column_stack([prices, volumes]))


def with_volumes(window: CandleSeries, volumes: Sequence[float]) -> CandleSeries:
    return series_of(window.values[:, :4], volumes)


def one(signals: Sequence[Signal]) -> Signal:
    (signal,) = signals
    return signal


@BULL_AND_BEAR
@pytest.mark.parametrize("name", SHAPES)
def test_a_pattern_turns_the_move_before_it_with_its_stop_beyond_the_extreme(name: str, sign: int, direction: Direction) -> None:
    window = drawn(SHAPES[name], sign=sign)
    signal = one(pattern_signals(window, RULE))
    assert (signal.direction, signal.kind, signal.source) == (direction, SignalKind.PATTERN, "pattern")
    true_range = average_true_range(window, 14)
    bars = len(SHAPES[name])
    extreme = window.values[-bars:, 2].min() if sign > 0 else window.values[-bars:, 1].max()
    price = window.closes[-1]
    risk = max(sign * (price - extreme) + 0.1 * true_range, true_range)
    assert sign * (price - signal.stop) == pytest.approx(risk)
    assert sign * (signal.target - price) == pytest.approx(2 * risk)
    assert signal.strength == pytest.approx(min(sign * (price - extreme) / (2 * true_range), 1.0))
    assert 0.0 < signal.strength <= 1.0


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", SHAPES)
def test_the_same_shape_without_the_move_before_it_says_nothing(name: str, sign: int) -> None:
    for before in (4.0, -0.2):  # after a move the other way; after ten candles of 0.2 pips, less than one true range
        signals = pattern_signals(drawn(SHAPES[name], sign=sign, before=before), RULE)
        assert signals
        assert all(signal.direction.sign != sign for signal in signals), before


def test_a_tight_stop_is_one_true_range_away() -> None:
    # After a fall of 50 pips a candle the ranges are large, and the hammer's shadow is short against them.
    window = drawn([(-2, -0.9, -20, -1)], before=-50.0)
    signal = one(pattern_signals(window, RULE))
    true_range = average_true_range(window, 14)
    assert signal.price - window.values[-1, 2] < 0.9 * true_range
    assert signal.price - signal.stop == pytest.approx(true_range)


def test_a_pattern_counts_only_on_the_candle_that_completes_it() -> None:
    window = drawn([*SHAPES["engulfing"], (1, 2, 0, 1.2)])
    assert one(pattern_signals(window.slice(0, 32), RULE)).direction is Direction.BULL
    assert one(pattern_signals(window, RULE)).direction is Direction.NEUTRAL


def breakout(last_close_pips: float, volume: float, *, before: float = 1000.0, low_pips: float = -1.0) -> CandleSeries:
    """Build 40 candles between −3 and +3 pips, then one from 0 to a close; volumes alternate by a tenth around `before`."""
    pips = [(0.0, 3.0, -3.0, 0.5 * (-1) ** bar) for bar in range(40)]
    low, high = min(low_pips, last_close_pips), max(1.0, last_close_pips)
    values = np.array([*pips, (0.0, high, low, last_close_pips)]) * PIP + 1.1
    volumes = [before * (1 + 0.1 * (-1) ** bar) for bar in range(40)] + [volume]
    return series_of(values, volumes)


@pytest.mark.parametrize(
    ("close", "volume", "direction"),
    [
        (4.0, 2000.0, Direction.BULL),
        (4.0, 1490.0, Direction.NEUTRAL),  # 1.49 times the mean
        (2.9, 2000.0, Direction.NEUTRAL),  # within the highs
        (-4.0, 2000.0, Direction.BEAR),
        (-2.9, 2000.0, Direction.NEUTRAL),
    ],
)
def test_a_close_beyond_the_range_is_a_breakout_if_volume_confirms_it(close: float, volume: float, direction: Direction) -> None:
    signal = one(pattern_signals(breakout(close, volume), RULE))
    assert signal.direction is direction
    assert signal.strength == pytest.approx(0.0 if direction is Direction.NEUTRAL else 2000 / 3000)


def test_only_the_candles_before_say_what_is_high_and_what_is_usual() -> None:
    window = breakout(4.0, 2000.0)
    values = window.values.copy()
    values[:20, 1] += 0.01  # highs and volumes of 21 and more candles ago do not count
    values[:20, 4] *= 100.0
    assert one(pattern_signals(replace(window, values=values), RULE)) == one(pattern_signals(window, RULE))


def test_the_stop_of_a_breakout_lies_beyond_its_candle_and_the_level_it_broke() -> None:
    deep = breakout(9.0, 2000.0, low_pips=-2.0)
    assert one(pattern_signals(deep, RULE)).stop == pytest.approx(1.1 - 2.0 * PIP - 0.1 * average_true_range(deep, 14))
    values = deep.values.copy()
    values[-1, :4] = 1.1 + PIP * np.array([12.0, 14.0, 11.0, 14.0])  # all of it above the broken level of 3 pips
    gapped = replace(deep, values=values)
    assert one(pattern_signals(gapped, RULE)).stop == pytest.approx(1.1 + 3.0 * PIP - 0.1 * average_true_range(gapped, 14))


@pytest.mark.parametrize("volume", [0.0, 7.0])
def test_volume_that_is_unknown_or_never_changes_confirms_nothing(volume: float) -> None:
    same = with_volumes(breakout(4.0, volume), [volume] * 41)
    assert one(pattern_signals(same, RULE)).direction is Direction.NEUTRAL


def test_the_first_volume_after_none_was_known_confirms_nothing() -> None:
    assert one(pattern_signals(breakout(4.0, 2000.0, before=0.0), RULE)).direction is Direction.NEUTRAL


def test_no_rule_lets_a_constant_volume_confirm_a_breakout() -> None:
    with pytest.raises(ValueError, match=r"breakout_volume 0.5 is below 1"):
        PatternRule(breakout_volume=0.5)


def test_the_strength_of_a_breakout_is_full_at_three_times_the_usual_volume() -> None:
    assert one(pattern_signals(breakout(4.0, 9000.0), RULE)).strength == 1.0


def test_a_pattern_and_a_breakout_at_once_are_two_signals() -> None:
    window = drawn([(0, 0.5, -5.5, -5), (-6, 130.0, -6.5, 125.0)])  # engulfs the candle before, and all highs of the decline
    signals = pattern_signals(with_volumes(window, [1000.0] * 31 + [2000.0]), RULE)
    assert [(signal.direction, signal.strength) for signal in signals] == [
        (Direction.BULL, 1.0),
        (Direction.BULL, pytest.approx(2 / 3)),
    ]


def test_too_few_candles_or_a_price_that_stood_still_give_no_idea() -> None:
    window = make_series(bars=100)
    assert pattern_signals(window.slice(0, RULE.needed_bars - 1), RULE) == ()
    assert len(pattern_signals(window.slice(0, RULE.needed_bars), RULE)) == 1
    assert pattern_signals(make_series([1.1] * 100), RULE) == ()


def test_as_a_source_it_says_the_same() -> None:
    window = drawn(SHAPES["engulfing"])
    source = PatternSource()
    assert (source.name, source.timeframes) == ("pattern", ())
    assert source.signals(make_view(window)) == pattern_signals(window, RULE)
    assert one(source.signals(make_view(window))).horizon_minutes == 12 * 60


def test_importing_the_source_loads_neither_talib_nor_pandas() -> None:
    code = "import fxcast.signals.pattern, sys; print({'talib', 'pandas'} & set(sys.modules))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "set()"
