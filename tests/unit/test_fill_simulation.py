"""Every fill rule of the paper market on an example worked out by hand; the market is the one of tests/paper_market.py."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fxcast.domain.order import FillReason, OrderIntent, OrderStatus, Side
from fxcast.trading.config import CandleSide
from fxcast.trading.fill_simulation import account, book_from_json, observe, open_orders, order, place
from tests.factories import HOUR, NOON, make_candle, make_intent
from tests.paper_market import FLAT, close_intent, configured, d, filled, quoted, see


def test_buy_fills_at_the_ask_of_the_next_open_plus_slippage() -> None:
    _, (fill,) = filled(quoted(), make_intent())
    assert fill.price == d("1.10002")  # ask 1.10000 + 0.00002
    assert (fill.sequence, fill.side, fill.reason, fill.profit) == (1, Side.BUY, FillReason.MARKET, 0)
    assert fill.filled_at == NOON


def test_sell_fills_at_the_bid_of_the_next_open_minus_slippage() -> None:
    _, (fill,) = filled(quoted(), make_intent(side=Side.SELL, stop="1.10500", target="1.09000"))
    assert fill.price == d("1.09988")  # bid 1.09990 − 0.00002


@pytest.mark.parametrize(("side", "buy", "sell"), [(CandleSide.BID, "1.10012", "1.09998"), (CandleSide.MID, "1.10007", "1.09993")])
def test_the_side_of_the_candles_decides_what_a_price_means(side: CandleSide, buy: str, sell: str) -> None:
    # bid candles: ask 1.10010, bid 1.10000; mid candles: ask 1.10005, bid 1.09995; then 0.00002 of slippage
    config = configured(candle_side=side)
    assert filled(quoted(config), make_intent())[1][0].price == d(buy)
    assert filled(quoted(config), make_intent(side=Side.SELL, stop="1.105", target="1.09"))[1][0].price == d(sell)


def test_order_does_not_fill_in_a_candle_that_opened_before_it_was_placed() -> None:
    book, _ = place(quoted(), make_intent(created_at=NOON + HOUR / 2))
    book, fills = see(book, *FLAT)
    assert fills == ()
    _, fills = see(book, *FLAT, at=NOON + HOUR)
    assert len(fills) == 1


def test_long_stop_fills_at_the_stop_minus_slippage() -> None:
    book, _ = filled(quoted(), make_intent(stop="1.09500"))
    # The bid reaches 1.09500 when the ask is 1.09510.
    untouched, none = see(book, 1.10000, 1.10000, 1.09511, 1.09700, at=NOON + HOUR)
    assert none == ()
    assert "EURUSD" in untouched.positions
    book, (fill,) = see(book, 1.10000, 1.10000, 1.09510, 1.09700, at=NOON + HOUR)
    assert (fill.price, fill.reason, fill.side) == (d("1.09498"), FillReason.STOP, Side.SELL)
    assert fill.profit == d("-50.4")  # (1.09498 − 1.10002) × 10,000
    assert fill.client_order_id == "EURUSD-1-open"
    assert fill.filled_at == NOON + 2 * HOUR  # known at the candle's close
    assert book.balance == d("9949.6")


def test_short_stop_is_watched_on_the_ask() -> None:
    book, _ = filled(quoted(), make_intent(side=Side.SELL, stop="1.10500", target="1.09000"))
    _, none = see(book, 1.10000, 1.10499, 1.10000, 1.10000, at=NOON + HOUR)
    assert none == ()
    _, (fill,) = see(book, 1.10000, 1.10500, 1.10000, 1.10000, at=NOON + HOUR)
    assert (fill.price, fill.reason) == (d("1.10502"), FillReason.STOP)  # 1.10500 + 0.00002
    assert fill.profit == d("-51.4")  # (1.09988 − 1.10502) × 10,000


def test_gap_through_the_stop_fills_at_the_worse_open() -> None:
    book, _ = filled(quoted(), make_intent(stop="1.09500"))
    _, (fill,) = see(book, 1.09000, 1.09900, 1.08900, 1.09800, at=NOON + HOUR)
    assert fill.price == d("1.08988")  # bid 1.08990 − 0.00002, not the stop
    assert (fill.reason, fill.filled_at) == (FillReason.STOP, NOON + HOUR)


def test_gap_through_a_short_stop_fills_at_the_worse_open() -> None:
    book, _ = filled(quoted(), make_intent(side=Side.SELL, stop="1.10500", target="1.09000"))
    _, (fill,) = see(book, 1.11000, 1.11000, 1.10900, 1.10950, at=NOON + HOUR)
    assert fill.price == d("1.11002")  # ask 1.11000 + 0.00002


def test_long_target_fills_at_the_target_without_slippage() -> None:
    book, _ = filled(quoted(), make_intent(target="1.11000"))
    # The bid reaches 1.11000 when the ask is 1.11010.
    _, none = see(book, 1.10000, 1.11009, 1.10000, 1.10500, at=NOON + HOUR)
    assert none == ()
    _, (fill,) = see(book, 1.10000, 1.11010, 1.10000, 1.10500, at=NOON + HOUR)
    assert (fill.price, fill.reason) == (d("1.11000"), FillReason.TARGET)
    assert fill.profit == d("99.8")  # (1.11000 − 1.10002) × 10,000


def test_short_target_is_watched_on_the_ask() -> None:
    book, _ = filled(quoted(), make_intent(side=Side.SELL, stop="1.10500", target="1.09000"))
    _, none = see(book, 1.10000, 1.10000, 1.09001, 1.09500, at=NOON + HOUR)
    assert none == ()
    _, (fill,) = see(book, 1.10000, 1.10000, 1.09000, 1.09500, at=NOON + HOUR)
    assert (fill.price, fill.profit) == (d("1.09000"), d("98.8"))  # (1.09988 − 1.09000) × 10,000


def test_gap_beyond_the_target_is_never_better_than_the_target() -> None:
    book, _ = filled(quoted(), make_intent(target="1.11000"))
    _, (fill,) = see(book, 1.12000, 1.12500, 1.09000, 1.12000, at=NOON + HOUR)
    # The open was beyond the target already, so the later fall to the stop comes too late.
    assert (fill.price, fill.reason, fill.filled_at) == (d("1.11000"), FillReason.TARGET, NOON + HOUR)


def test_candle_that_touches_both_is_resolved_against_the_trader() -> None:
    book, _ = filled(quoted(), make_intent(stop="1.09500", target="1.11000"))
    _, (fill,) = see(book, 1.10000, 1.12000, 1.09000, 1.11500, at=NOON + HOUR)
    assert (fill.reason, fill.price) == (FillReason.STOP, d("1.09498"))


def test_entry_and_stop_can_fill_in_the_same_candle() -> None:
    _, fills = filled(quoted(), make_intent(stop="1.09500"), (1.10000, 1.10100, 1.09400, 1.09600))
    assert [(fill.reason, fill.price, fill.sequence) for fill in fills] == [
        (FillReason.MARKET, d("1.10002"), 1),
        (FillReason.STOP, d("1.09498"), 2),
    ]


def test_entry_and_target_can_fill_in_the_same_candle() -> None:
    book, fills = filled(quoted(), make_intent(target="1.11000"), (1.10000, 1.11100, 1.09900, 1.10000))
    assert [fill.reason for fill in fills] == [FillReason.MARKET, FillReason.TARGET]
    assert book.positions == {}


@pytest.mark.parametrize(
    ("open_", "passed"),
    [(1.09510, "the open 1.09512 has passed the stop 1.09500"), (1.10998, "the open 1.11000 has passed the target 1.11000")],
)
def test_entry_whose_stop_or_target_was_passed_at_the_open_is_cancelled(open_: float, passed: str) -> None:
    book, fills = filled(quoted(), make_intent(stop="1.09500", target="1.11000"), (open_, open_, open_, open_))
    known = order(book, "EURUSD-1-open")
    assert fills == ()
    assert known is not None
    assert (known.status, known.reason) == (OrderStatus.CANCELLED, passed)


def test_close_fills_at_the_next_open_on_the_other_side() -> None:
    book, _ = filled(quoted(), make_intent())
    book, _ = place(book, close_intent(Side.SELL, at=NOON + HOUR))
    book, (fill,) = see(book, 1.10300, 1.12000, 1.09000, 1.10300, at=NOON + HOUR)
    assert fill.price == d("1.10288")  # bid 1.10290 − 0.00002; the stop and target touched later no longer matter
    assert (fill.client_order_id, fill.reason, fill.profit) == ("EURUSD-1-close", FillReason.MARKET, d("28.6"))
    assert book.positions == {}


def test_close_without_a_position_is_rejected() -> None:
    _, answer = place(quoted(), close_intent(Side.SELL, at=NOON))
    assert (answer.status, answer.reason) == (OrderStatus.REJECTED, "there is no position in EURUSD to close")


@pytest.mark.parametrize(
    ("intent", "reason"),
    [
        (make_intent(units=1_500), "1500 units are not a multiple of 1000, or below 1000"),
        (make_intent(units="0.5"), "0.5 units are not a multiple of 1000, or below 1000"),
        # 300,000 × 1.1 / 30 = 11,000 dollars of margin
        (make_intent(units=300_000), "insufficient margin: 11000.00 needed, equity 10000.00"),
        (make_intent(symbol="GBPUSD"), "there is no price of GBPUSD yet"),
        (make_intent(symbol="EURGBP"), "there is no price of EURGBP yet"),
        (make_intent(units=10_001_000), "10001000 units are above 10000000, the most of one order"),
    ],
)
def test_order_is_rejected_with_a_reason(intent: OrderIntent, reason: str) -> None:
    book, answer = place(quoted(), intent)
    assert (answer.status, answer.reason) == (OrderStatus.REJECTED, reason)
    assert open_orders(book) == ()


def test_second_entry_in_a_symbol_is_rejected() -> None:
    book, _ = place(quoted(), make_intent())
    _, answer = place(book, make_intent(client_order_id="EURUSD-2-open"))
    assert answer.reason == "a position in EURUSD is open or being opened"


def test_margin_of_waiting_orders_counts() -> None:
    book, _ = see(quoted(), 1.3, 1.3, 1.3, 1.3, at=NOON - HOUR, symbol="GBPUSD")
    book, _ = place(book, make_intent(units=200_000))  # 7,333 dollars of 10,000
    _, answer = place(book, make_intent(symbol="GBPUSD", units=100_000, client_order_id="GBPUSD-1-open"))  # 4,333 more
    assert answer.status is OrderStatus.REJECTED
    assert "insufficient margin" in answer.reason


def test_the_same_client_order_id_returns_the_first_ones_state() -> None:
    once, first = place(quoted(), make_intent())
    twice, second = place(once, make_intent(units=99_000))
    assert (twice, second) == (once, first)
    book, _ = see(once, *FLAT)
    again, third = place(book, make_intent())
    assert again == book
    assert (third.status, third.broker_order_id) == (OrderStatus.FILLED, first.broker_order_id)


def test_observing_a_candle_twice_changes_nothing() -> None:
    book, _ = filled(quoted(), make_intent())
    again, fills = see(book, 1.0, 1.2, 1.0, 1.1)
    assert again == book
    assert fills == ()


def test_open_profit_is_marked_at_the_side_that_would_close() -> None:
    long, _ = filled(quoted(), make_intent(), (1.10000, 1.10400, 1.10000, 1.10300))
    assert account(long).open_profit == d("28.8")  # (bid 1.10290 − 1.10002) × 10,000
    short, _ = filled(quoted(), make_intent(side=Side.SELL, stop="1.105", target="1.09"), (1.10000, 1.10400, 1.10000, 1.10300))
    assert account(short).open_profit == d("-31.2")  # (1.09988 − ask 1.10300) × 10,000
    assert account(short).equity == d("9968.8")


def test_account_in_the_base_currency_converts_profit_at_the_exit() -> None:
    book = quoted(configured(account_currency="EUR"))
    book, _ = filled(book, make_intent(target="1.11000"))
    _, (fill,) = see(book, 1.10000, 1.11010, 1.10000, 1.10500, at=NOON + HOUR)
    assert fill.profit == d("89.9099")  # 99.8 dollars / 1.11


def test_candles_of_another_symbol_fill_nothing() -> None:
    book, _ = place(quoted(), make_intent())
    _, fills = see(book, 1.3, 1.3, 1.3, 1.3, symbol="GBPUSD")
    assert fills == ()


def test_book_survives_json_exactly() -> None:
    book, _ = filled(quoted(), make_intent())
    book, _ = place(book, close_intent(Side.SELL, at=NOON + HOUR))
    book, _ = place(book, make_intent(units=7, client_order_id="bad"))
    assert book_from_json(book.to_json()) == book


def test_observing_does_not_change_the_book_it_was_given() -> None:
    book, _ = place(quoted(), make_intent())
    before = book.to_json()
    observe(book, "EURUSD", make_candle(*FLAT), NOON + timedelta(hours=1))
    place(book, make_intent(client_order_id="other"))
    assert book.to_json() == before
