"""One run against another on the same days."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fxcast.backtest.result import BacktestResult
from fxcast.performance.compare import MEASURES, differences
from fxcast.performance.measure import measure
from fxcast.performance.measures import Difference
from tests.performance_factories import make_daily_curve, make_result, make_trades

RNG = np.random.default_rng(21)
MARKET = RNG.normal(0.0, 0.006, 400)


def run_of(returns: np.ndarray, trades: int = 0) -> BacktestResult:
    return make_result(make_trades([3.0, -2.0] * (trades // 2)), equity=make_daily_curve(returns))


def by_name(found: tuple[Difference, ...]) -> dict[str, Difference]:
    return {each.measure: each for each in found}


def test_each_side_s_figure_is_the_one_that_is_measured_of_it() -> None:
    ours, theirs = run_of(MARKET + 0.0004, 40), run_of(MARKET, 20)
    our_trades, their_trades = make_trades([3.0, -2.0] * 20), make_trades([3.0, -2.0, -2.0, -2.0] * 5)
    found = by_name(differences(ours, theirs, our_trades, their_trades, draws=200))
    assert tuple(found) == MEASURES
    one, other = measure(ours, our_trades, draws=100), measure(theirs, their_trades, draws=100)
    assert (found["sharpe"].ours, found["sharpe"].theirs) == pytest.approx((one.sharpe.value, other.sharpe.value))
    assert (found["max_drawdown"].ours, found["max_drawdown"].theirs) == pytest.approx(
        (one.max_drawdown.value, other.max_drawdown.value)
    )
    assert (found["total_return"].ours, found["total_return"].theirs) == pytest.approx((one.total_return, other.total_return))
    assert (found["win_rate"].ours, found["win_rate"].theirs) == (0.5, 0.25)
    for each in found.values():
        assert each.ours is not None
        assert each.theirs is not None
        assert each.difference.value == pytest.approx(each.ours - each.theirs)


def test_a_small_but_steady_advantage_in_the_same_market_is_seen() -> None:
    # Alone, both Sharpe ratios have intervals of about ±1.5; the market that they share cancels out.
    steady = by_name(differences(run_of(MARKET + 0.0002), run_of(MARKET), (), (), draws=300))
    assert steady["sharpe"].difference.excludes_zero
    assert steady["total_return"].difference.excludes_zero
    elsewhere = by_name(differences(run_of(MARKET + 0.0002), run_of(RNG.permutation(MARKET)), (), (), draws=300))
    assert not elsewhere["sharpe"].difference.excludes_zero


def test_a_run_does_not_differ_from_itself() -> None:
    trades = make_trades([3.0, -2.0] * 20)
    for each in differences(run_of(MARKET), run_of(MARKET), trades, trades, draws=100):
        assert each.difference.value == 0.0
        assert not each.difference.excludes_zero


def test_the_other_way_round_it_is_the_opposite() -> None:
    ours, theirs = run_of(MARKET + 0.001), run_of(0.5 * MARKET)
    there = differences(ours, theirs, (), (), seed=4, draws=200)
    back = differences(theirs, ours, (), (), seed=4, draws=200)
    for one, other in zip(there, back, strict=True):
        if one.difference.value is not None and other.difference.value is not None:
            assert one.difference.value == pytest.approx(-other.difference.value)


def test_half_the_size_halves_the_drawdown_and_leaves_the_sharpe_ratio() -> None:
    found = by_name(differences(run_of(0.5 * MARKET), run_of(MARKET), (), (), draws=300))
    assert found["max_drawdown"].difference.high is not None
    assert found["max_drawdown"].difference.high < 0
    assert found["sharpe"].difference.value == pytest.approx(0.0, abs=1e-12)


def test_win_rates_of_a_few_trades_have_no_interval() -> None:
    many, few = make_trades([3.0, -2.0] * 20), make_trades([3.0] * 9)
    found = by_name(differences(run_of(MARKET), run_of(MARKET), many, few, draws=100))
    assert found["win_rate"].difference.value == pytest.approx(-0.5)
    assert found["win_rate"].difference.low is None


def test_without_trades_there_is_no_win_rate_to_compare() -> None:
    found = by_name(differences(run_of(MARKET), run_of(MARKET), make_trades([3.0] * 20), (), draws=100))
    assert found["win_rate"].theirs is None
    assert found["win_rate"].difference.value is None


def test_few_days_have_figures_but_no_intervals() -> None:
    found = by_name(differences(run_of(MARKET[:15]), run_of(MARKET[:15] + 0.01), (), ()))
    assert found["sharpe"].ours is None
    assert found["total_return"].difference.value is not None
    assert found["total_return"].difference.low is None


def test_days_before_the_other_began_are_days_on_which_it_earned_nothing() -> None:
    theirs = make_daily_curve(MARKET)
    later = theirs.times >= theirs.times[100]
    half = type(theirs)(
        times=theirs.times[later],
        balance=np.asarray(100_000.0 * np.cumprod(1.0 + MARKET[100:]), dtype=np.float64),
        open_profit=theirs.open_profit[later],
        exposure=theirs.exposure[later],
    )
    found = by_name(differences(run_of(MARKET), make_result(equity=half), (), (), draws=100))
    padded = np.concatenate([np.zeros(100), MARKET[100:]])
    assert found["sharpe"].theirs == pytest.approx(padded.mean() / padded.std(ddof=1) * math.sqrt(260))


def test_the_interval_of_a_difference_covers_what_it_promises() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for run in range(80):
        market, own = rng.normal(0.0, 0.005, 260), rng.normal(0.0003, 0.002, 260)
        both = by_name(differences(run_of(market + own), run_of(market), (), (), seed=run, draws=200))
        true = (0.0003 / math.hypot(0.005, 0.002)) * math.sqrt(260)
        interval = both["sharpe"].difference
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= true <= interval.high
    assert covered >= 0.88 * 80
