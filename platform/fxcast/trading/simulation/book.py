"""The book of the paper market: the account, its orders and positions, and the last prices; a value that is never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from typing import TypeVar

from pydantic import TypeAdapter

from fxcast.domain.money import Quote
from fxcast.domain.order import BrokerOrder, OrderIntent, OrderStatus
from fxcast.domain.portfolio import Position
from fxcast.trading.config import PaperMarketConfig

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingOrder:
    """An order taken and not yet filled; `closes` is the order that opened the position it closes, empty for an entry."""

    intent: OrderIntent
    broker_order_id: str
    closes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """An account and its market; keys are client order ids (`working`, `settled`) or symbols (`positions`, `marks`).

    Attributes:
        sequence: Of the last transaction: fills and interest are one count.
        orders_taken: Orders ever placed; the broker's ids count them.
        marks: Bid and ask at the close of the last candle seen of each symbol, and when that was.
        settled: Orders that are filled, rejected or cancelled, oldest first.
    """

    config: PaperMarketConfig
    balance: Decimal
    sequence: int = 0
    orders_taken: int = 0
    working: Mapping[str, WorkingOrder] = field(default_factory=dict[str, WorkingOrder])
    positions: Mapping[str, Position] = field(default_factory=dict[str, Position])
    marks: Mapping[str, Quote] = field(default_factory=dict[str, Quote])
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


def order(book: Book, client_order_id: str) -> BrokerOrder | None:
    """Return what became of an order, None if it never came."""
    if client_order_id in book.working:
        return accepted(book.working[client_order_id])
    return book.settled.get(client_order_id)


def open_orders(book: Book) -> tuple[BrokerOrder, ...]:
    """Return the orders that wait for their fill."""
    return tuple(accepted(working) for working in book.working.values())


def accepted(working: WorkingOrder) -> BrokerOrder:
    """Return a working order as its owner sees it."""
    return BrokerOrder(
        client_order_id=working.intent.client_order_id,
        broker_order_id=working.broker_order_id,
        status=OrderStatus.ACCEPTED,
    )


def settle(
    book: Book, working: WorkingOrder, status: OrderStatus, reason: str = "", *, filled_units: Decimal = Decimal(0)
) -> tuple[Book, BrokerOrder]:
    """End an order's life."""
    client_order_id = working.intent.client_order_id
    settled = BrokerOrder(
        client_order_id=client_order_id,
        broker_order_id=working.broker_order_id,
        status=status,
        reason=reason,
        filled_units=filled_units,
    )
    working_left = without(book.working, client_order_id)
    return replace(book, working=working_left, settled={**book.settled, client_order_id: settled}), settled


def without(mapping: Mapping[str, ValueT], key: str) -> dict[str, ValueT]:
    """Return a mapping with one key less."""
    return {name: value for name, value in mapping.items() if name != key}
