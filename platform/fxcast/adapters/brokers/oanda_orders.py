"""What became of orders, read from the account's transactions.

The transactions are the only place to look. `GET orders/@id` finds pending orders only, and a client's order id is taken only
while an order of that id is pending (reject reason CLIENT_ORDER_ID_ALREADY_EXISTS): a market order, once filled, is not found,
and its id sent again buys again. A client's trade id is taken while the trade is open (CLIENT_TRADE_ID_ALREADY_EXISTS); entries
carry the order's id as their trade's too, so that even a request that was under way for a while can't open a second one.

Source: developer.oanda.com, v20 REST API, pages Order, Transaction; TransactionRejectReason, OrderCancelReason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from fxcast.adapters.brokers.oanda_calls import OandaCalls
from fxcast.domain.order import BrokerOrder, OrderStatus
from fxcast.errors import Disconnected

Message = Mapping[str, Any]

TAKEN = ("CLIENT_ORDER_ID_ALREADY_EXISTS", "CLIENT_TRADE_ID_ALREADY_EXISTS")
_ANSWERED = ("orderCreateTransaction", "orderRejectTransaction", "orderFillTransaction", "orderCancelTransaction")


def newest_transaction(calls: OandaCalls) -> int:
    """Return the id of the account's last transaction."""
    return calls.read("summary", _last)


def messages_since(calls: OandaCalls, transaction_id: int) -> list[Message]:
    """Return the account's transactions with a higher id, by id, however the broker cuts and orders them.

    Raises:
        Disconnected: Among others, if the broker says that there are more and does not give them.
    """
    found: dict[int, Message] = {}
    reached = transaction_id
    while True:
        page, last = calls.read("transactions/sinceid", _page, {"id": str(reached)})
        found.update(page)
        if max(page, default=reached) <= reached < last:
            raise Disconnected(f"oanda gave no transactions after {reached}, though there are some up to {last}")
        reached = max(reached, *page) if page else reached
        if reached >= last:
            return [found[number] for number in sorted(found)]


class Orders:
    """Market orders by the client's id; where several have the same, the first counts."""

    def __init__(self) -> None:
        self._orders: dict[str, BrokerOrder] = {}
        self._wanted: dict[str, tuple[str, Decimal]] = {}  # by the broker's order id: the client's, and the units

    def take(self, messages: Sequence[Message]) -> None:
        """Take transactions in, in their order."""
        for message in messages:
            match message["type"]:
                case "MARKET_ORDER":
                    self._add(message, OrderStatus.ACCEPTED, "")
                case "MARKET_ORDER_REJECT":
                    self._add(message, OrderStatus.REJECTED, message["rejectReason"])
                case "ORDER_FILL":
                    self._fill(message)
                case "ORDER_CANCEL":
                    self._cancel(message)
                case _:
                    pass  # no order's

    def get(self, client_order_id: str) -> BrokerOrder | None:
        return self._orders.get(client_order_id)

    def forget_before(self, transaction_id: int) -> None:
        """Forget the orders that are older than a transaction."""
        for broker_id in list(self._wanted):
            if int(broker_id) >= transaction_id:
                break  # they are in order
            client_id, _ = self._wanted.pop(broker_id)
            del self._orders[client_id]

    def _add(self, message: Message, status: OrderStatus, reason: str) -> None:
        client_id = message.get("clientExtensions", {}).get("id", "")
        if not client_id or client_id in self._orders:
            return
        self._wanted[message["id"]] = client_id, abs(Decimal(message["units"]))
        self._orders[client_id] = BrokerOrder(
            client_order_id=client_id, broker_order_id=message["id"], status=status, reason=reason
        )

    def _fill(self, message: Message) -> None:
        client_id, wanted = self._wanted.get(message["orderID"], ("", Decimal(0)))
        if not client_id:
            return
        order = self._orders[client_id]
        filled = order.filled_units + abs(Decimal(message["units"]))
        if filled >= wanted:
            self._orders[client_id] = replace(order, status=OrderStatus.FILLED, filled_units=filled)
        else:  # no market order waits for the rest
            reason = f"{filled} of {wanted} units were filled"
            self._orders[client_id] = replace(order, status=OrderStatus.CANCELLED, filled_units=filled, reason=reason)

    def _cancel(self, message: Message) -> None:
        client_id, _ = self._wanted.get(message["orderID"], ("", Decimal(0)))
        if client_id:
            order = self._orders[client_id]
            self._orders[client_id] = replace(order, status=OrderStatus.CANCELLED, reason=order.reason or message["reason"])


class OrderLog:
    """Answers what became of an order; it reads each transaction once.

    Args:
        lookback: How many transactions before the first question are read, and how many are remembered; older orders are not
            found.
    """

    def __init__(self, calls: OandaCalls, lookback: int) -> None:
        self._calls = calls
        self._lookback = lookback
        self._orders = Orders()
        self._reached: int | None = None

    def order(self, client_order_id: str) -> BrokerOrder | None:
        """Return the state of an order, None if no transaction up to now is of it."""
        if self._reached is None:
            self._reached = max(self._calls.read("summary", _last) - self._lookback, 1)
        messages = messages_since(self._calls, self._reached)
        self._orders.take(messages)
        if messages:
            self._reached = int(messages[-1]["id"])
            self._orders.forget_before(self._reached - self._lookback)
        return self._orders.get(client_order_id)


def placed_order(client_order_id: str, answer: Message) -> BrokerOrder:
    """Read the answer to an order.

    Raises:
        KeyError: If it is none.
    """
    orders = Orders()
    orders.take([answer[key] for key in _ANSWERED if key in answer])
    placed = orders.get(client_order_id)
    if placed is None:  # refused before it became an order
        reason = refusal_of(answer, "orderRejectTransaction")
        placed = BrokerOrder(client_order_id=client_order_id, broker_order_id="", status=OrderStatus.REJECTED, reason=reason)
    return placed


def refusal_of(answer: Message, *transactions: str) -> str:
    """Return why something was refused, by one of these transactions or else by the text of the answer."""
    for name in transactions:
        if name in answer:
            return answer[name]["rejectReason"]
    return answer["errorMessage"]


def _page(answer: Message) -> tuple[dict[int, Message], int]:
    return {int(message["id"]): message for message in answer["transactions"]}, int(answer["lastTransactionID"])


def _last(answer: Message) -> int:
    return int(answer["lastTransactionID"])
