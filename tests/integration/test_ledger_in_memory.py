"""The ledger in memory, which other tests use, against the real one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine

from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.ledger_rows import ChangeRecord
from fxcast.domain.order import ChangeAnswer, OrderStatus
from fxcast.errors import ReconciliationFailed
from fxcast.trading.ports import LedgerBatch
from fxcast.trading.state import EngineState
from tests.fakes import MemoryLedger
from tests.ledger_factories import NOON, change, closed, decided, equity, fill, financing, full_batch, intent


@pytest.fixture
def ledger(database: Engine) -> SqlLedger:
    return SqlLedger(database, "demo")


def test_the_ledger_in_memory_behaves_as_the_real_one(ledger: SqlLedger) -> None:
    memory = MemoryLedger()
    for each in (ledger, memory):
        each.commit(EngineState(control_sequence=1), full_batch())
        each.commit(
            EngineState(control_sequence=2), LedgerBatch(intents=(intent("z", NOON), intent("a", NOON)), changes=(change(2),))
        )
        each.mark_order("a", OrderStatus.SENT)
        each.mark_order("EURUSD-open", OrderStatus.FILLED, broker_order_id="b-7")
        each.mark_change("EURUSD-open-p1", ChangeAnswer(accepted=False, reason="too close"))
        each.commit(
            EngineState(control_sequence=3), LedgerBatch(positions=(closed(),), equity=replace(equity(), balance=Decimal(7)))
        )
        each.commit(EngineState(control_sequence=4), full_batch())
        each.keep_settings("c0ffee", "{}")
        with pytest.raises(ReconciliationFailed):
            each.commit(
                EngineState(control_sequence=5),
                LedgerBatch(transactions=(fill(9), financing(1)), signals=(decided(NOON + timedelta(hours=1)),)),
            )
        for nothing in (
            lambda each=each: each.mark_order("x", OrderStatus.SENT),
            lambda each=each: each.mark_change("x", ChangeAnswer(accepted=True)),
        ):
            with pytest.raises(LookupError):
                nothing()

    assert memory.load_state() == ledger.load_state()
    assert memory.orders() == ledger.orders()
    assert memory.unresolved_orders() == ledger.unresolved_orders()
    assert (
        tuple(ChangeRecord(change=each, answer=memory.answers.get(key)) for key, each in memory.changes.items()) == ledger.changes()
    )
    assert tuple(memory.signals.values()) == ledger.signals()
    assert tuple(memory.fills.values()) == ledger.fills()
    assert tuple(memory.financings.values()) == ledger.financings()
    assert tuple(memory.positions.values()) == ledger.positions()
    assert tuple(memory.equity.values()) == ledger.equity_curve()
    assert tuple(memory.risk_events.values()) == ledger.risk_events()
    assert tuple(memory.decisions.values()) == ledger.decisions()
    assert memory.settings["c0ffee"] == ledger.settings("c0ffee")
