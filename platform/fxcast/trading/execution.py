"""What the broker did, taken into the engine's state: fills and orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from fxcast.domain.order import BrokerOrder, Fill, FillReason, OrderPurpose, OrderStatus
from fxcast.domain.portfolio import Position
from fxcast.errors import ReconciliationFailed
from fxcast.trading.events import Command, RecordFill, RecordPosition
from fxcast.trading.ports import PositionRecord
from fxcast.trading.state import EngineState, HeldPosition, PendingOrder

ValueT = TypeVar("ValueT")


def take_fill(state: EngineState, fill: Fill) -> tuple[EngineState, tuple[Command, ...]]:
    """Open or close the position that a fill belongs to; one handled before changes nothing.

    Raises:
        ReconciliationFailed: If it belongs to no order or position of ours, or differs from it in size.
    """
    if fill.sequence <= state.fill_sequence:
        return state, ()
    state = replace(state, fill_sequence=fill.sequence)
    order = state.pending.get(fill.client_order_id)
    if order is not None and order.intent.purpose is OrderPurpose.OPEN and fill.reason is FillReason.MARKET:
        return _opened(state, fill, order)
    return _closed(state, fill)


def _opened(state: EngineState, fill: Fill, order: PendingOrder) -> tuple[EngineState, tuple[Command, ...]]:
    intent = order.intent
    if fill.units != intent.units or fill.symbol in state.positions or intent.stop is None:
        found = f"{fill.side.value} {fill.units} {fill.symbol}"
        raise ReconciliationFailed(f"fill {fill.sequence} ({found}) does not open {intent.client_order_id} of {intent.units}")
    position = Position(
        client_order_id=intent.client_order_id,
        symbol=intent.symbol,
        side=intent.side,
        units=fill.units,
        entry_price=fill.price,
        stop=intent.stop,
        target=intent.target,
        opened_at=fill.filled_at,
    )
    held = HeldPosition(position=position, signal_id=intent.signal_id, horizon_bars=order.horizon_bars, bars_held=0)
    state = replace(
        state, pending=_without(state.pending, intent.client_order_id), positions={**state.positions, fill.symbol: held}
    )
    record = PositionRecord(position=position, closed_at=None, exit_price=None, profit=None)
    return state, (RecordFill(fill=fill), RecordPosition(record=record))


def _closed(state: EngineState, fill: Fill) -> tuple[EngineState, tuple[Command, ...]]:
    held = state.positions.get(fill.symbol)
    ours = held is not None and (fill.client_order_id == held.position.client_order_id or fill.client_order_id in state.pending)
    if held is None or not ours or fill.units != held.position.units or fill.side is held.position.side:
        found = f"{fill.side.value} {fill.units} {fill.symbol}, order {fill.client_order_id}"
        raise ReconciliationFailed(f"fill {fill.sequence} ({found}) closes no position of ours")
    state = replace(state, pending=_without(state.pending, fill.client_order_id), positions=_without(state.positions, fill.symbol))
    record = PositionRecord(position=held.position, closed_at=fill.filled_at, exit_price=fill.price, profit=fill.profit)
    return state, (RecordFill(fill=fill), RecordPosition(record=record))


def take_order(state: EngineState, order: BrokerOrder) -> EngineState:
    """Forget an order that will never be filled; a close is tried again under its next number."""
    if order.status not in {OrderStatus.REJECTED, OrderStatus.CANCELLED}:
        return state
    return replace(state, pending=_without(state.pending, order.client_order_id))


def _without(mapping: Mapping[str, ValueT], key: str) -> dict[str, ValueT]:
    return {name: value for name, value in mapping.items() if name != key}
