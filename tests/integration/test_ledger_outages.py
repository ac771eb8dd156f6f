"""What the ledger does when its database does not answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import IntegrityError, OperationalError

from fxcast.adapters.storage.database import make_engine, migrate, open_database, writing
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.outages import answered
from fxcast.domain.order import ChangeAnswer, OrderStatus
from fxcast.errors import DatabaseUnavailable
from fxcast.trading.ports import LedgerBatch
from fxcast.trading.state import EngineState
from tests.databases import DATABASES, new_database
from tests.ledger_factories import NOON, equity, fill, full_batch


@pytest.fixture
def ledger(database: Engine) -> SqlLedger:
    return SqlLedger(database, "demo")


def test_a_lock_that_another_process_keeps_is_an_outage_and_the_same_batch_works_after_it(tmp_path: Path) -> None:
    ledger, database = sqlite_ledger(tmp_path, "busy_timeout=1")

    with writing(make_engine(str(database.url))).begin(), pytest.raises(DatabaseUnavailable, match="database is locked"):
        ledger.commit(EngineState(), full_batch())

    ledger.commit(EngineState(), full_batch())
    assert ledger.fills() == (fill(),)


def test_a_full_disk_is_an_outage_that_saves_nothing(tmp_path: Path) -> None:
    ledger, _ = sqlite_ledger(tmp_path, "max_page_count=1")  # the file may grow no more: SQLite's own way to try a full disk

    with pytest.raises(DatabaseUnavailable, match=r"the database sqlite:///.*fx\.db does not answer \(database or disk is full\)"):
        ledger.commit(EngineState(cursors={f"{symbol:06}": NOON for symbol in range(20_000)}), full_batch())

    assert ledger.load_state() is None


def test_a_file_that_was_damaged_is_an_outage(tmp_path: Path) -> None:
    ledger, database = sqlite_ledger(tmp_path)
    database.dispose()
    (tmp_path / "fx.db").write_bytes(b"noise" * 10_000)

    with pytest.raises(DatabaseUnavailable, match="not a database"):
        ledger.orders()


def test_an_outage_tells_no_password() -> None:
    engine = create_engine("sqlite://")
    engine.url = make_url("postgresql://trader:s3cret@localhost/fx?password=s3cret")

    with pytest.raises(DatabaseUnavailable) as raised, answered(engine):
        raise OperationalError("SELECT 1", {}, sqlite3.OperationalError("server closed the connection"))

    assert "s3cret" not in str(raised.value)
    assert "postgresql://trader:***@localhost/fx does not answer (server closed the connection)" in str(raised.value)


CALLS: tuple[Callable[[SqlLedger], object], ...] = (
    lambda ledger: ledger.commit(EngineState(), full_batch()),
    lambda ledger: ledger.load_state(),
    lambda ledger: ledger.orders(),
    lambda ledger: ledger.mark_order("EURUSD-open", OrderStatus.SENT),
    lambda ledger: ledger.mark_change("EURUSD-open-p1", ChangeAnswer(accepted=True)),
    lambda ledger: ledger.kill_switch_request(),
    lambda ledger: ledger.keep_settings("c0ffee", "{}"),
)


@pytest.mark.parametrize("call", CALLS)
def test_every_call_says_so_when_the_database_is_gone_and_works_when_it_is_back(
    database: Engine, call: Callable[[SqlLedger], object]
) -> None:
    ledger = SqlLedger(database, "demo")
    ledger.commit(EngineState(), full_batch())

    with out_of_reach(database), pytest.raises(DatabaseUnavailable, match=r"the database .* does not answer"):
        call(ledger)

    call(ledger)


@pytest.mark.parametrize("url", DATABASES[1:], indirect=True)  # a file has no connection that breaks
def test_a_connection_that_breaks_within_a_transaction_is_an_outage_that_saves_nothing(ledger: SqlLedger, database: Engine) -> None:
    def cut(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("INSERT INTO fills "):
            event.remove(database, "before_cursor_execute", cut)
            disconnect_everybody(database)

    event.listen(database, "before_cursor_execute", cut)
    with pytest.raises(DatabaseUnavailable, match="terminating connection"):
        ledger.commit(EngineState(), full_batch())

    assert ledger.load_state() is None
    ledger.commit(EngineState(), full_batch())
    assert ledger.fills() == (fill(),)


def test_a_batch_that_breaks_a_rule_of_the_schema_is_no_outage(ledger: SqlLedger) -> None:
    wrong = replace(equity(), balance=None)  # pyright: ignore[reportArgumentType]  # what a bug of ours would hand over
    with pytest.raises(IntegrityError):
        ledger.commit(EngineState(), LedgerBatch(equity=wrong))


def sqlite_ledger(folder: Path, *pragmas: str) -> tuple[SqlLedger, Engine]:
    """A ledger on a migrated file, whose connections have further pragmas set."""
    url = new_database("sqlite", folder)
    migrate(url)
    database = open_database(url)
    database.dispose()

    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    event.listen(database, "connect", prepare)
    return SqlLedger(database, "demo"), database


@contextmanager
def out_of_reach(database: Engine) -> Generator[None]:
    """Take the database away, and bring it back: a file's folder under another name, a server that lets nobody in."""
    if database.dialect.name == "sqlite":
        database.dispose()
        folder = Path(str(database.url.database)).parent
        moved = folder.rename(folder.with_name("elsewhere"))
        yield
        moved.rename(folder)
        return
    name = database.url.database
    other = make_engine(database.url.set(database="postgres").render_as_string(hide_password=False))
    with other.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        disconnect_everybody(database)
        yield
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    other.dispose()


def disconnect_everybody(database: Engine) -> None:
    other = make_engine(database.url.set(database="postgres").render_as_string(hide_password=False))
    with other.connect() as connection:
        query = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
        connection.execute(query, {"name": database.url.database}).all()
    other.dispose()
