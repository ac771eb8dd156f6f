"""What a Prometheus server can read of the service: from each Ray node's metrics agent, where names begin with `ray_`.

Each number also says of which application, deployment and replica it is. How many models a replica holds and what HTTP was answered
Serve counts by itself: `ray_serve_num_multiplexed_models`, `ray_serve_num_http_error_requests_total`. Buckets and counts of a
histogram are exact, but its sum is Ray's estimate, from the middle of each bucket.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from ray.serve.metrics import Counter, Gauge, Histogram

from fxcast.errors import ForecastLate, Refused, Unavailable
from fxcast.serving.backlog import BacklogCounts

NO_MODEL = "none"  # the model version of a request that no model was found for

_TIME_MS = [20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0]
_SAMPLES = [1.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0]
_EVERY_S = 2.0

Outcome = Literal["answered", "fallback", "refused", "unavailable", "late", "failed"]


class ForecastCounts:
    """What became of the forecasts that were asked of an ingress; create it in a replica.

    A body that is none of the API's is refused before, and counted by Serve alone.
    """

    def __init__(self) -> None:
        self._forecasts = Counter(
            "fxcast_forecasts",
            "What came of the forecasts asked for, by the model that was to answer; unavailable is 503, late 504, failed 500",
            ("model_version", "outcome"),  # pyright: ignore[reportArgumentType]  # Serve's annotation is of one key, and means any
        )

    def count(self, model_version: str, outcome: Outcome) -> None:
        """Count a forecast.

        Args:
            model_version: Of a model that there is, or `NO_MODEL`; never a text of the caller's.
        """
        self._forecasts.inc(tags={"model_version": model_version, "outcome": outcome})


def outcome_of(error: Exception) -> Outcome:
    """Return what an error that a caller gets for a forecast counts as."""
    match error:
        case Refused():
            return "refused"
        case ForecastLate():
            return "late"
        case Unavailable():
            return "unavailable"
        case _:
            return "failed"


class InferenceMeters:
    """What a replica computes; create it there."""

    def __init__(self) -> None:
        self._time = Histogram(
            "fxcast_inference_time_ms", "How long a forecast took to compute, with those in its batch", _TIME_MS, ("model_version",)
        )
        self._samples = Histogram("fxcast_batch_samples", "Monte-Carlo samples computed at once", _SAMPLES, ("model_version",))
        self._loads = Counter("fxcast_model_loads", "Models that were loaded, or could not be", ("outcome",))

    def computed(self, model_version: str, times_ms: Sequence[float], *, samples: int) -> None:
        """Count a batch, and how long each of its forecasts took."""
        tags = {"model_version": model_version}
        self._samples.observe(samples, tags)
        for time_ms in times_ms:
            self._time.observe(time_ms, tags)

    def loaded(self, *, is_whole: bool) -> None:
        """Count an attempt to load a model."""
        self._loads.inc(tags={"outcome": "loaded" if is_whole else "failed"})


class Gauges:
    """Show now and again, from a thread of their own, what waits to be written and when what is known was read.

    Args:
        backlogs: The counts of each backlog, by what waits there: "predictions".
        read_at: When each snapshot was read last, by what it is of: "access tokens".
    """

    def __init__(
        self, backlogs: Mapping[str, Callable[[], BacklogCounts]], read_at: Mapping[str, Callable[[], datetime | None]]
    ) -> None:
        self._backlogs = [_BacklogGauges(of, counts) for of, counts in backlogs.items()]
        self._read_at = read_at
        self._snapshots = Gauge("fxcast_snapshot_read_timestamp_seconds", "When it was last read; 0 is never", ("of",))
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._show_until_closed, name="gauges", daemon=True)

    def start(self) -> None:
        """Start to show."""
        self._thread.start()

    def close(self) -> None:
        """Stop; does not wait."""
        self._closing.set()

    def _show_until_closed(self) -> None:
        while True:
            for backlog in self._backlogs:
                backlog.show()
            for of, read_at in self._read_at.items():
                moment = read_at()
                self._snapshots.set(0.0 if moment is None else moment.timestamp(), {"of": of})
            if self._closing.wait(_EVERY_S):
                return


class _BacklogGauges:
    def __init__(self, of: str, counts: Callable[[], BacklogCounts]) -> None:
        self._tags = {"of": of}
        self._counts = counts
        self._waiting = Gauge("fxcast_backlog_waiting", "What waits to be written to a database", ("of",))
        self._written = _Total(Counter("fxcast_backlog_written", "What was written to a database", ("of",)))
        self._dropped = _Total(Counter("fxcast_backlog_dropped", "What is lost: a database was away for too long", ("of",)))
        self._failures = _Total(Counter("fxcast_backlog_failures", "Failed attempts to write; what waits is tried again", ("of",)))

    def show(self) -> None:
        counts = self._counts()
        self._waiting.set(counts.waiting, self._tags)
        for total, count in ((self._written, counts.written), (self._dropped, counts.dropped), (self._failures, counts.failures)):
            total.reach(count, self._tags)


class _Total:
    """A counter that follows a count; what was dropped may turn out to be written, and a counter never falls."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._reached = 0

    def reach(self, count: int, tags: dict[str, str]) -> None:
        if count > self._reached:
            self._counter.inc(count - self._reached, tags)
            self._reached = count
