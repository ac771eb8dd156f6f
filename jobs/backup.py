"""Back up the database, the candle store and the models, while engines trade: python -m jobs.backup --to s3://bucket/backups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import structlog
from pydantic import Field

from fxcast import __version__
from fxcast.adapters.clock import SystemClock
from fxcast.adapters.storage.backup import make_backup
from fxcast.adapters.storage.backup_files import Place
from fxcast.adapters.storage.database import open_database
from fxcast.config import JobSettings
from jobs.entry import run

log = structlog.get_logger()

Part = Literal["database", "store", "models"]
PARTS: tuple[Part, ...] = ("database", "store", "models")


class BackupJob(JobSettings):
    """Back up the database, the candle store and the models; engines may trade meanwhile.

    Each has its own name, and is whole once it has a manifest.json. Files that an earlier one holds are not copied again.
    """

    to: str = Field(description="where backups are kept: a folder or URI, as s3://bucket/backups")
    database_url: str = Field(
        default="sqlite:///runs/fxcast.db", description="SQLAlchemy URL of the database (FXCAST_DATABASE_URL)"
    )
    store: str = Field(default="runs/store", description="candle store, a folder or URI (FXCAST_STORE)")
    models: str = Field(default="runs/models", description="folder or URI of the models (FXCAST_MODELS)")
    only: tuple[Part, ...] = Field(default=PARTS, min_length=1, description="what to back up; by default all")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _back_up(BackupJob.parse(arguments)))


def _back_up(settings: BackupJob) -> int:
    to = Place(settings.to, "backup")
    store = Place(settings.store, "store") if "store" in settings.only else None
    models = Place(settings.models, "models") if "models" in settings.only else None
    for place in (store, models):
        if place is not None:
            place.require()
    database = open_database(settings.database_url) if "database" in settings.only else None
    try:
        made = make_backup(to, database=database, store=store, models=models, now=SystemClock().now(), fxcast_version=__version__)
    finally:
        if database is not None:
            database.dispose()
    content = made.manifest.database
    tables = () if content is None else (*content.tables, *content.study_tables)
    log.info(
        "backup made",
        backup=f"{to.root}/{made.name}",
        rows=sum(each.rows for each in tables),
        files=sum(len(each.files) for each in made.manifest.folders()),
        copied=made.copied,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
