"""Run migrations; the database is the Config's `sqlalchemy.url`, else FXCAST_DATABASE_URL."""

from __future__ import annotations

import os

from alembic import context

from fxcast.adapters.storage.database import make_engine, writing
from fxcast.adapters.storage.tables import Base
from fxcast.errors import BadSetup


def _url() -> str:
    url = context.config.get_alembic_option("sqlalchemy.url") or os.environ.get("FXCAST_DATABASE_URL")
    if not url:
        raise BadSetup("no database named: set FXCAST_DATABASE_URL, or use `python -m jobs.migrate --database-url URL`")
    return url


def _write_sql() -> None:
    context.configure(url=_url(), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def _migrate() -> None:
    engine = make_engine(_url())
    # A database is at the old revision or at the new one, never between: SQLite too can roll back DDL, once its
    # transactions are real (make_engine sees to that). The write lock comes first, so that of two migrations the second waits.
    with writing(engine).connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True, user_module_prefix="types.")
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


if context.is_offline_mode():
    _write_sql()
else:
    _migrate()
