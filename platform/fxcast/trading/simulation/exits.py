"""How positions end without being asked to: stop, target and margin close-out; resolved against the trader."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from enum import Enum, auto

from fxcast.domain.order import Fill, FillReason, OrderPurpose, OrderStatus, Transaction
from fxcast.domain.portfolio import Position
from fxcast.trading.simulation.book import Book, settle, without
from fxcast.trading.simulation.costs import commission, margin_used, profit
from fxcast.trading.simulation.prices import CandleQuotes, slippage


class Reach(Enum):
    """How much of a candle may bring a target, where a position lived in a part of it that is not known price by price."""

    WHOLE = auto()
    OPEN = auto()  # a late order closes the position: whether the target came before it is unknown
    CLOSE = auto()  # a late order opened the position: the best price may have been before it


def protect(book: Book, position: Position, candle: CandleQuotes, reach: Reach, transactions: list[Transaction]) -> Book:
    """Fill a position's stop or target. Prices times the side's sign make a short position read like a long one."""
    side, sign = position.side, position.side.sign
    worst = sign * candle.worst(side)
    match reach:
        case Reach.WHOLE:
            best = sign * candle.best(side)
        case Reach.OPEN:
            best = sign * candle.open.closing(side)
        case Reach.CLOSE:
            best = sign * candle.close.closing(side)
    # One that was opened inside the candle has not seen the open; its entry lies between stop and target.
    opening = sign * (position.entry_price if reach is Reach.CLOSE else candle.open.closing(side))
    stop, target = sign * position.stop, None if position.target is None else sign * position.target
    gapped = opening <= stop
    if gapped or (worst <= stop and (target is None or opening < target)):
        price = sign * (min(opening, stop) - slippage(book.config, position.symbol))
        at = candle.opened_at if gapped else candle.closed_at
        return _end(book, position, price, FillReason.STOP, at, transactions)
    if position.target is not None and target is not None and best >= target:
        at = candle.opened_at if opening >= target else candle.closed_at
        return _end(book, position, position.target, FillReason.TARGET, at, transactions)
    return book


def close_out(book: Book, candle: CandleQuotes, transactions: list[Transaction]) -> Book:
    """Close everything if the equity has fallen to its share of the margin used; entries that wait are cancelled.

    The position in the candle's symbol counts, and is closed, at the worst price of the candle (or its close, whose spread may
    be wider), but never beyond its stop, which would have been filled; the others at their last closing prices.
    """
    share = book.config.margin_closeout_pct / 100
    if not share or not book.positions:
        return book
    prices = {position.symbol: _price_now(book, position, candle) for position in book.positions.values()}
    open_profit = sum((profit(book, each, prices[each.symbol]) for each in book.positions.values()), Decimal(0))
    if book.balance + open_profit > margin_used(book) * share:
        return book
    for position in book.positions.values():
        price = prices[position.symbol] - position.side.sign * slippage(book.config, position.symbol)
        book = _end(book, position, price, FillReason.MARGIN_CLOSEOUT, candle.closed_at, transactions)
    for working in book.working.values():
        if working.intent.purpose is OrderPurpose.OPEN:
            book = settle(book, working, OrderStatus.CANCELLED, "everything was closed for lack of margin")[0]
    return book


def exit_position(
    book: Book,
    position: Position,
    price: Decimal,
    *,
    units: Decimal,
    client_order_id: str,
    reason: FillReason,
    at: datetime,
    transactions: list[Transaction],
) -> Book:
    """Close a position, or a part of it, and book its profit and commission."""
    fill = Fill(
        sequence=book.sequence + 1,
        client_order_id=client_order_id,
        symbol=position.symbol,
        side=position.side.opposite,
        units=units,
        price=price,
        reason=reason,
        profit=profit(book, replace(position, units=units), price),
        filled_at=at,
        commission=commission(book, position.symbol, units, price),
    )
    transactions.append(fill)
    left = without(book.positions, position.symbol)
    if units < position.units:
        left = {**book.positions, position.symbol: replace(position, units=position.units - units)}
    return replace(book, sequence=fill.sequence, balance=book.balance + fill.profit - fill.commission, positions=left)


def _end(book: Book, position: Position, price: Decimal, reason: FillReason, at: datetime, transactions: list[Transaction]) -> Book:
    return exit_position(
        book,
        position,
        price,
        units=position.units,
        client_order_id=position.client_order_id,
        reason=reason,
        at=at,
        transactions=transactions,
    )


def _price_now(book: Book, position: Position, candle: CandleQuotes) -> Decimal:
    """Return the price that a position is closed at when the margin is gone, without slippage."""
    sign, marked = position.side.sign, book.marks[position.symbol].closing(position.side)
    if position.symbol != candle.symbol:
        return marked
    return sign * max(sign * position.stop, min(sign * candle.worst(position.side), sign * marked))
