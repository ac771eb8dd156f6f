"""Margin of the paper account, and the close-out when it is gone; every figure is worked out by hand."""

from __future__ import annotations

from fxcast.domain.order import FillReason, OrderStatus, Side
from fxcast.trading.fill_simulation import Book, account, open_orders, order, place
from tests.factories import HOUR, NOON, make_intent
from tests.paper_market import CONFIG, FLAT, configured, d, filled, quoted, see, taken

# 200,000 euros against 10,000 dollars: bought at 1.10002.
LARGE = make_intent(units=200_000, stop="1.00000", target=None)


def held() -> Book:
    return filled(quoted(), LARGE)[0]


def test_margin_used_is_the_worth_at_the_mid_over_the_leverage() -> None:
    now = account(held())
    assert now.margin_used == 7_333  # 200,000 × 1.09995 / 30
    assert now.equity == 9_976  # the bid is 0.00012 below the entry
    assert now.free_margin == 2_643


def test_entry_needs_free_margin() -> None:
    book = see(held(), 1.3, 1.3, 1.3, 1.3, at=NOON, symbol="GBPUSD")[0]
    # 60,000 pounds at 1.30 are 2,600 dollars of margin, 61,000 are 2,643.33.
    small = make_intent(symbol="GBPUSD", units=60_000, stop="1.2", client_order_id="small", created_at=NOON + HOUR)
    assert place(book, small)[1].status is OrderStatus.ACCEPTED
    large = make_intent(symbol="GBPUSD", units=61_000, stop="1.2", client_order_id="large", created_at=NOON + HOUR)
    assert place(book, large)[1].reason == "insufficient margin: 9976.33 needed, equity 9976.00"


def test_position_lasts_until_equity_is_half_of_the_margin_used() -> None:
    # The close's mid 1.06995 gives a margin of 7,133.00, half of it 3,566.50. A low of 1.06795 leaves an equity of
    # 10,000 − (1.10002 − 1.06785) × 200,000 = 3,566.00; one tick more is two dollars more.
    book, none = see(held(), 1.10000, 1.10000, 1.06796, 1.07000, at=NOON + HOUR)
    assert none == ()
    assert account(book).equity == 3_976
    book, (fill,) = see(held(), 1.10000, 1.10000, 1.06795, 1.07000, at=NOON + HOUR)
    assert (fill.reason, fill.price, fill.units) == (FillReason.MARGIN_CLOSEOUT, d("1.06783"), 200_000)  # 1.06785 − 0.00002
    assert (fill.side, fill.client_order_id, fill.filled_at) == (Side.SELL, "EURUSD-1-open", NOON + 2 * HOUR)
    assert (book.positions, book.balance) == ({}, 3_562)
    assert account(book).margin_used == 0


def test_stop_is_filled_before_the_margin_is_gone() -> None:
    book, _ = filled(quoted(), make_intent(units=200_000, stop="1.08000", target=None))
    _, (fill,) = see(book, 1.10000, 1.10000, 1.06000, 1.07000, at=NOON + HOUR)
    assert (fill.reason, fill.price) == (FillReason.STOP, d("1.07998"))


def test_everything_is_closed_at_its_last_price_and_waiting_entries_are_cancelled() -> None:
    # 20,000 pounds sold at 1.29988; GBP/USD ends at an ask of 1.30100. The margin is then 8,000.03 dollars.
    book = see(held(), 1.3, 1.3, 1.3, 1.3, at=NOON, symbol="GBPUSD")[0]
    pounds = make_intent(
        symbol="GBPUSD", side=Side.SELL, units=20_000, stop="1.4", target=None, client_order_id="GBP", created_at=NOON + HOUR
    )
    book, _ = see(taken(book, pounds), 1.3, 1.301, 1.3, 1.301, at=NOON + HOUR, symbol="GBPUSD")
    book = see(book, 0.7, 0.7, 0.7, 0.7, at=NOON, symbol="AUDUSD")[0]
    waits = make_intent(symbol="AUDUSD", units=1_000, stop="0.6", target=None, client_order_id="AUD", created_at=NOON + HOUR)
    book, fills = see(taken(book, waits), 1.10000, 1.10000, 1.06900, 1.07000, at=NOON + HOUR)
    assert [(each.symbol, each.reason, each.price) for each in fills] == [
        ("EURUSD", FillReason.MARGIN_CLOSEOUT, d("1.06888")),
        ("GBPUSD", FillReason.MARGIN_CLOSEOUT, d("1.30102")),
    ]
    assert book.balance == 10_000 - d("6228") - d("22.8")
    cancelled = order(book, "AUD")
    assert open_orders(book) == ()
    assert cancelled is not None
    assert (cancelled.status, cancelled.reason) == (OrderStatus.CANCELLED, "everything was closed for lack of margin")


def test_price_of_another_symbol_can_take_the_margin_away() -> None:
    # The loss is in dollars and the account in pounds: a cheaper pound makes it a larger one, and the margin too.
    config = configured(account_currency="GBP", candle_side="mid", spread_pips=0, slippage_pips=0)
    book = see(quoted(config), 1.1, 1.1, 1.1, 1.1, at=NOON - HOUR, symbol="GBPUSD")[0]
    book, _ = filled(book, make_intent(units=200_000, stop="1.00000", target=None))
    book, none = see(book, 1.1, 1.1, 1.07, 1.07, at=NOON + HOUR)  # 6,000 dollars lost, 5,454.5455 pounds
    assert none == ()
    book, (fill,) = see(book, 0.9, 0.9, 0.9, 0.9, at=NOON + HOUR, symbol="GBPUSD")  # now 6,666.6667 pounds
    # The margin is 200,000 × 1.07 / 0.9 / 30 = 7,925.93 pounds; half of it is more than the 3,333.33 that are left.
    assert (fill.symbol, fill.reason, fill.price) == ("EURUSD", FillReason.MARGIN_CLOSEOUT, d("1.07000"))
    assert book.balance == d("3333.3333")


def test_close_out_can_be_switched_off() -> None:
    book, none = see(
        filled(quoted(configured(margin_closeout_pct=0)), LARGE)[0], 1.10000, 1.10000, 1.04000, 1.04000, at=NOON + HOUR
    )
    assert none == ()
    assert account(book).equity < 0


def test_gap_can_take_the_balance_below_zero() -> None:
    book, (fill,) = see(held(), 1.04000, 1.04000, 1.04000, 1.04000, at=NOON + HOUR)
    assert fill.reason is FillReason.MARGIN_CLOSEOUT
    assert book.balance == 10_000 - d("12028")  # (1.10002 − 1.03988) × 200,000


def test_closeout_fill_pays_commission_and_is_not_better_than_the_mark() -> None:
    # At five in New York the spread is 50 pips: the closing price is worse than anything inside the candle.
    config = configured(CONFIG, spread_pips_by_hour={9: 50}, commission_per_million=10)
    book, (entry,) = filled(quoted(config), LARGE)
    assert entry.commission == d("2.2000")  # 220,004 dollars
    book, (fill,) = see(book, 1.10000, 1.10000, 1.07000, 1.07000, at=NOON + HOUR)  # closes at 14:00 UTC, 9:00 in New York
    assert fill.price == d("1.06498")  # 1.07000 − 0.00500 − 0.00002
    assert fill.commission == d("2.1300")  # 212,996 dollars
    assert book.balance == 10_000 - d("2.2") - d("7008") - d("2.13")


def test_closeout_is_never_beyond_the_stop_that_would_have_been_filled() -> None:
    # The same spread of 50 pips puts the closing price 1.06500 below a stop that the candle has not touched.
    config = configured(spread_pips_by_hour={9: 50})
    book, _ = filled(quoted(config), make_intent(units=200_000, stop="1.06750", target=None))
    book, (fill,) = see(book, 1.10000, 1.10000, 1.07000, 1.07000, at=NOON + HOUR)
    assert (fill.reason, fill.price) == (FillReason.MARGIN_CLOSEOUT, d("1.06748"))


def test_flat_account_is_left_alone() -> None:
    assert see(quoted(), *FLAT)[1] == ()
