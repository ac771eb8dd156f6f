"""What a database does instead of answering, told apart from our own bugs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fxcast.adapters.storage.database import show_url
from fxcast.errors import DatabaseUnavailable

# A server that is gone, shutting down or out of connections; a file that is locked, full, read-only or away; and what PostgreSQL
# says once another server has become the one to write to.
_OUTAGES = (OperationalError, InterfaceError, InternalError, PoolTimeout)

# SQLSTATEs of a PostgreSQL database that was taken back to an older schema under who uses it: a table or a column is not there
# (SQLite raises an OperationalError). Nothing is saved then, and who waits goes on when the schema is back.
_OTHER_SCHEMA = frozenset({"42P01", "42703"})


@contextmanager
def answered(engine: Engine) -> Generator[None]:
    """Tell an outage of the database from a bug of ours, which is raised as it is (a broken constraint, a value of a wrong type).

    Raises:
        DatabaseUnavailable: If the database does not answer. What was to be saved is not, except where the connection broke while
            the database was saving it: then it may be. Saving the same again is right in both cases.
    """
    try:
        yield
    except SQLAlchemyError as error:
        if not _is_outage(error):
            raise
        url = show_url(engine.url.render_as_string(hide_password=False))
        raise DatabaseUnavailable(f"the database {url} does not answer ({_words(error)})") from error


def _is_outage(error: SQLAlchemyError) -> bool:
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _OTHER_SCHEMA:
        return True
    # The class itself and none of its children: SQLite's word for a file that is damaged or no database.
    return isinstance(error, _OUTAGES) or type(error) is DatabaseError


def _words(error: SQLAlchemyError) -> str:
    """Return what the driver said in one line; it never repeats a password."""
    said = str(error.orig) if isinstance(error, DBAPIError) and error.orig is not None else type(error).__name__
    return " ".join(said.split())
