"""Migrations down and up with rows in every table, and under an engine that trades."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from fxcast.adapters.storage.database import ROOT, alembic_config, migrate, open_database, revision_of
from fxcast.adapters.storage.tables import SCHEMA_REVISION
from fxcast.errors import DatabaseUnavailable
from tests.databases import DATABASES, new_database
from tests.fault_worlds import OandaWorld, oanda_world, wait_until_done
from tests.integration.filled_database import backtest, counts_of, fill_database, let_in, set_settings, tune
from tests.waiting import wait_for

# What is dropped on the way down to each revision; docs/backup.md says it in words.
DROPPED = {
    "0006": {"settings_versions"},
    "0005": {"promotions", "tuning_folds", "tuning_runs", "tuning_trials"},
    "0004": {"backtest_trades", "backtests", "walk_forward_folds", "walk_forwards"},
    "0003": {
        "decisions",
        "engine_leases",
        "engine_settings",
        "financings",
        "kill_switch_requests",
        "protection_changes",
        "risk_events",
    },
    "0002": {"ldm4ts_model_quality"},
    "0001": {"access_tokens"},
}


@pytest.mark.parametrize("kind", DATABASES)
def test_every_step_down_drops_what_came_with_it_and_leaves_every_other_row_also_on_the_way_up(kind: str, tmp_path: Path) -> None:
    url = new_database(kind, tmp_path)
    migrate(url)
    database = open_database(url)
    fill_database(database, models=tmp_path)
    left = counts_of(database)
    assert all(left.values()), "there are rows in every table"

    for revision, dropped in DROPPED.items():
        command.downgrade(alembic_config(url), revision)
        left = {name: count for name, count in left.items() if name not in dropped}
        assert counts_of(database) == left

    migrate(url)

    assert counts_of(database) == {**dict.fromkeys(set[str]().union(*DROPPED.values()), 0), **left}
    for write_anew in (let_in, backtest, tune, set_settings):
        write_anew(database)
    database.dispose()


@pytest.mark.parametrize("kind", DATABASES)
def test_an_engine_goes_on_or_waits_while_its_database_is_migrated_down_and_up(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with oanda_world(tmp_path, monkeypatch, database_kind=kind) as world, world.shell() as shell:
        wait_for(lambda: world.publisher.is_followed)
        with migrating(world.database_url, "0005") as migration:
            published = 0
            while migration.poll() is None or published < 10:
                world.publish()
                published += 1
                wait_until_done(shell, published)
        assert migration.returncode == 0
        wait_until_done(shell, published)
        shell.look()  # the last fill is taken in

        assert len(world.ledger.equity_curve()) == published, "each candle once"
        check_ledger_and_broker_agree(world)


@pytest.mark.parametrize("kind", DATABASES)
def test_an_engine_whose_lease_a_downgrade_dropped_waits_refuses_and_can_be_started_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with oanda_world(tmp_path, monkeypatch, database_kind=kind) as world:
        with world.shell() as shell:
            wait_for(lambda: world.publisher.is_followed)
            world.publish()
            wait_until_done(shell, 1)
            command.downgrade(alembic_config(world.database_url), "0003")
            sent = world.server.calls("POST orders")
            world.publish()
            wait_for(lambda: shell.status()["state"] == "waiting")
            assert "does not answer" in shell.status()["problem"]
            assert world.server.calls("POST orders") == sent
            migrate(world.database_url)
            wait_for(lambda: shell.status()["state"] == "failed")
            assert "LeaseLost" in shell.status()["problem"]
            assert world.server.calls("POST orders") == sent
        with world.shell() as successor:
            wait_for(lambda: world.publisher.is_followed)
            world.publish()
            wait_for(lambda: successor.status()["state"] == "running" and len(world.ledger.equity_curve()) >= 3)
        check_ledger_and_broker_agree(world)


@contextmanager
def migrating(url: str, revision: str) -> Generator[subprocess.Popen[bytes]]:
    """Let another process migrate a database down and up three times."""
    again = (
        "import sys; from alembic import command; from fxcast.adapters.storage.database import alembic_config, migrate\n"
        "for _ in range(3): command.downgrade(alembic_config(sys.argv[1]), sys.argv[2]); migrate(sys.argv[1])"
    )
    command_line = [sys.executable, "-c", again, url, revision]
    with subprocess.Popen(command_line, cwd=ROOT, env={"PYTHONPATH": "platform", "PATH": ""}) as process:
        yield process


def check_ledger_and_broker_agree(world: OandaWorld) -> None:
    assert [fill.sequence // 10_000 for fill in world.ledger.fills()] == [int(fill["id"]) for fill in world.account.fills] != []
    assert {position.client_order_id for position in world.ledger.open_positions()} == {
        trade.client_id for trade in world.account.open_trades
    }


@pytest.mark.parametrize("kind", DATABASES[1:])
def test_a_migration_does_not_let_others_wait_behind_it_for_long(kind: str, tmp_path: Path) -> None:
    url = new_database(kind, tmp_path)
    migrate(url)
    url += "&options=-c%20lock_timeout=500ms"  # by default ten seconds
    database = open_database(url)
    with database.connect() as connection:
        connection.execute(text("SELECT 1 FROM promotions"))  # as a backup does, until its transaction ends
        with pytest.raises(DatabaseUnavailable, match="was not migrated, and is as it was: others use its tables"):
            command.downgrade(alembic_config(url), "0005")

    assert revision_of(url) == SCHEMA_REVISION
    database.dispose()
