"""Orders of the paper market that are late, filled in part or rejected, and changes of protection; worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from fxcast.domain.order import FillReason, OrderStatus, Side
from fxcast.trading.fill_simulation import Book, book_from_json, modify, open_orders, order, place, positions
from tests.factories import HOUR, NOON, make_intent
from tests.paper_market import FLAT, change, close_intent, configured, d, filled, quoted, see, taken

QUARTER = timedelta(minutes=15)
SLOW = configured(latency_s=900)


def held(units: int = 10_000) -> Book:
    """A book with a long position that was opened at noon, in a market without latency."""
    return filled(quoted(), make_intent(units=units))[0]


def slowed(book: Book) -> Book:
    """The same account in a market with a latency of a quarter of an hour."""
    return replace(book, config=SLOW)


# Latency


def test_late_buy_fills_at_the_open_moved_toward_the_high_by_the_share_that_has_passed() -> None:
    # A quarter of the candle has passed: 1.10000 + (1.10400 − 1.10000) / 4 = 1.10100, and 0.00002 of slippage.
    book, (fill,) = filled(quoted(SLOW), make_intent(), (1.10000, 1.10400, 1.09800, 1.10200))
    assert (fill.price, fill.filled_at) == (d("1.10102"), NOON + QUARTER)
    assert book.positions["EURUSD"].opened_at == NOON + QUARTER


def test_late_sell_fills_at_the_open_moved_toward_the_low() -> None:
    # ask 1.10000 − (1.10000 − 1.09800) / 4 = 1.09950, bid 1.09940, and 0.00002 of slippage.
    intent = make_intent(side=Side.SELL, stop="1.10500", target="1.09000")
    _, (fill,) = filled(quoted(SLOW), intent, (1.10000, 1.10400, 1.09800, 1.10200))
    assert fill.price == d("1.09938")


def test_late_price_is_rounded_against_the_trader() -> None:
    # 1.10000 + 0.00001 / 4 = 1.1000025, up to the next tick 1.10001
    _, (fill,) = filled(quoted(SLOW), make_intent(), (1.10000, 1.10001, 1.10000, 1.10000))
    assert fill.price == d("1.10003")


def test_order_that_is_active_by_the_open_fills_there() -> None:
    # Half past eleven and a quarter of an hour are before the open.
    _, (fill,) = filled(quoted(SLOW), make_intent(created_at=NOON - HOUR / 2), (1.10000, 1.10400, 1.09800, 1.10200))
    assert (fill.price, fill.filled_at) == (d("1.10002"), NOON)


def test_order_waits_for_the_candle_in_which_it_becomes_active() -> None:
    book = taken(quoted(configured(latency_s=3600)), make_intent())
    book, none = see(book, 1.10000, 1.10400, 1.09800, 1.10000)  # closes the moment that the order becomes active
    assert none == ()
    _, (fill,) = see(book, 1.10000, 1.10400, 1.09800, 1.10200, at=NOON + HOUR)
    assert (fill.price, fill.filled_at) == (d("1.10002"), NOON + HOUR)


def test_position_opened_late_gets_no_target_from_before_it() -> None:
    # The high of 1.10410 is beyond the target's ask 1.10310, but may have been before the entry.
    book, fills = filled(quoted(SLOW), make_intent(target="1.10300"), (1.10000, 1.10410, 1.09800, 1.10309))
    assert [fill.reason for fill in fills] == [FillReason.MARKET]
    assert "EURUSD" in book.positions
    # A close beyond the target was certainly after it.
    _, fills = filled(quoted(SLOW), make_intent(target="1.10300"), (1.10000, 1.10410, 1.09800, 1.10310))
    assert [(fill.reason, fill.price, fill.filled_at) for fill in fills[1:]] == [(FillReason.TARGET, d("1.10300"), NOON + HOUR)]


def test_position_opened_late_can_lose_to_a_low_from_before_it() -> None:
    _, fills = filled(quoted(SLOW), make_intent(stop="1.09500"), (1.10000, 1.10400, 1.09510, 1.10200))
    assert [(fill.reason, fill.price) for fill in fills] == [(FillReason.MARKET, d("1.10102")), (FillReason.STOP, d("1.09498"))]


def test_position_opened_late_does_not_fall_through_a_stop_at_an_open_that_it_never_saw() -> None:
    # The open's bid 1.09490 is below the stop; the entry at 1.09500 + 0.00400 / 4 is not. The stop fills at its price.
    _, fills = filled(quoted(SLOW), make_intent(stop="1.09495"), (1.09500, 1.09900, 1.09500, 1.09900))
    assert [(fill.reason, fill.price) for fill in fills] == [(FillReason.MARKET, d("1.09602")), (FillReason.STOP, d("1.09493"))]


def test_late_close_fills_at_the_open_moved_toward_the_low() -> None:
    book = taken(slowed(held()), close_intent(Side.SELL, at=NOON + HOUR))
    # ask 1.10000 − 0.00200 / 4 = 1.09950, bid 1.09940, slippage 0.00002; the target's touch may have come later.
    book, (fill,) = see(book, 1.10000, 1.11500, 1.09800, 1.11200, at=NOON + HOUR)
    assert (fill.price, fill.reason, fill.filled_at) == (d("1.09938"), FillReason.MARKET, NOON + HOUR + QUARTER)
    assert fill.profit == d("-6.4")  # (1.09938 − 1.10002) × 10,000
    assert book.positions == {}


def test_stop_is_faster_than_a_late_close() -> None:
    book = taken(slowed(held()), close_intent(Side.SELL, at=NOON + HOUR))
    book, (fill,) = see(book, 1.10000, 1.10000, 1.09500, 1.09800, at=NOON + HOUR)
    assert (fill.reason, fill.price) == (FillReason.STOP, d("1.09498"))
    late = order(book, "EURUSD-1-close")
    assert late is not None
    assert (late.status, late.reason) == (OrderStatus.CANCELLED, "there is no position in EURUSD to close")


def test_target_beyond_which_the_candle_opens_is_faster_than_a_late_close() -> None:
    book = taken(slowed(held()), close_intent(Side.SELL, at=NOON + HOUR))
    _, (fill,) = see(book, 1.12000, 1.12000, 1.09900, 1.10000, at=NOON + HOUR)
    assert (fill.reason, fill.price) == (FillReason.TARGET, d("1.11000"))


# Partial fills and rejections: seed 0 draws 0.547 for a partial fill of EURUSD-1-open and a share of 70.2 %


def test_part_of_an_entry_is_filled_and_the_rest_cancelled() -> None:
    book, (fill,) = filled(quoted(configured(partial_fill_probability=0.55)), make_intent())
    known = order(book, "EURUSD-1-open")
    assert fill.units == 7_000  # 70.2 % of 10,000, down to the lot
    assert known is not None
    assert (known.status, known.filled_units) == (OrderStatus.CANCELLED, 7_000)
    assert known.reason == "only 7000 of 10000 units were filled"
    (position,) = positions(book)
    assert (position.units, position.stop, position.target) == (7_000, d("1.09500"), d("1.11000"))


def test_entry_of_better_luck_is_filled_whole() -> None:
    book, (fill,) = filled(quoted(configured(partial_fill_probability=0.54)), make_intent())
    known = order(book, "EURUSD-1-open")
    assert known is not None
    assert (fill.units, known.status, known.filled_units) == (10_000, OrderStatus.FILLED, 10_000)


def test_part_below_the_smallest_size_is_the_whole() -> None:
    _, (fill,) = filled(quoted(configured(partial_fill_probability=0.55)), make_intent(units=1_000))
    assert fill.units == 1_000


def test_close_is_never_filled_in_part() -> None:
    config = configured(partial_fill_probability=0.55)
    book = taken(replace(held(), config=config), close_intent(Side.SELL, at=NOON + HOUR, client_order_id="EURUSD-2-open"))
    book, (fill,) = see(book, *FLAT, at=NOON + HOUR)
    assert (fill.units, book.positions) == (10_000, {})


def test_rejection_follows_from_seed_and_order_alone() -> None:
    # Seed 0 draws 0.435 for EURUSD-1-open, and 0.936 for EURUSD-2-open; seed 3 draws 0.743 for the first.
    config = configured(rejection_probability=0.5)
    book, answer = place(quoted(config), make_intent())
    assert (answer.status, answer.reason) == (OrderStatus.REJECTED, "rejected by the paper market (requote)")
    assert open_orders(book) == ()
    again, same = place(book_from_json(book.to_json()), make_intent())
    assert (again, same) == (book, answer)
    assert place(book, make_intent(client_order_id="EURUSD-2-open"))[1].status is OrderStatus.ACCEPTED
    assert place(quoted(configured(config, seed=3)), make_intent())[1].status is OrderStatus.ACCEPTED


def test_share_of_rejected_entries_is_the_one_configured() -> None:
    book = quoted(configured(rejection_probability=0.2))
    answers = [place(book, make_intent(client_order_id=f"order-{number}"))[1].status for number in range(2_000)]
    # Three standard deviations of a binomial of 2,000 at 0.2 are 54.
    assert abs(answers.count(OrderStatus.REJECTED) - 400) < 54


# Closing a part


def test_part_of_a_position_is_closed_and_the_rest_keeps_its_protection() -> None:
    book = taken(held(), close_intent(Side.SELL, at=NOON + HOUR, units=4_000))
    book, (fill,) = see(book, 1.10300, 1.10300, 1.10300, 1.10300, at=NOON + HOUR)
    assert (fill.units, fill.price, fill.profit) == (4_000, d("1.10288"), d("11.44"))  # 0.00286 × 4,000
    (position,) = positions(book)
    assert (position.units, position.entry_price, position.stop) == (6_000, d("1.10002"), d("1.09500"))
    book, (fill,) = see(book, 1.10000, 1.10000, 1.09500, 1.09800, at=NOON + 2 * HOUR)
    assert (fill.units, fill.profit, book.balance) == (6_000, d("-30.24"), d("9981.2"))  # −0.00504 × 6,000; 11.44 − 30.24


def test_rest_of_a_late_partial_close_can_reach_its_target_in_the_same_candle() -> None:
    book = taken(slowed(held()), close_intent(Side.SELL, at=NOON + HOUR, units=4_000))
    _, fills = see(book, 1.10000, 1.11010, 1.10000, 1.10500, at=NOON + HOUR)
    assert [(fill.reason, fill.units) for fill in fills] == [(FillReason.MARKET, 4_000), (FillReason.TARGET, 6_000)]


@pytest.mark.parametrize(
    ("units", "reason"),
    [
        (11_000, "11000 units are more than the position's 10000"),
        (2_500, "2500 units are not a multiple of 1000, or below 1000"),
    ],
)
def test_close_of_an_impossible_size_is_rejected(units: int, reason: str) -> None:
    _, answer = place(held(), close_intent(Side.SELL, at=NOON + HOUR, units=units))
    assert (answer.status, answer.reason) == (OrderStatus.REJECTED, reason)


def test_close_on_the_side_of_the_position_is_rejected() -> None:
    _, answer = place(held(), close_intent(Side.BUY, at=NOON + HOUR))
    assert answer.reason == "there is no position in EURUSD to close"


def test_two_closes_together_never_open_a_position_the_other_way() -> None:
    book = taken(held(), close_intent(Side.SELL, at=NOON + HOUR, units=6_000, client_order_id="first"))
    book = taken(book, close_intent(Side.SELL, at=NOON + HOUR, units=6_000, client_order_id="second"))
    book, fills = see(book, *FLAT, at=NOON + HOUR)
    assert [(fill.client_order_id, fill.units) for fill in fills] == [("first", 6_000), ("second", 4_000)]
    second = order(book, "second")
    assert book.positions == {}
    assert second is not None
    assert (second.status, second.filled_units) == (OrderStatus.CANCELLED, 4_000)
    assert second.reason == "only 4000 of 6000 units were left to close"


def test_close_that_waits_does_not_touch_the_position_after_the_one_it_was_made_for() -> None:
    book = replace(held(), config=configured(latency_s=2 * 3600))
    book = taken(book, close_intent(Side.SELL, at=NOON + HOUR))
    book, (stopped,) = see(book, 1.10000, 1.10000, 1.09500, 1.10000, at=NOON + HOUR)
    assert stopped.reason is FillReason.STOP
    # Made earlier than the close, so that it is filled in the candle in which the close becomes active too.
    book = taken(book, make_intent(client_order_id="EURUSD-2-open"))
    book, (fill,) = see(book, *FLAT, at=NOON + 2 * HOUR)
    assert fill.client_order_id == "EURUSD-2-open"
    book, none = see(book, *FLAT, at=NOON + 3 * HOUR)
    assert none == ()
    assert book.positions["EURUSD"].client_order_id == "EURUSD-2-open"
    assert open_orders(book) == ()


# Changes of protection


def test_changed_stop_counts_from_the_next_candle() -> None:
    book, _ = see(held(), 1.10000, 1.10400, 1.09900, 1.10400, at=NOON + HOUR)  # its low would have hit the new stop
    book, answer = modify(book, change("1.10100", "1.10800"))
    assert answer.accepted
    book, (fill,) = see(book, 1.10400, 1.10400, 1.10110, 1.10200, at=NOON + 2 * HOUR)
    assert (fill.reason, fill.price) == (FillReason.STOP, d("1.10098"))


def test_target_can_be_taken_away_and_a_stop_loosened() -> None:
    book, answer = modify(held(), change("1.09000", None))
    assert answer.accepted
    (position,) = positions(book)
    assert (position.stop, position.target) == (d("1.09000"), None)


@pytest.mark.parametrize(
    ("stop", "target", "reason"),
    [
        ("1.09990", "1.11000", "the price 1.09990 has passed the stop 1.09990"),  # the bid that a long one is closed at
        ("1.12000", "1.13000", "the price 1.09990 has passed the stop 1.12000"),
        ("1.09500", "1.09990", "the price 1.09990 has passed the target 1.09990"),
    ],
)
def test_change_to_the_wrong_side_of_the_price_is_refused_and_changes_nothing(stop: str, target: str, reason: str) -> None:
    book = held()
    after, answer = modify(book, change(stop, target))
    assert (answer.accepted, answer.reason) == (False, reason)
    assert after == book


def test_short_position_is_protected_above_the_ask() -> None:
    book, _ = filled(quoted(), make_intent(side=Side.SELL, stop="1.10500", target="1.09000"))
    assert modify(book, change("1.10000", "1.09000"))[1].reason == "the price 1.10000 has passed the stop 1.10000"
    assert modify(book, change("1.10001", "1.09000"))[1].accepted


def test_stop_nearer_than_the_least_distance_is_refused() -> None:
    config = configured(min_stop_pips=5)
    book = replace(held(), config=config)
    _, answer = modify(book, change("1.09941"))
    assert answer.reason == "the stop 1.09941 is nearer than 0.00050 to the price 1.09990"
    assert modify(book, change("1.09940"))[1].accepted
    entry, fills = filled(quoted(config), make_intent(stop="1.09941"))
    refused = order(entry, "EURUSD-1-open")
    assert fills == ()
    assert refused is not None
    assert (refused.status, refused.reason) == (OrderStatus.CANCELLED, answer.reason)


def test_change_of_a_position_that_is_gone_is_refused() -> None:
    book, _ = see(held(), 1.09000, 1.09000, 1.09000, 1.09000, at=NOON + HOUR)
    assert modify(book, change("1.08000"))[1].reason == "order EURUSD-1-open has no open position in EURUSD"
    assert not modify(held(), change("1.09600", client_order_id="EURUSD-0-open"))[1].accepted


def test_the_same_change_again_is_accepted_although_the_price_would_refuse_it_by_now() -> None:
    book, _ = modify(held(), change("1.09980"))
    # The next hour's spread of 3 pips puts the closing price on the stop, without a candle that touched it.
    wide = configured(spread_pips_by_hour={9: 3})  # 14:00 UTC in winter
    book, none = see(replace(book, config=wide), *FLAT, at=NOON + HOUR)
    assert none == ()
    assert modify(book, change("1.09979"))[1].reason == "the price 1.09970 has passed the stop 1.09979"
    assert modify(book, change("1.09980")) == (book, modify(held(), change("1.09980"))[1])
