"""What holds of the figures whatever was traded."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.backtest.engine import BacktestEngine, BacktestSetup
from fxcast.domain.candle import to_datetime
from fxcast.performance.daily import daily_curve, deepest_fall
from fxcast.performance.groups import costs_of, groups_of
from fxcast.performance.measure import longest_fall_days, measure, measure_curve
from fxcast.performance.measures import Interval
from fxcast.performance.trades import booked, check_balance, trades_of
from fxcast.trading.config import PaperMarketConfig, TradingConfig
from tests.factories import make_series
from tests.performance_factories import make_curve, make_result, make_trades

EQUITY = st.lists(st.floats(10.0, 1_000.0), min_size=1, max_size=150)
PROFITS = st.lists(st.decimals("-500", "500", places=2).map(float), min_size=1, max_size=40)
START_PRICES = {"EURUSD": 1.10, "EURGBP": 0.85, "USDJPY": 110.0, "GBPUSD": 1.30}


@given(
    account_currency=st.sampled_from(["USD", "EUR", "GBP"]),
    symbols=st.sampled_from([("EURUSD",), ("EURUSD", "EURGBP"), ("EURGBP", "USDJPY", "EURUSD")]),
    partial=st.sampled_from([0.0, 0.5]),
    commission=st.sampled_from([Decimal(0), Decimal(35)]),
    swap=st.sampled_from([Decimal(0), Decimal(-3)]),
    seed=st.integers(0, 1_000),
)
@settings(max_examples=8, deadline=None)
def test_what_the_engine_did_adds_up_to_the_balance(
    account_currency: str, symbols: tuple[str, ...], partial: float, commission: Decimal, swap: Decimal, seed: int
) -> None:
    series = {
        symbol: make_series(bars=420, symbol=symbol, price=price, seed=seed + number, range_width=0.0003 * price)
        for number, (symbol, price) in enumerate(START_PRICES.items())
    }
    closes = series["EURUSD"].close_times
    setup = BacktestSetup(
        name="strategy",
        symbols=symbols,
        start=to_datetime(closes[250]),
        stop=to_datetime(closes[419]),
        trading=TradingConfig(use_ldm4ts=False, min_quality=0.0),
        market=PaperMarketConfig(
            account_currency=account_currency,
            partial_fill_probability=partial,
            commission_per_million=commission,
            swap_pct_long=dict.fromkeys(symbols, swap),
            swap_pct_short=dict.fromkeys(symbols, -swap / 2),
        ),
    )
    result = BacktestEngine(setup, series).run()
    trades = trades_of(result)
    check_balance(result, trades)
    assert float(result.starting_balance + booked(result)) == pytest.approx(result.equity.balance[-1], abs=0.005)
    # The engine keeps each position's profit with commission and interest itself: the independent sum.
    profits = {each.position.client_order_id: each.profit for each in result.positions if each.closed_at is not None}
    assert {trade.order_id: trade.net for trade in trades} == profits
    for trade in trades:
        # No fill need tell what a cross was worth.
        assert trade.risk > 0 or account_currency not in (trade.symbol[:3], trade.symbol[3:])
        assert 0 < trade.units <= trade.base_units
        assert trade.closed_at >= trade.opened_at
    measures = measure(result, trades, draws=100)
    if len(trades) == len(result.positions):
        assert measures.costs.spread == pytest.approx(costs_of(trades).spread)
        assert measures.costs.financing == pytest.approx(costs_of(trades).financing)
    if trades:
        assert measures.turnover > 0


@given(PROFITS)
@settings(max_examples=40, deadline=None)
def test_trades_and_groups_keep_within_their_bounds_and_add_up(profits: list[float]) -> None:
    trades = make_trades(profits)
    result = make_result(trades)
    check_balance(result, trades_of(result))
    measures = measure(result, trades, draws=100)
    assert measures.win_rate.value is not None
    assert measures.expectancy.value is not None
    for end in (measures.win_rate.value, measures.win_rate.low, measures.win_rate.high):
        assert end is None or 0.0 <= end <= 1.0
    assert measures.expectancy.value * len(trades) == pytest.approx(measures.net_profit, abs=1e-6)
    won = measures.win_rate.value * len(trades)
    assert won == pytest.approx(sum(profit > 0 for profit in profits))
    assert measures.profit_factor.value is None or measures.profit_factor.value >= 0
    for groups in groups_of(trades).values():
        assert sum(each.net for each in groups) == pytest.approx(measures.net_profit, abs=1e-6)
        assert sum(each.trades for each in groups) == len(trades)


@given(EQUITY, st.floats(0.01, 100.0))
def test_falls_do_not_depend_on_the_size_of_the_account(equity: list[float], scale: float) -> None:
    small = make_curve(equity)
    large = make_curve([scale * each for each in equity])
    one, other = measure_curve(small, 100.0, draws=100), measure_curve(large, 100.0 * scale, draws=100)
    assert one.max_drawdown.value == pytest.approx(other.max_drawdown.value)
    assert one.total_return == pytest.approx(other.total_return)
    assert one.net_profit * scale == pytest.approx(other.net_profit)


@given(EQUITY)
def test_the_deepest_fall_of_days_is_that_of_every_candle(equity: list[float]) -> None:
    curve = make_curve(equity)
    days = daily_curve(curve.times, curve.equity, 100.0)
    path = [100.0, *equity]
    deepest = max(1.0 - later / earlier for at, earlier in enumerate(path) for later in path[at:])
    assert deepest_fall(days, np.arange(len(days))[:, np.newaxis])[0] == pytest.approx(deepest, abs=1e-12)
    assert np.prod(1.0 + days.returns) * 100.0 == pytest.approx(equity[-1])


@given(EQUITY)
def test_the_longest_fall_is_that_of_a_loop(equity: list[float]) -> None:
    curve = make_curve(equity)
    peak, since, longest = 100.0, 0, 0
    for hour, worth in enumerate(equity):
        if worth >= peak:
            peak, since = worth, hour
        else:
            following = next((later for later in range(hour, len(equity)) if equity[later] >= peak), len(equity) - 1)
            longest = max(longest, following - since)
    assert longest_fall_days(curve.times, curve.equity, 100.0) == pytest.approx(longest / 24)


@given(EQUITY, st.integers(0, 10))
def test_intervals_are_ordered_and_a_fall_is_a_share(equity: list[float], seed: int) -> None:
    curve = make_curve(equity)
    wide = replace(curve, times=curve.times[0] + (np.arange(len(equity)) * 86_400).astype("timedelta64[s]"))
    found = measure_curve(wide, 100.0, seed=seed, draws=100)
    for each in (found.cagr, found.sharpe, found.sortino, found.calmar, found.max_drawdown):
        assert _ordered(each)
    assert found.max_drawdown.value is not None
    assert 0.0 <= found.max_drawdown.value <= 1.0
    assert found.max_drawdown.high is None or found.max_drawdown.high <= 1.0
    assert found.probabilistic_sharpe is None or 0.0 <= found.probabilistic_sharpe <= 1.0


@given(st.integers(0, 200))
@settings(max_examples=25, deadline=None)
def test_the_interval_of_a_ratio_or_a_mean_mostly_holds_the_figure(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curve = make_curve([100.0 * float(each) for each in np.cumprod(1.0 + rng.normal(0.0, 0.01, 2_400))])
    found = measure_curve(curve, 100.0, trades=make_trades(list(rng.normal(1.0, 20.0, 60))), seed=seed)
    for each in (found.cagr, found.sharpe, found.sortino, found.win_rate, found.profit_factor, found.expectancy):
        assert each.value is not None
        assert each.low is not None
        assert each.high is not None
        assert each.low < each.value < each.high


def _ordered(interval: Interval) -> bool:
    return interval.low is None or interval.high is None or interval.low <= interval.high
