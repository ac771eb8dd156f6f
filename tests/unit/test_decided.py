"""What was decided, filtered and a page at a time, and what came of it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine

from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.decided import (
    SIGNALS_A_PAGE,
    Consequences,
    Counts,
    Wanted,
    consequences_of,
    count_signals,
    find_signal,
    signal_symbols,
    signals_page,
)
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.domain.order import ChangeAnswer, Fill, OrderPurpose, OrderStatus, Side
from fxcast.domain.signal import Direction, Verdict
from fxcast.errors import DatabaseUnavailable
from fxcast.trading.ports import DecidedSignal, LedgerBatch
from fxcast.trading.state import EngineState
from tests.databases import DATABASES, new_database
from tests.ledger_factories import NOON, change, closed, decided, fill, financing, full_batch, intent, opened

SIGNAL = "EURUSD-20240304T1200"


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Engine]:
    url = new_database(request.param, tmp_path)
    migrate(url)
    engine = open_database(url)
    yield engine
    engine.dispose()


def other(
    hours: int, *, symbol: str = "EURUSD", direction: Direction = Direction.BULL, reason: str = "", units: int = 20_000
) -> DecidedSignal:
    """One made so many hours after noon, of 20,000 base units; refused if no units are left."""
    made = decided(NOON + timedelta(hours=hours))
    return replace(
        made,
        signal=replace(made.signal, symbol=symbol, direction=direction),
        verdict=Verdict.ACCEPTED if units else Verdict.REJECTED,
        reason=reason,
        units=Decimal(units),
    )


def keep(engine: Engine, *signals: DecidedSignal, account: str = "demo") -> None:
    SqlLedger(engine, account).commit(EngineState(), LedgerBatch(signals=signals))


def found(engine: Engine, wanted: Wanted) -> list[str]:
    return [each.signal.signal_id for each in signals_page(engine, "demo", wanted, page=0)]


def test_signals_come_newest_first_a_page_at_a_time_and_are_counted(database: Engine) -> None:
    kept = [other(hours, units=20_000 if hours % 2 else 0) for hours in range(SIGNALS_A_PAGE + 3)]
    keep(database, *kept)
    first, second = (signals_page(database, "demo", Wanted(), page=page) for page in (0, 1))
    assert [*first, *second] == kept[::-1]
    assert len(first) == SIGNALS_A_PAGE
    assert not signals_page(database, "demo", Wanted(), page=2)
    counts = count_signals(database, "demo", Wanted())
    assert counts == Counts(accepted=26, reduced=0, rejected=27)
    assert [counts.of(verdict) for verdict in (None, Verdict.ACCEPTED, Verdict.REJECTED)] == [53, 26, 27]


def test_each_filter_leaves_out_what_it_should(database: Engine) -> None:
    long, short = other(0), other(1, direction=Direction.BEAR, reason="a quality of 0.4 is below 0.45", units=0)
    pound = other(2, symbol="GBPUSD", reason="the spread is 100% off", units=5_000)
    keep(database, long, short, pound)
    ids = [each.signal.signal_id for each in (long, short, pound)]
    assert found(database, Wanted(symbol="GBPUSD")) == [ids[2]]
    assert found(database, Wanted(verdict=Verdict.REJECTED)) == [ids[1]]
    assert found(database, Wanted(direction=Direction.BULL)) == [ids[2], ids[0]]
    assert found(database, Wanted(since=NOON + timedelta(hours=1), before=NOON + timedelta(hours=2))) == [ids[1]]
    assert found(database, Wanted(reason="QUALITY")) == [ids[1]]
    assert found(database, Wanted(reason="100%")) == [ids[2]]
    assert not found(database, Wanted(reason="a_quality")), "an underscore is no placeholder"
    assert not found(database, Wanted(symbol="GBPUSD", direction=Direction.BEAR))


def test_counts_are_of_all_verdicts_within_the_other_filters(database: Engine) -> None:
    keep(database, other(0), other(1, units=5_000), other(2, units=0), other(3, symbol="GBPUSD", units=0))
    wanted = Wanted(symbol="EURUSD", verdict=Verdict.REJECTED)
    assert count_signals(database, "demo", wanted) == Counts(accepted=2, reduced=1, rejected=1)
    assert count_signals(database, "demo", Wanted(symbol="USDJPY")) == Counts()


def test_one_account_does_not_see_another(database: Engine) -> None:
    keep(database, other(0))
    keep(database, other(0, symbol="GBPUSD"), account="live")
    assert signal_symbols(database, "demo") == ("EURUSD",)
    assert count_signals(database, "demo", Wanted()).of(None) == 1
    assert find_signal(database, "demo", "GBPUSD-20240304T1200") is None
    assert not signal_symbols(database, "nobody")


def test_a_signal_is_found_by_its_id(database: Engine) -> None:
    keep(database, decided())
    assert find_signal(database, "demo", SIGNAL) == decided()


def test_what_came_of_a_signal_is_all_there(database: Engine) -> None:
    ledger = SqlLedger(database, "demo")
    ledger.commit(EngineState(), full_batch())
    ledger.mark_order("EURUSD-open", OrderStatus.FILLED, broker_order_id="7", reason="done")
    ledger.mark_change(change().change_id, ChangeAnswer(accepted=True))
    assert consequences_of(database, "demo", SIGNAL).position == opened()

    closing = replace(intent("EURUSD-close", NOON + timedelta(hours=4)), purpose=OrderPurpose.CLOSE, stop=None, side=Side.SELL)
    out: Fill = replace(fill(3), client_order_id="EURUSD-close", side=Side.SELL, profit=Decimal("78.75"))
    elsewhere = replace(intent("GBPUSD-open"), signal_id="GBPUSD-20240304T1200", symbol="GBPUSD")
    ledger.commit(EngineState(), LedgerBatch(intents=(closing, elsewhere), transactions=(out,), positions=(closed(),)))
    came = consequences_of(database, "demo", SIGNAL)
    assert [(each.intent.client_order_id, each.status) for each in came.orders] == [
        ("EURUSD-open", OrderStatus.FILLED),
        ("EURUSD-close", OrderStatus.INTENT),
    ]
    assert came.orders[0].reason == "done"
    assert came.fills == (fill(), out)
    assert came.position == closed()
    assert [(each.change, each.answer) for each in came.changes] == [(change(), ChangeAnswer(accepted=True))]
    assert came.financings == (financing(),)


def test_nothing_comes_of_a_refused_signal(database: Engine) -> None:
    keep(database, other(0, units=0))
    assert consequences_of(database, "demo", SIGNAL) == Consequences()


def test_an_outage_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'fx.db'}"
    migrate(url)
    engine = open_database(url)
    engine.dispose()
    (tmp_path / "fx.db").write_bytes(b"no database " * 1_000)
    for ask in (
        lambda: signal_symbols(engine, "demo"),
        lambda: count_signals(engine, "demo", Wanted(since=datetime(2024, 1, 1, tzinfo=UTC))),
        lambda: signals_page(engine, "demo", Wanted(), page=0),
        lambda: find_signal(engine, "demo", SIGNAL),
        lambda: consequences_of(engine, "demo", SIGNAL),
    ):
        with pytest.raises(DatabaseUnavailable):
            ask()
