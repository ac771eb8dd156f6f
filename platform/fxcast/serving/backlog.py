"""What waits to be written to a database that may be slow or away."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import structlog

from fxcast.adapters.storage.database import Database, open_database

_BATCH = 100

log = structlog.get_logger(__name__)

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogCounts:
    """What became of what was added: `written`, still `waiting`, or `dropped` for want of room; and `failures` to write."""

    written: int
    waiting: int
    dropped: int
    failures: int


class Backlog(Generic[Item]):
    """A bounded queue in front of a database; adding never waits for it.

    What could not be written stays for the next attempt. What no longer fits is dropped, the oldest first, and counted.

    Args:
        name: What is kept, for the log: "predictions".
        database_url: Where it goes; opened when there is something to write.
        write: Write a batch; all of it or nothing, or in such a way that the same batch again does no harm.
        capacity: How many may wait.
    """

    def __init__(self, name: str, database_url: str, write: Callable[[Database, Sequence[Item]], None], *, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: found {capacity}; allowed: 1 or more")
        self._name = name
        self._database_url = database_url
        self._write = write
        self._capacity = capacity
        self._database: Database | None = None
        self._waiting: deque[Item] = deque()
        self._lock = threading.Lock()  # of what waits and of the counts; never held while the database is asked
        self._written = self._dropped = self._failures = 0
        self._is_overflowing = False

    def add(self, item: Item) -> None:
        """Let something wait to be written; returns at once."""
        with self._lock:
            overflows = len(self._waiting) >= self._capacity
            if overflows:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(item)
            begins_to_overflow = overflows and not self._is_overflowing
            self._is_overflowing |= overflows
        if begins_to_overflow:  # said once; a database that hangs lets no attempt end that could say it
            log.warning("backlog is full: the oldest are dropped", of=self._name, capacity=self._capacity)

    def write_waiting(self) -> bool:
        """Write what waits, batch by batch; return whether all is written.

        For one thread at a time. A failure is logged, with the counts.
        """
        try:
            while batch := self._oldest():
                if self._database is None:
                    self._database = open_database(self._database_url)
                self._write(self._database, batch)
                self._forget(batch)
        except Exception as error:  # noqa: BLE001  # drivers raise kinds of their own: logged and counted, the batch stays for the next try
            with self._lock:
                self._failures += 1
            counts = self.counts()
            log.warning(
                "not stored",
                of=self._name,
                waiting=counts.waiting,
                dropped=counts.dropped,
                failures=counts.failures,
                problem=f"{type(error).__name__}: {error}",
            )
            return False
        return True

    def counts(self) -> BacklogCounts:
        """Return how many were written, wait and were dropped, and how often writing failed."""
        with self._lock:
            return BacklogCounts(written=self._written, waiting=len(self._waiting), dropped=self._dropped, failures=self._failures)

    def _oldest(self) -> list[Item]:
        with self._lock:
            return list(islice(self._waiting, _BATCH))

    def _forget(self, batch: Sequence[Item]) -> None:
        """Remove what was written; some of it may have been dropped meanwhile, and was written all the same."""
        with self._lock:
            self._is_overflowing = False
            self._written += len(batch)
            for item in batch:
                if self._waiting and self._waiting[0] is item:
                    self._waiting.popleft()
                else:
                    self._dropped -= 1
