"""Minutes of inference, kept in memory and written to the database from a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fxcast.adapters.storage.database import Database
from fxcast.adapters.storage.predictions import record_inference_minute
from fxcast.serving.backlog import Backlog, BacklogCounts

MAX_MINUTES_KEPT = 24 * 60  # while the database does not answer

_MARGIN_S = 1.0  # a forecast that ends on the minute is counted before the minute is written


@dataclass(slots=True)
class _Minute:
    start: datetime
    model_version: str
    latencies_ms: list[float] = field(default_factory=list[float])
    errors: int = 0


class InferenceMetrics:
    """Count the forecasts of one replica; a database that does not answer delays and fails none of them.

    Minutes that could not be written are kept, and written with the next one.

    Args:
        database_url: Where `ldm4ts_inference_metrics` is.
        replica: Which replica this is.
        clock: Tells the time, in UTC.
    """

    def __init__(self, database_url: str, *, replica: str, clock: Callable[[], datetime]) -> None:
        self._replica = replica
        self._clock = clock
        self._backlog: Backlog[_Minute] = Backlog("inference minutes", database_url, self._store, capacity=MAX_MINUTES_KEPT)
        self._minutes: dict[tuple[datetime, str], _Minute] = {}  # by start and model, oldest first; those not over yet
        self._lock = threading.Lock()  # of the minutes
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_every_minute, name="inference metrics", daemon=True)

    def start(self) -> None:
        """Start to write."""
        self._thread.start()

    def close(self, *, timeout_s: float) -> None:
        """Write what is left, the running minute included, and stop; give up after `timeout_s`."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def answered(self, model_version: str, latency_ms: float) -> None:
        """Count a forecast."""
        with self._lock:
            self._current(model_version).latencies_ms.append(latency_ms)

    def failed(self, model_version: str, count: int = 1) -> None:
        """Count forecasts that failed; one that was refused is the caller's mistake and no failure."""
        with self._lock:
            self._current(model_version).errors += count

    def write_finished(self) -> None:
        """Write the minutes that are over; called by the thread."""
        self._write(before=_minute_of(self._clock()))

    def counts(self) -> BacklogCounts:
        """Return how many minutes were written, wait and were dropped, and how often writing failed."""
        return self._backlog.counts()

    def _current(self, model_version: str) -> _Minute:
        start = _minute_of(self._clock())
        return self._minutes.setdefault((start, model_version), _Minute(start=start, model_version=model_version))

    def _write_every_minute(self) -> None:
        while not self._closing.wait(60.0 - self._clock().timestamp() % 60.0 + _MARGIN_S):
            self.write_finished()
        self._write(before=self._clock() + timedelta(minutes=1))

    def _write(self, *, before: datetime) -> None:
        with self._lock:
            over = [key for key in self._minutes if key[0] < before]
            for key in over:
                self._backlog.add(self._minutes.pop(key))
        self._backlog.write_waiting()

    def _store(self, database: Database, minutes: Sequence[_Minute]) -> None:
        for minute in minutes:
            record_inference_minute(
                database,
                minute=minute.start,
                model_version=minute.model_version,
                latencies_ms=minute.latencies_ms,
                errors=minute.errors,
                replica=self._replica,
            )


def _minute_of(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
