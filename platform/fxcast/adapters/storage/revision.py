"""Where a database keeps the revision of its schema.

It is a table of our own: `alembic_version`, which Alembic would take and older databases have, is Optuna's.
"""

from __future__ import annotations

import re

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, inspect
from sqlalchemy.exc import ProgrammingError

VERSION_TABLE = "fxcast_version"
OLD_VERSION_TABLE = "alembic_version"

_OURS = re.compile(r"\d{4}")  # Optuna's look like v3.2.0.a
_NO_SUCH_TABLE = "42P01"  # SQLSTATE


def read_revision(connection: Connection) -> str | None:
    """Return the revision of our schema, wherever it lies; None if there is none."""
    # In this order: another process may move it between the two.
    found = old_revision(connection)
    if found is not None:
        return found
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def old_revision(connection: Connection) -> str | None:
    """Return the revision of our schema if it still lies in `alembic_version`; None if not, or if that table is not ours."""
    if inspect(connection).has_table(VERSION_TABLE):
        return None
    try:
        with connection.begin_nested():
            found = MigrationContext.configure(connection, opts={"version_table": OLD_VERSION_TABLE}).get_current_heads()
    except ProgrammingError as error:
        # Another process moved it away between Alembic's look for the table and its reading of it.
        if getattr(error.orig, "sqlstate", None) != _NO_SUCH_TABLE:
            raise
        return None
    return found[0] if len(found) == 1 and _OURS.fullmatch(found[0]) else None


def move_revision(connection: Connection) -> None:
    """Move the revision into our own table, if it still lies in `alembic_version`; commit that with what follows."""
    found = old_revision(connection)
    if found is None:
        return
    # Made anew, as Alembic makes it, and not renamed: the index of a renamed one keeps a name that Optuna's table needs.
    number = Column("version_num", String(32), nullable=False)
    table = Table(VERSION_TABLE, MetaData(), number, PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"))
    table.create(connection)
    connection.execute(table.insert().values(version_num=found))
    Table(OLD_VERSION_TABLE, MetaData()).drop(connection)
