"""The ledger's database, opened by one short process after the other."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event

from fxcast.adapters.storage.database import Database, open_database

_FILE = "ledger.db"


def ledger_url(folder: Path) -> str:
    return f"sqlite:///{folder / _FILE}"


class SharedLedger:
    """Connects to the ledger of whatever folder a process works in.

    A process connects anew, but by an object that it has from the one that forked it: the statements that it needs are compiled
    already, which would take a third of a short life.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._database: Database | None = None

    @contextmanager
    def opened(self, folder: Path) -> Generator[Database]:
        """Open a folder's ledger; afterwards there is no connection that a fork could inherit."""
        self._folder = folder
        if self._database is None:
            self._database = open_database(ledger_url(folder))
            event.listen(self._database, "do_connect", self._redirect)
        yield self._database
        self._database.dispose()

    def _redirect(self, _dialect: Any, _record: Any, arguments: list[Any], _options: Any) -> None:
        assert self._folder is not None
        arguments[0] = str(self._folder / _FILE)
