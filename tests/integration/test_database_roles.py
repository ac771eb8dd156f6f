"""The rights of the role that jobs and actors use on PostgreSQL, and of that of people who look."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

import jobs.migrate
from fxcast.adapters.storage.database import make_engine, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.tables import Base
from jobs.entry import run
from tests.databases import DATABASES, new_database
from tests.integration.filled_database import counts_of, fill_database, study, study_rows_of
from tests.state import job_database

pytestmark = list(DATABASES[1].marks)  # pyright: ignore[reportAttributeAccessIssue]  # a pytest.param


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One database as its owner, its app and its reader see it; all rows were written by the app's role."""
    url = new_database("postgresql", tmp_path_factory.mktemp("roles"))
    owner = make_engine(url)
    with owner.begin() as connection:
        for role in ("fxcast_app", "fxcast_read"):
            connection.execute(text(f"CREATE ROLE {role} LOGIN"))
    owner.dispose()
    for _ in range(2):  # as after each migration
        assert migrate(url, "--grant-to", "fxcast_app", "--grant-read-to", "fxcast_read") == 0
    shown = {name: url.replace("fxcast@", f"{name}@") for name in ("fxcast_app", "fxcast_read")}
    return {"owner": url, "app": shown["fxcast_app"], "reader": shown["fxcast_read"]}


def migrate(url: str, *options: str) -> int:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["jobs.migrate", "--database-url", url, *options])
        return run(jobs.migrate.main)


def refused(url: str, statement: str) -> str:
    engine = make_engine(url)
    try:
        with pytest.raises(ProgrammingError) as refusal, engine.begin() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()
    return str(refusal.value.orig)


def test_the_app_can_do_all_that_jobs_and_actors_do(urls: dict[str, str], tmp_path: Path) -> None:
    database = open_database(urls["app"])
    fill_database(database, models=tmp_path)
    study(urls["app"])

    assert all(counts_of(database).values())
    assert len(study_rows_of(open_database(urls["owner"]))["trials"]) == 2
    database.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "DROP TABLE orders",
        "ALTER TABLE orders DROP COLUMN reason",
        "TRUNCATE fills",
        "DELETE FROM fills",
        "UPDATE fills SET price = 1",
        "DELETE FROM promotions",
        "UPDATE kill_switch_requests SET kill_switch = 'active'",
        "DELETE FROM trials",
        "UPDATE fxcast_version SET version_num = '9999'",
    ],
)
def test_the_app_can_do_nothing_else(urls: dict[str, str], statement: str) -> None:
    problem = refused(urls["app"], statement)
    assert "permission denied" in problem or "must be owner" in problem


def test_the_reader_reads_all_but_secrets_and_writes_nothing(urls: dict[str, str]) -> None:
    reader = open_database(urls["reader"])
    tables = sorted(Base.metadata.tables.keys() - {"access_tokens"})
    with reader.connect() as connection:
        for name in [*tables, "trials", "fxcast_version"]:
            connection.execute(text(f'SELECT * FROM "{name}"'))  # noqa: S608 (our tables)
        connection.execute(text("SELECT name, scopes, expires_at FROM access_tokens"))
    SqlLedger(reader, "demo").orders()
    reader.dispose()

    assert "permission denied" in refused(urls["reader"], "SELECT token_hash FROM access_tokens")
    for name in tables:
        for statement in (f'DELETE FROM "{name}"', f'INSERT INTO "{name}" DEFAULT VALUES', f'TRUNCATE "{name}"'):  # noqa: S608 (our tables)
            assert "permission denied" in refused(urls["reader"], statement)
    assert "permission denied" in refused(urls["reader"], "CREATE TABLE mine (id int)")
    assert "permission denied" in refused(urls["reader"], "SELECT nextval('promotions_id_seq')")


@pytest.mark.parametrize(
    ("role", "problem"),
    [
        ("nobody_at_all", "role nobody_at_all: there is none; make it first: CREATE ROLE nobody_at_all LOGIN PASSWORD"),
        ("fxcast", "role fxcast: found a superuser, one that makes databases or roles, or the owner"),
    ],
)
def test_a_role_that_is_missing_or_may_do_anything_is_refused(
    urls: dict[str, str], role: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert migrate(urls["owner"], "--grant-to", role) == 2
    assert problem in capsys.readouterr().err


def test_sqlite_has_no_roles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert migrate(job_database(tmp_path, "fx"), "--grant-to", "fxcast_app") == 2
    assert "found sqlite, which has no roles; allowed: postgresql" in capsys.readouterr().err
