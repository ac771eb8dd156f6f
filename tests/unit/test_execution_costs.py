"""What a fill cost against the mid: half the spread that its price was made with, and the slippage. Figures are worked out by hand.

The market is that of tests/paper_market.py: ask candles, a spread of 0.00010, a slippage of 0.00002.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxcast.domain.order import Fill, FillReason, Side
from fxcast.trading.config import PaperMarketConfig
from fxcast.trading.fill_simulation import Book, observe, open_book
from fxcast.trading.simulation.costs import execution_cost
from tests.factories import HOUR, NOON, make_candle, make_intent
from tests.paper_market import FLAT, close_intent, configured, d, filled, quoted, see, taken

LONG = make_intent()


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2017, 3, 7, hour, minute, tzinfo=UTC)  # five hours before it in New York


def over(book: Book, hours: int, *prices: float, opened_at: datetime, symbol: str = "EURUSD") -> tuple[Book, tuple[Fill, ...]]:
    """Let the book observe a candle of some hours."""
    candle = make_candle(*prices, open_time=opened_at)
    book, transactions = observe(book, symbol, candle, opened_at + hours * HOUR)
    return book, tuple(each for each in transactions if isinstance(each, Fill))


def test_market_order_costs_half_the_spread_and_the_slippage() -> None:
    book, (entry,) = filled(quoted(), LONG)
    assert execution_cost(book, entry) == (d("0.5"), d("0.2"))  # 10,000 × 0.00005 and × 0.00002
    # The mid is 1.09995: what was paid above it is both.
    assert (entry.price - d("1.09995")) * entry.units == d("0.7")
    book, (exit_,) = see(taken(book, close_intent(Side.SELL, at=NOON + HOUR, units=4_000)), *FLAT, at=NOON + HOUR)
    assert execution_cost(book, exit_) == (d("0.2"), d("0.08"))


def test_stop_costs_both_and_target_only_half_the_spread() -> None:
    book, _ = filled(quoted(), LONG)
    stopped, (stop,) = see(book, 1.1, 1.1, 1.0940, 1.1, at=NOON + HOUR)
    won, (target,) = see(book, 1.1, 1.1110, 1.1, 1.1, at=NOON + HOUR)
    assert (stop.reason, execution_cost(stopped, stop)) == (FillReason.STOP, (d("0.5"), d("0.2")))
    assert (target.reason, execution_cost(won, target)) == (FillReason.TARGET, (d("0.5"), 0))


def test_gap_is_no_cost_of_execution() -> None:
    book, _ = filled(quoted(), LONG)
    for open_, reason in ((1.0900, FillReason.STOP), (1.1200, FillReason.TARGET)):
        after, (exit_,) = see(book, open_, open_, open_, open_, at=NOON + HOUR)
        assert (exit_.reason, exit_.filled_at) == (reason, NOON + HOUR)
        assert execution_cost(after, exit_) == (d("0.5"), d("0.2") if reason is FillReason.STOP else 0)


def test_account_without_margin_pays_slippage_too() -> None:
    # 300,000 euros need 11,000 dollars of margin; at the low's bid 1.07490 the equity of 12,000 has fallen below half of that.
    config = configured(starting_balance=12_000, margin_closeout_pct=50)
    book, _ = filled(quoted(config), make_intent(units=300_000, stop="1.0000", target=None))
    book, (exit_,) = see(book, 1.1000, 1.1000, 1.0750, 1.1000, at=NOON + HOUR)
    assert (exit_.reason, exit_.price) == (FillReason.MARGIN_CLOSEOUT, d("1.07488"))
    assert execution_cost(book, exit_) == (15, 6)


def test_costs_are_in_the_accounts_currency_at_the_price_traded() -> None:
    yen = make_intent(symbol="USDJPY", stop="119.000", target="126.000", client_order_id="USDJPY-1-open")
    book, _ = see(open_book(configured()), 125.0, 125.0, 125.0, 125.0, at=NOON - HOUR, symbol="USDJPY")
    book, (entry,) = filled(book, yen, (125.0, 125.0, 125.0, 125.0))
    assert entry.price == d("125.002")
    assert execution_cost(book, entry) == (d("0.4000"), d("0.1600"))  # 50 and 20 yen
    # A cross is converted over the last mid of another pair: pounds at 1.25 less half a pip.
    book, _ = see(book, 1.25, 1.25, 1.25, 1.25, symbol="GBPUSD")
    book, _ = see(book, 0.86, 0.86, 0.86, 0.86, symbol="EURGBP")
    cross = make_intent(
        symbol="EURGBP", units=100_000, stop="0.85", target=None, client_order_id="EURGBP-1", created_at=NOON + HOUR
    )
    book, (entry,) = see(taken(book, cross), 0.86, 0.86, 0.86, 0.86, at=NOON + HOUR, symbol="EURGBP")
    assert execution_cost(book, entry) == (d("6.2498"), d("2.4999"))  # 5 and 2 pounds at 1.24995, to 0.0001, half to even


# The spread of the hour: five pips at 17:00 in New York (22:00 UTC), two at 18:00, one otherwise

ROLLOVER = configured(spread_pips_by_symbol={"EURUSD": {17: 5, 18: 2}})


@pytest.mark.parametrize(("hour", "cost"), [(21, "0.5"), (22, "2.5"), (23, "1")])
def test_fill_at_an_open_has_the_spread_of_the_hour_that_begins(hour: int, cost: str) -> None:
    book, _ = see(open_book(ROLLOVER), *FLAT, at=at(hour) - HOUR)
    book, (entry,) = see(taken(book, replace(LONG, created_at=at(hour))), *FLAT, at=at(hour))
    assert execution_cost(book, entry) == (d(cost), d("0.2"))


@pytest.mark.parametrize(("hour", "cost"), [(21, "0.5"), (22, "2.5"), (23, "1")])
def test_fill_at_an_extreme_has_the_spread_of_the_hour_that_ends(hour: int, cost: str) -> None:
    book, _ = filled(quoted(ROLLOVER), make_intent(stop="1.09500"))
    book, (stop,) = see(book, 1.1, 1.1, 1.0900, 1.1, at=at(hour))
    assert stop.filled_at == at(hour) + HOUR
    assert execution_cost(book, stop) == (d(cost), d("0.2"))


def test_gap_beyond_a_stop_has_the_spread_of_the_open() -> None:
    book, _ = filled(quoted(ROLLOVER), make_intent(stop="1.09500"))
    book, (stop,) = see(book, 1.09, 1.09, 1.09, 1.09, at=at(22))
    assert (stop.filled_at, execution_cost(book, stop)[0]) == (at(22), d("2.5"))


def test_extreme_of_several_hours_has_their_widest_where_the_candle_is_known() -> None:
    # From 20:00 to 24:00 UTC; the last hour has two pips, the one before it five.
    book, _ = filled(quoted(ROLLOVER), make_intent(stop="1.09500"))
    book, (stop,) = over(book, 4, 1.1, 1.1, 1.09545, 1.1, opened_at=at(20))  # its bid is 1.09495, with five
    assert stop.reason is FillReason.STOP
    assert execution_cost(book, stop, opened_at=at(20))[0] == d("2.5")
    assert execution_cost(book, stop)[0] == 1  # of the last hour, for want of the open


def test_late_order_has_the_widest_spread_until_then_where_the_candle_is_known() -> None:
    book, _ = see(open_book(configured(ROLLOVER, latency_s=75 * 60)), *FLAT, at=at(21))
    short = make_intent(side=Side.SELL, stop="1.105", target="1.09", created_at=at(22))
    book, (entry,) = over(taken(book, short), 2, *FLAT, opened_at=at(22))
    assert (entry.filled_at, entry.price) == (at(23, 15), d("1.09948"))
    assert execution_cost(book, entry, opened_at=at(22)) == (d("2.5"), d("0.2"))
    assert execution_cost(book, entry)[0] == 1


def test_late_price_is_moved_against_the_trader_and_that_is_no_spread() -> None:
    book, _ = see(open_book(configured(latency_s=30 * 60)), *FLAT, at=NOON - HOUR)
    book, (entry,) = see(taken(book, LONG), 1.1, 1.1020, 1.1, 1.1, at=NOON)
    assert entry.price == d("1.10102")  # half way to the high
    assert execution_cost(book, entry, opened_at=NOON) == execution_cost(book, entry) == (d("0.5"), d("0.2"))


def test_position_closed_at_its_last_price_for_lack_of_margin_has_the_spread_of_that_price() -> None:
    # A flat hour that ends at 17:00 in New York: with one pip the equity would last, with the five of its close it does not.
    for market, price in ((configured(), None), (ROLLOVER, d("1.07778"))):
        config = configured(market, starting_balance=12_000)
        book, _ = filled(quoted(config), make_intent(units=300_000, stop="1.0000", target=None))
        book, exits = see(book, 1.0783, 1.0783, 1.0783, 1.0783, at=at(21))
        assert [each.price for each in exits] == ([] if price is None else [price])
    assert exits[0].reason is FillReason.MARGIN_CLOSEOUT
    assert execution_cost(book, exits[0]) == (75, 6)


def test_other_symbols_close_with_their_last_spread_when_the_margin_is_gone() -> None:
    # The pound's last candle closed at 17:00 in New York, with seven pips; the euro's falls two hours later.
    config = configured(starting_balance=20_000, spread_pips_by_symbol={"GBPUSD": {17: 7}})
    book, _ = see(quoted(config), *FLAT, at=NOON - HOUR, symbol="GBPUSD")
    pound = make_intent(symbol="GBPUSD", stop="1.0000", target=None, client_order_id="GBPUSD-1-open")
    book, _ = filled(book, pound)
    book, _ = filled(book, make_intent(units=300_000, stop="1.0000", target=None))
    book, _ = see(book, *FLAT, at=at(21), symbol="GBPUSD")
    book, exits = see(book, 1.1000, 1.1000, 1.0400, 1.0400, at=at(23))
    costs = {each.symbol: execution_cost(book, each) for each in exits}
    assert {each.reason for each in exits} == {FillReason.MARGIN_CLOSEOUT}
    assert costs == {"EURUSD": (15, 6), "GBPUSD": (d("3.5"), d("0.2"))}


@given(
    spread=st.integers(0, 60),
    slip=st.integers(0, 30),
    side=st.sampled_from(Side),
    candle_side=st.sampled_from(["bid", "mid", "ask"]),
)
def test_costs_are_exactly_what_a_prompt_fill_lies_away_from_the_mid(spread: int, slip: int, side: Side, candle_side: str) -> None:
    config = PaperMarketConfig.model_validate(
        {"spread_pips": Decimal(spread) / 10, "slippage_pips": Decimal(slip) / 10, "candle_side": candle_side}
    )
    stop, target = ("1.08", "1.12") if side is Side.BUY else ("1.12", "1.08")
    book, (entry,) = filled(quoted(config), make_intent(side=side, stop=stop, target=target))
    mid = book.marks["EURUSD"].mid  # the candle is flat
    assert sum(execution_cost(book, entry)) == side.sign * (entry.price - mid) * entry.units
