"""A run in figures: by hand, and against formulas written out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fxcast.performance.bootstrap import LEAST_DAYS, LEAST_TRADES, block_length, draw_orders, in_parts, interval
from fxcast.performance.measure import longest_fall_days, measure, measure_curve
from fxcast.performance.trades import trades_of
from tests.performance_factories import HOUR, MONDAY, make_curve, make_daily_curve, make_result, make_trade, make_trades

RETURNS = np.random.default_rng(8).normal(0.0006, 0.006, 300)


def test_ratios_are_those_of_the_textbook() -> None:
    measures = measure_curve(make_daily_curve(RETURNS), 100_000.0, draws=200)
    mean = sum(RETURNS) / 300
    deviation = math.sqrt(sum((each - mean) ** 2 for each in RETURNS) / 299)
    downside = math.sqrt(sum(min(each, 0.0) ** 2 for each in RETURNS) / 300)
    grown = math.prod(1.0 + each for each in RETURNS)
    peak, fall, worth = 1.0, 0.0, 1.0
    for each in RETURNS:
        worth *= 1.0 + each
        peak = max(peak, worth)
        fall = max(fall, 1.0 - worth / peak)
    cagr = grown ** (260 / 300) - 1.0
    assert measures.years == pytest.approx(300 / 260)
    assert measures.total_return == pytest.approx(grown - 1.0)
    assert measures.net_profit == pytest.approx(100_000 * (grown - 1.0))
    assert measures.cagr.value == pytest.approx(cagr)
    assert measures.sharpe.value == pytest.approx(mean / deviation * math.sqrt(260))
    assert measures.sortino.value == pytest.approx(mean / downside * math.sqrt(260))
    assert measures.max_drawdown.value == pytest.approx(fall)
    assert measures.calmar.value == pytest.approx(cagr / fall)


def test_trades_are_counted_after_all_costs() -> None:
    # Nets: 9, −6, 4, −1 (won by the price, lost by its commission), 0.
    trades = (
        make_trade("10", commission="1"),
        make_trade("-6", opened_at=MONDAY + 10 * HOUR),
        make_trade("4", opened_at=MONDAY + 20 * HOUR),
        make_trade("1", commission="2", opened_at=MONDAY + 30 * HOUR),
        make_trade("0", opened_at=MONDAY + 40 * HOUR),
    )
    result = make_result(trades)
    measures = measure(result, trades)
    assert measures.trades == 5
    assert measures.win_rate.value == pytest.approx(2 / 5)
    assert measures.profit_factor.value == pytest.approx(13 / 7)
    assert measures.expectancy.value == pytest.approx(6 / 5)
    assert measures.average_win == pytest.approx(6.5)
    assert measures.average_loss == pytest.approx(-3.5)
    assert measures.net_profit == pytest.approx(6.0)


def test_turnover_exposure_and_costs_are_those_of_all_fills() -> None:
    # 10,000 at 1.1 and at 1.1010; held for 4 of 24 points; one FX day and the beginning of another.
    trade = make_trade("10", commission="1.5", financing="-0.5", spread_cost="2", slippage_cost="0.25")
    result = make_result([trade], days=1)
    measures = measure(result, [trade])
    assert measures.costs.total == pytest.approx(2 + 0.25 + 1.5 + 0.5)
    assert measures.exposure == pytest.approx(4 / 24)
    mean_equity = float(result.equity.equity.mean())
    assert measures.turnover == pytest.approx((11_000 + 11_010) / (2 / 260) / mean_equity)


def test_an_open_position_is_counted_with_its_costs() -> None:
    result = make_result([make_trade("0", commission="2")])
    opened = replace(result.positions[0], closed_at=None, exit_price=None, profit=None)
    result = replace(result, positions=(opened,), transactions=result.transactions[:1])
    measures = measure(result, trades_of(result))
    assert (measures.trades, measures.open_positions, measures.costs.commission) == (0, 1, 2.0)


def test_a_cross_is_turned_over_at_the_rate_that_its_profit_tells() -> None:
    # 10,000 EUR/GBP won 40 pounds, booked as 50 dollars: 1.25 dollars a pound.
    trade = make_trade("40", symbol="EURGBP", entry_price="0.8500")
    result = make_result([trade], days=1)
    closing = result.transactions[1]
    result = replace(result, transactions=(result.transactions[0], replace(closing, profit=closing.profit * 5 / 4)))  # type: ignore[union-attr]  # the second is a fill
    measures = measure(result, trades_of(result))
    assert measures.turnover == pytest.approx((8_500 + 8_540) * 1.25 / (2 / 260) / float(result.equity.equity.mean()))


def test_the_longest_fall_lasts_from_its_peak_until_that_is_reached_again() -> None:
    hourly = make_curve([100, 110, 105, 100, 110, 109, 111, 111, 111])
    assert longest_fall_days(hourly.times, hourly.equity, 100.0) == pytest.approx(3 / 24)
    never = make_curve([100, 110, 105, 100, 100, 100, 100])
    assert longest_fall_days(never.times, never.equity, 100.0) == pytest.approx(5 / 24)
    flat = make_curve([100, 100, 100])
    assert longest_fall_days(flat.times, flat.equity, 100.0) == 0.0
    # Below the starting balance from the first candle on.
    down = make_curve([90, 95, 99])
    assert longest_fall_days(down.times, down.equity, 100.0) == pytest.approx(2 / 24)


def test_without_trades_everything_is_nothing_or_unknown() -> None:
    measures = measure(make_result(days=40), ())
    assert (measures.net_profit, measures.total_return, measures.trades, measures.turnover) == (0.0, 0.0, 0, 0.0)
    assert measures.win_rate.value is measures.profit_factor.value is measures.expectancy.value is None
    assert measures.sharpe.value is measures.sortino.value is measures.calmar.value is None
    assert measures.cagr.value == measures.max_drawdown.value == 0.0
    assert measures.probabilistic_sharpe is None


def test_without_a_candle_there_are_still_measures() -> None:
    measures = measure_curve(make_curve([]), 100.0)
    assert (measures.years, measures.net_profit, measures.max_drawdown.value) == (0.0, 0.0, 0.0)


def test_few_days_say_nothing_of_a_year_and_few_trades_have_no_interval() -> None:
    few = measure_curve(make_daily_curve(RETURNS[: LEAST_DAYS - 1]), 100_000.0)
    assert few.sharpe.value is few.cagr.value is few.probabilistic_sharpe is None
    assert few.max_drawdown.value is not None
    enough = measure_curve(make_daily_curve(RETURNS[:LEAST_DAYS]), 100_000.0, draws=200)
    assert enough.sharpe.low is not None
    trades = make_trades([5, -3] * LEAST_TRADES)
    curve = make_daily_curve(RETURNS)
    nine = measure_curve(curve, 100_000.0, trades=trades[: LEAST_TRADES - 1], draws=200)
    assert nine.expectancy.value is not None
    assert nine.expectancy.low is None
    ten = measure_curve(curve, 100_000.0, trades=trades[:LEAST_TRADES], draws=200)
    assert ten.expectancy.low is not None


def test_trades_that_all_won_have_no_profit_factor_and_no_interval_of_the_win_rate() -> None:
    measures = measure_curve(make_daily_curve(RETURNS), 100_000.0, trades=make_trades([3, 4] * 10), draws=200)
    assert measures.profit_factor.value is None
    assert (measures.win_rate.value, measures.win_rate.low) == (1.0, None)
    assert measures.expectancy.low is not None
    assert measures.average_loss is None


def test_the_same_seed_draws_the_same_intervals_and_another_one_others() -> None:
    curve = make_daily_curve(RETURNS)
    first, again = (measure_curve(curve, 100_000.0, seed=1, draws=200) for _ in range(2))
    assert first == again
    assert measure_curve(curve, 100_000.0, seed=2, draws=200).sharpe.low != first.sharpe.low


def test_an_interval_holds_the_middle_of_what_was_drawn() -> None:
    drawn = np.arange(1.0, 1001.0)
    found = interval(500.0, np.random.default_rng(0).permutation(drawn))
    assert (found.value, found.low, found.high) == (500.0, 25.0, 975.0)


def test_an_interval_may_be_open_where_draws_are_without_bound() -> None:
    drawn = np.concatenate([np.arange(90.0), np.full(10, np.inf)])
    found = interval(50.0, drawn)
    assert found.low is not None
    assert found.high is None


def test_a_figure_that_draws_often_lack_has_no_interval() -> None:
    drawn = np.arange(100.0)
    drawn[:6] = np.nan
    assert interval(50.0, drawn).low is None
    drawn[:6] = [np.nan, 1, 2, 3, 4, 5]
    assert interval(50.0, drawn).low is not None


def test_blocks_grow_with_dependence() -> None:
    rng = np.random.default_rng(4)
    shocks = rng.normal(size=1_000)
    dependent = np.zeros(1_000)
    for day in range(1, 1_000):
        dependent[day] = 0.8 * dependent[day - 1] + shocks[day]
    assert block_length(shocks) <= 6
    assert block_length(dependent) >= 15
    assert block_length(shocks, dependent) == block_length(dependent)
    assert block_length(np.zeros(30)) == 1


def test_blocks_grow_with_clusters_of_volatility_too() -> None:
    rng = np.random.default_rng(4)
    calm_and_wild = np.repeat([0.2, 3.0] * 5, 100)
    assert block_length(rng.normal(size=1_000) * calm_and_wild) > 20


def test_draws_are_blocks_that_wrap_around() -> None:
    orders = draw_orders(50, 10, seed=0, draws=400)
    assert orders.shape == (50, 400)
    follows = (np.diff(orders, axis=0) % 50 == 1).mean()
    assert follows == pytest.approx(0.9 + 0.1 / 50, abs=0.01)  # a block ends with one day in ten
    assert (orders == draw_orders(50, 10, seed=0, draws=400)).all()


def test_draws_worked_out_in_parts_are_the_same_as_at_once() -> None:
    orders = draw_orders(30_000, 10, seed=0, draws=70)  # 33 at once
    values = np.random.default_rng(0).normal(size=30_000)
    assert (in_parts(orders, lambda some: values[some].mean(axis=0)) == values[orders].mean(axis=0)).all()


def test_the_interval_of_a_sharpe_ratio_covers_what_it_promises() -> None:
    rng = np.random.default_rng(12)
    runs, days, true = 150, 260, 0.05
    covered = 0
    for run in range(runs):
        returns = rng.normal(0.006 * true, 0.006, days)
        found = measure_curve(make_daily_curve(returns), 100_000.0, seed=run, draws=200).sharpe
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= true * math.sqrt(260) <= found.high
    # Two standard errors of 95 % over 150 runs are 3.6 %; few blocks and few draws cost a little more.
    assert 0.88 <= covered / runs <= 0.99
