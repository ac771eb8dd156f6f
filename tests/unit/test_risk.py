"""Each gate: what passes, what does not, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from fxcast.domain.instrument import default_instrument
from fxcast.domain.order import Side
from fxcast.errors import BadSetup
from fxcast.trading.config import RiskLimits
from fxcast.trading.risk import RiskView, apply_gates, currency_exposures
from fxcast.trading.state import KillSwitch
from tests.factories import NOON

UNITS = Decimal(50_000)
VIEW = RiskView(
    at=NOON,
    instrument=default_instrument("EURUSD"),
    side=Side.BUY,
    unit_value=Decimal("1.1"),
    equity=Decimal(100_000),
    peak_equity=Decimal(100_000),
    day_first_equity=Decimal(100_000),
    open_symbols=(),
    exposures={},
    spread_pips=1.0,
    forecast_age_bars=0,
    forecast_required=True,
    kill_switch=KillSwitch.ACTIVE,
    limits=RiskLimits(),
)


def test_nothing_in_the_way_lets_the_size_through_without_a_word() -> None:
    result = apply_gates(UNITS, VIEW)
    assert (result.units, result.reason) == (UNITS, "")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kill_switch": KillSwitch.REDUCING}, "the kill switch is reducing"),
        ({"kill_switch": KillSwitch.HALTED}, "the kill switch is halted"),
        ({"spread_pips": 3.1}, "a spread of 3.1 pips is above 3"),
        ({"forecast_age_bars": 9}, "the forecast is 9 candles old, more than 8"),
        ({"forecast_age_bars": None}, "no forecast of the last 8 candles"),
        ({"day_first_equity": Decimal(102_100)}, "2.06 % lost today, limit 2 %"),
        ({"peak_equity": Decimal(120_000)}, "16.67 % below the peak, limit 15 %"),
        ({"open_symbols": ("EURUSD",)}, "a position in EURUSD is open or being opened"),
        ({"open_symbols": ("GBPUSD", "USDJPY", "AUDUSD")}, "3 positions are open, limit 3"),
        # Friday 16:00 New York in winter is 21:00 UTC, in summer 20:00 UTC.
        ({"at": datetime(2017, 1, 6, 21, tzinfo=UTC)}, "the week closes within the hour"),
        ({"at": datetime(2017, 7, 7, 20, tzinfo=UTC)}, "the week closes within the hour"),
        ({"at": datetime(2017, 7, 8, 12, tzinfo=UTC)}, "the market is closed"),
    ],
)
def test_gate_closes_and_says_why(change: dict[str, Any], reason: str) -> None:
    result = apply_gates(UNITS, replace(VIEW, **change))
    assert (result.units, result.reason) == (Decimal(0), reason)


@pytest.mark.parametrize(
    "change",
    [
        {"spread_pips": 3.0},
        {"forecast_age_bars": 8},
        {"forecast_age_bars": None, "forecast_required": False},
        {"day_first_equity": Decimal(101_000)},
        {"peak_equity": Decimal(110_000)},
        {"open_symbols": ("GBPUSD", "USDJPY")},
        {"at": datetime(2017, 1, 6, 20, 59, tzinfo=UTC)},
    ],
)
def test_gate_stays_open_up_to_its_limit(change: dict[str, Any]) -> None:
    assert apply_gates(UNITS, replace(VIEW, **change)).units == UNITS


def test_exposure_is_cut_to_what_is_left_of_the_limit() -> None:
    # Short dollars worth 280,000 of at most 300,000; a euro is worth 1.1 dollars: 20,000 / 1.1 = 18,181 units are left.
    result = apply_gates(UNITS, replace(VIEW, exposures={"USD": Decimal(-280_000), "GBP": Decimal(280_000)}))
    assert result.units == Decimal(18_000)
    assert result.reason == "USD exposure is limited to 300 % of equity: 50000 cut to 18000"


def test_a_trade_that_reduces_an_exposure_passes() -> None:
    short = replace(VIEW, exposures={"USD": Decimal(299_000), "GBP": Decimal(-299_000)})
    assert apply_gates(UNITS, short).units == UNITS


def test_euro_and_sterling_against_the_dollar_are_both_short_dollar() -> None:
    holdings = [("EURUSD", Side.BUY, Decimal(100_000)), ("GBPUSD", Side.BUY, Decimal(50_000))]
    prices = {"EURUSD": Decimal("1.10"), "GBPUSD": Decimal("1.30")}
    assert currency_exposures(holdings, prices, "USD") == {
        "EUR": Decimal(110_000),
        "GBP": Decimal(65_000),
        "USD": Decimal(-175_000),
    }


def test_exposure_in_a_third_currency_is_refused() -> None:
    with pytest.raises(BadSetup):
        currency_exposures([("EURGBP", Side.BUY, Decimal(1000))], {"EURGBP": Decimal("0.85")}, "USD")
