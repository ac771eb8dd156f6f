"""The paper market: a pure order book that fills orders inside candles, resolved against the trader.

Rules, in the order in which a candle is worked through:

1. A market order waits for the first candle that opens at or after it was placed and fills at its open: a buy at the ask
   plus slippage, a sell at the bid minus slippage. Closing orders come before entries.
2. An entry whose stop or target has been passed by that open is cancelled, not filled (OANDA's STOP_LOSS_ON_FILL_LOSS).
3. A candle that opens beyond a position's stop fills it at the open, worse than the stop, with slippage.
4. A candle that opens at or beyond the target fills it at the target: never better, whatever the gap.
5. A candle that touches the stop fills it at the stop with slippage, also if it touches the target too.
6. A candle that touches only the target fills it at the target, without slippage.

Long positions are watched and closed on the bid, short ones on the ask. Rules 3 to 6 hold from the candle of the entry on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from typing import TypeVar

from pydantic import TypeAdapter

from fxcast.domain.candle import Candle
from fxcast.domain.instrument import Instrument, default_instrument
from fxcast.domain.order import BrokerOrder, Fill, FillReason, OrderIntent, OrderPurpose, OrderStatus, Side
from fxcast.domain.portfolio import Account, Position
from fxcast.trading.config import CandleSide, PaperMarketConfig
from fxcast.trading.sizing import quote_to_account, unit_value

ValueT = TypeVar("ValueT")

# Profit in the base currency is a quotient; a hundredth of a cent keeps sums exact.
_MONEY_STEP = Decimal("0.0001")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What one can sell at and buy at."""

    bid: Decimal
    ask: Decimal

    def closing(self, side: Side) -> Decimal:
        """Return the price at which a position of a side is closed."""
        return self.bid if side is Side.BUY else self.ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The last candle seen of a symbol: when it closed and at which prices."""

    closed_at: datetime
    close: Quote


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingOrder:
    """An order taken and not yet filled."""

    intent: OrderIntent
    broker_order_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """An account and its market; keys are client order ids (`working`, `settled`) or symbols (`positions`, `marks`).

    Attributes:
        sequence: Of the last fill.
        orders_taken: Orders ever placed; the broker's ids count them.
        settled: Orders that are filled, rejected or cancelled, oldest first.
    """

    config: PaperMarketConfig
    balance: Decimal
    sequence: int = 0
    orders_taken: int = 0
    working: Mapping[str, WorkingOrder] = field(default_factory=dict[str, WorkingOrder])
    positions: Mapping[str, Position] = field(default_factory=dict[str, Position])
    marks: Mapping[str, Mark] = field(default_factory=dict[str, Mark])
    settled: Mapping[str, BrokerOrder] = field(default_factory=dict[str, BrokerOrder])

    def to_json(self) -> str:
        """Return exact JSON."""
        return _adapter().dump_json(self).decode()


def book_from_json(text: str) -> Book:
    """Rebuild a book from `Book.to_json`."""
    return _adapter().validate_json(text)


@cache
def _adapter() -> TypeAdapter[Book]:
    return TypeAdapter(Book)


def open_book(config: PaperMarketConfig) -> Book:
    """Return the book of a new account."""
    return Book(config=config, balance=config.starting_balance)


def account(book: Book) -> Account:
    """Return the account; open profit is marked at the side that would close each position at the last close."""
    open_profit = sum((_open_profit(book, position) for position in book.positions.values()), Decimal(0))
    return Account(currency=book.config.account_currency, balance=book.balance, open_profit=open_profit)


def order(book: Book, client_order_id: str) -> BrokerOrder | None:
    """Return what became of an order, None if it never came."""
    if client_order_id in book.working:
        return _accepted(book.working[client_order_id])
    return book.settled.get(client_order_id)


def open_orders(book: Book) -> tuple[BrokerOrder, ...]:
    """Return the orders that wait for their fill."""
    return tuple(_accepted(working) for working in book.working.values())


def place(book: Book, intent: OrderIntent) -> tuple[Book, BrokerOrder]:
    """Take an order, or reject it with a reason; the same client_order_id again returns the first one's state."""
    known = order(book, intent.client_order_id)
    if known is not None:
        return book, known
    broker_order_id = f"paper-{book.orders_taken + 1}"
    book = replace(book, orders_taken=book.orders_taken + 1)
    problem = _close_problem(book, intent) if intent.purpose is OrderPurpose.CLOSE else _entry_problem(book, intent)
    if problem:
        return _settle(book, WorkingOrder(intent=intent, broker_order_id=broker_order_id), OrderStatus.REJECTED, problem)
    working = WorkingOrder(intent=intent, broker_order_id=broker_order_id)
    return replace(book, working={**book.working, intent.client_order_id: working}), _accepted(working)


def observe(book: Book, symbol: str, candle: Candle, closed_at: datetime) -> tuple[Book, tuple[Fill, ...]]:
    """Work a closed candle through the book; one that was observed before changes nothing."""
    mark = book.marks.get(symbol)
    if mark is not None and closed_at <= mark.closed_at:
        return book, ()
    instrument = default_instrument(symbol)
    opening = _quote(book.config, instrument, candle.open)
    fills: list[Fill] = []
    waiting = [
        each for each in book.working.values() if each.intent.symbol == symbol and each.intent.created_at <= candle.open_time
    ]
    for purpose in (OrderPurpose.CLOSE, OrderPurpose.OPEN):
        for working in waiting:
            if working.intent.purpose is purpose:
                work = _fill_close if purpose is OrderPurpose.CLOSE else _fill_entry
                book = work(book, working, opening, candle.open_time, fills)
    if symbol in book.positions:
        book = _protect(book, book.positions[symbol], candle, closed_at, fills)
    close = _quote(book.config, instrument, candle.close)
    return replace(book, marks={**book.marks, symbol: Mark(closed_at=closed_at, close=close)}), tuple(fills)


def _entry_problem(book: Book, intent: OrderIntent) -> str:
    instrument = default_instrument(intent.symbol)
    if instrument.round_units(intent.units) != intent.units:
        return f"{intent.units} units are not a multiple of {instrument.lot_step}, or below {instrument.min_units}"
    if book.config.account_currency not in {instrument.base_currency, instrument.quote_currency}:
        return f"the account's {book.config.account_currency} is neither currency of {intent.symbol}"
    if intent.symbol not in book.marks:
        return f"there is no price of {intent.symbol} yet"
    entries = [each.intent for each in book.working.values() if each.intent.purpose is OrderPurpose.OPEN]
    if intent.symbol in book.positions or any(each.symbol == intent.symbol for each in entries):
        return f"a position in {intent.symbol} is open or being opened"
    held = [(each.symbol, each.units) for each in (*book.positions.values(), *entries)]
    needed = sum((_worth(book, *each) for each in (*held, (intent.symbol, intent.units))), Decimal(0)) / book.config.leverage
    equity = account(book).equity
    if needed > equity:
        return f"insufficient margin: {needed:.2f} needed, equity {equity:.2f}"
    return ""


def _close_problem(book: Book, intent: OrderIntent) -> str:
    position = book.positions.get(intent.symbol)
    if position is None or position.side is intent.side:
        return f"there is no position in {intent.symbol} to close"
    if position.units != intent.units:
        return f"{intent.units} units are not the position's {position.units}"
    return ""


def _worth(book: Book, symbol: str, units: Decimal) -> Decimal:
    return units * unit_value(symbol, book.marks[symbol].close.ask, book.config.account_currency)


def _fill_close(book: Book, working: WorkingOrder, opening: Quote, at: datetime, fills: list[Fill]) -> Book:
    intent = working.intent
    problem = _close_problem(book, intent)
    if problem:  # the stop was faster
        return _settle(book, working, OrderStatus.CANCELLED, problem)[0]
    book = _settle(book, working, OrderStatus.FILLED)[0]
    price = _slipped(book, intent.symbol, intent.side, opening)
    return _exit(book, book.positions[intent.symbol], price, intent.client_order_id, FillReason.MARKET, at, fills)


def _fill_entry(book: Book, working: WorkingOrder, opening: Quote, at: datetime, fills: list[Fill]) -> Book:
    intent = working.intent
    assert intent.stop is not None, "an entry carries its stop"
    sign, price = intent.side.sign, _slipped(book, intent.symbol, intent.side, opening)
    if sign * (opening.closing(intent.side) - intent.stop) <= 0:
        return _settle(book, working, OrderStatus.CANCELLED, f"the open {price} has passed the stop {intent.stop}")[0]
    if intent.target is not None and sign * (intent.target - price) <= 0:
        return _settle(book, working, OrderStatus.CANCELLED, f"the open {price} has passed the target {intent.target}")[0]
    position = Position(
        client_order_id=intent.client_order_id,
        symbol=intent.symbol,
        side=intent.side,
        units=intent.units,
        entry_price=price,
        stop=intent.stop,
        target=intent.target,
        opened_at=at,
    )
    book = _settle(book, working, OrderStatus.FILLED)[0]
    fill = Fill(
        sequence=book.sequence + 1,
        client_order_id=intent.client_order_id,
        symbol=intent.symbol,
        side=intent.side,
        units=intent.units,
        price=price,
        reason=FillReason.MARKET,
        profit=Decimal(0),
        filled_at=at,
    )
    fills.append(fill)
    return replace(book, sequence=fill.sequence, positions={**book.positions, intent.symbol: position})


def _protect(book: Book, position: Position, candle: Candle, closed_at: datetime, fills: list[Fill]) -> Book:
    """Rules 3 to 6. Prices times the side's sign make a short position read like a long one."""
    instrument, sign = default_instrument(position.symbol), position.side.sign

    def closing(price: float) -> Decimal:
        return sign * _quote(book.config, instrument, price).closing(position.side)

    opening, extremes = closing(candle.open), (closing(candle.low), closing(candle.high))
    worst, best = min(extremes), max(extremes)
    stop, target = sign * position.stop, None if position.target is None else sign * position.target
    if opening <= stop or (worst <= stop and (target is None or opening < target)):
        gapped = opening <= stop
        price = sign * (min(opening, stop) - _slippage(book, instrument))
        at = candle.open_time if gapped else closed_at
        return _exit(book, position, price, position.client_order_id, FillReason.STOP, at, fills)
    if position.target is not None and target is not None and best >= target:
        at = candle.open_time if opening >= target else closed_at
        return _exit(book, position, position.target, position.client_order_id, FillReason.TARGET, at, fills)
    return book


def _exit(
    book: Book, position: Position, price: Decimal, client_order_id: str, reason: FillReason, at: datetime, fills: list[Fill]
) -> Book:
    profit = _profit(book, position, price)
    fill = Fill(
        sequence=book.sequence + 1,
        client_order_id=client_order_id,
        symbol=position.symbol,
        side=position.side.opposite,
        units=position.units,
        price=price,
        reason=reason,
        profit=profit,
        filled_at=at,
    )
    fills.append(fill)
    return replace(book, sequence=fill.sequence, balance=book.balance + profit, positions=_without(book.positions, position.symbol))


def _open_profit(book: Book, position: Position) -> Decimal:
    mark = book.marks.get(position.symbol)
    return Decimal(0) if mark is None else _profit(book, position, mark.close.closing(position.side))


def _profit(book: Book, position: Position, price: Decimal) -> Decimal:
    """Exact in the quote currency; in the base currency to a hundredth of a cent."""
    currency = book.config.account_currency
    profit = quote_to_account(position.symbol, position.profit_at(price), price, currency)
    return profit if currency == position.symbol[3:] else profit.quantize(_MONEY_STEP, rounding=ROUND_HALF_EVEN)


def _quote(config: PaperMarketConfig, instrument: Instrument, price: float) -> Quote:
    """Turn a candle's price into bid and ask, on the tick; ask − bid is the spread exactly."""
    known = instrument.round_price(price)
    spread = instrument.round_price(config.spread_pips * instrument.pip)
    match config.candle_side:
        case CandleSide.BID:
            return Quote(bid=known, ask=known + spread)
        case CandleSide.ASK:
            return Quote(bid=known - spread, ask=known)
        case CandleSide.MID:
            bid = instrument.round_price(known - spread / 2)
            return Quote(bid=bid, ask=bid + spread)


def _slippage(book: Book, instrument: Instrument) -> Decimal:
    return instrument.round_price(book.config.slippage_pips * instrument.pip)


def _slipped(book: Book, symbol: str, side: Side, quote: Quote) -> Decimal:
    price = quote.ask if side is Side.BUY else quote.bid
    return price + side.sign * _slippage(book, default_instrument(symbol))


def _accepted(working: WorkingOrder) -> BrokerOrder:
    return BrokerOrder(
        client_order_id=working.intent.client_order_id,
        broker_order_id=working.broker_order_id,
        status=OrderStatus.ACCEPTED,
    )


def _settle(book: Book, working: WorkingOrder, status: OrderStatus, reason: str = "") -> tuple[Book, BrokerOrder]:
    client_order_id = working.intent.client_order_id
    settled = BrokerOrder(client_order_id=client_order_id, broker_order_id=working.broker_order_id, status=status, reason=reason)
    working_left = _without(book.working, client_order_id)
    return replace(book, working=working_left, settled={**book.settled, client_order_id: settled}), settled


def _without(mapping: Mapping[str, ValueT], key: str) -> dict[str, ValueT]:
    return {name: value for name, value in mapping.items() if name != key}
