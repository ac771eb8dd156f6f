"""Orders of the paper market: taken or rejected, filled whole or in part, and changes of a position's protection."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from hashlib import sha256

from fxcast.domain.instrument import default_instrument
from fxcast.domain.money import Quote, missing_rates
from fxcast.domain.order import (
    BrokerOrder,
    ChangeAnswer,
    Fill,
    FillReason,
    OrderIntent,
    OrderPurpose,
    OrderStatus,
    ProtectionChange,
    Transaction,
)
from fxcast.domain.portfolio import Position
from fxcast.trading.config import PaperMarketConfig
from fxcast.trading.simulation.book import Book, WorkingOrder, accepted, order, settle
from fxcast.trading.simulation.costs import account, commission, margin_used, worth
from fxcast.trading.simulation.exits import exit_position
from fxcast.trading.simulation.prices import paper_instrument, slipped

_HASH_RANGE = 2**64


def place(book: Book, intent: OrderIntent) -> tuple[Book, BrokerOrder]:
    """Take an order, or reject it with a reason; the same client_order_id again returns the first one's state."""
    known = order(book, intent.client_order_id)
    if known is not None:
        return book, known
    closing = intent.purpose is OrderPurpose.CLOSE
    held = book.positions.get(intent.symbol)
    working = WorkingOrder(
        intent=intent,
        broker_order_id=f"paper-{book.orders_taken + 1}",
        closes=held.client_order_id if closing and held is not None else "",
    )
    book = replace(book, orders_taken=book.orders_taken + 1)
    problem = _close_problem(book, intent) if closing else _entry_problem(book, intent) or _bad_luck(book.config, intent)
    if problem:
        return settle(book, working, OrderStatus.REJECTED, problem)
    return replace(book, working={**book.working, intent.client_order_id: working}), accepted(working)


def modify(book: Book, change: ProtectionChange) -> tuple[Book, ChangeAnswer]:
    """Set stop and target of an open position, or say why not; what it has already is accepted wherever the price is."""
    position = book.positions.get(change.symbol)
    if position is None or position.client_order_id != change.client_order_id:
        return book, ChangeAnswer(accepted=False, reason=f"order {change.client_order_id} has no open position in {change.symbol}")
    changed = replace(position, stop=change.stop, target=change.target)
    if changed == position:
        return book, ChangeAnswer(accepted=True)
    problem = _protection_problem(book, changed, book.marks[change.symbol].closing(position.side))
    if problem:
        return book, ChangeAnswer(accepted=False, reason=problem)
    return replace(book, positions={**book.positions, change.symbol: changed}), ChangeAnswer(accepted=True)


def fill_close(book: Book, working: WorkingOrder, quote: Quote, transactions: list[Transaction]) -> Book:
    """Close what is left of the position that an order was to close, at most its units."""
    intent, position = working.intent, book.positions.get(working.intent.symbol)
    if position is None or position.client_order_id != working.closes:  # the stop was faster
        return settle(book, working, OrderStatus.CANCELLED, _nothing_to_close(intent))[0]
    units = min(intent.units, position.units)
    if units < intent.units:
        reason = f"only {units} of {intent.units} units were left to close"
        book = settle(book, working, OrderStatus.CANCELLED, reason, filled_units=units)[0]
    else:
        book = settle(book, working, OrderStatus.FILLED, filled_units=units)[0]
    return exit_position(
        book,
        position,
        slipped(book.config, intent.symbol, intent.side, quote),
        units=units,
        client_order_id=intent.client_order_id,
        reason=FillReason.MARKET,
        at=quote.at,
        transactions=transactions,
    )


def fill_entry(book: Book, working: WorkingOrder, quote: Quote, transactions: list[Transaction]) -> Book:
    """Open a position, whole or in part, unless its stop or target has been passed."""
    intent = working.intent
    price = slipped(book.config, intent.symbol, intent.side, quote)
    position = _opened(intent, price, quote.at)
    problem = _passed(position, quote) or _too_near(book, position, quote.closing(intent.side))
    if problem:
        return settle(book, working, OrderStatus.CANCELLED, problem)[0]
    units = _filled_units(book.config, intent)
    if units < intent.units:
        reason = f"only {units} of {intent.units} units were filled"
        book = settle(book, working, OrderStatus.CANCELLED, reason, filled_units=units)[0]
    else:
        book = settle(book, working, OrderStatus.FILLED, filled_units=units)[0]
    fill = Fill(
        sequence=book.sequence + 1,
        client_order_id=intent.client_order_id,
        symbol=intent.symbol,
        side=intent.side,
        units=units,
        price=price,
        reason=FillReason.MARKET,
        profit=Decimal(0),
        filled_at=quote.at,
        commission=commission(book, intent.symbol, units, price),
    )
    transactions.append(fill)
    return replace(
        book,
        sequence=fill.sequence,
        balance=book.balance - fill.commission,
        positions={**book.positions, intent.symbol: replace(position, units=units)},
    )


def _opened(intent: OrderIntent, price: Decimal, at: datetime) -> Position:
    assert intent.stop is not None, "an entry carries its stop"
    return Position(
        client_order_id=intent.client_order_id,
        symbol=intent.symbol,
        side=intent.side,
        units=intent.units,
        entry_price=price,
        stop=intent.stop,
        target=intent.target,
        opened_at=at,
    )


def _entry_problem(book: Book, intent: OrderIntent) -> str:
    instrument, currency = default_instrument(intent.symbol), book.config.account_currency
    if intent.units > instrument.max_units:
        return f"{intent.units} units are above {instrument.max_units}, the most of one order"
    if instrument.round_units(intent.units) != intent.units:
        return f"{intent.units} units are not a multiple of {instrument.lot_step}, or below {instrument.min_units}"
    if intent.symbol not in book.marks:
        return f"there is no price of {intent.symbol} yet"
    missing = missing_rates([intent.symbol], currency, book.marks)
    if missing:
        return f"there is no price yet that leads from {' or '.join(missing)} to the account's {currency}"
    entries = [each.intent for each in book.working.values() if each.intent.purpose is OrderPurpose.OPEN]
    if intent.symbol in book.positions or any(each.symbol == intent.symbol for each in entries):
        return f"a position in {intent.symbol} is open or being opened"
    needed = margin_used(book) + sum((_margin_to_open(book, each) for each in (*entries, intent)), Decimal(0))
    equity = account(book).equity
    if needed > equity:
        return f"insufficient margin: {needed:.2f} needed, equity {equity:.2f}"
    return ""


def _margin_to_open(book: Book, intent: OrderIntent) -> Decimal:
    """Return the margin of an entry, at the price that it would be filled at now."""
    return worth(book, intent.symbol, intent.units, book.marks[intent.symbol].opening(intent.side)) / book.config.leverage


def _close_problem(book: Book, intent: OrderIntent) -> str:
    position, instrument = book.positions.get(intent.symbol), default_instrument(intent.symbol)
    if position is None or position.side is intent.side:
        return _nothing_to_close(intent)
    if intent.units > position.units:
        return f"{intent.units} units are more than the position's {position.units}"
    if intent.units < position.units and instrument.round_units(intent.units) != intent.units:
        return f"{intent.units} units are not a multiple of {instrument.lot_step}, or below {instrument.min_units}"
    return ""


def _nothing_to_close(intent: OrderIntent) -> str:
    return f"there is no position in {intent.symbol} to close"


def _passed(position: Position, quote: Quote) -> str:
    """Say which of its stop and target an entry would have passed when it is filled."""
    sign, price = position.side.sign, position.entry_price
    if sign * (quote.closing(position.side) - position.stop) <= 0:
        return f"the open {price} has passed the stop {position.stop}"
    if position.target is not None and sign * (position.target - price) <= 0:
        return f"the open {price} has passed the target {position.target}"
    return ""


def _protection_problem(book: Book, position: Position, price: Decimal) -> str:
    """Say what is wrong with a position's stop or target at the price that would close it now."""
    sign = position.side.sign
    if sign * (price - position.stop) <= 0:
        return f"the price {price} has passed the stop {position.stop}"
    if position.target is not None and sign * (position.target - price) <= 0:
        return f"the price {price} has passed the target {position.target}"
    return _too_near(book, position, price)


def _too_near(book: Book, position: Position, price: Decimal) -> str:
    least = paper_instrument(book.config, position.symbol).min_stop_distance
    for name, level in (("stop", position.stop), ("target", position.target)):
        if level is not None and abs(price - level) < least:
            return f"the {name} {level} is nearer than {least} to the price {price}"
    return ""


def _bad_luck(config: PaperMarketConfig, intent: OrderIntent) -> str:
    rejected = _drawn(config, "rejected", intent.client_order_id) < config.rejection_probability * _HASH_RANGE
    return "rejected by the paper market (requote)" if rejected else ""


def _filled_units(config: PaperMarketConfig, intent: OrderIntent) -> Decimal:
    """Return how much of an entry is filled: all of it, or 10 to 90 per cent, rounded down to the lot."""
    if _drawn(config, "partial", intent.client_order_id) >= config.partial_fill_probability * _HASH_RANGE:
        return intent.units
    share = Decimal(100 + _drawn(config, "share", intent.client_order_id) % 801) / 1000
    return default_instrument(intent.symbol).round_units(intent.units * share) or intent.units


def _drawn(config: PaperMarketConfig, question: str, client_order_id: str) -> int:
    """Draw a whole number below 2**64 that is the same whenever it is asked for: an order sent twice has one fate."""
    return int.from_bytes(sha256(f"{config.seed}/{question}/{client_order_id}".encode()).digest()[:8], "big")
