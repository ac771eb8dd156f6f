"""Restore a backup into a place that is empty: the database, the candle store and the models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alembic import command
from pyarrow import ArrowException
from sqlalchemy import Connection, MetaData, Table, TableClause, column, func, inspect, literal, select, table, update
from sqlalchemy.exc import NoSuchTableError

from fxcast.adapters.storage.backup_files import Place, shown
from fxcast.adapters.storage.backup_manifest import FolderContent, Manifest, TableFile, object_name, read_manifest
from fxcast.adapters.storage.backup_tables import column_type, our_tables, read_table, study_tables
from fxcast.adapters.storage.database import (
    alembic_config,
    make_database_url,
    make_engine,
    migrate,
    missing_sqlite_file,
    revision_of,
    show_url,
    writing,
)
from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.tables import SCHEMA_REVISION, ModelRow
from fxcast.errors import BadSetup, Conflict

_VERSION_OF_STUDIES = "version_info"  # one row, which Optuna writes with the tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to restore to; a part that is None is left out."""

    database_url: str | None
    store: Place | None
    models: Place | None


def check_backup(place: Place, name: str) -> Manifest:
    """Read every file of a backup; nothing is written.

    Returns:
        What it holds.

    Raises:
        NotFound: If there is no such backup.
        BadSetup: If it was never finished, if a file is missing or damaged, or if it was made by a newer fxcast.
        Unavailable: If the place does not answer.
    """
    manifest = read_manifest(place, name)
    where = f"backup {place.root}/{name}"
    if manifest.database is not None:
        revision = manifest.database.schema_revision
        if revision > SCHEMA_REVISION:  # revisions are numbered
            raise BadSetup(
                f"{where}: found schema revision {revision}, made by fxcast {manifest.fxcast_version}; allowed: up to "
                f"{SCHEMA_REVISION}; this fxcast is older than the backup: update it"
            )
        for each in (*manifest.database.tables, *manifest.database.study_tables):
            _check_file(place, f"{name}/{each.file}", each.sha256, f"table {each.name}")
    # One content may have several names, and is read once.
    contents = {each.sha256: each.name for folder in manifest.folders() for each in folder.files}
    for sha256, original in contents.items():
        _check_file(place, object_name(sha256), sha256, original)
    return manifest


def restore_backup(place: Place, name: str, target: Target) -> Manifest:
    """Restore a backup, once every file of it has been read and found whole and every part of the target empty.

    Files come first and the rows of the database last, in one transaction: a database with rows is a whole one.

    Returns:
        What was restored.

    Raises:
        NotFound: As `check_backup`.
        BadSetup: As `check_backup`, or if a part of the target is not empty (what was found), or is not in the backup.
        DatabaseUnavailable: If the database does not answer.
        Unavailable: If another place does not.
    """
    manifest = check_backup(place, name)
    _check_parts(manifest, target, f"backup {place.root}/{name}")
    for folder in (target.store, target.models):
        if folder is not None:
            _require_empty_folder(folder)
    if target.database_url is not None:
        _require_empty_database(target.database_url)
    for folder, content in ((target.store, manifest.store), (target.models, manifest.models)):
        if folder is not None and content is not None:
            _restore_files(place, folder, content)
    if target.database_url is not None and manifest.database is not None:
        _restore_database(place, name, manifest, target)
    return manifest


def _check_file(place: Place, file: str, sha256: str, what: str) -> None:
    found = place.digest(file)
    if found is None:
        raise BadSetup(f"backup {place.root}/{file} ({what}): the file is missing")
    if found[0] != sha256:
        raise BadSetup(f"backup {place.root}/{file} ({what}): the file is damaged: found SHA-256 {found[0]}, expected {sha256}")


def _check_parts(manifest: Manifest, target: Target, where: str) -> None:
    wanted = {"database": target.database_url, "store": target.store, "models": target.models}
    held = {"database": manifest.database, "store": manifest.store, "models": manifest.models}
    missing = [part for part in wanted if wanted[part] is not None and held[part] is None]
    if missing:
        there = ", ".join(part for part in held if held[part] is not None)
        raise BadSetup(f"{where}: found {there}; it was made without {', '.join(missing)}: leave that out with --only")


def _require_empty_folder(folder: Place) -> None:
    found = folder.files()
    if found:
        raise BadSetup(f"{folder.name} {folder.root}: found {shown(found)}; allowed: an empty place")


def _require_empty_database(url: str) -> None:
    found = revision_of(url)  # also tells that it can be reached
    if found is not None and found > SCHEMA_REVISION:
        raise BadSetup(f"database {show_url(url)}: found schema revision {found}; allowed: an empty database")
    if missing_sqlite_file(make_database_url(url)) is not None:
        return
    engine = make_engine(url)
    try:
        with answered(engine), engine.connect() as connection:
            _require_no_rows(connection, url)
    finally:
        engine.dispose()


def _require_no_rows(connection: Connection, url: str) -> None:
    there = set(inspect(connection).get_table_names())
    tables = [each for each in (*our_tables(), *study_tables(connection)) if each.name in there - {_VERSION_OF_STUDIES}]
    counts = {each.name: connection.scalar(select(func.count()).select_from(each)) or 0 for each in tables}
    found = [f"{count} in {name}" for name, count in sorted(counts.items()) if count]
    if found:
        raise BadSetup(f"database {show_url(url)}: found rows: {shown(found)}; allowed: an empty database, or none yet")


def _restore_files(place: Place, folder: Place, content: FolderContent) -> None:
    for each in content.files:
        place.copy(object_name(each.sha256), folder, each.name, sha256=each.sha256)


def _restore_database(place: Place, name: str, manifest: Manifest, target: Target) -> None:
    content, url = manifest.database, target.database_url
    assert content is not None
    assert url is not None
    migrate(url)
    if content.study_tables:
        from fxcast.adapters.storage.studies import open_studies  # Optuna takes a second to import

        open_studies(url).engine.dispose()
    if content.schema_revision != SCHEMA_REVISION:  # the tables as they were then; they are empty
        command.downgrade(alembic_config(url), content.schema_revision)
    engine = make_engine(url)
    try:
        with answered(engine), writing(engine).begin() as connection:
            _require_no_rows(connection, url)  # somebody may have begun to write meanwhile
            for each in (*content.tables, *content.study_tables):
                _restore_table(connection, place, name, each)
            if target.models is not None and manifest.models is not None:
                _move_models(connection, manifest.models.root, target.models.root)
    finally:
        engine.dispose()
    migrate(url)


def _restore_table(connection: Connection, place: Place, name: str, file: TableFile) -> None:
    where = f"backup {place.root}/{name}/{file.file}"
    try:
        found = Table(file.name, MetaData(), autoload_with=connection)
    except NoSuchTableError:
        raise BadSetup(f"{where}: the database has no table {file.name}") from None
    rows_read = 0
    with place.reading(f"{name}/{file.file}") as content:
        try:
            kinds, parts = read_table(content)
        except (ArrowException, KeyError) as error:
            raise BadSetup(f"{where}: it is no table of a backup: {error}") from None
        if kinds.keys() != set(found.columns.keys()):
            raise BadSetup(f"{where}: found columns {', '.join(kinds)}; the database has {', '.join(found.columns.keys())}")
        into = table(file.name, *(column(each, column_type(kind, found.columns[each].type)) for each, kind in kinds.items()))
        for rows in parts:
            rows_read += len(rows)
            if file.name == _VERSION_OF_STUDIES:
                _check_version_of_studies(connection, into, rows, where)
            else:
                connection.execute(into.insert(), rows)
    if rows_read != file.rows:
        raise Conflict(f"{where}: found {rows_read} rows, expected {file.rows}")
    _let_numbers_go_on(connection, found)


def _check_version_of_studies(connection: Connection, into: TableClause, rows: Sequence[dict[str, Any]], where: str) -> None:
    """Refuse Optuna's tables of another version; its row is there, since it is written with the tables."""
    (found,) = connection.execute(select(into)).mappings().all()
    for row in rows:
        if found["schema_version"] != row["schema_version"]:
            raise BadSetup(
                f"{where}: made with Optuna {row['library_version']}, whose tables are not those of {found['library_version']}; "
                "install that Optuna, restore, and bring them up to date with `optuna storage upgrade`"
            )


def _let_numbers_go_on(connection: Connection, found: Table) -> None:
    """Let PostgreSQL number the next row after those that were restored; SQLite looks for itself."""
    if connection.dialect.name != "postgresql":
        return
    quote = connection.dialect.identifier_preparer.quote
    for each in found.primary_key.columns:
        sequence = connection.scalar(select(func.pg_get_serial_sequence(quote(found.name), each.name)))
        newest = None if sequence is None else connection.scalar(select(func.max(each)))
        if newest is not None:
            connection.execute(select(func.setval(sequence, newest)))


def _move_models(connection: Connection, before: str, now: str) -> None:
    """Let the registry name the folders where the models are now."""
    if before == now:
        return
    models = ModelRow.__table__
    # By length, for a folder may have characters that mean something in LIKE.
    lies_there = func.substr(models.c.folder, 1, len(before) + 1) == f"{before}/"
    moved = literal(now) + func.substr(models.c.folder, len(before) + 1)
    connection.execute(update(ModelRow).where(lies_there).values(folder=moved))
