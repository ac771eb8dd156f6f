"""A backup of the database, the candle store and the models, as they were at one moment, while engines trade."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, Table, text

from fxcast.adapters.storage.backup_files import Place
from fxcast.adapters.storage.backup_manifest import (
    MANIFEST,
    DatabaseContent,
    FolderContent,
    Manifest,
    StoredFile,
    TableFile,
    object_name,
)
from fxcast.adapters.storage.backup_tables import our_tables, study_tables, utc, write_table
from fxcast.adapters.storage.database import show_url
from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.revision import read_revision
from fxcast.adapters.storage.tables import SCHEMA_REVISION
from fxcast.errors import Conflict, Unavailable

_LISTINGS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A backup that was made.

    Attributes:
        name: Of its folder.
        copied: How many files of store and models were not there from an earlier one.
    """

    name: str
    manifest: Manifest
    copied: int


def make_backup(
    to: Place,
    *,
    database: Engine | None,
    store: Place | None,
    models: Place | None,
    now: datetime,
    fxcast_version: str,
    at_table: Callable[[str], object] = lambda _: None,
) -> Made:
    """Back up what is given; nothing that lies in the place already is changed.

    The database is read in one transaction. Files come after it: what a row of the database refers to was written before the row,
    and is therefore among them.

    Args:
        at_table: Called with the name of each table before it is read, for who shows how far it is.

    Raises:
        DatabaseUnavailable: If the database does not answer.
        Unavailable: If a place's disk is full or its object store does not answer. No manifest is written then.
        Conflict: If somebody migrates the database meanwhile.
    """
    name = f"{utc(now)}-{uuid.uuid4().hex[:8]}"  # so that of two at one moment, none writes into the other's folder
    content = None if database is None else _back_up_database(to, name, database, at_table)
    folders: list[FolderContent | None] = []
    copied = 0
    for place in (store, models):
        files, new = ((), 0) if place is None else _back_up_files(place, to)
        folders.append(None if place is None else FolderContent(root=place.root, files=files))
        copied += new
    manifest = Manifest(fxcast_version=fxcast_version, made_at=now, database=content, store=folders[0], models=folders[1]).sealed()
    with to.writing(f"{name}/{MANIFEST}") as file:
        file.write((manifest.model_dump_json(indent=2) + "\n").encode())
    return Made(name=name, manifest=manifest, copied=copied)


def _back_up_database(to: Place, name: str, database: Engine, at_table: Callable[[str], object]) -> DatabaseContent:
    def write(connection: Connection, tables: Sequence[Table], folder: str) -> tuple[TableFile, ...]:
        return tuple(_write(connection, table, to, name, folder, at_table) for table in tables)

    with answered(database), _snapshot(database) as connection:
        found = read_revision(connection)
        if found != SCHEMA_REVISION:
            raise Conflict(f"the database is being migrated: found schema revision {found}, expected {SCHEMA_REVISION}; try again")
        return DatabaseContent(
            url=show_url(database.url.render_as_string(hide_password=False)),
            kind=database.dialect.name,
            schema_revision=SCHEMA_REVISION,
            tables=write(connection, our_tables(), "tables"),
            study_tables=write(connection, study_tables(connection), "studies"),
        )


@contextmanager
def _snapshot(database: Engine) -> Generator[Connection]:
    """Open a transaction that sees one moment of the database, and keeps nobody from writing."""
    if database.dialect.name != "postgresql":  # SQLite's WAL: what is read is as it was at the first read
        with database.connect() as connection, connection.begin():
            yield connection
        return
    snapshot = database.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with snapshot.connect() as connection, connection.begin():
        # Before the first read, which is when the moment is chosen: so a migration waits, or has ended.
        names = ", ".join(f'"{table.name}"' for table in our_tables())
        connection.execute(text(f"LOCK TABLE {names} IN ACCESS SHARE MODE"))
        yield connection


def _write(connection: Connection, table: Table, to: Place, name: str, folder: str, at_table: Callable[[str], object]) -> TableFile:
    at_table(table.name)
    file = f"{folder}/{table.name}.parquet"
    with to.writing(f"{name}/{file}") as sink:
        rows, sha256 = write_table(connection, table, sink)
    return TableFile(name=table.name, file=file, rows=rows, size=to.size(f"{name}/{file}") or 0, sha256=sha256)


def _back_up_files(place: Place, to: Place) -> tuple[tuple[StoredFile, ...], int]:
    """Copy the files that no backup holds yet; return all files, and how many were copied.

    Others go on writing: a month of candles that is put together appears before its parts go. So the files are listed until two
    listings say the same.
    """
    held: dict[str, StoredFile] = {}
    copied = 0
    before: tuple[str, ...] | None = None
    for _ in range(_LISTINGS):
        names = place.files()
        for name in names:
            if name not in held:
                copied += _keep(place, name, to, held)
        if names == before and held.keys() >= set(names):
            return tuple(held[name] for name in names), copied
        before = names
    raise Unavailable(f"{place.name} {place.root}: it changes faster than it can be copied; try again")


def _keep(place: Place, name: str, to: Place, held: dict[str, StoredFile]) -> int:
    for _ in range(_LISTINGS):
        found = place.digest(name)
        if found is None:  # gone since it was listed
            return 0
        sha256, size = found
        target = object_name(sha256)
        is_new = to.size(target) != size
        if is_new:
            try:
                place.copy(name, to, target, sha256=sha256)
            except Conflict:  # written over, or gone, since it was read: then once more
                continue
        held[name] = StoredFile(name=name, size=size, sha256=sha256)
        return int(is_new)
    raise Unavailable(f"{place.name} {place.root}/{name}: it changes faster than it can be copied; try again")
