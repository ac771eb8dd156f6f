"""Open a database and bring its schema up to date."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection as SqliteConnection

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from fxcast.adapters.storage.revision import OLD_VERSION_TABLE, VERSION_TABLE, old_revision, read_revision
from fxcast.adapters.storage.tables import SCHEMA_REVISION, Base
from fxcast.errors import BadSetup, DatabaseUnavailable

Database = Engine  # the name for those who only pass it on: SQLAlchemy stays in the adapters

ROOT = Path(__file__).resolve().parents[4]
_BUSY_TIMEOUT_MS = 10_000

# A PostgreSQL server whose machine or network is gone says nothing, and libpq would wait for it for hours. In libpq's own words;
# what the URL says goes before them.
_LIBPQ_DRIVERS = ("psycopg", "psycopg2")
_PATIENCE = {
    "connect_timeout": 10,  # seconds, for each host
    "keepalives_idle": 10,  # seconds of silence until it is asked for a sign of life
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds until what was sent must have arrived
}
_READ_ONLY = "25006"  # SQLSTATE of "cannot execute … in a read-only transaction"


def open_database(url: str) -> Engine:
    """Return an engine on a database whose schema is the one this code was written for.

    Raises:
        BadSetup: If the database can't be reached, or its schema is not at the newest revision.
    """
    if missing_sqlite_file(make_database_url(url)) is not None:
        raise BadSetup(f"database {show_url(url)}: there is no such file; {_remedy(url)}")
    engine = make_engine(url)
    try:
        with _reaching(url), engine.connect() as connection:
            found, old = read_revision(connection), old_revision(connection)
        if found != SCHEMA_REVISION:
            raise BadSetup(_mismatch(url, found))
        if old is not None:
            raise BadSetup(
                f"database {show_url(url)}: found its schema revision in {OLD_VERSION_TABLE}, expected it in {VERSION_TABLE}; "
                + _remedy(url)
            )
    except BadSetup:
        engine.dispose()
        raise
    return engine


def migrate(url: str) -> None:
    """Bring a database to the newest revision, creating a SQLite file and its folder if they are missing.

    Tables of Optuna are left alone.

    Raises:
        BadSetup: If the database can't be reached or is newer than this code, or if the migrations are not beside this
            code (a wheel has none).
    """
    missing = missing_sqlite_file(make_database_url(url))
    if missing is not None:
        try:
            missing.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadSetup(f"database {show_url(url)}: its folder can't be made ({error})") from None
    engine = make_engine(url)
    try:
        found = _revision(engine, url)
    finally:
        engine.dispose()
    if found is not None and found > SCHEMA_REVISION:
        raise BadSetup(_mismatch(url, found))
    command.upgrade(alembic_config(url), "head")


def revision_of(url: str) -> str | None:
    """Return the schema revision of a database, None if it has none (or there is no such file).

    Raises:
        BadSetup: If the database can't be reached.
    """
    if missing_sqlite_file(make_database_url(url)) is not None:
        return None
    engine = make_engine(url)
    try:
        return _revision(engine, url)
    finally:
        engine.dispose()


@contextmanager
def answering(url: str) -> Generator[None]:
    """Turn whatever a database does instead of answering into one error.

    Raises:
        DatabaseUnavailable: Instead of it, without what the driver says of the connection.
    """
    try:
        yield
    except (SQLAlchemyError, BadSetup) as error:
        raise DatabaseUnavailable(f"the database {show_url(url)} does not answer ({type(error).__name__})") from error


def make_engine(url: str) -> Engine:
    """Return an engine without looking at the schema; SQLite gets WAL, foreign keys and real transactions.

    Raises:
        BadSetup: If the URL can't be read or its driver is not installed.
    """
    parsed = make_database_url(url)
    try:
        is_libpq = parsed.get_driver_name() in _LIBPQ_DRIVERS
        patience = {name: value for name, value in _PATIENCE.items() if is_libpq and name not in parsed.query}
        engine = create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite", connect_args=patience)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise BadSetup(f"database {show_url(url)}: no driver for it is installed ({error})") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "handle_error", _leave_unusable_connections)
    return engine


def make_database_url(url: str) -> URL:
    """Parse a database URL.

    Raises:
        BadSetup: If it is none. The text is not repeated: it may hold a password.
    """
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise BadSetup("the database URL can't be read; expected something like sqlite:///runs/fxcast.db") from None


def show_url(url: str) -> str:
    """Return a database URL that is safe to show: the password is hidden, wherever it stands."""
    return make_database_url(url).difference_update_query(["password"]).render_as_string(hide_password=True)


def alembic_config(url: str) -> Config:
    """Return Alembic's configuration for a database, read from `[tool.alembic]` of the repository's pyproject.toml.

    Raises:
        BadSetup: If the repository's files are not there.
    """
    if not (ROOT / "migrations" / "env.py").is_file():
        raise BadSetup(f"no migrations under {ROOT}; migrate from a checkout of the repository")
    config = Config(toml_file=ROOT / "pyproject.toml")
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def writing(engine: Engine) -> Engine:
    """Return the engine for transactions that write: on SQLite they take the write lock first.

    A transaction that reads and then writes fails at once, whatever the timeout, when another wrote in between.
    """
    return engine.execution_options(fxcast_writes=True)


def insert_into(connection: Connection, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """Return the INSERT of the connection's database, which knows what to do on a conflict."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def _prepare_sqlite(connection: SqliteConnection, _: ConnectionPoolEntry) -> None:
    # The driver would begin transactions only before INSERT and the like, and never before DDL; `_begin_sqlite` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")  # first: switching to WAL may have to wait
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    # A checkpoint comes inside a commit, and an order waits for it: rarely then (40 MB), and for longer, than often.
    cursor.execute("PRAGMA wal_autocheckpoint=10000")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("fxcast_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _leave_unusable_connections(context: ExceptionContext) -> None:
    """Give up connections that look alive, but would say the same for good.

    To a server that takes no writes any more, because another one does since a failover; and those whose prepared statements are
    for tables as they were before a migration.
    """
    error = context.original_exception
    if getattr(error, "sqlstate", None) == _READ_ONLY or "cached plan must not change result type" in str(error):
        context.is_disconnect = True


def missing_sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL if there is none yet: connecting would create it, empty. None of any other URL."""
    if url.get_backend_name() != "sqlite" or url.database in {None, "", ":memory:"}:
        return None
    path = Path(str(url.database))
    return None if path.exists() or str(path).startswith("file:") else path


def sqlite_file_identity(url: str) -> tuple[int, int] | None:
    """Return what tells a SQLite file from another one at its place; None of a server's database, or if there is no file.

    A connection that is open goes on reading a file that was moved away or replaced.
    """
    parsed = make_database_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in {None, "", ":memory:"}:
        return None
    try:
        found = Path(str(parsed.database)).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _revision(engine: Engine, url: str) -> str | None:
    with _reaching(url), engine.connect() as connection:
        return read_revision(connection)


@contextmanager
def _reaching(url: str) -> Generator[None]:
    try:
        yield
    except DBAPIError as error:
        raise BadSetup(f"database {show_url(url)} can't be reached: {error.orig}") from None


def _mismatch(url: str, found: str | None) -> str:
    start = f"database {show_url(url)}: found {'no schema revision' if found is None else f'schema revision {found}'}, "
    start += f"expected {SCHEMA_REVISION}; "
    if found is not None and found > SCHEMA_REVISION:  # revisions are numbered
        return start + "this fxcast is older than the database: update it"
    return start + _remedy(url)


def _remedy(url: str) -> str:
    shown = show_url(url)
    return f"mend it with `python -m jobs.migrate --database-url {shown}` or `FXCAST_DATABASE_URL={shown} alembic upgrade head`"


def absolute_database_url(url: str) -> str:
    """Return a URL that means the same database from any working directory: a SQLite file gets its absolute path.

    Raises:
        BadSetup: If it can't be read.
    """
    parsed = make_database_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return url
    return parsed.set(database=str(Path(parsed.database).absolute())).render_as_string(hide_password=False)
