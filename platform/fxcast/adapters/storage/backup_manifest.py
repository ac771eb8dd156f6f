"""What a backup holds: written last, so that a backup with a manifest is a whole one."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationError

from fxcast.adapters.storage.backup_files import Place, shown
from fxcast.config import Settings, explain
from fxcast.errors import BadSetup, NotFound

MANIFEST = "manifest.json"
FORMAT = 1


def _below(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise ValueError("not a name below the folder")
    return name


FileName = Annotated[str, AfterValidator(_below)]


class TableFile(Settings):
    """The rows of a table, as Parquet below the backup's own folder."""

    name: str
    file: FileName
    rows: int
    size: int
    sha256: str


class StoredFile(Settings):
    """A file of the candle store or of a model; its content lies under its SHA-256, once for all backups that hold it."""

    name: FileName
    size: int
    sha256: str


class DatabaseContent(Settings):
    """The tables in the order in which they can be restored: none refers to a later one."""

    url: str
    kind: str
    schema_revision: str
    tables: tuple[TableFile, ...]
    study_tables: tuple[TableFile, ...]  # Optuna's; none where no search ever ran


class FolderContent(Settings):
    """The files of the candle store, or of the models."""

    root: str
    files: tuple[StoredFile, ...]


class Manifest(Settings):
    """What a backup holds; a part that was left out is null."""

    format: Literal[1] = FORMAT
    fxcast_version: str
    made_at: datetime
    database: DatabaseContent | None
    store: FolderContent | None
    models: FolderContent | None
    sha256: str = ""  # of all of the above

    def sealed(self) -> Manifest:
        """Return it with its own SHA-256."""
        return self.model_copy(update={"sha256": self._sum()})

    def is_sealed(self) -> bool:
        """Tell whether it is as it was written."""
        return self.sha256 == self._sum()

    def folders(self) -> tuple[FolderContent, ...]:
        """Return the parts that are files."""
        return tuple(part for part in (self.store, self.models) if part is not None)

    def _sum(self) -> str:
        return hashlib.sha256(self.model_copy(update={"sha256": ""}).model_dump_json().encode()).hexdigest()


def object_name(sha256: str) -> str:
    """Return where the content of a file lies, below the place of all backups."""
    return f"objects/{sha256[:2]}/{sha256}"


def newest_backup(place: Place) -> str:
    """Return the name of the newest backup in a place.

    Raises:
        NotFound: If there is none.
        BadSetup: If the newest one was never finished: an older one must be asked for by name.
    """
    names = _backups(place)
    if not names:
        raise NotFound("backup", f"none in {place.root}", "a place that jobs.backup wrote to")
    if place.size(f"{names[-1]}/{MANIFEST}") is None:
        whole = [name for name in names if place.size(f"{name}/{MANIFEST}") is not None]
        raise BadSetup(
            f"backup {place.root}: the newest, {names[-1]}, has no {MANIFEST}: it was never finished; "
            + (f"choose another with --backup: {shown(whole[::-1])}" if whole else "there is no other")
        )
    return names[-1]


def read_manifest(place: Place, name: str) -> Manifest:
    """Return what a backup holds.

    Raises:
        NotFound: If there is no such backup.
        BadSetup: If it was never finished, or its manifest is damaged or of another format.
    """
    content = place.read(f"{name}/{MANIFEST}")
    where = f"backup {place.root}/{name}"
    if content is None:
        names = _backups(place)
        if name not in names:
            raise NotFound("backup", name, shown(names[::-1]) or "none is there")
        raise BadSetup(f"{where}: it has no {MANIFEST}: it was never finished")
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise BadSetup(f"{where}: {MANIFEST} can't be read: {explain(error, Manifest)}") from None
    if not manifest.is_sealed():
        raise BadSetup(f"{where}: {MANIFEST} is damaged: its SHA-256 is another one than it says")
    return manifest


def _backups(place: Place) -> tuple[str, ...]:
    return tuple(name for name in place.folders() if name != "objects")
