"""What currencies are worth in the account's."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from fxcast.domain.money import Quote, missing_rates, rates_from_prices
from fxcast.domain.order import Side
from fxcast.errors import BadSetup

PRICES = {
    "EURUSD": Decimal("1.25"),
    "USDJPY": Decimal(160),
    "EURGBP": Decimal("0.80"),
    "AUDNZD": Decimal("1.10"),
}


def test_direct_inverted_and_crossed_rates_by_hand() -> None:
    rates = rates_from_prices(PRICES, "USD")
    assert rates.worth["USD"] == 1
    assert rates.worth["EUR"] == Decimal("1.25")
    assert rates.worth["JPY"] == Decimal(1) / 160
    # A pound is 1 / 0.80 euros of 1.25 dollars.
    assert rates.worth["GBP"] == Decimal("1.5625")
    assert rates.convert(Decimal(100), "GBP") == Decimal("156.25")
    assert rates.pip_value("EURGBP", Decimal("0.0001")) == Decimal("0.00015625")
    assert rates.pip_value("EURUSD", Decimal("0.0001")) == Decimal("0.0001")


def test_the_fewest_steps_win_whatever_the_order_of_the_prices() -> None:
    crossed = {"GBPUSD": Decimal("1.5"), **PRICES}
    rates = rates_from_prices(crossed, "USD")
    assert rates.worth["GBP"] == Decimal("1.5"), "the pair of the two, not the way over the euro"
    assert rates_from_prices(dict(reversed(crossed.items())), "USD") == rates


def test_currency_without_a_way_to_the_accounts_is_refused_by_name() -> None:
    rates = rates_from_prices(PRICES, "USD")
    with pytest.raises(BadSetup, match="no rate from NZD to the account's USD"):
        rates.convert(Decimal(1), "NZD")
    assert missing_rates(["EURGBP", "AUDNZD"], "USD", PRICES) == ("AUD", "NZD")
    assert missing_rates(["EURGBP"], "USD", ["EURGBP"]) == ("EUR", "GBP")
    assert missing_rates(["EURGBP"], "USD", PRICES) == ()


def test_a_quote_opens_a_position_at_one_side_and_closes_it_at_the_other() -> None:
    quote = Quote(bid=Decimal("1.1000"), ask=Decimal("1.1002"), at=datetime(2017, 3, 7, tzinfo=UTC))
    assert (quote.opening(Side.BUY), quote.closing(Side.BUY)) == (quote.ask, quote.bid)
    assert (quote.opening(Side.SELL), quote.closing(Side.SELL)) == (quote.bid, quote.ask)
    assert (quote.spread, quote.mid) == (Decimal("0.0002"), Decimal("1.1001"))
