"""Whatever the lengths and gaps: no fold learns from what it is tested on, and every moment after the first test is tested once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from fxcast.backtest.folds import Fold, FoldRule, Scheme, Span, cut_folds
from fxcast.domain.candle import TimeArray, to_datetime, to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import Refused

_START = datetime(2017, 1, 2, tzinfo=UTC)
days = st.floats(0.3, 20.0)


@st.composite
def markets(draw: st.DrawFn) -> tuple[Timeframe, dict[str, TimeArray]]:
    """Draw series of one timeframe, each with gaps of its own."""
    timeframe = Timeframe(draw(st.sampled_from(["15m", "1h", "4h"])))
    total = int(timedelta(days=draw(st.floats(20.0, 90.0))) / timeframe.duration)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.floats(0.3, 1.0))
    series: dict[str, TimeArray] = {}
    for symbol in ("EURUSD", "GBPUSD")[: draw(st.integers(1, 2))]:
        kept = np.flatnonzero((rng.random(total) < share) & (np.arange(total) // 120 % 7 < draw(st.integers(5, 7))))
        assume(len(kept))
        series[symbol] = to_datetime64(_START) + kept * timeframe.step
    return timeframe, series


@st.composite
def rules(draw: st.DrawFn) -> FoldRule:
    train, validation, test = (timedelta(days=draw(days)) for _ in range(3))
    return FoldRule(
        scheme=draw(st.sampled_from(Scheme)),
        train=train,
        validation=validation,
        test=test,
        purge_bars=draw(st.integers(1, 80)),
        embargo_bars=draw(st.integers(0, 30)),
        max_folds=draw(st.none() | st.integers(1, 4)),
    )


def cut(market: tuple[Timeframe, dict[str, TimeArray]], rule: FoldRule) -> tuple[tuple[Fold, ...], datetime]:
    """Return folds and the end of the period; draw again where there can be none."""
    timeframe, series = market
    stop = min(to_datetime(times[-1]) for times in series.values()) + timeframe.duration
    return cut_until(market, rule, stop), stop


def cut_until(market: tuple[Timeframe, dict[str, TimeArray]], rule: FoldRule, stop: datetime) -> tuple[Fold, ...]:
    """Return folds; draw again where there can be none, as where a short training period falls into a gap."""
    timeframe, series = market
    try:
        return cut_folds(rule, series, timeframe, start=_START, stop=stop, longest_horizon_bars=rule.purge_bars)
    except Refused:
        assume(False)
        raise


def opening_in(times: TimeArray, span: Span) -> TimeArray:
    return times[(times >= to_datetime64(span[0])) & (times < to_datetime64(span[1]))]


@given(markets(), rules())
def test_purged_candles_lie_between_all_that_is_learned_and_all_that_is_validated_or_tested(
    market: tuple[Timeframe, dict[str, TimeArray]], rule: FoldRule
) -> None:
    timeframe, series = market
    for fold in cut(market, rule)[0]:
        for times in series.values():
            places = np.arange(len(times))
            closes = times + timeframe.step
            tested = places[(closes >= to_datetime64(fold.test[0])) & (closes < to_datetime64(fold.test[1]))]
            learned, validated = (np.searchsorted(times, opening_in(times, span)) for span in (fold.train, fold.validation))
            assert validated[0] - learned[-1] > rule.purge_bars, "so many candles lie between the last and the first"
            assert tested[0] - validated[-1] > rule.purge_bars + rule.embargo_bars


@given(markets(), rules())
def test_tests_follow_each_other_without_gap_or_overlap_to_the_end_of_the_period(
    market: tuple[Timeframe, dict[str, TimeArray]], rule: FoldRule
) -> None:
    folds, stop = cut(market, rule)
    assert [fold.number for fold in folds] == list(range(1, len(folds) + 1))
    for earlier, later in pairwise(folds):
        assert earlier.test[1] == later.test[0]
    if rule.max_folds is None:
        assert folds[-1].test[1] == stop
    for fold in folds:
        length = fold.test[1] - fold.test[0]
        assert length == rule.test or (0.49 < length / rule.test < 1.51 and fold.test[1] == stop)


@given(markets(), rules())
def test_training_periods_have_their_length_and_never_begin_before_the_walk_forward(
    market: tuple[Timeframe, dict[str, TimeArray]], rule: FoldRule
) -> None:
    folds, _ = cut(market, rule)
    for fold in folds:
        assert fold.validation[1] - fold.validation[0] == rule.validation
        assert _START <= fold.train[0] < fold.train[1] < fold.validation[0] < fold.validation[1] < fold.test[0] < fold.test[1]
        if rule.scheme is Scheme.ANCHORED:
            assert fold.train[0] == _START
        else:
            assert fold.train[1] - fold.train[0] == rule.train or fold.train[0] == _START
    assert folds[0].train[1] >= _START + rule.train


@given(markets(), rules(), st.integers(1, 3))
def test_later_candles_change_no_fold_but_the_last_test(
    market: tuple[Timeframe, dict[str, TimeArray]], rule: FoldRule, further_tests: int
) -> None:
    timeframe, series = market
    folds, stop = cut(market, rule)
    more = {
        symbol: np.concatenate([times, to_datetime64(stop) + np.arange(further_tests * 500) * timeframe.step])
        for symbol, times in series.items()
    }
    later = cut_until((timeframe, more), rule, stop + further_tests * 500 * timeframe.duration)
    assert later[: len(folds) - 1] == folds[:-1]
    assert (later[len(folds) - 1].train, later[len(folds) - 1].validation) == (folds[-1].train, folds[-1].validation)
