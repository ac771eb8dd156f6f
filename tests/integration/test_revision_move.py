"""Databases whose revision lies in `alembic_version`, where it was before that became Optuna's: told apart, and migrated."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import optuna
import pytest
from alembic import command
from optuna.storages import RDBStorage
from sqlalchemy import event, inspect, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from fxcast.adapters.storage.database import ROOT, alembic_config, make_engine, migrate, open_database, revision_of
from fxcast.adapters.storage.revision import read_revision
from fxcast.adapters.storage.studies import open_studies
from fxcast.adapters.storage.tables import SCHEMA_REVISION
from fxcast.adapters.storage.tuning import TuningRecords
from fxcast.errors import BadSetup
from tests.databases import DATABASES, new_database
from tests.tuning_record_factories import tuning_run

# As Alembic makes it; where Optuna's tables were then, Optuna had no revision.
PUT_BACK = (
    "DROP TABLE IF EXISTS alembic_version",
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))",
    "INSERT INTO alembic_version SELECT version_num FROM fxcast_version",
    "DROP TABLE fxcast_version",
)


def execute(url: str, *statements: str) -> list[Any]:
    """Run statements in one transaction; the rows of the last."""
    engine, rows = make_engine(url), list[Any]()
    with engine.begin() as connection:
        for statement in statements:
            result = connection.execute(text(statement))
            rows = list(result.all()) if result.returns_rows else []
    engine.dispose()
    return rows


def tables_of(url: str) -> set[str]:
    engine = make_engine(url)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def check_moved(url: str, revision: str = SCHEMA_REVISION) -> None:
    assert execute(url, "SELECT version_num FROM fxcast_version") == [(revision,)]
    assert "alembic_version" not in tables_of(url)
    assert revision_of(url) == revision


@pytest.fixture(params=DATABASES)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database at 0005 with a row in it, made before the revision was moved."""
    url = new_database(request.param, tmp_path)
    if request.param == "sqlite":
        make_engine(url).connect().close()
    command.upgrade(alembic_config(url), "0005")
    execute(url, "INSERT INTO engine_settings VALUES ('c0ffee', '{}')", *PUT_BACK)
    return url


@pytest.fixture
def old_with_search(url: str) -> str:
    """A database with a search and its study, made before the revision was moved."""
    TuningRecords(open_database(url)).begin(tuning_run())
    optuna.create_study(storage=open_studies(url), study_name="majors")
    execute(url, *PUT_BACK)
    return url


def test_an_older_database_is_told_as_outdated_and_migrated_with_its_rows(old: str) -> None:
    assert revision_of(old) == "0005"
    with pytest.raises(BadSetup, match=rf"found schema revision 0005, expected {SCHEMA_REVISION}; .*jobs\.migrate"):
        open_database(old)

    migrate(old)

    check_moved(old)
    open_database(old).dispose()
    assert execute(old, "SELECT settings_hash FROM engine_settings") == [("c0ffee",)]


def test_a_revision_in_the_old_place_is_refused_with_the_command_that_moves_it_and_keeps_the_studies(
    old_with_search: str,
) -> None:
    url = old_with_search
    assert revision_of(url) == SCHEMA_REVISION
    for attempt in (open_database, open_studies):
        with pytest.raises(
            BadSetup, match=r"found its schema revision in alembic_version, expected it in fxcast_version; .*jobs\.migrate"
        ):
            attempt(url)

    job = [sys.executable, "-m", "jobs.migrate", "--database-url", url]
    path = os.pathsep.join(["platform", os.environ.get("PYTHONPATH", "")])
    subprocess.run(job, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True)

    check_moved(url)
    assert TuningRecords(open_database(url)).run("majors") is not None
    assert [study.study_name for study in open_studies(url).get_all_studies()] == ["majors"]
    optunas = RDBStorage(url)  # with its own check
    assert optunas.get_current_version() == optunas.get_head_version()
    migrate(url)
    assert revision_of(url) == SCHEMA_REVISION


def test_an_older_database_goes_down_and_up_again(old: str) -> None:
    command.downgrade(alembic_config(old), "0004")

    check_moved(old, "0004")

    migrate(old)
    command.downgrade(alembic_config(old), "base")

    assert revision_of(old) is None
    assert tables_of(old) == {"fxcast_version"}

    migrate(old)

    check_moved(old)


def test_a_migration_that_fails_leaves_the_revision_where_it_was(old: str) -> None:
    execute(old, "CREATE TABLE promotions (mine TEXT)")  # created last by 0006

    with pytest.raises((OperationalError, ProgrammingError), match=r"promotions.* already exists"):
        migrate(old)

    assert execute(old, "SELECT version_num FROM alembic_version") == [("0005",)]
    assert "fxcast_version" not in tables_of(old)


def test_a_newer_database_in_the_old_place_is_refused_and_not_touched(old: str) -> None:
    execute(old, "UPDATE alembic_version SET version_num = '9999'")

    for attempt in (open_database, migrate):
        with pytest.raises(BadSetup, match=r"found schema revision 9999.*this fxcast is older than the database"):
            attempt(old)

    assert "fxcast_version" not in tables_of(old)


@pytest.mark.parametrize("kind", DATABASES)
def test_a_revision_of_somebody_else_is_none_of_ours_and_stays(kind: str, tmp_path: Path) -> None:
    url = new_database(kind, tmp_path)
    execute(url, PUT_BACK[1], "INSERT INTO alembic_version VALUES ('v3.2.0.a')")

    assert revision_of(url) is None
    migrate(url)

    assert execute(url, "SELECT version_num FROM alembic_version") == [("v3.2.0.a",)]
    assert revision_of(url) == SCHEMA_REVISION


def test_a_revision_that_is_moved_while_it_is_read_is_found(old: str) -> None:
    engine, moved = make_engine(old), list[str]()

    @event.listens_for(engine, "before_cursor_execute")
    def move(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM alembic_version" in statement and not moved:
            moved.append(statement)
            migrate(old)

    with engine.connect() as connection:
        found = read_revision(connection)
    engine.dispose()

    assert moved
    assert found == (SCHEMA_REVISION if old.startswith("postgresql") else "0005")  # SQLite reads on at the moment where it began
    check_moved(old)


def test_of_two_processes_that_migrate_an_older_database_at_once_both_can(old: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2, timeout=120)
    both = [spawn.Process(target=migrate_at_once, args=(old, start)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()

    assert [process.exitcode for process in both] == [0, 0]
    check_moved(old)
    assert execute(old, "SELECT settings_hash FROM engine_settings") == [("c0ffee",)]


def migrate_at_once(url: str, start: Barrier) -> None:
    """Migrate when the other process is ready, too."""
    start.wait()
    migrate(url)
