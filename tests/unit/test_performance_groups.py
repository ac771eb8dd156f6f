"""Trades by month, symbol, source, regime and hour."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fxcast.domain.signal import Regime, SignalSource
from fxcast.performance.groups import groups_of
from tests.performance_factories import HOUR, make_trade

EVENING = datetime(2017, 3, 31, 18, tzinfo=UTC)  # Friday, 14:00 New York


def test_every_group_adds_up_by_hand() -> None:
    trades = [
        make_trade("30", opened_at=EVENING, commission="2", spread_cost="1", slippage_cost="0.5", financing="-1"),
        make_trade("-10", opened_at=EVENING, symbol="GBPUSD", source=SignalSource.TREND, regime=Regime.RANGING),
        make_trade("5", opened_at=EVENING - 24 * HOUR, regime=Regime.RANGING),
    ]
    groups = groups_of(trades)
    assert list(groups) == ["month", "symbol", "source", "regime", "hour"]
    euro, pound = groups["symbol"]
    assert (euro.label, euro.trades, euro.net, euro.win_rate) == ("EURUSD", 2, 32.0, 1.0)
    assert euro.profit_factor is None
    assert euro.expectancy == pytest.approx(16.0)
    assert euro.costs.total == pytest.approx(2 + 2 + 0.5 + 1)
    assert (pound.label, pound.net, pound.win_rate, pound.profit_factor) == ("GBPUSD", -10.0, 0.0, 0.0)
    ranging, trending = groups["regime"]
    assert (ranging.label, ranging.trades, ranging.profit_factor) == ("ranging", 2, pytest.approx(0.5))
    assert (trending.label, trending.net) == ("trending", 27.0)
    assert [each.label for each in groups["source"]] == ["ldm4ts_forecast", "trend"]


def test_every_trade_is_in_one_group_of_each_kind() -> None:
    trades = [make_trade(profit, opened_at=EVENING + hour * HOUR) for hour, profit in enumerate(range(-50, 50))]
    for groups in groups_of(trades).values():
        assert sum(each.trades for each in groups) == 100
        assert sum(each.net for each in groups) == pytest.approx(-50.0)
        assert [each.label for each in groups] == sorted(each.label for each in groups)


def test_a_month_ends_at_five_in_new_york_and_hours_are_new_york_s() -> None:
    before = make_trade("1", opened_at=EVENING, held=HOUR)  # ends at 15:00 New York
    after = make_trade("1", opened_at=EVENING, held=4 * HOUR)  # ends at 18:00, Monday's day, which is in April
    groups = groups_of([before, after])
    assert [each.label for each in groups["month"]] == ["2017-03", "2017-04"]
    assert [each.label for each in groups["hour"]] == ["14:00"]


def test_no_trade_is_in_no_group() -> None:
    assert all(groups == () for groups in groups_of([]).values())
