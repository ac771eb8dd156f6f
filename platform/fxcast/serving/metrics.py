"""Minutes of inference, kept in memory and written to the database from a thread of their own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from fxcast.adapters.storage.database import Database, open_database
from fxcast.adapters.storage.predictions import record_inference_minute

METRICS_URL_VARIABLE = "FXCAST_METRICS_DATABASE_URL"
MAX_MINUTES_KEPT = 24 * 60  # while the database does not answer

_MARGIN_S = 1.0  # a forecast that ends on the minute is counted before the minute is written

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Minute:
    latencies_ms: list[float] = field(default_factory=list[float])
    errors: int = 0


class InferenceMetrics:
    """Count the forecasts of one replica; a database that does not answer delays and fails none of them.

    Minutes that could not be written are kept, and written with the next one.

    Args:
        database_url: Where `ldm4ts_inference_metrics` is.
        model_version: Which model answers.
        replica: Which replica this is.
        clock: Tells the time, in UTC.
    """

    def __init__(self, database_url: str, *, model_version: str, replica: str, clock: Callable[[], datetime]) -> None:
        self._database_url = database_url
        self._model_version = model_version
        self._replica = replica
        self._clock = clock
        self._database: Database | None = None
        self._minutes: dict[datetime, _Minute] = {}  # oldest first
        self._lock = threading.Lock()  # of the minutes; never held while the database is asked
        self._failures = 0
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

    def answered(self, latency_ms: float) -> None:
        """Count a forecast."""
        with self._lock:
            self._current().latencies_ms.append(latency_ms)

    def failed(self) -> None:
        """Count a forecast that failed; one that was refused is the caller's mistake and no failure."""
        with self._lock:
            self._current().errors += 1

    def write_finished(self) -> None:
        """Write the minutes that are over; called by the thread."""
        self._write(before=_minute_of(self._clock()))

    def _current(self) -> _Minute:
        return self._minutes.setdefault(_minute_of(self._clock()), _Minute())

    def _write_every_minute(self) -> None:
        while not self._closing.wait(60.0 - self._clock().timestamp() % 60.0 + _MARGIN_S):
            self.write_finished()
        self._write(before=self._clock() + timedelta(minutes=1))

    def _write(self, *, before: datetime) -> None:
        with self._lock:
            ready = [
                (start, tuple(minute.latencies_ms), minute.errors) for start, minute in self._minutes.items() if start < before
            ]
        try:
            for start, latencies_ms, errors in ready:
                if self._database is None:
                    self._database = open_database(self._database_url)
                record_inference_minute(
                    self._database,
                    minute=start,
                    model_version=self._model_version,
                    latencies_ms=latencies_ms,
                    errors=errors,
                    replica=self._replica,
                )
                with self._lock:
                    del self._minutes[start]
        except Exception as error:  # noqa: BLE001  # whatever the driver raises: the thread and the forecasts go on
            self._failures += 1
            log.warning(
                "inference minutes not stored",
                waiting=len(self._minutes),
                dropped=self._drop_oldest(),
                failures=self._failures,
                problem=f"{type(error).__name__}: {error}",
            )

    def _drop_oldest(self) -> int:
        with self._lock:
            excess = max(0, len(self._minutes) - MAX_MINUTES_KEPT)
            for start in list(self._minutes)[:excess]:
                del self._minutes[start]
        return excess


def metrics_url(configured: str | None) -> str | None:
    """Return where metrics go, None for nowhere: the environment's URL before the configured one.

    Serve's dashboard shows what is configured; a password belongs into the environment of the node.
    """
    return os.environ.get(METRICS_URL_VARIABLE) or configured


def _minute_of(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
