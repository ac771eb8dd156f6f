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
    grant_to: str | None = Field(
        default=None,
        description="PostgreSQL: role that jobs and actors use; it gets the rights that they need on the tables, and no others",
    )
    grant_read_to: str | None = Field(default=None, description="PostgreSQL: role of people who look; it may only read")


def main() -> int:
    """Run the job."""
    settings = MigrateSettings.parse()
    url = settings.database_url
    before = revision_of(url)
    migrate(url)
    log.info("database migrated", database=show_url(url), before=before, now=revision_of(url))
    if settings.grant_to is None and settings.grant_read_to is None:
        return 0
    from fxcast.adapters.storage.roles import grant_to_app, grant_to_reader  # they take a second to import: Optuna

    for role, grant in ((settings.grant_to, grant_to_app), (settings.grant_read_to, grant_to_reader)):
        if role is not None:
            grant(url, role)
            log.info("rights granted", role=role, by=grant.__name__)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
