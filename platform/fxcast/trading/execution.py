"""What the broker did, taken into the engine's state: fills, interest, orders, protection and positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from fxcast.domain.order import BrokerOrder, Fill, FillReason, Financing, OrderIntent, OrderPurpose, OrderStatus, ProtectionChange
from fxcast.domain.portfolio import BrokerPosition, Position
from fxcast.errors import ReconciliationFailed
from fxcast.trading.config import RiskLimits
from fxcast.trading.events import (
    ChangeAnswered,
    ChangeProtection,
    Command,
    PlaceOrder,
    PositionsSeen,
    RecordPosition,
    RecordRiskEvent,
    RecordTransaction,
    TransactionReceived,
)
from fxcast.trading.ports import PositionRecord, RiskEvent, RiskEventKind
from fxcast.trading.state import EngineState, HeldPosition, PendingOrder

ValueT = TypeVar("ValueT")
_GIVEN_UP_KEPT = timedelta(days=7)
Stepped = tuple[EngineState, tuple[Command, ...]]


def take_transaction(state: EngineState, event: TransactionReceived, limits: RiskLimits) -> Stepped:
    """Open, enlarge, reduce or close the position that a fill belongs to; one handled before changes nothing.

    Raises:
        ReconciliationFailed: If it names an order that is none of ours, or does not fit the order or position that it names.
    """
    transaction = event.transaction
    if transaction.sequence <= state.transaction_sequence:
        return state, ()
    state = replace(state, transaction_sequence=transaction.sequence)
    record = RecordTransaction(transaction=transaction)
    if isinstance(transaction, Financing):
        return _financed(state, transaction), (record,)
    order = state.pending.get(transaction.client_order_id) or state.given_up.get(transaction.client_order_id)
    if not transaction.client_order_id:
        detail = f"{_told(transaction)} at {transaction.price} is none of ours"
        foreign = _risk_event(RiskEventKind.FOREIGN_POSITION, transaction.filled_at, transaction.symbol, detail)
        return state, (record, foreign)
    if order is not None and order.intent.purpose is OrderPurpose.OPEN and transaction.reason is FillReason.MARKET:
        state, commands = _opened(state, transaction, order)
        if transaction.client_order_id in state.given_up:
            state, commands = _taken_back(state, transaction, commands)
    else:
        state, commands = _closed(state, transaction, limits)
    return state, (record, *commands)


def _financed(state: EngineState, financing: Financing) -> EngineState:
    held = state.positions.get(financing.symbol)
    if held is None or held.position.client_order_id != financing.client_order_id:
        return state
    return _holding(state, replace(held, realised=held.realised + financing.amount))


def _opened(state: EngineState, fill: Fill, order: PendingOrder) -> Stepped:
    intent, held = order.intent, state.positions.get(fill.symbol)
    filled = order.filled_units + fill.units
    another = held is not None and held.position.client_order_id != intent.client_order_id
    if filled > intent.units or fill.side is not intent.side or another or intent.stop is None:
        raise ReconciliationFailed(f"{_told(fill)} does not open {intent.client_order_id} of {intent.units}")
    if held is None:
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
        held = HeldPosition(
            position=position,
            signal_id=intent.signal_id,
            horizon_bars=order.horizon_bars,
            bars_held=0,
            first_stop=intent.stop,
            best_price=fill.price,
        )
    else:
        before = held.position
        units = before.units + fill.units
        mean = (before.entry_price * before.units + fill.price * fill.units) / units
        held = replace(held, position=replace(before, units=units, entry_price=mean))
    held = replace(held, realised=held.realised - fill.commission)
    if filled == intent.units:
        state = replace(state, pending=_without(state.pending, intent.client_order_id))
    else:
        state = replace(state, pending={**state.pending, intent.client_order_id: replace(order, filled_units=filled)})
    return _holding(state, held), (_open_record(held),)


def _closed(state: EngineState, fill: Fill, limits: RiskLimits) -> Stepped:
    held, order = state.positions.get(fill.symbol), state.pending.get(fill.client_order_id)
    ours = held is not None and (order is not None or fill.client_order_id == held.position.client_order_id)
    if held is None or not ours or fill.units > held.position.units or fill.side is held.position.side:
        raise ReconciliationFailed(f"{_told(fill)} closes no position of ours")
    commands: list[Command] = []
    if fill.reason is FillReason.MANUAL:
        commands.append(
            _risk_event(RiskEventKind.HAND_CHANGE, fill.filled_at, fill.symbol, f"{_told(fill)} was not asked for by the engine")
        )
    if fill.reason is FillReason.MARGIN_CLOSEOUT:
        commands.append(_risk_event(RiskEventKind.MARGIN, fill.filled_at, fill.symbol, f"{_told(fill)} for want of margin"))
    if order is not None:
        state = replace(
            state,
            pending={**state.pending, fill.client_order_id: replace(order, filled_units=order.filled_units + fill.units)},
        )
    held = replace(held, realised=held.realised + fill.profit - fill.commission)
    left = held.position.units - fill.units
    if left:
        held = replace(held, position=replace(held.position, units=left))
        return _holding(state, held), (*commands, _open_record(held))
    # Its close is done; one that a stop or a person was faster than still waits at the broker, until that says it is cancelled.
    closed = order is not None and order.intent.purpose is OrderPurpose.CLOSE
    state = replace(
        state,
        pending=_without(state.pending, fill.client_order_id) if closed else state.pending,
        positions=_without(state.positions, fill.symbol),
    )
    record = PositionRecord(position=held.position, closed_at=fill.filled_at, exit_price=fill.price, profit=held.realised)
    state, cooling = _counted(state, held.realised, fill.filled_at, limits)
    return state, (*commands, RecordPosition(record=record), *cooling)


def _counted(state: EngineState, profit: Decimal, at: datetime, limits: RiskLimits) -> Stepped:
    """Count losses in a row; enough of them end trading for a while."""
    losses = state.losses_in_row + 1 if profit < 0 else 0
    if losses < limits.cool_off_losses or not limits.cool_off_minutes:
        return replace(state, losses_in_row=losses), ()
    until = at + timedelta(minutes=limits.cool_off_minutes)
    state = replace(state, losses_in_row=0, cool_off_until=max(until, state.cool_off_until or until))
    return state, (_risk_event(RiskEventKind.COOL_OFF, at, "", f"{losses} losses in a row: no new risk until {until.isoformat()}"),)


def _taken_back(state: EngineState, fill: Fill, commands: tuple[Command, ...]) -> Stepped:
    """Take over the position of an entry that was given up: the broker had it after all, and has its stop."""
    detail = f"{_told(fill)} was given up, for the broker did not know it; its position is taken over"
    event = _risk_event(RiskEventKind.RECONCILIATION, fill.filled_at, fill.symbol, detail)
    return replace(state, given_up=_without(state.given_up, fill.client_order_id)), (*commands, event)


def take_order(state: EngineState, order: BrokerOrder, at: datetime) -> Stepped:
    """Forget an order that will not be filled any further; a close is tried again under its next number.

    An entry that never reached the broker is remembered for some days, should that be an error. That there is nothing left to
    close is no news.
    """
    pending = state.pending.get(order.client_order_id)
    if pending is None or order.status not in {OrderStatus.REJECTED, OrderStatus.CANCELLED}:
        return state, ()
    state = replace(state, pending=_without(state.pending, order.client_order_id))
    if pending.intent.purpose is OrderPurpose.CLOSE and not is_held(state, pending.intent):
        return state, ()
    if not order.broker_order_id and pending.intent.purpose is OrderPurpose.OPEN:
        kept = {key: each for key, each in state.given_up.items() if at - each.valid_until < _GIVEN_UP_KEPT}
        state = replace(state, given_up={**kept, order.client_order_id: pending})
    detail = f"{order.client_order_id} {order.status.value}: {order.reason}"
    return state, (_risk_event(RiskEventKind.REJECTION, at, pending.intent.symbol, detail),)


def take_answer(state: EngineState, event: ChangeAnswered) -> Stepped:
    """Take over a stop and target that the broker has accepted; close a position whose lost stop it will not take back."""
    change = event.change
    held = state.positions.get(change.symbol)
    if held is None or held.change != change:
        return state, ()
    if event.answer.accepted:
        position = replace(held.position, stop=change.stop, target=change.target)
        held = replace(held, position=position, change=None, stop_lost=False)
        return _holding(state, held), (_open_record(held),)
    held = replace(held, change=None)
    detail = f"stop {change.stop}, target {change.target} of {change.client_order_id} refused: {event.answer.reason}"
    refused = _risk_event(RiskEventKind.REJECTION, event.at, change.symbol, detail)
    state = _holding(state, held)
    if not held.stop_lost:
        return state, (refused,)
    state, closing = close_position(state, held, event.at, "its stop is lost, and the broker does not take it back")
    return state, (refused, *closing)


def take_positions(state: EngineState, event: PositionsSeen) -> Stepped:
    """Compare what is open with what the broker holds: put lost stops back, take over what a person tightened.

    Raises:
        ReconciliationFailed: If a position of ours is not there, or differs in side or size, or one bears an id that is not ours.
    """
    problem = holdings_problem(state, event.positions)
    if problem:
        raise ReconciliationFailed(problem)
    if not (event.positions or state.foreign):
        return state, ()
    ours = {held.position.client_order_id for held in state.positions.values()}
    commands: list[Command] = []
    for seen in event.positions:
        if seen.client_order_id in ours:
            state, protecting = _protected(state, state.positions[seen.symbol], seen, event.at)
            commands += protecting
    foreign = tuple(sorted({seen.symbol for seen in event.positions if not seen.client_order_id}))
    for symbol in sorted(set(foreign) - set(state.foreign)):
        detail = f"the broker holds a position in {symbol} that is not ours; nothing is opened in it meanwhile"
        commands.append(_risk_event(RiskEventKind.FOREIGN_POSITION, event.at, symbol, detail))
    return state if foreign == state.foreign else replace(state, foreign=foreign), tuple(commands)


def holdings_problem(state: EngineState, positions: tuple[BrokerPosition, ...]) -> str:
    """Say where the engine and the broker hold different positions; empty if they agree. Protection is not looked at."""
    if not (state.positions or positions):
        return ""
    theirs: dict[str, BrokerPosition] = {seen.client_order_id: seen for seen in positions if seen.client_order_id}
    ours = {held.position.client_order_id: held.position for held in state.positions.values()}
    for client_order_id in sorted(ours.keys() | theirs.keys()):
        mine, found = ours.get(client_order_id), theirs.get(client_order_id)
        if mine is None or found is None or (mine.symbol, mine.side, mine.units) != (found.symbol, found.side, found.units):
            return f"position {client_order_id}: the ledger has {_shown(mine)}, the broker {_shown(found)}"
    return ""


def _protected(state: EngineState, held: HeldPosition, seen: BrokerPosition, at: datetime) -> Stepped:
    position, change, sign = held.position, held.change, held.position.side.sign
    if seen.stop is not None and sign * (seen.stop - position.stop) >= 0:
        agree = (seen.stop, seen.target) == (position.stop, position.target)
        # A change on its way counts, unless it would loosen what a person has tightened meanwhile.
        if agree or (change is not None and sign * (seen.stop - change.stop) <= 0):
            return state, ()
        held = replace(held, position=replace(position, stop=seen.stop, target=seen.target), change=None, stop_lost=False)
        detail = f"stop {position.stop} → {seen.stop}, target {position.target} → {seen.target}: changed at the broker, and kept"
        event = _risk_event(RiskEventKind.HAND_CHANGE, at, position.symbol, detail)
        return _holding(state, held), (_open_record(held), event)
    if held.stop_lost:
        return state, ()
    # Instead of a change on its way: that may be refused for its target.
    detail = f"the broker has the stop {seen.stop} for {position.client_order_id}, which should be {position.stop}: it is put back"
    event = _risk_event(RiskEventKind.STOP_MISSING, at, position.symbol, detail)
    held = replace(held, stop_lost=True)
    state, changing = change_protection(state, held, position.stop, position.target, at, "the stop was missing or looser")
    return state, (event, *changing)


def change_protection(
    state: EngineState, held: HeldPosition, stop: Decimal, target: Decimal | None, at: datetime, reason: str
) -> Stepped:
    """Decide another stop and target; they count once the broker has accepted them."""
    change = ProtectionChange(
        change_id=f"{held.position.client_order_id}-p{held.changes + 1}",
        client_order_id=held.position.client_order_id,
        symbol=held.position.symbol,
        stop=stop,
        target=target,
        reason=reason,
        created_at=at,
    )
    held = replace(held, changes=held.changes + 1, change=change)
    return _holding(state, held), (ChangeProtection(change=change),)


def close_position(state: EngineState, held: HeldPosition, at: datetime, reason: str) -> Stepped:
    """Decide to close a position at market, unless a close is on its way."""
    position = held.position
    if any(each.intent.signal_id == held.signal_id for each in state.pending_of(position.symbol, OrderPurpose.CLOSE)):
        return state, ()
    attempt = held.close_attempts + 1
    intent = OrderIntent(
        client_order_id=f"{held.signal_id}-close" + (f"-{attempt}" if attempt > 1 else ""),
        signal_id=held.signal_id,
        symbol=position.symbol,
        side=position.side.opposite,
        units=position.units,
        purpose=OrderPurpose.CLOSE,
        stop=None,
        target=None,
        created_at=at,
        reason=reason,
    )
    pending = PendingOrder(intent=intent, horizon_bars=0, valid_until=at)  # a close is valid until there is nothing to close
    state = replace(state, pending={**state.pending, intent.client_order_id: pending})
    return _holding(state, replace(held, close_attempts=attempt)), (PlaceOrder(intent=intent),)


def is_held(state: EngineState, close: OrderIntent) -> bool:
    """Tell whether the position that an order is to close is still open; another one in its symbol may be."""
    held = state.positions.get(close.symbol)
    return held is not None and held.signal_id == close.signal_id


def _holding(state: EngineState, held: HeldPosition) -> EngineState:
    return replace(state, positions={**state.positions, held.position.symbol: held})


def _open_record(held: HeldPosition) -> RecordPosition:
    return RecordPosition(record=PositionRecord(position=held.position, closed_at=None, exit_price=None, profit=None))


def _risk_event(kind: RiskEventKind, at: datetime, symbol: str, detail: str) -> RecordRiskEvent:
    return RecordRiskEvent(event=RiskEvent(kind=kind, at=at, symbol=symbol, detail=detail))


def _told(fill: Fill) -> str:
    order = fill.client_order_id or "without an id"
    return f"fill {fill.sequence} ({fill.side.value} {fill.units} {fill.symbol}, order {order}, {fill.reason.value})"


def _shown(position: Position | BrokerPosition | None) -> str:
    return "none" if position is None else f"{position.side.value} {position.units} {position.symbol}"


def _without(mapping: Mapping[str, ValueT], key: str) -> dict[str, ValueT]:
    return {name: value for name, value in mapping.items() if name != key}
