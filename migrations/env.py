"""Run migrations; the database is the Config's `sqlalchemy.url`, else FXCAST_DATABASE_URL."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from fxcast.adapters.storage.database import make_engine, show_url, writing
from fxcast.adapters.storage.revision import VERSION_TABLE, move_revision
from fxcast.adapters.storage.tables import Base
from fxcast.errors import BadSetup, DatabaseUnavailable

_LOCK = 0xF0CA57  # any number that nothing else locks in the same PostgreSQL database

# Who waits for a table lets all others wait behind it, also an engine: rather no migration than that.
_LOCK_TIMEOUT = "10s"
_GAVE_WAY = {"55P03", "40P01"}  # SQLSTATEs: no lock in time, and the one of a deadlock that was chosen to end


def _url() -> str:
    url = context.config.get_alembic_option("sqlalchemy.url") or os.environ.get("FXCAST_DATABASE_URL")
    if not url:
        raise BadSetup("no database named: set FXCAST_DATABASE_URL, or use `python -m jobs.migrate --database-url URL`")
    return url


def _write_sql() -> None:
    context.configure(url=_url(), target_metadata=Base.metadata, version_table=VERSION_TABLE, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def _migrate() -> None:
    try:
        _migrate_at_once()
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) not in _GAVE_WAY:
            raise
        raise DatabaseUnavailable(
            f"the database {show_url(_url())} was not migrated, and is as it was: others use its tables, as a backup "
            "does, and did not let go of them in time; try again"
        ) from error


def _migrate_at_once() -> None:
    engine = make_engine(_url())
    # A database is at the old revision or at the new one, never between: SQLite too can roll back DDL, once its
    # transactions are real (make_engine sees to that). The write lock comes first, so that of two migrations the second waits.
    with writing(engine).connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            version_table=VERSION_TABLE,
            include_name=_may_be_ours,
            transactional_ddl=True,
            user_module_prefix="types.",
        )
        with context.begin_transaction():
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
                # Unless the URL says another one: …&options=-c%20lock_timeout=60s
                patience = text("SELECT set_config('lock_timeout', :found, true) WHERE current_setting('lock_timeout') = '0'")
                connection.execute(patience, {"found": _LOCK_TIMEOUT})
            move_revision(connection)
            context.run_migrations()
    engine.dispose()


def _may_be_ours(name: str | None, kind: str, _parents: object) -> bool:
    from fxcast.adapters.storage.studies import OPTUNA_TABLES  # only `alembic check` and the like need Optuna

    return kind != "table" or name not in OPTUNA_TABLES


if context.is_offline_mode():
    _write_sql()
else:
    _migrate()
