"""Backtests worked out by hand (tests/golden/cases), every fill rule among them, through the whole engine."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fxcast.backtest.result import BacktestResult
from fxcast.domain.candle import to_datetime
from fxcast.domain.order import Fill, Financing, OrderStatus
from fxcast.domain.signal import Verdict
from tests.golden.case import Case, moment, read_cases

ALL = read_cases()


def shown_fills(result: BacktestResult) -> list[tuple[object, ...]]:
    return [
        (each.filled_at, each.symbol, each.side.value, each.units, each.price, each.reason.value, each.profit, each.commission)
        for each in result.transactions
        if isinstance(each, Fill)
    ]


@pytest.mark.parametrize("case", ALL, ids=[case.name for case in ALL])
def test_case_worked_out_by_hand(case: Case) -> None:
    result = case.run()
    assert shown_fills(result) == [
        (moment(at), symbol, side, Decimal(units), Decimal(price), reason, Decimal(profit), Decimal(commission))
        for at, symbol, side, units, price, reason, profit, commission in case.rows("fills")
    ]
    interest = [each for each in result.transactions if isinstance(each, Financing)]
    assert [(each.booked_at, each.symbol, each.amount) for each in interest] == [
        (moment(at), symbol, Decimal(amount)) for at, symbol, amount in case.rows("interest")
    ]
    unfilled = [each for each in result.orders if each.status is not OrderStatus.FILLED]
    assert [
        (each.intent.created_at, each.intent.symbol, each.intent.purpose.value, each.status.value, each.reason) for each in unfilled
    ] == [(moment(at), symbol, purpose, status, reason) for at, symbol, purpose, status, reason in case.rows("ended")]
    refused = [each for each in result.signals if each.verdict is Verdict.REJECTED]
    assert [(each.signal.made_at, each.signal.symbol, each.reason) for each in refused] == [
        (moment(at), symbol, reason) for at, symbol, reason in case.rows("refused")
    ]
    held = [each.position for each in result.positions if each.closed_at is None]
    assert [(each.symbol, each.side.value, each.units, each.entry_price, each.stop, each.target) for each in held] == [
        (symbol, side, Decimal(units), Decimal(entry), Decimal(stop), Decimal(target))
        for symbol, side, units, entry, stop, target in case.rows("open")
    ]
    balance = result.starting_balance + sum(
        (each.profit - each.commission if isinstance(each, Fill) else each.amount for each in result.transactions), Decimal(0)
    )
    assert balance == case.balance
    assert result.equity.balance[-1] == float(case.balance)
    assert len(result.signals) == len(case.rows("signals")), "every signal was decided on"


@pytest.mark.parametrize("case", [case for case in ALL if case.rows("costs")], ids=lambda case: case.name)
def test_what_each_fill_cost_is_as_worked_out_by_hand(case: Case) -> None:
    result = case.run()
    costs = [result.fill_costs[each.sequence] for each in result.transactions if isinstance(each, Fill)]
    assert [(each.spread, each.slippage) for each in costs] == [
        (Decimal(spread), Decimal(slippage)) for spread, slippage in case.rows("costs")
    ]


@pytest.mark.parametrize("case", [case for case in ALL if case.rows("equity")], ids=lambda case: case.name)
def test_equity_at_every_close_is_as_worked_out_by_hand(case: Case) -> None:
    equity = case.run().equity
    found = zip(equity.times, equity.balance.tolist(), equity.open_profit.tolist(), strict=True)
    assert [(to_datetime(at), balance, profit) for at, balance, profit in found] == [
        (moment(at), float(balance), float(profit)) for at, balance, profit in case.rows("equity")
    ]


def test_every_fill_rule_is_shown_by_a_case() -> None:
    assert {rule for case in ALL for rule in case.rules} == set(range(1, 11))
