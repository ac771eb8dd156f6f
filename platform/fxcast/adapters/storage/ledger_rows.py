"""Between the engine's values and the rows that keep them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from fxcast.adapters.storage.engine_tables import (
    DecisionRow,
    FillRow,
    FinancingRow,
    KillSwitchRequestRow,
    OrderRow,
    PositionRow,
    ProtectionChangeRow,
    RiskEventRow,
    SignalRow,
)
from fxcast.domain.order import (
    ChangeAnswer,
    Fill,
    FillReason,
    Financing,
    OrderIntent,
    OrderPurpose,
    OrderStatus,
    ProtectionChange,
    Side,
)
from fxcast.domain.portfolio import Position
from fxcast.domain.signal import DIMENSIONS, Direction, FusedSignal, QualityScore, Regime, Signal, SignalKind, Verdict
from fxcast.trading.ports import (
    DecidedSignal,
    DecisionRecord,
    KillSwitchRequest,
    OrderRecord,
    PositionRecord,
    RiskEvent,
    RiskEventKind,
)

_QUALITY = (*DIMENSIONS, "weighted_mean", "uncertainty_penalty", "total")
# The fastest level: decisions are written within the milliseconds of a candle's close, and slower ones save a tenth at most.
_COMPRESSION = 1


class ChangeStatus(StrEnum):
    """Life of a change of protection in the ledger."""

    INTENT = "intent"
    ACCEPTED = "accepted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRecord:
    """A change of protection as the ledger keeps it; `answer` is None until the broker gave one."""

    change: ProtectionChange
    answer: ChangeAnswer | None


def signal_values(decided: DecidedSignal) -> dict[str, Any]:
    signal = decided.signal
    return {
        "signal_id": signal.signal_id,
        "symbol": signal.symbol,
        "made_at": signal.made_at,
        "horizon_minutes": signal.horizon_minutes,
        "direction": signal.direction.value,
        "strength": signal.strength,
        "price": signal.price,
        "stop": signal.stop,
        "target": signal.target,
        "uncertainty_pct": signal.uncertainty_pct,
        "regime": signal.regime.value,
        **{f"quality_{name}": getattr(signal.quality, name) for name in _QUALITY},
        "quality_weights": list(signal.quality.weights),
        "members": [_member_values(member) for member in signal.members],
        "verdict": decided.verdict.value,
        "reason": decided.reason,
        "base_units": decided.base_units,
        "units": decided.units,
        "explanation": list(decided.explanation),
        "arithmetic": list(decided.arithmetic),
    }


def _member_values(member: Signal) -> dict[str, Any]:
    return {
        "source": member.source,
        "kind": member.kind.value,
        "symbol": member.symbol,
        "made_at": member.made_at.isoformat(),
        "horizon_minutes": member.horizon_minutes,
        "direction": member.direction.value,
        "strength": member.strength,
        "price": member.price,
        "stop": member.stop,
        "target": member.target,
    }


def decided_signal(row: SignalRow) -> DecidedSignal:
    signal = FusedSignal(
        symbol=row.symbol,
        made_at=row.made_at,
        horizon_minutes=row.horizon_minutes,
        direction=Direction(row.direction),
        strength=row.strength,
        price=row.price,
        stop=row.stop,
        target=row.target,
        uncertainty_pct=row.uncertainty_pct,
        regime=Regime(row.regime),
        quality=QualityScore(**{name: getattr(row, f"quality_{name}") for name in _QUALITY}, weights=tuple(row.quality_weights)),
        members=tuple(_member(content) for content in row.members),
    )
    return DecidedSignal(
        signal=signal,
        verdict=Verdict(row.verdict),
        reason=row.reason,
        base_units=row.base_units,
        units=row.units,
        explanation=tuple(row.explanation),
        arithmetic=tuple(row.arithmetic),
    )


def _member(content: Mapping[str, Any]) -> Signal:
    return Signal(
        source=content["source"],
        kind=_kind(content),
        symbol=content["symbol"],
        made_at=datetime.fromisoformat(content["made_at"]).astimezone(UTC),
        horizon_minutes=content["horizon_minutes"],
        direction=Direction(content["direction"]),
        strength=content["strength"],
        price=content["price"],
        stop=content["stop"],
        target=content["target"],
    )


def _kind(content: Mapping[str, Any]) -> SignalKind:
    """Return what an opinion rests on; those stored before schema revision 0004 do not say so, but their source's name does."""
    if "kind" in content:
        return SignalKind(content["kind"])
    source: str = content["source"]
    return SignalKind.FORECAST if source.endswith("_forecast") else SignalKind(source)


def order_values(intent: OrderIntent, place: int) -> dict[str, Any]:
    return {
        "client_order_id": intent.client_order_id,
        "signal_id": intent.signal_id,
        "symbol": intent.symbol,
        "side": intent.side.value,
        "units": intent.units,
        "purpose": intent.purpose.value,
        "purpose_reason": intent.reason,
        "stop": intent.stop,
        "target": intent.target,
        "created_at": intent.created_at,
        "place_in_batch": place,
        "status": OrderStatus.INTENT.value,
        "broker_order_id": "",
        "reason": "",
    }


def order_record(row: OrderRow) -> OrderRecord:
    intent = OrderIntent(
        client_order_id=row.client_order_id,
        signal_id=row.signal_id,
        symbol=row.symbol,
        side=Side(row.side),
        units=row.units,
        purpose=OrderPurpose(row.purpose),
        stop=row.stop,
        target=row.target,
        created_at=row.created_at,
        reason=row.purpose_reason,
    )
    return OrderRecord(intent=intent, status=OrderStatus(row.status), broker_order_id=row.broker_order_id, reason=row.reason)


def change_values(change: ProtectionChange) -> dict[str, Any]:
    return {
        "change_id": change.change_id,
        "client_order_id": change.client_order_id,
        "symbol": change.symbol,
        "stop": change.stop,
        "target": change.target,
        "reason": change.reason,
        "created_at": change.created_at,
        "status": ChangeStatus.INTENT.value,
        "answer": "",
    }


def answer_values(answer: ChangeAnswer) -> dict[str, Any]:
    status = ChangeStatus.ACCEPTED if answer.accepted else ChangeStatus.REFUSED
    return {"status": status.value, "answer": answer.reason}


def change_record(row: ProtectionChangeRow) -> ChangeRecord:
    change = ProtectionChange(
        change_id=row.change_id,
        client_order_id=row.client_order_id,
        symbol=row.symbol,
        stop=row.stop,
        target=row.target,
        reason=row.reason,
        created_at=row.created_at,
    )
    status = ChangeStatus(row.status)
    if status is ChangeStatus.INTENT:
        return ChangeRecord(change=change, answer=None)
    return ChangeRecord(change=change, answer=ChangeAnswer(accepted=status is ChangeStatus.ACCEPTED, reason=row.answer))


def fill_values(fill: Fill) -> dict[str, Any]:
    return {
        "sequence": fill.sequence,
        "client_order_id": fill.client_order_id,
        "symbol": fill.symbol,
        "side": fill.side.value,
        "units": fill.units,
        "price": fill.price,
        "reason": fill.reason.value,
        "profit": fill.profit,
        "commission": fill.commission,
        "filled_at": fill.filled_at,
    }


def fill_of(row: FillRow) -> Fill:
    return Fill(
        sequence=row.sequence,
        client_order_id=row.client_order_id,
        symbol=row.symbol,
        side=Side(row.side),
        units=row.units,
        price=row.price,
        reason=FillReason(row.reason),
        profit=row.profit,
        filled_at=row.filled_at,
        commission=row.commission,
    )


def financing_values(financing: Financing) -> dict[str, Any]:
    return {
        "sequence": financing.sequence,
        "client_order_id": financing.client_order_id,
        "symbol": financing.symbol,
        "amount": financing.amount,
        "booked_at": financing.booked_at,
    }


def financing_of(row: FinancingRow) -> Financing:
    return Financing(
        sequence=row.sequence,
        client_order_id=row.client_order_id,
        symbol=row.symbol,
        amount=row.amount,
        booked_at=row.booked_at,
    )


def position_values(record: PositionRecord) -> dict[str, Any]:
    position = record.position
    return {
        "client_order_id": position.client_order_id,
        "symbol": position.symbol,
        "side": position.side.value,
        "units": position.units,
        "entry_price": position.entry_price,
        "stop": position.stop,
        "target": position.target,
        "opened_at": position.opened_at,
        "closed_at": record.closed_at,
        "exit_price": record.exit_price,
        "profit": record.profit,
    }


def position_record(row: PositionRow) -> PositionRecord:
    position = Position(
        client_order_id=row.client_order_id,
        symbol=row.symbol,
        side=Side(row.side),
        units=row.units,
        entry_price=row.entry_price,
        stop=row.stop,
        target=row.target,
        opened_at=row.opened_at,
    )
    return PositionRecord(position=position, closed_at=row.closed_at, exit_price=row.exit_price, profit=row.profit)


def risk_event_values(event: RiskEvent) -> dict[str, Any]:
    return {"at": event.at, "kind": event.kind.value, "symbol": event.symbol, "detail": event.detail}


def risk_event(row: RiskEventRow) -> RiskEvent:
    return RiskEvent(kind=RiskEventKind(row.kind), at=row.at, symbol=row.symbol, detail=row.detail)


def decision_values(record: DecisionRecord) -> dict[str, Any]:
    return {
        "symbol": record.symbol,
        "at": record.at,
        "settings_hash": record.settings_hash,
        "inputs": zlib.compress(record.inputs.encode(), _COMPRESSION),
        "commands": zlib.compress(record.commands.encode(), _COMPRESSION),
    }


def decision_record(row: DecisionRow) -> DecisionRecord:
    return DecisionRecord(
        symbol=row.symbol,
        at=row.at,
        settings_hash=row.settings_hash,
        inputs=zlib.decompress(row.inputs).decode(),
        commands=zlib.decompress(row.commands).decode(),
    )


def kill_switch_request(row: KillSwitchRequestRow) -> KillSwitchRequest:
    return KillSwitchRequest(
        sequence=row.sequence, kill_switch=row.kill_switch, by=row.by, reason=row.reason, requested_at=row.requested_at
    )
