"""Orders and fills, as the ledger and every broker speak of them. Money is Decimal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class Side(StrEnum):
    """Buy or sell the base currency."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderPurpose(StrEnum):
    """Whether an order opens a position or closes one."""

    OPEN = "open"
    CLOSE = "close"


class OrderStatus(StrEnum):
    """Life of an order in the ledger.

    intent → sent → accepted → filled; or rejected, or cancelled. An order whose call timed out stays `sent` until the
    broker is asked.
    """

    INTENT = "intent"
    SENT = "sent"
    ACCEPTED = "accepted"
    FILLED = "filled"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


class FillReason(StrEnum):
    """Why a fill happened."""

    MARKET = "market"
    STOP = "stop"
    TARGET = "target"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderIntent:
    """A market order to be placed, with protection for the position it opens.

    `client_order_id` is derived from the signal, so that the same decision after a restart is the same order.
    """

    client_order_id: str
    signal_id: str
    symbol: str
    side: Side
    units: Decimal
    purpose: OrderPurpose
    stop: Decimal | None
    target: Decimal | None
    created_at: datetime

    def __post_init__(self) -> None:
        if self.units <= 0:
            raise ValueError(f"an order needs units above zero, found {self.units}")
        if self.purpose is OrderPurpose.OPEN and self.stop is None:
            raise ValueError(f"order {self.client_order_id} would open a position without a stop")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOrder:
    """What the broker knows of an order."""

    client_order_id: str
    broker_order_id: str
    status: OrderStatus
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """An execution at the broker.

    `sequence` grows by one with each fill of an account. `client_order_id` is the order that opened or closed the
    position; a stop or a target belongs to the order that carried it.
    """

    sequence: int
    client_order_id: str
    symbol: str
    side: Side
    units: Decimal
    price: Decimal
    reason: FillReason
    profit: Decimal  # realised, account currency; zero for an opening fill
    filled_at: datetime
