"""What a database said last, read again and again by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import structlog

from fxcast.adapters.storage.database import Database, open_database

_WARNING_PAUSE = timedelta(minutes=1)

log = structlog.get_logger(__name__)

Value = TypeVar("Value")


class Snapshot(Generic[Value]):
    """Keep what is read from a database; one that is slow or gone delays nobody, and what was read last holds meanwhile.

    Args:
        name: What is read, for the log: "access tokens".
        database_url: Where it is.
        read: Read it, as a whole.
        clock: Tells the time, in UTC.
        refresh_s: Pause between two reads.
    """

    def __init__(
        self, name: str, database_url: str, read: Callable[[Database], Value], *, clock: Callable[[], datetime], refresh_s: float
    ) -> None:
        self._name = name
        self._database_url = database_url
        self._read = read
        self._clock = clock
        self._refresh_s = refresh_s
        self._value: Value | None = None  # replaced as a whole, so that readers need no lock
        self._read_at: datetime | None = None
        self._reading = threading.Lock()
        self._warned_at: datetime | None = None
        self._failures = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._refresh_until_closed, name=name, daemon=True)

    @property
    def value(self) -> Value | None:
        """What was read last; None before the first."""
        return self._value

    @property
    def read_at(self) -> datetime | None:
        """When that was; None before the first."""
        return self._read_at

    def start(self) -> None:
        """Start to read, now and again."""
        self._thread.start()

    def close(self, *, timeout_s: float) -> None:
        """Stop to read; give up after `timeout_s`."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def refresh(self) -> None:
        """Read now; a database that does not answer changes nothing, and is warned of once a minute at most."""
        with self._reading:
            try:
                self._value = self._read_anew()
                self._read_at = self._clock()
            except Exception as error:  # noqa: BLE001  # drivers raise kinds of their own: warned of, what was read last stays
                self._give_up(error)
                return
            if self._failures:
                log.info("read again", what=self._name, failures=self._failures)
            self._failures, self._warned_at = 0, None

    def _refresh_until_closed(self) -> None:
        self.refresh()
        while not self._closing.wait(self._refresh_s):
            self.refresh()

    def _read_anew(self) -> Value:
        # Opened each time: a connection that was kept would go on reading a file that has been replaced by another.
        database = open_database(self._database_url)
        try:
            return self._read(database)
        finally:
            database.dispose()

    def _give_up(self, error: Exception) -> None:
        self._failures += 1
        now = self._clock()
        if self._warned_at is None or now - self._warned_at >= _WARNING_PAUSE:
            self._warned_at = now
            log.warning(
                "not read",
                what=self._name,
                is_known=self._value is not None,
                failures=self._failures,
                problem=f"{type(error).__name__}: {error}",
            )
