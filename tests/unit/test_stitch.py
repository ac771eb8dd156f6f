"""Accounts of consecutive folds put together, with figures worked by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest

from fxcast.backtest.result import EquityCurve
from fxcast.backtest.stitch import stitch
from fxcast.domain.candle import to_datetime64
from fxcast.performance.measures import Costs
from fxcast.performance.stitched import Account, stitched
from tests.performance_factories import HOUR, MONDAY, make_trade


def curve(first_hour: int, balance: list[float], open_profit: list[float] | None = None) -> EquityCurve:
    """Return a curve with a point an hour, exposed while something is open."""
    open_ = np.array(open_profit or [0.0] * len(balance))
    return EquityCurve(
        times=to_datetime64(MONDAY) + (3600 * (first_hour + np.arange(len(balance)))).astype("timedelta64[s]"),
        balance=np.array(balance),
        open_profit=open_,
        exposure=np.where(open_ != 0.0, 500.0, 0.0),
    )


def account(equity: EquityCurve, **changes: object) -> Account:
    return replace(Account(equity=equity, counts={"signals": 2, "orders": 1}), **changes)  # pyright: ignore[reportArgumentType]  # by name


def test_returns_are_compounded_fold_by_fold_and_what_was_open_counts_as_it_was_marked() -> None:
    # 1000 → 1100 grows by 1.1; 1000 → 950 with 30 open at the end by 0.98; 1000 → 1050 by 1.05.
    folds = [curve(0, [1000, 1100]), curve(2, [1000, 950], [-20, 30]), curve(4, [1010, 1050])]
    together = stitch(folds, 1000.0)
    assert together.scales == pytest.approx((1.0, 1.1, 1.078))
    assert together.equity.equity == pytest.approx([1000, 1100, 1078, 1078, 1088.78, 1131.9])
    assert together.equity.balance == pytest.approx([1000, 1100, 1100, 1045, 1088.78, 1131.9])
    assert together.equity.open_profit == pytest.approx([0, 0, -22, 33, 0, 0])
    assert together.equity.exposure == pytest.approx([0, 0, 550, 550, 0, 0])
    assert together.equity.equity[-1] / 1000.0 == pytest.approx(1.1 * 0.98 * 1.05)
    assert len(np.unique(together.equity.times)) == 6


def test_one_fold_is_its_own_account() -> None:
    only = curve(0, [1000, 990], [5, 0])
    together = stitch([only], 1000.0)
    assert together.scales == (1.0,)
    assert together.equity.equity.tolist() == only.equity.tolist()


def test_a_fold_without_candles_grows_by_nothing() -> None:
    together = stitch([curve(0, [1200]), curve(1, []), curve(2, [900])], 1000.0)
    assert together.scales == pytest.approx((1.0, 1.2, 1.2))
    assert together.equity.equity == pytest.approx([1200, 1080])


def test_an_account_that_lost_everything_stays_at_zero() -> None:
    together = stitch([curve(0, [1000, -50]), curve(2, [1000, 2000])], 1000.0)
    assert together.equity.equity.tolist() == [1000, -50, 0, 0]


def test_overlapping_folds_and_none_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a fold begins at 2017-03-06T01:00:00, when the one before has not ended"):
        stitch([curve(0, [1000, 1000]), curve(1, [1000])], 1000.0)
    with pytest.raises(ValueError, match="there is no fold"):
        stitch([], 1000.0)


def test_trades_costs_and_turnover_grow_with_the_account_and_counts_add_up() -> None:
    early = make_trade(100, units=10_000, risk="20", commission="2", spread_cost="1")
    late = make_trade(-40, units=8_000, risk="30", financing="-1.5", opened_at=MONDAY + 3 * HOUR, base_units=9_000)
    first = account(
        curve(0, [1000, 1100]), trades=(early,), traded=22_000.0, costs=Costs(spread=1, slippage=0, commission=2, financing=0)
    )
    second = account(
        curve(2, [1000, 958.5]),
        trades=(late,),
        traded=10_000.0,
        costs=Costs(spread=1, slippage=0.5, commission=0, financing=-1.5),
        open_positions=1,
    )
    together = stitched([first, second], Decimal(1000))
    assert together.trades[0] is early
    scaled = together.trades[1]
    assert (scaled.units, scaled.base_units) == (Decimal("8800.0000"), Decimal("9900.0000"))
    assert (scaled.profit, scaled.financing, scaled.risk) == (Decimal("-44.0000"), Decimal("-1.6500"), Decimal("33.0000"))
    assert (scaled.entry_price, scaled.exit_price, scaled.signal) == (late.entry_price, late.exit_price, late.signal)
    assert scaled.r_multiple == pytest.approx(late.r_multiple)
    assert together.traded == pytest.approx(22_000 + 11_000)
    assert together.costs.total == pytest.approx(3 + 1.1 * 3)
    assert (together.open_positions, together.counts) == (1, {"signals": 4, "orders": 2})
    assert together.equity.equity[-1] == pytest.approx(1100 * 0.9585)


def test_trades_of_all_folds_explain_the_stitched_profit_where_nothing_stays_open() -> None:
    profits = [[50, -20], [-70, 10], [30, 25]]
    folds: list[Account] = []
    for number, won in enumerate(profits):
        trades = tuple(make_trade(each, opened_at=MONDAY + timedelta(hours=4 * number + place)) for place, each in enumerate(won))
        folds.append(account(curve(4 * number, list(1000 + np.cumsum(won))), trades=trades))
    together = stitched(folds, Decimal(1000))
    net = sum(float(trade.net) for trade in together.trades)
    assert net == pytest.approx(together.equity.equity[-1] - 1000, abs=1e-3)
    assert together.equity.equity[-1] == pytest.approx(1000 * 1.03 * 0.94 * 1.055)
