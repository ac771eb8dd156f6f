"""A trade: a position from its opening to its end, with the signal that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from fxcast.domain.order import Side
from fxcast.domain.signal import FusedSignal


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A closed position; money in account currency, prices in quote currency.

    Attributes:
        order_id: Client order id of its entry.
        units: Opened.
        entry_price: Mean of the fills that opened it, weighted by their units; `exit_price` likewise.
        exit_reason: Of the last fill: market, stop, target, margin_closeout or manual.
        profit: Of the prices alone; spread and slippage are in it already.
        commission: Zero or more.
        financing: Above zero if it was received.
        spread_cost: Zero or more, and like `slippage_cost` a part of `profit`, told for its own sake.
        risk: What the position would have lost at its first stop, zero or more.
        signal: What opened it.
        base_units: Its size before uncertainty scaled it.
    """

    order_id: str
    symbol: str
    side: Side
    units: Decimal
    opened_at: datetime
    closed_at: datetime
    entry_price: Decimal
    exit_price: Decimal
    exit_reason: str
    profit: Decimal
    commission: Decimal
    financing: Decimal
    spread_cost: Decimal
    slippage_cost: Decimal
    risk: Decimal
    signal: FusedSignal
    base_units: Decimal

    @property
    def net(self) -> Decimal:
        """What it did to the balance."""
        return self.profit - self.commission + self.financing

    @property
    def r_multiple(self) -> float | None:
        """Net over what was risked, None where nothing was."""
        return float(self.net / self.risk) if self.risk else None

    @property
    def source(self) -> str:
        """Whose opinion gave its horizon, stop and target."""
        return self.signal.leader.source
