"""Each gate: what passes, what does not, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from fxcast.domain.instrument import default_instrument
from fxcast.domain.money import rates_from_prices
from fxcast.domain.order import Side
from fxcast.errors import BadSetup
from fxcast.trading.config import RiskLimits, Session
from fxcast.trading.risk import RiskView, apply_gates, currency_exposures
from fxcast.trading.state import KillSwitch
from tests.factories import NOON

UNITS = Decimal(50_000)
VIEW = RiskView(
    at=NOON,
    seen_at=NOON + timedelta(seconds=1),
    instrument=default_instrument("EURUSD"),
    side=Side.BUY,
    unit_value=Decimal("1.1"),
    equity=Decimal(100_000),
    free_margin=Decimal(100_000),
    peak_equity=Decimal(100_000),
    day_first_equity=Decimal(100_000),
    open_symbols=(),
    foreign=(),
    exposures={},
    sides={},
    correlations={},
    spread_pips=1.0,
    forecast_age_bars=0,
    forecast_required=True,
    kill_switch=KillSwitch.ACTIVE,
    cool_off_until=None,
    limits=RiskLimits(),
)


def changed(**change: Any) -> RiskView:
    """A view in which nothing is in the way but what is named; a candle is seen when it closes, and opens are known."""
    if "at" in change:
        change = {"seen_at": change["at"], **change}
    opened = change.get("open_symbols", ())
    known: dict[str, Any] = {"sides": dict.fromkeys(opened, Side.BUY), "correlations": dict.fromkeys(opened, 0.0)}
    return replace(VIEW, **{**known, **change})


def limited(**limits: Any) -> RiskLimits:
    return RiskLimits(**limits)


def held(symbol: str = "GBPUSD", side: Side = Side.BUY, correlation: float | None = 0.95, **change: Any) -> RiskView:
    correlations = {} if correlation is None else {symbol: correlation}
    return changed(open_symbols=(symbol,), sides={symbol: side}, correlations=correlations, **change)


def test_nothing_in_the_way_lets_the_size_through_without_a_word() -> None:
    result = apply_gates(UNITS, VIEW)
    assert (result.units, result.reason) == (UNITS, "")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kill_switch": KillSwitch.REDUCING}, "the kill switch is reducing"),
        ({"kill_switch": KillSwitch.HALTED}, "the kill switch is halted"),
        # Friday 16:00 New York in winter is 21:00 UTC, in summer 20:00 UTC.
        ({"at": datetime(2017, 1, 6, 21, tzinfo=UTC)}, "the week closes in 60 minutes, cut-off 60"),
        ({"at": datetime(2017, 7, 7, 20, 30, tzinfo=UTC)}, "the week closes in 30 minutes, cut-off 60"),
        ({"at": datetime(2017, 7, 8, 12, tzinfo=UTC)}, "the market is closed"),
        ({"at": datetime(2017, 12, 25, 12, tzinfo=UTC)}, "the market is closed"),
        # the last candle of the week closed in time, but by now the market has too
        (
            {
                "at": datetime(2017, 7, 7, 20, 59, tzinfo=UTC),
                "seen_at": datetime(2017, 7, 7, 21, 0, 30, tzinfo=UTC),
                "limits": limited(weekend_cut_off_minutes=0),
            },
            "the market is closed",
        ),
        ({"limits": limited(sessions=["Tokyo"])}, "none of the sessions Tokyo is open"),
        (
            {"at": datetime(2017, 3, 7, 22, 30, tzinfo=UTC), "limits": limited(sessions=["London", "New York"])},
            "none of the sessions London, New York is open",
        ),
        ({"seen_at": NOON + timedelta(seconds=121)}, "the candle closed 121 s ago, more than 120"),
        ({"seen_at": NOON - timedelta(seconds=5)}, "the clock stands 5 s before the candle's close"),
        ({"forecast_age_bars": 9}, "the forecast is 9 candles old, more than 8"),
        ({"forecast_age_bars": None}, "no forecast of the last 8 candles"),
        ({"spread_pips": 3.1}, "a spread of 3.1 pips is above 3"),
        ({"spread_pips": float("nan")}, "a spread of nan pips is above 3"),
        ({"day_first_equity": Decimal(102_100)}, "2.06 % lost today, limit 2 %"),
        ({"peak_equity": Decimal(120_000)}, "16.67 % below the peak, limit 15 %"),
        (
            {"cool_off_until": datetime(2017, 3, 7, 14, 30, tzinfo=UTC)},
            "cooling off after losses in a row until 2017-03-07 14:30 UTC",
        ),
        ({"foreign": ("GBPUSD", "EURUSD")}, "the broker holds a position in EURUSD that is not ours"),
        ({"open_symbols": ("EURUSD",)}, "a position in EURUSD is open or being opened"),
        ({"open_symbols": ("GBPUSD", "USDJPY", "AUDUSD")}, "3 positions are open, limit 3"),
    ],
)
def test_gate_closes_and_says_why(change: dict[str, Any], reason: str) -> None:
    result = apply_gates(UNITS, changed(**change))
    assert (result.units, result.reason) == (Decimal(0), reason)


@pytest.mark.parametrize(
    "change",
    [
        {"at": datetime(2017, 1, 6, 20, 59, tzinfo=UTC)},
        {"at": datetime(2017, 7, 7, 20, 59, tzinfo=UTC), "limits": limited(weekend_cut_off_minutes=0)},
        {"limits": limited(sessions=["Tokyo", "London"])},  # one of them is enough
        {"seen_at": NOON + timedelta(seconds=120)},
        {"seen_at": NOON - timedelta(seconds=1)},
        {"forecast_age_bars": 8},
        {"forecast_age_bars": None, "forecast_required": False},
        {"spread_pips": 3.0},
        {"day_first_equity": Decimal(101_000)},
        {"peak_equity": Decimal(110_000)},
        {"at": NOON, "cool_off_until": NOON},
        {"foreign": ("GBPUSD",)},
        {"open_symbols": ("GBPUSD", "USDJPY")},
    ],
)
def test_gate_stays_open_up_to_its_limit(change: dict[str, Any]) -> None:
    assert apply_gates(UNITS, changed(**change)).units == UNITS


def test_the_first_refusal_is_the_reason() -> None:
    view = changed(kill_switch=KillSwitch.HALTED, spread_pips=9.0, foreign=("EURUSD",))
    assert apply_gates(UNITS, view).reason == "the kill switch is halted"


@pytest.mark.parametrize(("session", "utc_hour"), [("Sydney", 22), ("Tokyo", 1), ("London", 9), ("New York", 19)])
def test_each_session_has_its_hours(session: Session, utc_hour: int) -> None:
    limits = limited(sessions=[session])
    inside, outside = NOON.replace(hour=utc_hour), NOON.replace(hour=7 if session != "Tokyo" else 12)
    assert apply_gates(UNITS, changed(at=inside, limits=limits)).units == UNITS
    assert apply_gates(UNITS, changed(at=outside, limits=limits)).units == 0


# Correlation


@pytest.mark.parametrize(
    ("ours", "theirs", "correlation", "passes"),
    [
        (Side.BUY, Side.BUY, 0.95, False),
        (Side.SELL, Side.SELL, 0.95, False),
        (Side.BUY, Side.SELL, 0.95, True),  # a hedge
        (Side.BUY, Side.BUY, -0.95, True),
        (Side.BUY, Side.SELL, -0.95, False),  # long EUR/USD and short USD/CHF are the same bet
        (Side.SELL, Side.BUY, -0.95, False),
        (Side.BUY, Side.BUY, 0.9, True),
    ],
)
def test_what_wins_and_loses_with_an_open_position_is_refused(ours: Side, theirs: Side, correlation: float, passes: bool) -> None:
    result = apply_gates(UNITS, replace(held(side=theirs, correlation=correlation), side=ours))
    assert bool(result.units) is passes
    if not passes:
        assert result.reason == f"goes with the {theirs.value} position in GBPUSD: correlation 0.95, limit 0.9"


@pytest.mark.parametrize("correlation", [None, float("nan")])
@pytest.mark.parametrize("side", Side)
def test_an_unknown_correlation_counts_against_the_trade(correlation: float | None, side: Side) -> None:
    result = apply_gates(UNITS, held(side=side, correlation=correlation))
    assert (result.units, result.reason) == (Decimal(0), "the correlation with GBPUSD is unknown, and counts as 1")


@pytest.mark.parametrize("correlation", [None, 1.0])
def test_a_limit_of_one_allows_every_correlation(correlation: float | None) -> None:
    assert apply_gates(UNITS, held(correlation=correlation, limits=limited(max_correlation=1.0))).units == UNITS


def test_a_symbol_that_is_no_longer_open_has_no_say() -> None:
    view = changed(open_symbols=(), sides={"GBPUSD": Side.BUY}, correlations={"GBPUSD": 0.99})
    assert apply_gates(UNITS, view).units == UNITS


# Cuts


def test_one_symbol_is_cut_to_its_share_of_equity() -> None:
    # 40 % of 100,000 are 40,000 dollars; at 1.1 they are 36,363 euros
    result = apply_gates(UNITS, changed(limits=limited(max_symbol_exposure_pct=40)))
    assert result.units == Decimal(36_000)
    assert result.reason == "one symbol is limited to 40 % of equity: 50,000 cut to 36,000"


def test_exposure_is_cut_to_what_is_left_of_the_limit() -> None:
    # Short dollars worth 280,000 of at most 300,000; a euro is worth 1.1 dollars: 20,000 / 1.1 = 18,181 units are left.
    result = apply_gates(UNITS, changed(exposures={"USD": Decimal(-280_000), "GBP": Decimal(280_000)}))
    assert result.units == Decimal(18_000)
    assert result.reason == "USD exposure is limited to 300 % of equity: 50,000 cut to 18,000"


def test_exposure_of_the_base_currency_counts_as_well() -> None:
    # short euros worth 278,000: selling more has 22,000 / 1.1 = 20,000 left
    view = changed(side=Side.SELL, exposures={"EUR": Decimal(-278_000), "GBP": Decimal(278_000)})
    result = apply_gates(UNITS, view)
    assert (result.units, result.reason) == (
        Decimal(20_000),
        "EUR exposure is limited to 300 % of equity: 50,000 cut to 20,000",
    )


def test_a_trade_that_reduces_an_exposure_passes() -> None:
    short = changed(exposures={"USD": Decimal(299_000), "GBP": Decimal(-299_000)})
    assert apply_gates(UNITS, short).units == UNITS


def test_an_exposure_beyond_its_limit_leaves_nothing() -> None:
    result = apply_gates(UNITS, changed(exposures={"USD": Decimal(-310_000)}))
    assert (result.units, result.reason) == (
        Decimal(0),
        "USD exposure is limited to 300 % of equity: 50,000 cut to 0",
    )


def test_a_share_of_equity_stays_free_of_margin() -> None:
    # 52,000 are free, 50,000 have to be: 2,000 / (1.1 × 5 %) = 36,363 units
    result = apply_gates(UNITS, changed(free_margin=Decimal(52_000)))
    assert result.units == Decimal(36_000)
    assert result.reason == "50 % of equity has to stay free of margin: 50,000 cut to 36,000"


def test_an_instrument_without_margin_needs_none() -> None:
    free = replace(default_instrument("EURUSD"), margin_rate=Decimal(0))
    assert apply_gates(UNITS, changed(instrument=free, free_margin=Decimal(0))).units == UNITS


def test_two_cuts_give_both_reasons() -> None:
    view = changed(free_margin=Decimal(51_000), limits=limited(max_symbol_exposure_pct=40))
    result = apply_gates(UNITS, view)
    assert result.units == Decimal(18_000)  # 1,000 / 0.055 = 18,181
    assert result.reason == (
        "one symbol is limited to 40 % of equity: 50,000 cut to 36,000; "
        "50 % of equity has to stay free of margin: 36,000 cut to 18,000"
    )


# Exposure


def test_euro_and_sterling_against_the_dollar_are_both_short_dollar() -> None:
    holdings = [("EURUSD", Side.BUY, Decimal(100_000)), ("GBPUSD", Side.BUY, Decimal(50_000))]
    rates = rates_from_prices({"EURUSD": Decimal("1.10"), "GBPUSD": Decimal("1.30")}, "USD")
    assert currency_exposures(holdings, rates) == {
        "EUR": Decimal(110_000),
        "GBP": Decimal(65_000),
        "USD": Decimal(-175_000),
    }


def test_a_cross_has_its_exposures_in_the_accounts_currency() -> None:
    rates = rates_from_prices({"EURUSD": Decimal("1.10"), "GBPUSD": Decimal("1.30")}, "USD")
    assert currency_exposures([("EURGBP", Side.SELL, Decimal(10_000))], rates) == {
        "EUR": Decimal(-11_000),
        "GBP": Decimal(11_000),
    }


def test_exposure_without_a_rate_is_refused() -> None:
    with pytest.raises(BadSetup, match="no rate from EUR"):
        currency_exposures([("EURGBP", Side.BUY, Decimal(1000))], rates_from_prices({}, "USD"))
