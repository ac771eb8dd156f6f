"""Positions and the account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from fxcast.domain.order import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """An open position: one per symbol, opened by one order; `entry_price` is the mean where several fills opened it."""

    client_order_id: str
    symbol: str
    side: Side
    units: Decimal
    entry_price: Decimal
    stop: Decimal
    target: Decimal | None
    opened_at: datetime

    def profit_at(self, price: Decimal) -> Decimal:
        """Return the profit in quote currency if closed at a price."""
        return self.side.sign * self.units * (price - self.entry_price)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPosition:
    """A position as the broker sees it: a person may have opened it, or taken its stop away."""

    client_order_id: str  # of the order that opened it; empty if that carried none
    symbol: str
    side: Side
    units: Decimal
    entry_price: Decimal  # the mean, where several fills opened it
    stop: Decimal | None
    target: Decimal | None
    opened_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the broker says of the account, in `currency`; `equity` = `balance` + `open_profit`."""

    currency: str
    balance: Decimal
    open_profit: Decimal
    margin_used: Decimal = Decimal(0)

    @property
    def free_margin(self) -> Decimal:
        return self.equity - self.margin_used

    @property
    def equity(self) -> Decimal:
        return self.balance + self.open_profit


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityPoint:
    """The account at a candle's close."""

    at: datetime
    balance: Decimal
    open_profit: Decimal

    @property
    def equity(self) -> Decimal:
        return self.balance + self.open_profit
