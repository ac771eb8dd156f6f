"""Which signals of a period a chart gets, and how many it is told of."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine

from fxcast.adapters.storage import signal_marks as storage
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.signal_marks import SignalMark, SignalMarks, signal_marks
from fxcast.domain.signal import Direction, Verdict
from fxcast.errors import DatabaseUnavailable
from fxcast.trading.ports import DecidedSignal, LedgerBatch
from fxcast.trading.state import EngineState
from tests.databases import DATABASES, new_database
from tests.ledger_factories import NOON, decided

HOUR = timedelta(hours=1)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Engine]:
    url = new_database(request.param, tmp_path)
    migrate(url)
    engine = open_database(url)
    yield engine
    engine.dispose()


def other(hours: int, *, symbol: str = "EURUSD") -> DecidedSignal:
    """One made so many hours after noon; refused at odd hours."""
    made, refused = decided(NOON + hours * HOUR), bool(hours % 2)
    return replace(
        made,
        signal=replace(made.signal, symbol=symbol),
        verdict=Verdict.REJECTED if refused else Verdict.ACCEPTED,
        reason="the spread" if refused else "",
        units=Decimal(0) if refused else Decimal(15_000),
    )


def keep(engine: Engine, *signals: DecidedSignal, account: str = "demo") -> None:
    SqlLedger(engine, account).commit(EngineState(), LedgerBatch(signals=signals))


def found(engine: Engine, *, since: int = 0, before: int = 100, at_most: int = 50) -> SignalMarks:
    first, end = NOON + since * HOUR, NOON + before * HOUR
    return signal_marks(engine, "demo", symbol="EURUSD", since=first, before=end, at_most=at_most)


def test_a_mark_holds_what_was_decided(database: Engine) -> None:
    keep(database, other(1))
    mark = SignalMark(
        made_at=NOON + HOUR,
        direction=Direction.BULL,
        price=1.0846,
        verdict=Verdict.REJECTED,
        reason="the spread",
        quality_total=0.28,
        uncertainty_pct=0.12,
        base_units=Decimal(20_000),
        units=Decimal(0),
    )
    assert found(database) == SignalMarks(marks=(mark,), made=1)


def test_the_newest_of_a_period_come_oldest_first_and_all_are_counted(database: Engine) -> None:
    keep(database, *(other(hours) for hours in range(8)), other(3, symbol="GBPUSD"))
    keep(database, other(3), account="elsewhere")
    few = found(database, since=1, before=6, at_most=3)
    assert [mark.made_at for mark in few.marks] == [NOON + hours * HOUR for hours in (3, 4, 5)]
    assert few.made == 5
    assert found(database, since=50) == SignalMarks(marks=(), made=0)


def test_counting_ends_somewhere(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "COUNTED", 4)
    keep(database, *(other(hours) for hours in range(8)))
    assert found(database).made == 4


def test_a_database_that_is_gone_is_an_outage(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'fx.db'}"
    migrate(url)
    engine = open_database(url)
    engine.dispose()
    (tmp_path / "fx.db").unlink()
    with pytest.raises(DatabaseUnavailable):
        found(engine)
