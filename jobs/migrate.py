"""Bring a database to the newest schema: python -m jobs.migrate --database-url sqlite:///runs/fxcast.db."""

from __future__ import annotations

import sys

import structlog
from pydantic import Field

from fxcast.adapters.storage.database import migrate, revision_of, show_url
from fxcast.config import JobSettings
from jobs.entry import run

log = structlog.get_logger()


class MigrateSettings(JobSettings):
    """Bring a database to the newest schema; a SQLite file and its folder are created if they are missing."""

    database_url: str = Field(
        default="sqlite:///runs/fxcast.db", description="SQLAlchemy URL of the database (FXCAST_DATABASE_URL)"
    )


def main() -> int:
    """Run the job."""
    settings = MigrateSettings.parse()
    before = revision_of(settings.database_url)
    migrate(settings.database_url)
    log.info("database migrated", database=show_url(settings.database_url), before=before, now=revision_of(settings.database_url))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
