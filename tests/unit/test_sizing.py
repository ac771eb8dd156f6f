"""Sizes worked out by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fxcast.domain.instrument import default_instrument
from fxcast.errors import BadSetup
from fxcast.trading.sizing import Size, size_position, uncertainty_factor


def size(
    *,
    symbol: str = "EURUSD",
    price: str = "1.10000",
    stop: str = "1.09600",
    spread_pips: str = "0",
    currency: str = "USD",
    equity: str = "100000",
    uncertainty_pct: float | None = None,
) -> Size:
    return size_position(
        equity=Decimal(equity),
        risk_pct=Decimal("0.5"),
        price=Decimal(price),
        stop=Decimal(stop),
        spread_pips=Decimal(spread_pips),
        instrument=default_instrument(symbol),
        account_currency=currency,
        uncertainty_pct=uncertainty_pct,
        uncertainty_threshold=0.5,
    )


def test_half_a_per_cent_of_equity_is_lost_at_the_stop() -> None:
    # 0.5 % of 100,000 is 500 dollars; 40 pips cost 0.0040 a unit: 125,000 units
    assert size().base_units == Decimal(125_000)


def test_the_spread_is_part_of_the_loss() -> None:
    # 500 / (0.0040 + 0.0001) = 121,951: rounded down to 121,000
    assert size(spread_pips="1").base_units == Decimal(121_000)


def test_an_account_in_the_base_currency_loses_quote_over_price() -> None:
    # 500 euros at a stop of 1.0960: 0.0040 dollars a unit are 0.00364964 euros; 500 / 0.00364964 = 137,000
    assert size(currency="EUR").base_units == Decimal(137_000)


def test_a_third_currency_is_refused_by_name() -> None:
    with pytest.raises(BadSetup, match=r"account in GBP can't trade EURUSD"):
        size(currency="GBP")


def test_yen_pairs_use_their_own_pip() -> None:
    # an account in yen: 500 / (0.40 + 0.01) = 1,219 units: 1,000
    assert size(symbol="USDJPY", price="110.000", stop="109.600", spread_pips="1", currency="JPY").base_units == Decimal(1_000)


@pytest.mark.parametrize(
    ("uncertainty", "units"), [(None, 125_000), (0.0, 125_000), (0.1, 100_000), (0.3, 50_000), (0.5, 0), (0.7, 0)]
)
def test_size_falls_in_a_line_to_zero_at_the_threshold(uncertainty: float | None, units: int) -> None:
    assert size(uncertainty_pct=uncertainty) == Size(base_units=Decimal(125_000), units=Decimal(units))


def test_scaled_size_is_rounded_down_to_the_lot() -> None:
    assert size(uncertainty_pct=0.25).units == Decimal(62_000)  # 62,500


def test_no_equity_or_no_distance_gives_no_units() -> None:
    assert size(equity="-5").units == 0
    assert size(stop="1.10000").units == 0


def test_factor_is_never_negative() -> None:
    assert uncertainty_factor(9.0, 0.5) == 0
