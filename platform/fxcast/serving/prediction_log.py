"""The forecasts that were served, written to the database from a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import structlog

from fxcast.adapters.backoff import backoff
from fxcast.adapters.storage.predictions import record_predictions
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.serving.backlog import Backlog, BacklogCounts

_LONGEST_PAUSE_S = 60.0

log = structlog.get_logger(__name__)


class PredictionLog:
    """Keep every forecast that is given out; a database that does not answer delays and fails none of them.

    What could not be written is tried again, after pauses that grow to a minute. A forecast that is stored already stays as it is,
    with its outcome.

    Args:
        database_url: Where `ldm4ts_predictions` is.
        capacity: Forecasts kept while the database does not answer; what no longer fits is dropped, the oldest first, and counted.
        keep_samples: Whether to store the Monte-Carlo samples too, some 20 bytes each.
        first_pause_s: Before the first new attempt; each is up to twice the last.
    """

    def __init__(
        self, database_url: str, *, capacity: int = 10_000, keep_samples: bool = False, first_pause_s: float = 1.0
    ) -> None:
        self._backlog: Backlog[LDM4TSPrediction] = Backlog("predictions", database_url, record_predictions, capacity=capacity)
        self._keep_samples = keep_samples
        self._first_pause_s = first_pause_s
        self._added, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._write_until_closed, name="prediction log", daemon=True)

    def start(self) -> None:
        """Start to write."""
        self._thread.start()

    def add(self, prediction: LDM4TSPrediction) -> None:
        """Keep a forecast; returns at once, whatever the database does."""
        self._backlog.add(prediction if self._keep_samples else _without_samples(prediction))
        self._added.set()

    def counts(self) -> BacklogCounts:
        """Return how many forecasts were written, wait and were dropped, and how often writing failed."""
        return self._backlog.counts()

    def close(self, *, timeout_s: float) -> None:
        """Write what is left and stop; give up after `timeout_s`, and say how many are lost."""
        self._closing.set()
        self._added.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        counts = self.counts()
        if counts.waiting:
            log.error("forecasts lost", waiting=counts.waiting, dropped=counts.dropped, failures=counts.failures)

    def _write_until_closed(self) -> None:
        pauses = self._pauses()
        while not self._closing.is_set():
            self._added.wait()
            self._added.clear()  # before the attempt: what is added during it wakes the next
            if self._backlog.write_waiting():
                pauses = self._pauses()
            else:
                self._added.set()
                self._closing.wait(next(pauses))
        self._backlog.write_waiting()

    def _pauses(self) -> Iterator[float]:
        return backoff(self._first_pause_s, _LONGEST_PAUSE_S)


def _without_samples(prediction: LDM4TSPrediction) -> LDM4TSPrediction:
    return replace(prediction, horizons={minutes: replace(each, samples=()) for minutes, each in prediction.horizons.items()})
