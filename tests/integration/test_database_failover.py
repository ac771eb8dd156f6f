"""What an engine does when its PostgreSQL server dies, another one takes its place, or a disk is full."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text

import tests.fault_worlds
from fxcast.adapters.storage.database import make_engine, migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.domain.order import OrderStatus
from fxcast.errors import DatabaseUnavailable
from fxcast.trading.state import EngineState
from tests.databases import new_database
from tests.fault_worlds import OandaWorld, oanda_world
from tests.ledger_factories import fill, full_batch
from tests.postgresql_servers import PostgresqlServer, postgresql_servers
from tests.state import job_database
from tests.waiting import wait_for

needs_postgresql = pytest.mark.skipif(
    shutil.which("postgres") is None or importlib.util.find_spec("psycopg") is None,
    reason="needs psycopg and the programs of a PostgreSQL server",
)
ROOM_FOR_A_LEDGER = "8m"


@contextmanager
def small_disk(folder: Path, size: str) -> Generator[Path]:
    """A disk of its own that is soon full."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def world_on(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[OandaWorld]:
    """An engine's surroundings with a database of the test's own."""

    def given(_kind: str, _folder: Path) -> str:
        return url

    monkeypatch.setattr(tests.fault_worlds, "new_database", given)
    with oanda_world(folder, monkeypatch, database_kind="postgresql") as world:
        yield world


def check_nothing_was_lost_or_doubled(world: OandaWorld, candles: int) -> None:
    assert len(world.account.fills) == len(world.ledger.fills()) == 1
    assert world.trade.stop == world.ledger.open_positions()[0].stop
    assert [order.status for order in world.ledger.orders()] == [OrderStatus.FILLED]
    assert len(world.ledger.equity_curve()) == candles
    assert world.runner.state == world.ledger.load_state()


# Another server takes the place of one that died.


@needs_postgresql
def test_an_engine_goes_on_with_the_standby_that_was_promoted_and_nothing_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgresql_servers(2) as (primary, standby):
        primary.create()
        # What is committed is on both servers then: with an asynchronous standby the last commits may be lost.
        primary.start("fsync=off", "synchronous_standby_names='*'")
        standby.follow(primary)
        standby.start("fsync=off")
        url = (
            f"postgresql+psycopg://fxcast@/postgres?host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}"
            "&target_session_attrs=read-write"
        )
        with world_on(url, tmp_path, monkeypatch) as world:
            world.open_position()

            primary.kill()

            closed = world.next_closed()
            with pytest.raises(DatabaseUnavailable, match="does not answer"):
                world.runner.handle(closed)
            standby.promote()
            world.runner.handle(closed)
            check_nothing_was_lost_or_doubled(world, candles=2)
            world.start()  # and so does one that is started anew
            world.close_candle()
            check_nothing_was_lost_or_doubled(world, candles=3)


def execute(server: PostgresqlServer, statement: str) -> None:
    engine = make_engine(f"postgresql+psycopg://fxcast@127.0.0.1:{server.port}/postgres")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()


@needs_postgresql
def test_a_server_that_takes_no_writes_any_more_is_left_for_the_one_that_does(tmp_path: Path) -> None:
    url = new_database("postgresql", tmp_path)
    migrate(url)
    database = open_database(url)
    ledger = SqlLedger(database, "demo")
    with database.connect() as connection:  # the connection that the ledger will use: to a server that became a replica under it
        connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        connection.commit()

    with pytest.raises(DatabaseUnavailable, match=r"does not answer \(cannot execute .* in a read-only transaction\)"):
        ledger.commit(EngineState(), full_batch())
    ledger.commit(EngineState(), full_batch())

    assert ledger.fills() == (fill(),)
    database.dispose()


@needs_postgresql
def test_connections_do_not_trust_a_server_that_says_nothing(tmp_path: Path) -> None:
    url = new_database("postgresql", tmp_path)
    for asked, patience in (("", "10"), ("&connect_timeout=3", "3")):
        engine = make_engine(url + asked)
        with engine.connect() as connection:
            parameters = connection.connection.driver_connection.info.get_parameters()  # pyright: ignore[reportOptionalMemberAccess]
        engine.dispose()
        assert parameters["connect_timeout"] == patience
        assert {"keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"} <= parameters.keys()


@needs_postgresql
def test_a_connection_whose_process_is_killed_while_it_commits_saves_all_or_nothing_and_the_ledger_goes_on() -> None:
    with postgresql_servers(1) as (server,):
        server.create()
        server.start("fsync=off")
        url = f"postgresql+psycopg://fxcast@127.0.0.1:{server.port}/postgres"
        migrate(url)
        database = open_database(url)
        ledger = SqlLedger(database, "demo")
        kill_at_commit(database, server)

        with pytest.raises(DatabaseUnavailable):
            ledger.commit(EngineState(), full_batch())
        wait_for(lambda: answers(ledger))  # the server recovers

        saved = ledger.load_state() is not None
        assert len(ledger.fills()) == len(ledger.orders()) == len(ledger.equity_curve()) == int(saved)
        ledger.commit(EngineState(), full_batch())
        assert ledger.fills() == (fill(),)
        database.dispose()


def kill_at_commit(database: Engine, server: PostgresqlServer) -> None:
    @event.listens_for(database, "commit", once=True)
    def kill(connection: object) -> None:  # pyright: ignore[reportUnusedFunction]  # an event's
        pid: int = connection.connection.driver_connection.info.backend_pid  # pyright: ignore[reportAttributeAccessIssue]
        server.kill_connection(pid)


def answers(ledger: SqlLedger) -> bool:
    try:
        ledger.load_state()
    except DatabaseUnavailable:
        return False
    return True


# A disk is full.


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk")
def test_an_engine_whose_sqlite_disk_is_full_sends_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, ROOM_FOR_A_LEDGER), world_on(job_database(disk, "fx"), tmp_path, monkeypatch) as world:
        world.start()
        filler = fill_disk(disk)

        closed = world.next_closed()
        with pytest.raises(DatabaseUnavailable, match=r"disk is full|disk I/O error"):
            world.runner.handle(closed)
        assert world.server.calls("POST orders") == 0

        filler.unlink()
        world.runner.handle(closed)
        world.look()
        check_nothing_was_lost_or_doubled(world, candles=1)


@needs_postgresql
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk")
def test_an_engine_whose_postgresql_disk_is_full_sends_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgresql_servers(1) as (server,), small_disk(server.folder / "disk", ROOM_FOR_A_LEDGER) as disk:
        server.create()
        server.start("fsync=off")
        tables = disk / "tables"
        tables.mkdir()
        for folder in (disk, tables):
            os.chown(folder, (server.folder / "data").stat().st_uid, -1)
        execute(server, f"CREATE TABLESPACE small LOCATION '{tables}'")
        url = f"postgresql+psycopg://fxcast@127.0.0.1:{server.port}/postgres?options=-c%20default_tablespace%3Dsmall"
        with world_on(url, tmp_path, monkeypatch) as world:
            world.start()
            filler = fill_disk(disk)

            closed = world.next_closed()
            with pytest.raises(DatabaseUnavailable, match="No space left on device"):
                world.runner.handle(closed)
            assert world.server.calls("POST orders") == 0

            filler.unlink()
            world.runner.handle(closed)
            world.look()
            check_nothing_was_lost_or_doubled(world, candles=1)


def fill_disk(disk: Path) -> Path:
    """Fill what is left of a disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler
