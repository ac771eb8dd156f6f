"""How much of each limit is used."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from fxcast.domain.order import Side
from fxcast.domain.portfolio import Position
from fxcast.trading.config import RiskLimits
from fxcast.trading.state import EngineState, HeldPosition
from fxcast.web.risk_view import LimitUse, exposures_pct, limits_used

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def held(symbol: str, side: Side, units: int, price: str) -> HeldPosition:
    position = Position(
        client_order_id=symbol,
        symbol=symbol,
        side=side,
        units=Decimal(units),
        entry_price=Decimal(price),
        stop=Decimal(price),
        target=None,
        opened_at=NOON,
    )
    entry = position.entry_price
    return HeldPosition(position=position, signal_id=symbol, horizon_bars=4, bars_held=0, first_stop=entry, best_price=entry)


STATE = EngineState(
    positions={"EURUSD": held("EURUSD", Side.BUY, 100_000, "1.10"), "EURGBP": held("EURGBP", Side.SELL, 50_000, "0.88")},
    prices={"EURUSD": Decimal("1.10"), "EURGBP": Decimal("0.88")},
    last_equity=Decimal(110_000),
    peak_equity=Decimal(120_000),
    day_first_equity=Decimal(111_000),
    losses_in_row=4,
)


def used(name: str, state: EngineState, limits: RiskLimits | None = None) -> LimitUse:
    return next(each for each in limits_used(state, limits or RiskLimits(), "USD") if each.name == name)


def test_exposure_is_net_by_currency_and_the_largest_stands_first() -> None:
    # Long 100,000 EUR and short 50,000 EUR of 110,000 USD equity: net 55,000 USD long EUR; GBP is worth 1.25 USD.
    found = exposures_pct(STATE, "USD")
    assert list(found) == ["USD", "EUR", "GBP"]
    assert [round(float(share), 6) for share in found.values()] == [-100.0, 50.0, 50.0]
    assert exposures_pct(replace(STATE, last_equity=None), "USD") == {}


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("open positions", 2 / 3),
        ("largest currency exposure", 100 / 300),
        ("loss since the day began", (1000 / 111_000 * 100) / 2.0),
        ("drawdown from the peak", (10_000 / 120_000 * 100) / 15.0),
        ("losses in a row", 1.0),
    ],
)
def test_each_limit_tells_the_share_that_is_used(name: str, share: float) -> None:
    assert used(name, STATE).share == pytest.approx(share)


def test_a_gain_uses_nothing_and_what_is_unknown_is_said_to_be() -> None:
    richer = replace(STATE, last_equity=Decimal(130_000))
    assert used("loss since the day began", richer).used == 0
    assert used("drawdown from the peak", replace(STATE, peak_equity=None)).share is None
    assert used("largest currency exposure", replace(STATE, prices={})).used is None
