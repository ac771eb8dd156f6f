"""Sort commands into what one transaction saves."""

from __future__ import annotations

from collections.abc import Sequence

from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.order import OrderIntent, ProtectionChange, Transaction
from fxcast.domain.portfolio import EquityPoint
from fxcast.trading.events import (
    ChangeProtection,
    Command,
    PlaceOrder,
    RecordEquity,
    RecordPosition,
    RecordPrediction,
    RecordRiskEvent,
    RecordSignal,
    RecordTransaction,
)
from fxcast.trading.ports import DecidedSignal, DecisionRecord, LedgerBatch, PositionRecord, RiskEvent


def batch_of(commands: Sequence[Command], decisions: Sequence[DecisionRecord] = ()) -> LedgerBatch:
    """Return what commands save, in their order; of several equities the last counts."""
    equity: EquityPoint | None = None
    predictions: list[LDM4TSPrediction] = []
    signals: list[DecidedSignal] = []
    intents: list[OrderIntent] = []
    changes: list[ProtectionChange] = []
    transactions: list[Transaction] = []
    positions: list[PositionRecord] = []
    risk_events: list[RiskEvent] = []
    for command in commands:
        match command:
            case RecordPrediction():
                predictions.append(command.prediction)
            case RecordSignal():
                signals.append(command.decided)
            case PlaceOrder():
                intents.append(command.intent)
            case ChangeProtection():
                changes.append(command.change)
            case RecordTransaction():
                transactions.append(command.transaction)
            case RecordPosition():
                positions.append(command.record)
            case RecordRiskEvent():
                risk_events.append(command.event)
            case RecordEquity():
                equity = command.point
    return LedgerBatch(
        predictions=tuple(predictions),
        signals=tuple(signals),
        intents=tuple(intents),
        changes=tuple(changes),
        transactions=tuple(transactions),
        positions=tuple(positions),
        equity=equity,
        risk_events=tuple(risk_events),
        decisions=tuple(decisions),
    )
