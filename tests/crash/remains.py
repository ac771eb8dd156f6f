"""What is left of an engine: its ledger and its broker, read as anybody may read them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.storage.controls import kill_switch_requests
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.ledger_rows import ChangeRecord
from fxcast.domain.order import Transaction
from fxcast.domain.portfolio import EquityPoint
from fxcast.trading.ports import DecidedSignal, DecisionRecord, KillSwitchRequest, OrderRecord, PositionRecord, RiskEvent
from fxcast.trading.simulation.book import Book
from fxcast.trading.state import EngineState
from tests.crash.hooks import Call
from tests.crash.world import ENGINE_ID, LEDGER, MARKET, START, broker_file, calls_file

_PREDICTIONS = text(
    "SELECT symbol, made_at, horizon_minutes, mean, std, num_samples FROM ldm4ts_predictions ORDER BY made_at, symbol"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything in the ledger. A risk event's moment is when the engine saw it, which a crash may delay: it is left out."""

    state: EngineState
    orders: tuple[OrderRecord, ...]
    changes: tuple[ChangeRecord, ...]
    transactions: tuple[Transaction, ...]
    positions: tuple[PositionRecord, ...]
    equity: tuple[EquityPoint, ...]
    signals: tuple[DecidedSignal, ...]
    decisions: tuple[DecisionRecord, ...]
    risk_events: tuple[RiskEvent, ...]
    requests: tuple[KillSwitchRequest, ...]
    predictions: tuple[Any, ...]


def read_ledger(folder: Path) -> Record:
    """Read everything in the ledger."""
    with LEDGER.opened(folder) as database:
        ledger = SqlLedger(database, ENGINE_ID)
        state = ledger.load_state()
        with database.connect() as connection:
            predictions = tuple(tuple(row) for row in connection.execute(_PREDICTIONS))
        risk_events = (replace(each, at=START) for each in ledger.risk_events())
        return Record(
            state=EngineState() if state is None else state,
            orders=ledger.orders(),
            changes=ledger.changes(),
            transactions=_transactions(ledger),
            positions=ledger.positions(),
            equity=ledger.equity_curve(),
            signals=ledger.signals(),
            decisions=ledger.decisions(),
            risk_events=tuple(sorted(risk_events, key=lambda each: (each.kind, each.symbol, each.detail))),
            requests=kill_switch_requests(database, ENGINE_ID),
            predictions=predictions,
        )


def read_intents(folder: Path) -> tuple[set[str], tuple[Transaction, ...]]:
    """Read what the engine meant to send, and what it has heard of the broker."""
    with LEDGER.opened(folder) as database:
        ledger = SqlLedger(database, ENGINE_ID)
        return {each.intent.client_order_id for each in ledger.orders()}, _transactions(ledger)


def read_broker(folder: Path) -> tuple[Book, tuple[Transaction, ...]]:
    """Read the paper broker's file: its book and every transaction."""
    broker = PaperBroker(broker_file(folder), MARKET)
    seen = broker.book, broker.transactions_since(0)
    broker.close()
    return seen


def read_calls(folder: Path) -> Sequence[Call]:
    """Read the calls of the process that came to the end."""
    return pickle.loads(calls_file(folder).read_bytes())  # noqa: S301  # our own


def assert_same(found: Record, expected: Record) -> None:
    """Fail with the part of the ledger that differs."""
    for part in fields(Record):
        assert getattr(found, part.name) == getattr(expected, part.name), f"{part.name} differ"


def _transactions(ledger: SqlLedger) -> tuple[Transaction, ...]:
    return tuple(sorted((*ledger.fills(), *ledger.financings()), key=lambda each: each.sequence))
