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

    intent → sent → accepted → filled; or rejected, or cancelled (also after a part was filled). An order whose call timed out
    stays `sent` until the broker is asked.
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
    MARGIN_CLOSEOUT = "margin_closeout"
    MANUAL = "manual"  # not asked for by us: a person at the broker, or the broker itself


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
    reason: str = ""  # why a position is closed; an entry's reasons are its signal's

    def __post_init__(self) -> None:
        if self.units <= 0:
            raise ValueError(f"an order needs units above zero, found {self.units}")
        if self.purpose is OrderPurpose.OPEN and self.stop is None:
            raise ValueError(f"order {self.client_order_id} would open a position without a stop")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectionChange:
    """Another stop and target for an open position; absolute prices, so that sending it twice does what sending it once does.

    `change_id` counts the changes of the position: `ORDER-p1`, `ORDER-p2` and so on; the newest one counts.
    """

    change_id: str
    client_order_id: str  # of the order that opened the position
    symbol: str
    stop: Decimal
    target: Decimal | None
    reason: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAnswer:
    """What the broker said to a `ProtectionChange`."""

    accepted: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOrder:
    """What the broker knows of an order."""

    client_order_id: str
    broker_order_id: str
    status: OrderStatus
    reason: str = ""
    filled_units: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """An execution at the broker; an order may have several.

    `sequence` grows with each transaction of an account. `client_order_id` is the order that opened or closed the position; a
    stop, a target or a fill that nobody here asked for belongs to the order that opened the position, and is empty where that
    was none of ours.
    """

    sequence: int
    client_order_id: str
    symbol: str
    side: Side
    units: Decimal
    price: Decimal
    reason: FillReason
    profit: Decimal  # realised, account currency, without the commission; zero for an opening fill
    filled_at: datetime
    commission: Decimal = Decimal(0)  # account currency, zero or more


@dataclass(frozen=True, slots=True, kw_only=True)
class Financing:
    """Interest for holding a position past 17:00 New York, booked to the balance; above zero if it was received."""

    sequence: int  # of the same count as the fills'
    client_order_id: str  # of the order that opened the position; empty where the broker does not say
    symbol: str
    amount: Decimal  # account currency
    booked_at: datetime


Transaction = Fill | Financing
