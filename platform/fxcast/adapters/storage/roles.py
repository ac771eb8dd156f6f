"""Least privilege on PostgreSQL: what the role of the jobs and actors may do, and that of people who look.

Neither may make, change or drop a table; migrations are run by the role that owns them.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, text

from fxcast.adapters.storage.backup_tables import our_tables, study_tables
from fxcast.adapters.storage.database import make_engine, open_database, show_url
from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.revision import OLD_VERSION_TABLE, VERSION_TABLE
from fxcast.adapters.storage.studies import open_studies
from fxcast.errors import BadSetup

# What the code does with a table beyond reading it and adding rows; a test runs all that writes with these rights.
_UPDATED = frozenset(
    {
        "access_tokens",
        "backtests",
        "engine_leases",
        "engine_states",
        "equity",
        "ldm4ts_inference_metrics",
        "ldm4ts_model_metadata",
        "ldm4ts_model_quality",
        "ldm4ts_predictions",
        "orders",
        "positions",
        "promotions",
        "protection_changes",
        "settings_versions",
        "tuning_folds",
        "tuning_runs",
        "tuning_trials",
        "walk_forward_folds",
        "walk_forwards",
    }
)
_DELETED = frozenset({"backtest_trades", "decisions"})

_SECRET_COLUMNS = {"access_tokens": {"token_hash"}}  # not for those who look

_Grant = Callable[[Connection, str], None]


def grant_to_app(url: str, role: str) -> None:
    """Let a role do with the tables what jobs and actors do, and take every other right on them from it.

    Optuna's tables are made, if they are not there: the role can't make them when a search begins.

    Args:
        url: Of the database, as the role that owns its tables, at the newest revision.
        role: One that exists. A person makes it, with its password: `CREATE ROLE fxcast_app LOGIN PASSWORD '…'`.

    Raises:
        BadSetup: If the database is not PostgreSQL, or there is no such role, or it is one that may do anything anyway.
        DatabaseUnavailable: If the database does not answer.
    """
    _require_postgresql(url)
    open_studies(url).engine.dispose()
    _grant(url, role, _grant_app)


def grant_to_reader(url: str, role: str) -> None:
    """Let a role read every table but the hashes of access tokens, and take every other right from it.

    Args and errors are those of `grant_to_app`.
    """
    _require_postgresql(url)
    _grant(url, role, _grant_reader)


def _require_postgresql(url: str) -> None:
    engine = make_engine(url)
    kind = engine.dialect.name
    engine.dispose()
    if kind != "postgresql":
        raise BadSetup(f"database {show_url(url)}: found {kind}, which has no roles; allowed: postgresql")


def _grant(url: str, role: str, grant: _Grant) -> None:
    engine = open_database(url)
    try:
        with answered(engine), engine.begin() as connection:
            _check_role(connection, role)
            quoted = connection.dialect.identifier_preparer.quote_identifier(role)
            for statement in (
                # What every role may do by default on older servers, and what this one was once granted.
                "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
                f"REVOKE TEMPORARY ON DATABASE {_database(connection)} FROM PUBLIC",
                f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {quoted}",
                f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {quoted}",
                f"REVOKE ALL ON SCHEMA public FROM {quoted}",
                f"REVOKE ALL ON DATABASE {_database(connection)} FROM {quoted}",
                f"GRANT CONNECT ON DATABASE {_database(connection)} TO {quoted}",
                f"GRANT USAGE ON SCHEMA public TO {quoted}",
            ):
                connection.execute(text(statement))
            grant(connection, quoted)
    finally:
        engine.dispose()


def _check_role(connection: Connection, role: str) -> None:
    query = text("SELECT rolsuper, rolcreatedb, rolcreaterole, rolname = current_user FROM pg_roles WHERE rolname = :role")
    found = connection.execute(query, {"role": role}).one_or_none()
    if found is None:
        raise BadSetup(f"role {role}: there is none; make it first: CREATE ROLE {role} LOGIN PASSWORD '…'")
    if any(found):
        raise BadSetup(f"role {role}: found a superuser, one that makes databases or roles, or the owner; allowed: one of its own")


def _grant_app(connection: Connection, role: str) -> None:
    for table in our_tables():
        rights = ["SELECT", "INSERT"]
        rights += ["UPDATE"] if table.name in _UPDATED else []
        rights += ["DELETE"] if table.name in _DELETED else []
        connection.execute(text(f'GRANT {", ".join(rights)} ON "{table.name}" TO {role}'))
    for name in [each.name for each in study_tables(connection)]:
        rights = "SELECT" if name == "version_info" else "SELECT, INSERT, UPDATE"
        connection.execute(text(f'GRANT {rights} ON "{name}" TO {role}'))
    for name in (VERSION_TABLE, OLD_VERSION_TABLE):
        connection.execute(text(f'GRANT SELECT ON "{name}" TO {role}'))
    connection.execute(text(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}"))


def _grant_reader(connection: Connection, role: str) -> None:
    for table in (*our_tables(), *study_tables(connection)):
        secret = _SECRET_COLUMNS.get(table.name, set[str]())
        columns = ", ".join(f'"{column.name}"' for column in table.columns if column.name not in secret)
        connection.execute(text(f'GRANT SELECT{f" ({columns})" if secret else ""} ON "{table.name}" TO {role}'))
    connection.execute(text(f'GRANT SELECT ON "{VERSION_TABLE}" TO {role}'))


def _database(connection: Connection) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(str(connection.engine.url.database))
