"""Timeframes agree, disagree, or are not known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from fxcast.domain.candle import CandleSeries
from fxcast.domain.signal import Direction, Signal, SignalKind
from fxcast.signals.multi_timeframe import MultiTimeframeRule, MultiTimeframeSource, multi_timeframe_signal, timeframe_trend
from fxcast.signals.trend import average_true_range
from tests.factories import make_series
from tests.signal_factories import make_view

RULE = MultiTimeframeRule()
BULL, BEAR, NEUTRAL = Direction.BULL, Direction.BEAR, Direction.NEUTRAL


def moving(pips_per_candle: float, timeframe: str, *, bars: int = 60, range_pips: float = 0.0) -> CandleSeries:
    """Build candles that move evenly to 1.1."""
    closes = 1.1 + 0.0001 * pips_per_candle * np.arange(1.0 - bars, 1.0)
    return make_series([float(close) for close in closes], timeframe=timeframe, range_width=0.0001 * range_pips)


def signal_of(traded: CandleSeries, higher: Mapping[str, CandleSeries], rule: MultiTimeframeRule = RULE) -> Signal | None:
    return multi_timeframe_signal(make_view(traded, higher=higher), rule)


@pytest.mark.parametrize(("pips", "direction"), [(2.0, BULL), (-2.0, BEAR)])
def test_timeframes_that_all_agree_give_their_direction(pips: float, direction: Direction) -> None:
    traded = moving(pips, "5m", range_pips=1.0)
    signal = signal_of(traded, {name: moving(pips, name) for name in ("15m", "1h", "4h")})
    assert signal is not None
    assert (signal.direction, signal.kind, signal.source) == (direction, SignalKind.CONFLUENCE, "multi_timeframe")
    true_range = average_true_range(traded, 14)
    assert true_range == pytest.approx(0.0004)  # 2 pips of body, 1 pip of wick on each side
    assert signal.stop == pytest.approx(1.1 - direction.sign * 2 * true_range)
    assert signal.target == pytest.approx(1.1 + direction.sign * 3 * true_range)
    assert signal.horizon_minutes == 24 * 5


def test_one_timeframe_against_the_others_makes_it_neutral_unless_a_share_is_enough() -> None:
    higher = {"15m": moving(2, "15m"), "1h": moving(2, "1h"), "4h": moving(-2, "4h")}
    all_agree, three_of_four = (
        signal_of(moving(2, "5m"), higher),
        signal_of(moving(2, "5m"), higher, MultiTimeframeRule(min_share=0.75)),
    )
    assert all_agree is not None
    assert three_of_four is not None
    assert (all_agree.direction, all_agree.stop) == (NEUTRAL, all_agree.price)
    assert three_of_four.direction is BULL
    assert three_of_four.strength == pytest.approx(0.75)  # each is as steep as can be: 10 pips in five candles of two pips


def test_a_timeframe_without_direction_agrees_with_none() -> None:
    flat = moving(0, "4h")
    signal = signal_of(moving(2, "1h"), {"4h": flat})
    assert signal is not None
    assert signal.direction is NEUTRAL
    # The average rises, but the price has fallen below it.
    falling_back = timeframe_trend(moving(2, "4h"), 1.09, RULE)
    assert falling_back is not None
    assert falling_back.direction is NEUTRAL


def test_strength_grows_with_the_slopes() -> None:
    strengths: list[float] = []
    for pips in (0.1, 0.5, 2.0):
        wide = {"4h": moving(pips, "4h", range_pips=5.0)}
        signal = signal_of(moving(pips, "1h", range_pips=5.0), wide)
        assert signal is not None
        strengths.append(signal.strength)
    # Five candles of slope over a range of 10 pips and a candle's body.
    assert strengths == [pytest.approx(5 * pips / (10 + pips)) for pips in (0.1, 0.5, 2.0)]


def test_timeframes_shorter_than_the_traded_one_are_left_out() -> None:
    higher = {"5m": moving(-2, "5m"), "15m": moving(-2, "15m"), "4h": moving(2, "4h")}
    signal = signal_of(moving(2, "1h"), higher)
    assert signal is not None
    assert signal.direction is BULL


def test_a_timeframe_that_is_not_among_the_rules_does_not_count() -> None:
    higher = {"5m": moving(2, "5m"), "15m": moving(2, "15m"), "1d": moving(-2, "1d")}
    signal = signal_of(moving(-2, "1m"), higher)
    assert signal is not None
    assert signal.direction is BULL


@pytest.mark.parametrize("traded", ["4h", "1d", "1h"])
def test_a_single_timeframe_agrees_with_nothing(traded: str) -> None:
    assert signal_of(moving(2, traded), {}) is None


def test_what_is_hardly_known_does_not_count() -> None:
    assert signal_of(moving(2, "1h"), {"4h": moving(2, "4h", bars=24)}) is None
    assert signal_of(moving(2, "1h"), {"4h": moving(2, "4h", bars=25)}) is not None
    assert signal_of(moving(2, "1m", bars=14), {name: moving(2, name) for name in ("5m", "15m")}) is None


def test_a_price_that_stood_still_gives_no_idea() -> None:
    assert signal_of(moving(0, "1h"), {"4h": moving(2, "4h")}) is None


def test_a_rule_under_which_one_timeframe_or_both_directions_could_win_is_refused() -> None:
    for share in (0.5, 1.1):
        with pytest.raises(ValueError, match=f"min_share {share}"):
            MultiTimeframeRule(min_share=share)
    with pytest.raises(ValueError, match="min_agreeing 1 is below 2"):
        MultiTimeframeRule(min_agreeing=1)


def test_as_a_source_it_names_the_timeframes_it_wants() -> None:
    source = MultiTimeframeSource()
    assert (source.name, source.timeframes) == ("multi_timeframe", ("5m", "15m", "1h", "4h"))
    view = make_view(moving(2, "1h"), higher={"4h": moving(2, "4h")})
    assert source.signals(view) == (multi_timeframe_signal(view, RULE),)
    assert source.signals(make_view(moving(2, "1h"))) == ()
