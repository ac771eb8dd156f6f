"""What happened on a cTrader account: its orders, and its deals as fills and interest."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from fxcast.adapters.brokers.ctrader_connection import CTraderConnection
from fxcast.adapters.brokers.ctrader_market import Catalogue
from fxcast.adapters.brokers.ctrader_messages import (
    NOT_UNDERSTOOD,
    VENDOR,
    Deal,
    HeldPosition,
    Order,
    OrderType,
    Payload,
    PayloadType,
    Status,
    milliseconds,
    moment,
    order_rows,
    read_deal,
    read_order,
    read_position,
    whole,
)
from fxcast.domain.order import BrokerOrder, Fill, FillReason, Financing, OrderStatus, Transaction
from fxcast.errors import Disconnected

_WEEK_MS = 7 * 24 * 3_600_000  # the longest period that may be asked for at once
_AHEAD = timedelta(hours=1)  # their clock may be ahead of ours
_CLOCKS_DIFFER_MS = 60_000  # or behind
_MOST_ROWS = 500
# A sequence is the execution's millisecond, then two digits of the deal's number, then one of the part.
_IN_A_MILLISECOND = 1000
_DEAL_DIGITS = 100
_SWAP_PART, _FILL_PART = 1, 2
_ONE_BY_ONE = 5  # orders of deals that are asked for singly; more are asked for by their period

_STATUSES = {
    Status.ORDER_STATUS_ACCEPTED: OrderStatus.ACCEPTED,
    Status.ORDER_STATUS_FILLED: OrderStatus.FILLED,
    Status.ORDER_STATUS_REJECTED: OrderStatus.REJECTED,
    Status.ORDER_STATUS_EXPIRED: OrderStatus.CANCELLED,
    Status.ORDER_STATUS_CANCELLED: OrderStatus.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What is open at the broker."""

    positions: tuple[HeldPosition, ...]
    orders: tuple[Order, ...]  # taken, and neither filled nor cancelled


class Memory:
    """Whose order is whose: what cTrader does not tell with each message. Lost with the process, and then asked for anew.

    cTrader's request to close a position carries no client order id. Which order came of it is remembered here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._openings: dict[int, str] = {}  # client order id by position
        self._closings: dict[int, str] = {}  # client order id by the number of the order that closed
        self._sent_closings: dict[str, tuple[int, int]] = {}  # position and time of sending, by client order id
        self._orders: dict[int, Order] = {}  # that will not change any more
        self._came: set[str] = set()  # client order ids

    def note_order(self, order: Order) -> None:
        with self._lock:
            self._came.add(order.client_order_id)
            if order.status is not Status.ORDER_STATUS_ACCEPTED:
                self._orders[order.order_id] = order
            if order.position_id is not None and order.client_order_id and not order.is_closing:
                self._openings.setdefault(order.position_id, order.client_order_id)

    def note_opening(self, position_id: int, client_order_id: str) -> None:
        with self._lock:
            self._openings.setdefault(position_id, client_order_id)

    def note_closing(self, order_id: int, client_order_id: str) -> None:
        with self._lock:
            self._closings.setdefault(order_id, client_order_id)
            self._sent_closings.pop(client_order_id, None)

    def note_sent_closing(self, client_order_id: str, position_id: int, sent_ms: int) -> None:
        with self._lock:
            self._sent_closings[client_order_id] = (position_id, sent_ms)

    def forget_sent_closing(self, client_order_id: str) -> None:
        """Forget a request to close that certainly was not executed: what closes the position later is not its doing."""
        with self._lock:
            self._sent_closings.pop(client_order_id, None)

    def has_come(self, client_order_id: str) -> bool:
        return client_order_id in self._came

    def order(self, order_id: int) -> Order | None:
        return self._orders.get(order_id)

    def opening(self, position_id: int) -> str | None:
        """Return the client order id that opened a position, empty if a person did, None if it is not known here."""
        return self._openings.get(position_id)

    def positions_opened_by(self, client_order_id: str) -> tuple[int, ...]:
        with self._lock:
            return tuple(position_id for position_id, opening in self._openings.items() if opening == client_order_id)

    def position_closed_by(self, client_order_id: str) -> int | None:
        """Return the position that was to be closed, where no answer came."""
        sent = self._sent_closings.get(client_order_id)
        return None if sent is None else sent[0]

    def closing(self, order: Order) -> str | None:
        """Return the client order id of an order that closes, None if it is none of ours.

        One that appeared after a request to close its position was sent, and not answered, is taken to be that request.
        """
        with self._lock:
            if order.order_id not in self._closings and order.closes_at_market:
                for client_order_id, (position_id, sent_ms) in self._sent_closings.items():
                    if order.position_id == position_id and order.updated_ms >= sent_ms - _CLOCKS_DIFFER_MS:
                        self._closings[order.order_id] = client_order_id
                        del self._sent_closings[client_order_id]
                        break
            return self._closings.get(order.order_id)

    def order_that_closed(self, client_order_id: str) -> int | None:
        """Return the number of the order that a request to close became."""
        with self._lock:
            return next((order_id for order_id, closing in self._closings.items() if closing == client_order_id), None)


class History:
    """Reads the past of an account over one connection.

    Raises (each method): Disconnected, RateLimited, BadCredentials and BadSetting, as `CTraderConnection.ask` says.
    """

    def __init__(self, connection: CTraderConnection, memory: Memory, catalogue: Catalogue) -> None:
        self._connection = connection
        self._memory = memory
        self._catalogue = catalogue

    def reconcile(self) -> Reconciled:
        """Ask for what is open."""
        answer = self._connection.ask(PayloadType.RECONCILE_REQ)
        try:
            positions = tuple(read_position(row) for row in answer.get("position", ()))
            orders = order_rows(answer.get("order", ()))
        except NOT_UNDERSTOOD as error:
            raise _unreadable("RECONCILE", error) from None
        for position in positions:
            if position.label:
                self._memory.note_opening(position.position_id, position.label)
        return Reconciled(positions, tuple(each for each in orders if each.kind is not OrderType.STOP_LOSS_TAKE_PROFIT))

    def orders_between(self, start: datetime, stop: datetime) -> Iterator[Order]:
        """Yield the orders of a period, newest week first."""
        to_ms = milliseconds(stop + _AHEAD)
        start_ms = milliseconds(start + _AHEAD)  # so that a week is one request
        while to_ms > start_ms:
            from_ms = max(to_ms - _WEEK_MS, start_ms)
            for row in self._rows(PayloadType.ORDER_LIST_REQ, "order", from_ms, to_ms, "orderId"):
                yield self._noted(row)
            to_ms = from_ms

    def orders_of_position(self, position_id: int, now: datetime, days: int) -> tuple[Order, ...]:
        """Return the orders that opened, changed and closed a position, oldest first."""
        to_ms, start_ms = milliseconds(now + _AHEAD), milliseconds(now + _AHEAD - timedelta(days=days))
        found: list[Order] = []
        while to_ms > start_ms:
            from_ms = max(to_ms - _WEEK_MS, start_ms)
            kind = PayloadType.ORDER_LIST_BY_POSITION_ID_REQ
            found += map(self._noted, self._rows(kind, "order", from_ms, to_ms, "orderId", positionId=position_id))
            to_ms = from_ms
        return tuple(sorted(set(found), key=lambda order: order.order_id))

    def order(self, order_id: int) -> Order:
        """Return an order by its number."""
        answer = self._connection.ask(PayloadType.ORDER_DETAILS_REQ, orderId=order_id)
        try:
            row = answer["order"]
        except NOT_UNDERSTOOD as error:
            raise _unreadable("ORDER_DETAILS", error) from None
        return self._noted(row)

    def transactions(self, sequence: int, now: datetime, first_days: int) -> tuple[Transaction, ...]:
        """Return fills and interest with a higher sequence, in order.

        Args:
            first_days: How far back to look for a sequence of zero.
        """
        stop_ms = milliseconds(now + _AHEAD)
        start_ms = sequence // _IN_A_MILLISECOND if sequence > 0 else milliseconds(now - timedelta(days=first_days))
        deals: dict[int, Deal] = {}
        while start_ms < stop_ms:
            to_ms = min(start_ms + _WEEK_MS, stop_ms)
            for row in self._rows(PayloadType.DEAL_LIST_REQ, "deal", start_ms, to_ms, "dealId", maxRows=_MOST_ROWS):
                try:
                    deal = read_deal(row)
                except NOT_UNDERSTOOD as error:
                    raise _unreadable("DEAL_LIST", error) from None
                if deal is not None and _sequence(deal, _FILL_PART) > sequence:
                    deals[deal.deal_id] = deal
            start_ms = to_ms
        orders = self._orders_of(tuple(deals.values()), now)
        found = [each for deal in deals.values() for each in self._told(deal, orders[deal.order_id], now, first_days)]
        return tuple(sorted((each for each in found if each.sequence > sequence), key=lambda each: each.sequence))

    def _orders_of(self, deals: Sequence[Deal], now: datetime) -> dict[int, Order]:
        """Return the orders of deals by their numbers, asking for those that are not known yet."""
        known = {deal.order_id: self._memory.order(deal.order_id) for deal in deals}
        found = {number: order for number, order in known.items() if order is not None}
        if len(known) - len(found) > _ONE_BY_ONE:
            begin = moment(min(deal.executed_ms for deal in deals)) - 2 * _AHEAD
            found |= {order.order_id: order for order in self.orders_between(begin, now) if order.order_id in known}
        return {number: found[number] if number in found else self.order(number) for number in known}

    def _told(self, deal: Deal, order: Order, now: datetime, days: int) -> Iterator[Transaction]:
        opening = self._opening(deal, order, now, days)
        client_order_id, reason = opening, FillReason.MARKET if opening else FillReason.MANUAL
        if deal.is_closing:
            client_order_id, reason = self._closed(deal, order, opening)
        symbol, at = self._catalogue.symbol(deal.symbol_id), moment(deal.executed_ms)
        if deal.swap:
            yield Financing(
                sequence=_sequence(deal, _SWAP_PART), client_order_id=opening, symbol=symbol, amount=deal.swap, booked_at=at
            )
        yield Fill(
            sequence=_sequence(deal, _FILL_PART),
            client_order_id=client_order_id,
            symbol=symbol,
            side=deal.side,
            units=deal.units,
            price=deal.price,
            reason=reason,
            profit=deal.profit,
            filled_at=at,
            commission=deal.commission,
        )

    def _opening(self, deal: Deal, order: Order, now: datetime, days: int) -> str:
        """Return the client order id that opened the position of a deal, empty if a person did."""
        if not deal.is_closing:
            self._memory.note_opening(deal.position_id, order.client_order_id)
        known = self._memory.opening(deal.position_id)
        if known is None:
            self.orders_of_position(deal.position_id, now, days)  # each is noted
            known = self._memory.opening(deal.position_id)
        if known is None:
            self._memory.note_opening(deal.position_id, "")
        return known or ""

    def _closed(self, deal: Deal, order: Order, opening: str) -> tuple[str, FillReason]:
        """Say on whose account a closing deal is, and why it happened."""
        ours = self._memory.closing(order)
        if ours is not None:
            return ours, FillReason.MARKET
        if order.client_order_id:  # an order that reduced the position, as on a netted account
            return order.client_order_id, FillReason.MARKET
        if order.is_stop_out:
            return opening, FillReason.MARGIN_CLOSEOUT
        if order.kind is OrderType.STOP_LOSS_TAKE_PROFIT:
            return opening, _which_protection(deal, order)
        return opening, FillReason.MANUAL

    def _rows(
        self, payload_type: PayloadType, name: str, from_ms: int, to_ms: int, key: str, **payload: int
    ) -> tuple[Payload, ...]:
        """Return all rows of a period, page by page, whichever end of the period the pages begin at."""
        rows: dict[int, Payload] = {}
        while True:
            answer = self._connection.ask(payload_type, fromTimestamp=from_ms, toTimestamp=to_ms, **payload)
            try:
                page = {whole(row, key): row for row in answer.get(name, ())}
                times = [_time_of(row) for row in page.values()]
            except NOT_UNDERSTOOD as error:
                raise _unreadable(payload_type.name, error) from None
            is_new = not page.keys() <= rows.keys()
            rows |= page
            if answer.get("hasMore") is not True or not times:
                return tuple(rows.values())
            newest_first = times[0] >= times[-1]
            if not is_new:  # a page of one millisecond
                from_ms, to_ms = (from_ms, min(times) - 1) if newest_first else (max(times) + 1, to_ms)
            else:
                from_ms, to_ms = (from_ms, min(times)) if newest_first else (max(times), to_ms)
            if from_ms > to_ms:
                return tuple(rows.values())

    def _noted(self, row: Payload) -> Order:
        try:
            order = read_order(row)
        except NOT_UNDERSTOOD as error:
            raise _unreadable("an order", error) from None
        self._memory.note_order(order)
        return order


def broker_order(order: Order, client_order_id: str, reason: str = "") -> BrokerOrder:
    return BrokerOrder(
        client_order_id=client_order_id,
        broker_order_id=str(order.order_id),
        status=_STATUSES[order.status],
        reason=reason or ("" if order.status in {Status.ORDER_STATUS_ACCEPTED, Status.ORDER_STATUS_FILLED} else order.status.name),
        filled_units=order.executed,
    )


def opening_named_by(closing: str) -> str:
    """Return the client order id that opened what another closes; the engine names them NAME-open, NAME-close, NAME-close-2.

    Empty if an id is not of that form.
    """
    named = re.fullmatch(r"(?P<name>.+)-close(-\d+)?", closing)
    return "" if named is None else f"{named['name']}-open"


def _sequence(deal: Deal, part: int) -> int:
    return deal.executed_ms * _IN_A_MILLISECOND + deal.deal_id % _DEAL_DIGITS * 10 + part


def _which_protection(deal: Deal, order: Order) -> FillReason:
    """Tell a stop from a target: both are one order, and it is the nearer price that was hit; without prices, the loss tells."""
    stop, target = order.stop_price, order.limit_price
    if stop is None and target is None:
        return FillReason.TARGET if deal.profit > Decimal(0) else FillReason.STOP
    if stop is None or target is None:
        return FillReason.STOP if target is None else FillReason.TARGET
    return FillReason.STOP if abs(deal.price - stop) <= abs(deal.price - target) else FillReason.TARGET


def _time_of(row: Payload) -> int:
    for name in ("executionTimestamp", "utcLastUpdateTimestamp", "createTimestamp"):
        if row.get(name) is not None:
            return whole(row, name)
    return whole(row["tradeData"], "openTimestamp")


def _unreadable(what: str, error: Exception) -> Disconnected:
    return Disconnected(f"{VENDOR}: {what} could not be read ({type(error).__name__})")
