"""Which transactions belong to which position."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from fxcast.backtest.result import BacktestResult
from fxcast.domain.order import Fill, Financing, OrderIntent, OrderPurpose
from fxcast.domain.portfolio import Position
from fxcast.errors import ReconciliationFailed
from fxcast.trading.ports import PositionRecord

_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A position with everything that was booked for it, each in order.

    Attributes:
        intent: The order that opened it.
        entries: At least one.
        exits: None of a position of which no part was closed yet.
    """

    record: PositionRecord
    intent: OrderIntent
    entries: tuple[Fill, ...]
    exits: tuple[Fill, ...]
    financing: tuple[Financing, ...]

    @property
    def position(self) -> Position:
        return self.record.position

    @property
    def fills(self) -> tuple[Fill, ...]:
        return self.entries + self.exits

    @property
    def units(self) -> Decimal:
        """What was opened."""
        return sum((fill.units for fill in self.entries), _NOTHING)

    @property
    def entry_price(self) -> Decimal:
        return mean_price(self.entries)

    @property
    def profit(self) -> Decimal:
        """Of the prices alone, as far as it was closed."""
        return sum((fill.profit for fill in self.exits), _NOTHING)

    @property
    def commission(self) -> Decimal:
        return sum((fill.commission for fill in self.fills), _NOTHING)

    @property
    def interest(self) -> Decimal:
        """Above zero if it was received."""
        return sum((each.amount for each in self.financing), _NOTHING)

    @property
    def net(self) -> Decimal:
        """What it did to the balance so far."""
        return self.profit - self.commission + self.interest


def mean_price(fills: Sequence[Fill]) -> Decimal:
    """Return the mean price of fills, weighted by their units; exact where there is one price only."""
    if all(fill.price == fills[0].price for fill in fills):
        return fills[0].price
    return sum((fill.price * fill.units for fill in fills), _NOTHING) / sum((fill.units for fill in fills), _NOTHING)


def lives_of(result: BacktestResult) -> tuple[Life, ...]:
    """Return every position of a run with what belongs to it, by when it was opened.

    A fill of the opening order on the position's side opened it; one on the other side is a stop, a target, a close-out for lack of
    margin, or somebody's hand. A fill of a closing order belongs to the position whose signal the closing order was made for.

    Raises:
        ReconciliationFailed: If a position has no order or no fill that opened it.
    """
    fills: defaultdict[str, list[Fill]] = defaultdict(list)
    financing: defaultdict[str, list[Financing]] = defaultdict(list)
    for each in result.transactions:
        if isinstance(each, Fill):
            fills[each.client_order_id].append(each)
        else:
            financing[each.client_order_id].append(each)
    openings = {each.intent.client_order_id: each.intent for each in result.orders}
    closings: defaultdict[str, list[str]] = defaultdict(list)
    for each in result.orders:
        if each.intent.purpose is OrderPurpose.CLOSE:
            closings[each.intent.signal_id].append(each.intent.client_order_id)
    lives: list[Life] = []
    for record in result.positions:
        opened_by, side = record.position.client_order_id, record.position.side
        intent = openings.get(opened_by)
        entries = tuple(fill for fill in fills[opened_by] if fill.side is side)
        if intent is None or not entries:
            raise ReconciliationFailed(f"position {opened_by} has no {'order' if intent is None else 'fill'} that opened it")
        exits = [fill for fill in fills[opened_by] if fill.side is not side]
        exits += [fill for order_id in closings[intent.signal_id] for fill in fills[order_id]]
        lives.append(
            Life(
                record=record,
                intent=intent,
                entries=entries,
                exits=tuple(sorted(exits, key=lambda fill: fill.sequence)),
                financing=tuple(financing[opened_by]),
            )
        )
    return tuple(lives)
