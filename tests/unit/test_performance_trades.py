"""From what was booked to trades, worked by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from fxcast.backtest.result import BacktestResult, FillCost
from fxcast.domain.order import Fill, FillReason, Side, Transaction
from fxcast.domain.signal import SignalSource
from fxcast.errors import ReconciliationFailed
from fxcast.performance.trades import booked, check_balance, trades_of
from tests.performance_factories import HOUR, MONDAY, make_result, make_trade, make_trades


def d(text: str) -> Decimal:
    return Decimal(text)


def with_transactions(result: BacktestResult, transactions: list[Transaction]) -> BacktestResult:
    """The result with other transactions, numbered anew, that cost nothing."""
    numbered = tuple(replace(each, sequence=sequence) for sequence, each in enumerate(transactions, start=1))
    free = {each.sequence: FillCost(spread=d("0"), slippage=d("0")) for each in numbered if isinstance(each, Fill)}
    return replace(result, transactions=numbered, fill_costs=free)


def fills_of(result: BacktestResult) -> list[Fill]:
    return [each for each in result.transactions if isinstance(each, Fill)]


def test_trades_come_back_as_they_were_booked() -> None:
    trades = (
        make_trade("12.50", commission="0.70", financing="-0.30", slippage_cost="0.20"),
        make_trade("-20", side=Side.SELL, exit_reason=FillReason.STOP, opened_at=MONDAY + 9 * HOUR, uncertainty_pct=None),
        make_trade("3", exit_reason=FillReason.MARKET, opened_at=MONDAY + 20 * HOUR, symbol="GBPUSD"),
    )
    assert trades_of(make_result(trades)) == trades


def test_a_trade_s_net_is_its_profit_less_commission_with_the_interest() -> None:
    trade = trades_of(make_result([make_trade("12.50", commission="0.70", financing="-0.30")]))[0]
    assert trade.net == d("11.50")
    assert trade.r_multiple == pytest.approx(11.5 / 20)


def test_parts_that_opened_and_closed_a_position_are_one_trade() -> None:
    result = make_result([make_trade("20", units=10_000, exit_reason=FillReason.MARKET)])
    opening, closing = fills_of(result)
    # 4,000 at 1.1000 and 6,000 at 1.1010: 1.1006. A target takes 2,000 of them at 1.1031, an order the rest at 1.1021.
    parts: list[Transaction] = [
        replace(opening, units=d("4000"), price=d("1.1000"), commission=d("0.10")),
        replace(opening, units=d("6000"), price=d("1.1010"), commission=d("0.15")),
        replace(
            closing,
            units=d("2000"),
            price=d("1.1031"),
            profit=d("5"),
            reason=FillReason.TARGET,
            client_order_id=opening.client_order_id,
        ),
        replace(closing, units=d("8000"), price=d("1.1021"), profit=d("12"), commission=d("0.20")),
    ]
    (trade,) = trades_of(with_transactions(result, parts))
    assert trade.units == 10_000
    assert trade.entry_price == d("1.1006")
    assert trade.exit_price == d("1.1023")
    assert (trade.profit, trade.commission, trade.exit_reason) == (d("17"), d("0.45"), "market")
    assert trade.risk == d("26")  # (1.1006 − 1.0980) × 10,000: the stop lay 0.0020 below the 1.1000 that was meant


def test_a_second_closing_order_of_the_same_signal_belongs_to_the_position() -> None:
    result = make_result([make_trade("20", exit_reason=FillReason.MARKET)])
    opening, closing = fills_of(result)
    another = replace(result.orders[1], intent=replace(result.orders[1].intent, client_order_id="again"))
    halves: list[Transaction] = [
        opening,
        replace(closing, units=d("5000"), profit=d("10")),
        replace(closing, units=d("5000"), profit=d("10"), client_order_id="again"),
    ]
    (trade,) = trades_of(with_transactions(replace(result, orders=(*result.orders, another)), halves))
    assert trade.profit == 20


def test_each_trade_s_costs_are_those_of_its_own_fills() -> None:
    trades = make_trades([5, 5])
    result = make_result(trades)
    costs = {1: FillCost(spread=d("1"), slippage=d("2")), 2: FillCost(spread=d("10"), slippage=d("20"))}
    costs |= {3: FillCost(spread=d("100"), slippage=d("200")), 4: FillCost(spread=d("1000"), slippage=d("2000"))}
    first, second = trades_of(replace(result, fill_costs=costs))
    assert (first.spread_cost, first.slippage_cost) == (11, 22)
    assert (second.spread_cost, second.slippage_cost) == (1100, 2200)


def test_the_risk_is_of_the_first_stop_though_the_stop_was_moved() -> None:
    result = make_result([make_trade("20", risk="20")])
    moved = replace(result.positions[0], position=replace(result.positions[0].position, stop=d("1.1010")))
    (trade,) = trades_of(replace(result, positions=(moved,)))
    assert trade.risk == 20


def test_a_risk_in_the_account_s_base_currency_is_converted_at_the_stop() -> None:
    # USD/JPY at 110, 10,000 units, stop at 108: 20,000 yen, which at 108 are 185.1852 dollars.
    trade = make_trade("5", symbol="USDJPY", entry_price="110", risk="20000")
    assert trades_of(make_result([trade]))[0].risk == d("185.1852")


def test_a_risk_in_a_foreign_currency_is_converted_as_the_profit_was() -> None:
    # EUR/GBP from 0.8500 to 0.8540 with 10,000 units: 40 pounds, booked as 50 dollars. So 20 pounds of risk are 25 dollars.
    trade = make_trade("40", symbol="EURGBP", entry_price="0.8500", risk="20")
    result = make_result([trade])
    opening, closing = fills_of(result)
    assert trades_of(with_transactions(result, [opening, replace(closing, profit=d("50"))]))[0].risk == 25


def test_a_risk_in_a_foreign_currency_without_a_profit_is_converted_at_the_nearest_fill() -> None:
    cross = make_trade("0", symbol="EURGBP", entry_price="0.8500", risk="20")
    pounds = make_trade("10", symbol="GBPUSD", entry_price="1.25000", opened_at=MONDAY + 2 * HOUR)
    result = make_result([cross, pounds])
    assert {trade.symbol: trade.risk for trade in trades_of(result)} == {"EURGBP": d("25"), "GBPUSD": d("20")}


def test_a_risk_that_no_fill_can_convert_is_none() -> None:
    (trade,) = trades_of(make_result([make_trade("0", symbol="EURGBP", entry_price="0.8500", risk="20")]))
    assert trade.risk == 0
    assert trade.r_multiple is None


def test_an_open_position_is_no_trade_but_counts_in_the_balance() -> None:
    done, going = make_trade("10"), make_trade("0", commission="2", opened_at=MONDAY + 10 * HOUR)
    result = make_result([done, going])
    opened = replace(result.positions[1], closed_at=None, exit_price=None, profit=None)
    result = with_transactions(replace(result, positions=(result.positions[0], opened)), list(result.transactions[:3]))
    trades = trades_of(result)
    assert [trade.order_id for trade in trades] == [done.order_id]
    assert booked(result) == 8
    check_balance(result, trades)


def test_a_balance_that_was_not_booked_is_told() -> None:
    trades = make_trades([10, -5])
    result = make_result(trades)
    check_balance(result, trades)
    result.equity.balance[-1] += 0.01
    with pytest.raises(ReconciliationFailed, match=r"ends at 100005\.0100, but 100000 and 5 booked make 100005"):
        check_balance(result, trades)


def test_a_transaction_of_no_position_is_told() -> None:
    trades = make_trades([10, -5])
    with pytest.raises(ReconciliationFailed, match="trades made 10 and open positions 0, but 5 was booked"):
        check_balance(make_result(trades), trades[:1])


def test_a_position_without_its_signal_order_or_fill_is_named() -> None:
    trade = make_trade("10")
    result = make_result([trade])
    with pytest.raises(ReconciliationFailed, match=f"{trade.order_id} has no accepted signal {trade.signal.signal_id}"):
        trades_of(replace(result, signals=()))
    with pytest.raises(ReconciliationFailed, match=f"{trade.order_id} has no order"):
        trades_of(replace(result, orders=()))
    with pytest.raises(ReconciliationFailed, match=f"{trade.order_id} has no fill"):
        trades_of(replace(result, transactions=()))
    with pytest.raises(ReconciliationFailed, match=f"{trade.order_id} was closed without a fill"):
        trades_of(replace(result, transactions=result.transactions[:1]))


def test_trades_are_sorted_by_their_ends() -> None:
    long, short = make_trade("1", held=timedelta(hours=9)), make_trade("2", symbol="GBPUSD", held=timedelta(hours=2))
    assert [trade.symbol for trade in trades_of(make_result([long, short]))] == ["GBPUSD", "EURUSD"]


def test_a_trade_whose_stop_was_moved_away_from_its_sources_still_knows_whose_it_was() -> None:
    trade = make_trade("10", source=SignalSource.TREND)
    widened = replace(trade, signal=replace(trade.signal, stop=trade.signal.stop - 0.001, target=trade.signal.target + 0.001))
    assert widened.source == SignalSource.TREND
