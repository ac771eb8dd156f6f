"""What the paper market charges and what things are worth in the account's currency; every figure is worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from pydantic import ValidationError

from fxcast.domain.money import Quote
from fxcast.domain.order import Fill, FillReason, OrderStatus, Side
from fxcast.trading.config import PaperMarketConfig
from fxcast.trading.fill_simulation import Book, account, instruments, observe, open_book, place, quotes, rates
from tests.factories import HOUR, NOON, make_candle, make_intent
from tests.paper_market import FLAT, close_intent, configured, d, filled, interest_of, quoted, see, watch

# Mid candles and a spread of two pips, no slippage.
CROSS = PaperMarketConfig(spread_pips=Decimal(2), slippage_pips=Decimal(0), commission_per_million=Decimal(30))
EURGBP = make_intent(symbol="EURGBP", units=100_000, stop="0.85500", target="0.87000", client_order_id="EURGBP-1-open")


def flat(book: Book, symbol: str, price: float, at: datetime) -> Book:
    return see(book, price, price, price, price, at=at, symbol=symbol)[0]


# Conversion


def test_cross_on_an_account_in_a_third_currency() -> None:
    book = flat(open_book(CROSS), "GBPUSD", 1.25, NOON - HOUR)
    book = flat(book, "EURGBP", 0.86, NOON - HOUR)
    book, (entry,) = filled(book, EURGBP, (0.86, 0.865, 0.86, 0.865))
    # 100,000 euros at 0.86010 × 1.25 are 107,512.50 dollars, at 30 for a million.
    assert (entry.price, entry.commission, entry.profit) == (d("0.86010"), d("3.2254"), 0)
    now = account(book)
    assert now.balance == d("99996.7746")
    assert now.open_profit == d("600")  # (bid 0.86490 − 0.86010) × 100,000 pounds at 1.25
    assert now.margin_used == d("3604.1667")  # 100,000 × 0.865 × 1.25 / 30
    assert now.free_margin == d("96992.6079")
    # Another price of the pound changes the profit without a candle of the cross.
    book = flat(book, "GBPUSD", 1.30, NOON)
    assert account(book).open_profit == d("624")
    book, (exit_,) = see(book, 0.865, 0.8702, 0.865, 0.87, at=NOON + HOUR, symbol="EURGBP")
    assert (exit_.reason, exit_.price, exit_.profit) == (FillReason.TARGET, d("0.87000"), d("1287"))  # 990 pounds at 1.30
    assert exit_.commission == d("3.3930")  # 100,000 × 0.87 × 1.30 dollars
    assert book.balance == d("101280.3816")


def test_cross_is_converted_over_its_own_price_where_no_pair_is_nearer() -> None:
    book = flat(open_book(configured(CROSS, commission_per_million=0)), "EURUSD", 1.10, NOON - HOUR)
    book, _ = filled(flat(book, "EURGBP", 0.86, NOON - HOUR), EURGBP, (0.86, 0.86, 0.86, 0.86))
    _, (exit_,) = see(book, 0.86, 0.8702, 0.86, 0.87, at=NOON + HOUR, symbol="EURGBP")
    assert exit_.profit == d("1251.7241")  # 990 pounds × 1.10 / 0.87, the price that was traded at


def test_entry_that_cannot_be_converted_yet_is_rejected_and_names_the_currencies() -> None:
    book = flat(open_book(CROSS), "EURGBP", 0.86, NOON - HOUR)
    _, answer = place(book, EURGBP)
    assert answer.status is OrderStatus.REJECTED
    assert answer.reason == "there is no price yet that leads from EUR or GBP to the account's USD"
    assert place(flat(book, "GBPUSD", 1.25, NOON - HOUR), EURGBP)[1].status is OrderStatus.ACCEPTED


def test_rates_are_mids_and_quotes_are_bid_and_ask_at_the_last_close() -> None:
    book = flat(flat(open_book(CROSS), "GBPUSD", 1.25, NOON - HOUR), "USDJPY", 125.0, NOON)
    assert rates(book).worth == {"USD": 1, "GBP": d("1.25"), "JPY": d("0.008")}
    assert quotes(book, ["USDJPY", "EURUSD"]) == {"USDJPY": Quote(bid=d("124.990"), ask=d("125.010"), at=NOON + HOUR)}


def test_instruments_have_the_margin_of_the_accounts_leverage() -> None:
    told = instruments(open_book(configured(leverage=20, min_stop_pips=3)), ["EURUSD", "USDJPY"])
    assert (told["USDJPY"].margin_rate, told["USDJPY"].pip, told["USDJPY"].min_stop_distance) == (d("0.05"), d("0.01"), d("0.03"))


# Commission


def test_commission_is_taken_from_the_balance_and_not_from_the_profit() -> None:
    book, (entry,) = filled(quoted(configured(commission_per_million=50)), make_intent())
    assert (entry.commission, book.balance) == (d("0.5500"), d("9999.45"))  # 11,000.20 dollars: 0.55001, to 0.0001
    book, _ = place(book, close_intent(Side.SELL, at=NOON + HOUR, units=4_000))
    book, (part,) = see(book, 1.10300, 1.10300, 1.10300, 1.10300, at=NOON + HOUR)
    assert (part.profit, part.commission) == (d("11.44"), d("0.2206"))  # 4,000 × 1.10288 = 4,411.52 dollars
    assert book.balance == d("10010.6694")


def test_commission_in_the_base_currency_is_of_the_units() -> None:
    _, (entry,) = filled(quoted(configured(account_currency="EUR", commission_per_million=50)), make_intent())
    assert entry.commission == d("0.5")


# Interest. 2017-03-07 is a Tuesday; New York sets its clocks forward on Sunday the 12th.

# 100,000 × 1.10 dollars at 3.65 % a year are 11 dollars a day.
SWAPPED = configured(
    candle_side="mid", spread_pips=0, slippage_pips=0, swap_pct_long={"EURUSD": "-3.65"}, swap_pct_short={"EURUSD": "1.825"}
)
LONG = make_intent(units=100_000, stop="1.00000", target=None)


def at(day: int, hour: int) -> datetime:
    return datetime(2017, 3, day, hour, tzinfo=UTC)


def test_gap_books_each_roll_at_its_own_time_three_days_on_wednesdays_and_none_at_the_weekend() -> None:
    book, _ = filled(quoted(SWAPPED), LONG)
    book, transactions = watch(book, *FLAT, at=at(16, 12))
    assert [(each.booked_at, each.amount) for each in interest_of(transactions)] == [
        (at(7, 22), -11),
        (at(8, 22), -33),  # Wednesday
        (at(9, 22), -11),
        (at(10, 22), -11),  # Friday; then the weekend, in which the clocks change
        (at(13, 21), -11),
        (at(14, 21), -11),
        (at(15, 21), -33),
    ]
    assert [each.sequence for each in transactions] == list(range(2, 9))
    assert {(each.symbol, each.client_order_id) for each in interest_of(transactions)} == {("EURUSD", "EURUSD-1-open")}
    assert book.balance == 10_000 - 121


@pytest.mark.parametrize(("day", "hour"), [(7, 21), (14, 20)])
def test_interest_is_booked_with_the_candle_that_closes_at_five_in_new_york(day: int, hour: int) -> None:
    book, _ = filled(quoted(SWAPPED), LONG)
    if day == 14:
        book, _ = watch(book, *FLAT, at=at(14, 18))
    book, before = watch(book, *FLAT, at=at(day, hour) - HOUR)
    assert interest_of(before) == ()
    book, (interest,) = watch(book, *FLAT, at=at(day, hour))
    assert interest_of([interest])[0].booked_at == at(day, hour) + HOUR
    _, after = watch(book, *FLAT, at=at(day, hour) + HOUR)
    assert after == ()


def test_short_position_has_a_rate_of_its_own() -> None:
    book, _ = filled(quoted(SWAPPED), make_intent(side=Side.SELL, units=100_000, stop="1.20000", target=None))
    book, (interest,) = watch(book, *FLAT, at=at(7, 21))
    assert interest_of([interest])[0].amount == d("5.5")
    assert book.balance == d("10005.5")


def test_interest_is_of_the_last_mid_and_rounded_to_a_hundredth_of_a_cent() -> None:
    book, _ = filled(quoted(SWAPPED), make_intent(stop="1.00000", target=None))
    _, (interest,) = watch(book, 1.10000, 1.12345, 1.10000, 1.12345, at=at(7, 21))
    assert interest_of([interest])[0].amount == d("-1.1234")  # 10,000 × 1.12345 × 3.65 % / 365 = 1.12345, half to even


def test_position_opened_at_the_roll_pays_from_the_next_one_on() -> None:
    book, _ = see(quoted(SWAPPED), *FLAT, at=at(7, 20))
    book, _ = place(book, make_intent(units=100_000, stop="1.00000", target=None, created_at=at(7, 22)))
    book, transactions = watch(book, *FLAT, at=at(7, 22))
    assert interest_of(transactions) == ()
    _, transactions = watch(book, *FLAT, at=at(8, 21))
    assert [each.amount for each in interest_of(transactions)] == [-33]


def test_position_opened_late_after_the_roll_inside_its_candle_pays_nothing() -> None:
    # Four hours from 20:00 UTC, with the roll at 22:00: active at 21:30 the position is held over it, at 22:30 it is not.
    for latency_s, paid in ((5400, [-11]), (9000, [])):
        book, _ = place(quoted(configured(SWAPPED, latency_s=latency_s)), replace(LONG, created_at=at(7, 20)))
        _, transactions = observe(book, "EURUSD", make_candle(*FLAT, open_time=at(7, 20)), at(8, 0))
        assert [each.amount for each in interest_of(transactions)] == paid


def test_position_that_falls_through_its_stop_after_a_gap_has_been_held_over_it() -> None:
    book, _ = filled(quoted(SWAPPED), make_intent(units=100_000, stop="1.09500", target=None))
    book, (interest, stopped) = watch(book, 1.09000, 1.09000, 1.09000, 1.09000, at=at(8, 0))
    assert (interest.sequence, stopped.sequence) == (2, 3)
    assert book.balance == 10_000 - 11 - 1_000


def test_position_that_ends_inside_the_candle_of_the_roll_pays_nothing() -> None:
    book, _ = filled(quoted(SWAPPED), make_intent(units=100_000, stop="1.09500", target=None))
    book, transactions = watch(book, 1.10000, 1.10000, 1.09500, 1.09500, at=at(7, 21))
    assert interest_of(transactions) == ()
    assert book.positions == {}


def test_without_a_rate_there_is_no_interest() -> None:
    book, _ = filled(quoted(configured(SWAPPED, swap_pct_long={"GBPUSD": "-1"})), LONG)
    assert watch(book, *FLAT, at=at(16, 12))[1] == ()


# The spread by the hour in New York: five pips at 17:00, one otherwise

ROLLOVER = configured(spread_pips_by_hour={17: 5})


@pytest.mark.parametrize(("day", "hour"), [(7, 22), (14, 21)])
def test_spread_is_the_one_of_the_hour_in_new_york(day: int, hour: int) -> None:
    book, _ = see(open_book(ROLLOVER), *FLAT, at=at(day, hour) - HOUR)
    assert book.marks["EURUSD"] == Quote(bid=d("1.09950"), ask=d("1.10000"), at=at(day, hour))  # five in New York
    book, _ = see(book, *FLAT, at=at(day, hour))
    assert book.marks["EURUSD"].bid == d("1.09990")  # and six


def test_wide_spread_stops_a_long_position_out() -> None:
    book, _ = see(quoted(ROLLOVER), *FLAT, at=at(7, 20))
    book, _ = place(book, make_intent(stop="1.09960", created_at=at(7, 21)))
    book, (entry,) = see(book, *FLAT, at=at(7, 21))
    assert entry.reason is FillReason.MARKET
    _, (fill,) = see(book, *FLAT, at=at(7, 22))
    assert (fill.price, fill.reason) == (d("1.09948"), FillReason.STOP)  # the open's bid 1.09950 − 0.00002


def test_extremes_of_a_candle_have_the_widest_spread_of_its_hours() -> None:
    # Four hours from 20:00 UTC (15:00 in New York) include the one with five pips; the low's bid is 1.09990 − 0.00050.
    book, _ = filled(quoted(ROLLOVER), make_intent(stop="1.09940"))
    candle = make_candle(1.10000, 1.10000, 1.09990, 1.10000, open_time=at(7, 20))
    for hours, stopped in ((2, False), (4, True)):
        after, _ = observe(book, "EURUSD", candle, candle.open_time + timedelta(hours=hours))
        assert (after.positions == {}) is stopped


def test_late_order_meets_the_widest_spread_until_then() -> None:
    # The hour of 17:00 in New York ends at 23:00 UTC; the order becomes active at 23:15.
    config = configured(ROLLOVER, latency_s=75 * 60)
    book, _ = see(open_book(config), *FLAT, at=at(7, 20))
    book, _ = place(book, make_intent(side=Side.SELL, stop="1.105", target="1.09", created_at=at(7, 22)))
    _, (fill,) = observe(book, "EURUSD", make_candle(*FLAT, open_time=at(7, 22)), at(8, 0))
    assert isinstance(fill, Fill)
    assert (fill.price, fill.filled_at) == (d("1.09948"), datetime(2017, 3, 7, 23, 15, tzinfo=UTC))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"spread_pips_by_hour": {24: 3}}, "found the hour 24; allowed: 0 to 23"),
        ({"spread_pips_by_hour": {-1: 3}}, "found the hour -1; allowed: 0 to 23"),
        ({"spread_pips_by_hour": {17: -1}}, "found -1 pips at 17; allowed: zero or more"),
        ({"swap_pct_long": {"EUR/USD": 1}}, "found the symbol 'EUR/USD'; allowed: six capital letters, as in EURUSD"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        PaperMarketConfig.model_validate(settings)
