"""The paper market: a pure order book that fills orders inside candles, resolved against the trader.

This is the way in; what it is made of lies in `simulation`. A book is a value: every function returns another one.

Rules, in the order in which a candle is worked through:

1. Interest is booked for every 17:00 New York that a position has been held over: a year's rate of the position's worth at the
   last mid, for three days at Wednesday's, none on Saturday and Sunday. What rolled up to the candle's open comes first,
   what rolled inside it (its close included) last, before rule 10; a position that ended inside it pays none of the latter.
2. A market order becomes active `latency_s` after it was made, and fills in the first candle that opens when it was made or
   later and closes after it is active: if it is active by the open, at the open, a buy at the ask plus slippage, a sell at the
   bid minus slippage. Closing orders come before entries. A symbol has one position or one waiting entry.
3. An order that becomes active inside a candle fills at the open moved toward the candle's extreme on the trader's wrong side, by
   the share of the candle that has passed: never better than the open. An entry's position then has the worst
   of the whole candle before it, but no target from it unless the close is beyond. A position that waits to be closed so
   still loses to its stop first, and wins its target first only if the candle opens beyond it.
4. An entry whose stop or target has been passed by its price is cancelled, not filled (OANDA's STOP_LOSS_ON_FILL_LOSS).
5. Of some entries only a part is filled and the rest cancelled, some are rejected (a requote): by a hash of seed and order id.
   An order to close closes what is left of the position that it was made for, and never opens one.
6. A candle that opens beyond a position's stop fills it at the open, worse than the stop, with slippage.
7. A candle that opens at or beyond the target fills it at the target: never better, whatever the gap.
8. A candle that touches the stop fills it at the stop with slippage, also if it touches the target too.
9. A candle that touches only the target fills it at the target, without slippage.
10. If then the equity, at the candle's worst price for the symbol's own position, is at most `margin_closeout_pct` of the
    margin used, everything is closed with slippage: that position at that price, within its stop, the others at their last
    prices. Entries that wait are cancelled. So the balance falls below zero only if a price goes further than the equity
    lasts within one candle or the gap before it.

Long positions are watched and closed on the bid, short ones on the ask. Rules 6 to 9 hold from the candle of the entry on, and
for the stop and target that a position has when the candle is observed: a change of them counts from the next candle.
Margin is checked when an entry is placed: the used one at mids plus the entries' at what they would be filled at. The spread is the
one of the hour in New York; at a candle's extremes, whose hour is unknown, the widest of its hours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from fxcast.domain.candle import Candle
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Quote
from fxcast.domain.order import OrderPurpose, Transaction
from fxcast.domain.portfolio import BrokerPosition
from fxcast.trading.simulation.book import Book, WorkingOrder, book_from_json, open_book, open_orders, order
from fxcast.trading.simulation.costs import account, book_interest, rates
from fxcast.trading.simulation.exits import Reach, close_out, protect
from fxcast.trading.simulation.orders import fill_close, fill_entry, modify, place
from fxcast.trading.simulation.prices import active_at, candle_quotes, late_quote, paper_instrument

__all__ = [
    "Book",
    "account",
    "book_from_json",
    "instruments",
    "modify",
    "observe",
    "open_book",
    "open_orders",
    "order",
    "place",
    "positions",
    "quotes",
    "rates",
]


def instruments(book: Book, symbols: Sequence[str]) -> Mapping[str, Instrument]:
    """Return pip, tick, lot and margin of symbols; the paper market trades every pair."""
    return {symbol: paper_instrument(book.config, symbol) for symbol in symbols}


def quotes(book: Book, symbols: Sequence[str]) -> Mapping[str, Quote]:
    """Return the last price of each symbol that has one."""
    return {symbol: book.marks[symbol] for symbol in symbols if symbol in book.marks}


def positions(book: Book) -> tuple[BrokerPosition, ...]:
    """Return the open positions as a broker shows them."""
    return tuple(
        BrokerPosition(
            client_order_id=each.client_order_id,
            symbol=each.symbol,
            side=each.side,
            units=each.units,
            entry_price=each.entry_price,
            stop=each.stop,
            target=each.target,
            opened_at=each.opened_at,
        )
        for each in book.positions.values()
    )


def observe(book: Book, symbol: str, candle: Candle, closed_at: datetime) -> tuple[Book, tuple[Transaction, ...]]:
    """Work a closed candle through the book; one that was observed before changes nothing."""
    mark = book.marks.get(symbol)
    if mark is not None and closed_at <= mark.at:
        return book, ()
    transactions: list[Transaction] = []
    quoted = candle_quotes(book.config, symbol, candle, closed_at)
    if mark is not None:
        book = book_interest(book, symbol, after=mark.at, until=candle.open_time, transactions=transactions)
    due = [each for each in book.working.values() if _is_due(book, each, symbol, candle, closed_at)]
    entries = [each for each in due if each.intent.purpose is OrderPurpose.OPEN]
    closes = [each for each in due if each.intent.purpose is OrderPurpose.CLOSE]
    late_closes = [each for each in closes if _is_late(book, each, candle)]
    prompt_closes = [each for each in closes if not _is_late(book, each, candle)]

    def met(working: WorkingOrder) -> Quote:
        if not _is_late(book, working, candle):
            return quoted.open
        intent, at = working.intent, active_at(book.config, working.intent.created_at)
        return late_quote(book.config, symbol, candle, closed_at, side=intent.side, at=at)

    for working in prompt_closes:
        book = fill_close(book, working, met(working), transactions)
    if late_closes and symbol in book.positions:
        book = protect(book, book.positions[symbol], quoted, Reach.OPEN, transactions)
    for working in late_closes:
        book = fill_close(book, working, met(working), transactions)
    for working in entries:
        book = fill_entry(book, working, met(working), transactions)
    if symbol in book.positions:
        position = book.positions[symbol]
        reach = Reach.CLOSE if position.opened_at > candle.open_time else Reach.WHOLE
        book = protect(book, position, quoted, reach, transactions)
    since = candle.open_time if mark is None else max(mark.at, candle.open_time)
    book = replace(book, marks={**book.marks, symbol: quoted.close})
    book = book_interest(book, symbol, after=since, until=closed_at, transactions=transactions)
    return close_out(book, quoted, transactions), tuple(transactions)


def _is_due(book: Book, working: WorkingOrder, symbol: str, candle: Candle, closed_at: datetime) -> bool:
    """Tell whether an order is filled in a candle."""
    intent = working.intent
    return (
        intent.symbol == symbol and intent.created_at <= candle.open_time and active_at(book.config, intent.created_at) < closed_at
    )


def _is_late(book: Book, working: WorkingOrder, candle: Candle) -> bool:
    """Tell whether an order becomes active only after a candle's open."""
    return active_at(book.config, working.intent.created_at) > candle.open_time
