"""Restore a backup into an empty place: python -m jobs.restore --from s3://bucket/backups --database-url … --store … --models …."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from pydantic import Field

from fxcast.adapters.storage.backup_files import Place
from fxcast.adapters.storage.backup_manifest import Manifest, newest_backup
from fxcast.adapters.storage.restore import Target, check_backup, restore_backup
from fxcast.config import JobSettings
from jobs.backup import PARTS, Part
from jobs.entry import run

log = structlog.get_logger()


class RestoreJob(JobSettings):
    """Restore a backup into a database, a candle store and a folder of models that are empty, or not there yet.

    Every file of the backup is read, and every part of the target looked at, before anything is written.
    """

    from_: str = Field(alias="from", description="where backups are kept: what jobs.backup was given as --to")
    backup: str | None = Field(default=None, description="name of the backup; by default the newest")
    database_url: str = Field(
        default="sqlite:///runs/fxcast.db", description="SQLAlchemy URL of the database (FXCAST_DATABASE_URL)"
    )
    store: str = Field(default="runs/store", description="candle store, a folder or URI (FXCAST_STORE)")
    models: str = Field(default="runs/models", description="folder or URI of the models (FXCAST_MODELS)")
    only: tuple[Part, ...] = Field(default=PARTS, min_length=1, description="what to restore; by default all")
    check: bool = Field(default=False, description="read every file of the backup and say whether it is whole; restore nothing")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _restore(RestoreJob.parse(arguments)))


def _restore(settings: RestoreJob) -> int:
    place = Place(settings.from_, "backup")
    name = newest_backup(place) if settings.backup is None else settings.backup
    if settings.check:
        _tell("backup is whole", place, name, check_backup(place, name))
        return 0
    target = Target(
        database_url=settings.database_url if "database" in settings.only else None,
        store=Place(settings.store, "store") if "store" in settings.only else None,
        models=Place(settings.models, "models") if "models" in settings.only else None,
    )
    _tell("backup restored", place, name, restore_backup(place, name, target))
    return 0


def _tell(event: str, place: Place, name: str, manifest: Manifest) -> None:
    content = manifest.database
    log.info(
        event,
        backup=f"{place.root}/{name}",
        made_at=manifest.made_at.isoformat(),
        rows=0 if content is None else sum(each.rows for each in (*content.tables, *content.study_tables)),
        files=sum(len(each.files) for each in manifest.folders()),
    )


if __name__ == "__main__":
    raise SystemExit(main())
