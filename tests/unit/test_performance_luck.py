"""Whether chance explains a result: the papers' own examples, and simulation."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest

from fxcast.performance.luck import expected_best_sharpe, luck_of, probabilistic_sharpe, sharpe_above, trade_order
from tests.performance_factories import make_daily_curve, make_trade, make_trades

RETURNS = np.random.default_rng(5).normal(0.0008, 0.006, 500)


def test_the_probabilistic_sharpe_ratio_is_that_of_the_paper_s_hedge_fund() -> None:
    # Bailey & López de Prado 2012: 24 months, a monthly ratio of 0.458, skewness −2.448, kurtosis 10.164.
    normal = probabilistic_sharpe(0.458, observations=24, skewness=0.0, kurtosis=3.0)
    assert normal == pytest.approx(0.982, abs=0.001)
    assert probabilistic_sharpe(0.458, observations=24, skewness=-2.448, kurtosis=10.164) == pytest.approx(0.913, abs=0.001)


def test_the_deflated_sharpe_ratio_is_that_of_the_paper_s_hundred_trials() -> None:
    # Bailey & López de Prado 2014: 2.5 a year over 1,250 days (250 a year), 100 trials with a variance of 1/2 a year.
    expected = expected_best_sharpe(100, 1 / 2 / 250)
    assert expected == pytest.approx(0.1132, abs=0.0001)
    deflated = probabilistic_sharpe(2.5 / math.sqrt(250), observations=1_250, skewness=-3.0, kurtosis=10.0, benchmark=expected)
    assert deflated == pytest.approx(0.9004, abs=0.001)


def test_the_best_of_trials_without_skill_is_as_good_as_expected() -> None:
    best = np.random.default_rng(0).normal(0.0, 0.7, (20_000, 40)).max(axis=1).mean()
    assert expected_best_sharpe(40, 0.49) == pytest.approx(best, rel=0.02)


def test_one_trial_is_compared_with_zero() -> None:
    luck = luck_of(make_daily_curve(RETURNS), 100_000.0, (), trials=1)
    assert luck.expected_best_sharpe == 0.0
    assert luck.deflated_sharpe == pytest.approx(sharpe_above(RETURNS, 0.0))


def test_more_trials_leave_less_of_a_sharpe_ratio() -> None:
    curve = make_daily_curve(RETURNS)
    found = [luck_of(curve, 100_000.0, (), trials=trials).deflated_sharpe for trials in (1, 2, 10, 100)]
    assert None not in found
    assert found == sorted(found, key=lambda each: -(each or 0.0))
    assert len(set(found)) == 4


def test_trials_that_differ_more_leave_less_of_a_sharpe_ratio() -> None:
    curve = make_daily_curve(RETURNS)
    alike, different = (luck_of(curve, 100_000.0, (), trials=10, sharpe_variance=variance) for variance in (0.01, 1.0))
    assert alike.deflated_sharpe is not None
    assert different.deflated_sharpe is not None
    assert alike.deflated_sharpe > different.deflated_sharpe
    assert different.expected_best_sharpe == pytest.approx(expected_best_sharpe(10, 1.0))


def test_an_unknown_variance_is_the_error_of_a_ratio_without_skill() -> None:
    rng = np.random.default_rng(1)
    chance = rng.normal(0.0, 0.01, (500, 2_000))
    ratios = chance.mean(axis=0) / chance.std(axis=0, ddof=1) * math.sqrt(260)
    luck = luck_of(make_daily_curve(RETURNS), 100_000.0, (), trials=20)
    assert luck.expected_best_sharpe == pytest.approx(expected_best_sharpe(20, float(ratios.var())), rel=0.05)


def test_few_days_or_no_spread_tell_no_probability() -> None:
    assert sharpe_above(RETURNS[:19], 0.0) is None
    assert sharpe_above(np.zeros(100), 0.0) is None
    assert luck_of(make_daily_curve(RETURNS[:19]), 100_000.0, (), trials=3).deflated_sharpe is None


def test_a_trial_is_needed() -> None:
    with pytest.raises(ValueError, match="found 0 trials"):
        luck_of(make_daily_curve(RETURNS), 100_000.0, (), trials=0)


def test_trades_in_the_worst_order_fell_deeper_than_in_nearly_any_other() -> None:
    wins_first = trade_order(make_trades([100.0] * 10 + [-100.0] * 10), 10_000.0)
    assert wins_first is not None
    assert wins_first.actual == pytest.approx(1_000 / 11_000)
    assert wins_first.as_deep_or_deeper < 0.01
    assert wins_first.drawdown_q05 < wins_first.drawdown_q50 < wins_first.drawdown_q95 < wins_first.actual


def test_losses_alone_fall_the_same_in_every_order() -> None:
    found = trade_order(make_trades([-100.0] * 12), 10_000.0, draws=100)
    assert found is not None
    assert found.actual == pytest.approx(0.12)
    assert found.drawdown_q05 == pytest.approx(found.drawdown_q95) == pytest.approx(0.12)
    assert found.as_deep_or_deeper == 1.0
    assert found.orders == 100


def test_a_few_trades_have_no_other_order_worth_asking_for() -> None:
    assert trade_order(make_trades([5.0] * 9), 10_000.0) is None


def test_the_order_of_trades_is_that_of_their_ends() -> None:
    trades = list(make_trades([100.0] * 10))
    late_loss = make_trade("-500", opened_at=trades[0].opened_at, held=timedelta(days=60), symbol="GBPUSD")
    found = trade_order([late_loss, *trades], 10_000.0)
    assert found is not None
    assert found.actual == pytest.approx(500 / 11_000)
