"""The schema: migrated, checked when a database is opened, and the same as the models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import OperationalError

from fxcast.adapters.storage.database import (
    ROOT,
    alembic_config,
    make_engine,
    migrate,
    open_database,
    revision_of,
    show_url,
)
from fxcast.adapters.storage.tables import SCHEMA_REVISION, Base
from fxcast.errors import BadSetup


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'fx.db'}"


@pytest.fixture
def database(url: str) -> Engine:
    migrate(url)
    return open_database(url)


def pragma(engine: Engine, name: str) -> object:
    with engine.connect() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar_one()


def test_the_migrated_schema_is_the_one_of_the_models(database: Engine) -> None:
    with database.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)

    assert differences == []


def test_the_comparison_notices_a_missing_column(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE fills DROP COLUMN profit"))
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)

    assert [difference[0] for difference in differences] == ["add_column"]


def test_the_revision_in_the_code_is_the_newest_migration() -> None:
    heads = ScriptDirectory.from_config(alembic_config("sqlite://")).get_heads()

    assert heads == [SCHEMA_REVISION]


def test_downgrading_to_base_leaves_no_table(database: Engine, url: str) -> None:
    command.downgrade(alembic_config(url), "base")

    assert inspect(database).get_table_names() == ["alembic_version"]
    assert revision_of(url) is None


def test_the_three_ldm4ts_tables_have_exactly_seven_indexes(database: Engine) -> None:
    inspector = inspect(database)
    tables = ["ldm4ts_predictions", "ldm4ts_model_metadata", "ldm4ts_inference_metrics"]
    indexes = {index["name"] for table in tables for index in inspector.get_indexes(table)}

    assert indexes == {
        "ix_ldm4ts_predictions_made_at",
        "ix_ldm4ts_predictions_model_version",
        "ix_ldm4ts_predictions_symbol_horizon",
        "ix_ldm4ts_predictions_resolved_at",
        "ix_ldm4ts_model_metadata_active",
        "ix_ldm4ts_model_metadata_created_at",
        "ix_ldm4ts_inference_metrics_version",
    }


def test_migrating_again_changes_nothing(database: Engine, url: str) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO engine_states VALUES ('demo', '{}', '2024-03-01 00:00:00.000000')"))

    migrate(url)

    with database.connect() as connection:
        assert connection.execute(text("SELECT engine_id FROM engine_states")).scalars().all() == ["demo"]


def test_a_migration_that_fails_leaves_the_database_as_it_was(url: str) -> None:
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE signals (mine TEXT)"))  # created last by the migration

    with pytest.raises(OperationalError, match="signals already exists"):
        migrate(url)

    assert inspect(engine).get_table_names() == ["signals"]


def test_sqlite_is_opened_with_wal_foreign_keys_and_patience(database: Engine) -> None:
    assert pragma(database, "journal_mode") == "wal"
    assert pragma(database, "foreign_keys") == 1
    assert pragma(database, "synchronous") == 1  # NORMAL
    assert pragma(database, "busy_timeout") == 10_000


def test_an_outdated_database_is_refused_with_its_revision_and_the_command(database: Engine, url: str) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))

    with pytest.raises(BadSetup) as refusal:
        open_database(url)

    assert str(refusal.value) == (
        f"database {url}: found schema revision 0000, expected {SCHEMA_REVISION}; mend it with "
        f"`python -m jobs.migrate --database-url {url}` or `FXCAST_DATABASE_URL={url} alembic upgrade head`"
    )


def test_a_database_without_a_schema_is_refused(url: str) -> None:
    with make_engine(url).connect() as connection:
        connection.execute(text("SELECT 1"))

    with pytest.raises(BadSetup, match=rf"found no schema revision, expected {SCHEMA_REVISION}; .*jobs\.migrate"):
        open_database(url)


def test_a_database_newer_than_the_code_is_refused_and_not_migrated(database: Engine, url: str) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    for attempt in (open_database, migrate):
        with pytest.raises(BadSetup, match=r"found schema revision 9999.*this fxcast is older than the database"):
            attempt(url)


def test_opening_a_missing_file_is_refused_and_does_not_create_it(tmp_path: Path) -> None:
    with pytest.raises(BadSetup, match=r"there is no such file; mend it with `python -m jobs\.migrate"):
        open_database(f"sqlite:///{tmp_path / 'typo.db'}")

    assert list(tmp_path.iterdir()) == []


def test_a_database_that_cannot_be_reached_is_refused_by_its_url(tmp_path: Path) -> None:
    for attempt in (open_database, migrate, revision_of):
        with pytest.raises(BadSetup, match=f"database sqlite:///{tmp_path} can't be reached: unable to open"):
            attempt(f"sqlite:///{tmp_path}")  # a folder


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fx.db").write_text("time,open,high,low,close\n" * 50)

    with pytest.raises(BadSetup, match=r"fx\.db can't be reached: file is not a database"):
        open_database(f"sqlite:///{tmp_path / 'fx.db'}")


@pytest.mark.parametrize(
    "url",
    ["postgresql+nodriver://trader:s3cret@localhost/fx", "nosuch://trader:s3cret@localhost/fx", "trader:s3cret@localhost"],
)
def test_no_refusal_shows_the_password(url: str) -> None:
    with pytest.raises(BadSetup) as refusal:
        open_database(url)

    assert "s3cret" not in str(refusal.value)
    assert "database" in str(refusal.value)


def test_a_password_among_the_options_is_hidden_too() -> None:
    assert "s3cret" not in show_url("postgresql://localhost/fx?user=trader&password=s3cret")


def test_a_password_with_a_per_cent_sign_survives_alembic() -> None:
    url = "postgresql://trader:a%40b@localhost/fx"

    assert alembic_config(url).get_main_option("sqlalchemy.url") == url


def test_the_job_creates_the_folder_and_the_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs' / 'deep' / 'fx.db'}"

    ran = run_module("jobs.migrate", "--database-url", url)

    assert ran.returncode == 0, ran.stderr
    assert revision_of(url) == SCHEMA_REVISION


def test_the_job_refuses_in_one_sentence(tmp_path: Path) -> None:
    ran = run_module("jobs.migrate", "--database-url", f"sqlite:///{tmp_path}")

    assert ran.returncode == 2
    assert "can't be reached" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_alembic_itself_migrates_the_database_of_the_environment(url: str) -> None:
    ran = run_module("alembic", "upgrade", "head", FXCAST_DATABASE_URL=url)

    assert ran.returncode == 0, ran.stderr
    assert revision_of(url) == SCHEMA_REVISION


def run_module(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": "platform", "PATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
