"""Optuna's studies, in the project's own database: its tables, and its revision in `alembic_version`, stand beside ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage

# The tables must be made and compared here, where whoever else begins a search waits; Optuna shows them nowhere else.
from optuna.storages._rdb import models  # pyright: ignore[reportPrivateUsage]
from sqlalchemy import Connection, column, inspect, select, table

from fxcast.adapters.storage.database import absolute_database_url, make_database_url, open_database, show_url, writing
from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.revision import OLD_VERSION_TABLE, VERSION_TABLE
from fxcast.errors import BadSetup, DatabaseUnavailable

_TABLES = models.BaseModel.metadata
OPTUNA_TABLES = frozenset({*_TABLES.tables, OLD_VERSION_TABLE})

_BUSY_TIMEOUT_S = 10.0  # as our own connections wait
_OUR_REVISION = table(VERSION_TABLE, column("version_num"))
_MIGRATIONS = Path(models.__file__).with_name("alembic")


def open_studies(database_url: str) -> RDBStorage:
    """Return Optuna's storage in a database of ours, in which its tables are made if there are none.

    It pickles: it is then opened again, from any working directory.

    Raises:
        BadSetup: If the database is not one of ours at the newest revision, or its Optuna tables are not those of this Optuna.
        DatabaseUnavailable: If it does not answer.
    """
    database = open_database(database_url)
    try:
        with answered(database):
            with database.connect() as connection:
                complete = _are_complete(connection, database_url)
            if not complete:
                with writing(database).begin() as connection:
                    # Of two that begin the first search, one waits here (SQLite takes the write lock anyway). Where the tables are
                    # there, nothing is locked or made: a role that may do neither works with them.
                    connection.execute(select(_OUR_REVISION).with_for_update())
                    _make_tables(connection, database_url)
            return _Studies(absolute_database_url(database_url))
    except StorageInternalError as error:
        raise DatabaseUnavailable(f"the database {show_url(database_url)} does not answer ({error.__cause__})") from error
    finally:
        database.dispose()


class _Studies(RDBStorage):
    """Optuna's storage whose tables are there."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        super().__init__(
            database_url.replace("{", "{{").replace("}", "}}"),  # Optuna takes a URL for a template
            engine_kwargs=_engine_settings(database_url),
            skip_table_creation=True,
        )

    def __reduce__(self) -> tuple[Callable[[str], RDBStorage], tuple[str]]:
        return open_studies, (self._database_url,)


def _engine_settings(url: str) -> dict[str, Any]:
    if make_database_url(url).get_backend_name() != "sqlite":
        return {"pool_pre_ping": True}
    # WAL is the file's own since its first migration; the driver begins transactions with their first write, so that they can wait.
    return {"connect_args": {"timeout": _BUSY_TIMEOUT_S}}


def _are_complete(connection: Connection, url: str) -> bool:
    """Tell whether Optuna's tables and their revision are there; refuse those of another version."""
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None or not _TABLES.tables.keys() <= set(inspect(connection).get_table_names()):
        return False
    _check_tables(connection, url, revision_differs=revision != ScriptDirectory(str(_MIGRATIONS)).get_current_head())
    return True


def _make_tables(connection: Connection, url: str) -> None:
    """Make Optuna's tables and write their revision as Optuna does, except that two can't do it at once."""
    migrations = ScriptDirectory(str(_MIGRATIONS))
    context = MigrationContext.configure(connection)
    revision = context.get_current_revision()
    _check_tables(connection, url, revision_differs=revision not in {None, migrations.get_current_head()})
    _TABLES.create_all(connection)
    if revision is None:
        context.stamp(migrations, "head")


def _check_tables(connection: Connection, url: str, *, revision_differs: bool) -> None:
    """Refuse Optuna's tables of another version; none at all are right, too."""
    inspector = inspect(connection)
    found = {
        name: {each["name"] for each in inspector.get_columns(name)}
        for name in _TABLES.tables.keys() & set(inspector.get_table_names())
    }
    if not found and not revision_differs:
        return
    info = models.VersionInfoModel
    version = None
    if found.get("version_info") == {each.name for each in _TABLES.tables["version_info"].columns}:
        version = connection.execute(select(info.schema_version, info.library_version)).first()
    needed = {name: {each.name for each in table.columns} for name, table in _TABLES.tables.items()}
    differing = [name for name in sorted(needed) if found.get(name) != needed[name]]
    if differing or revision_differs or (version is not None and version.schema_version != models.SCHEMA_VERSION):
        maker = "an unknown version" if version is None else f"version {version.library_version}"
        raise BadSetup(
            f"database {show_url(url)}: found tables of Optuna by {maker}, which differ from those of version {optuna.__version__} "
            f"in {', '.join(differing) or 'their schema version'}; bring older ones up to date with "
            f"`optuna storage upgrade --storage {show_url(url)}`, install the Optuna that made them, or use another database"
        )
