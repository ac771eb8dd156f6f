"""Whether a database is there, at the newest schema, and can be written to; and what time it has."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, insert, select

from fxcast.adapters.storage.database import open_database, show_url, writing
from fxcast.adapters.storage.engine_tables import EngineLeaseRow
from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.tables import SCHEMA_REVISION


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseProbe:
    """What a database answered.

    Attributes:
        shown: Its URL, without a password.
        is_file: Whether it is a file on this machine.
        revision: Of its schema.
        clock_offset_s: By how much its clock is ahead of this machine's; None for a file, which has none.
        clock_error_s: By how much that may be off: half of the question's round trip.
    """

    shown: str
    is_file: bool
    revision: str
    clock_offset_s: float | None
    clock_error_s: float


def probe_database(url: str) -> DatabaseProbe:
    """Open a database as an engine does, write a row in a transaction that is rolled back, and ask for the time.

    Raises:
        BadSetup: If it can't be reached, or its schema is not at the newest revision.
        DatabaseUnavailable: If it can be read but not written to.
    """
    database = open_database(url)
    is_file = database.dialect.name == "sqlite"
    row = {"account": f"doctor:{uuid.uuid4()}", "holder": "", "process": "", "token": 0}
    moment = datetime.now(UTC)
    try:
        with answered(database), writing(database).connect() as connection:
            connection.execute(insert(EngineLeaseRow).values(**row, acquired_at=moment, expires_at=moment))
            connection.rollback()
            before = time.time()
            there = None if is_file else connection.scalar(select(func.clock_timestamp()))
            after = time.time()
    finally:
        database.dispose()
    return DatabaseProbe(
        shown=show_url(url),
        is_file=is_file,
        revision=SCHEMA_REVISION,
        clock_offset_s=None if there is None else there.timestamp() - (before + after) / 2,
        clock_error_s=(after - before) / 2,
    )
