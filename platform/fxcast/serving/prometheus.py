"""What a Prometheus server can read of the service: from each Ray node's metrics agent, where names begin with `ray_`.

Each number also says of which application, deployment and replica it is. How many models a replica holds and what HTTP was answered
Serve counts by itself: `ray_serve_num_multiplexed_models`, `ray_serve_num_http_error_requests_total`. Buckets and counts of a
histogram are exact, but its sum is Ray's estimate, from the middle of each bucket.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal, cast

from ray.serve.metrics import Counter, Gauge, Histogram

from fxcast.cluster.meters import Meter
from fxcast.errors import ForecastLate, Refused, Unavailable
from fxcast.serving.backlog import BacklogCounts

NO_MODEL = "none"  # the model version of a request that no model was found for

_TIME_MS = (20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0)
_SAMPLES = (1.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0)
_EVERY_S = 2.0
_MODEL, _OF = ("model_version",), ("of",)

FORECASTS = Meter(
    name="fxcast_forecasts", kind="counter", labels=(*_MODEL, "outcome"),
    meaning="What came of the forecasts asked for, by the model that was to answer; unavailable is 503, late 504, failed 500",
)  # fmt: skip
LATENCY_MS = Meter(
    name="fxcast_forecast_latency_ms", kind="histogram", unit="ms", buckets=_TIME_MS,
    meaning="From a checked request at the ingress to its answer, waiting included; of forecasts that were answered",
)  # fmt: skip
INFERENCE_MS = Meter(
    name="fxcast_inference_time_ms", kind="histogram", labels=_MODEL, unit="ms", buckets=_TIME_MS,
    meaning="How long a forecast took to compute, with those in its batch",
)  # fmt: skip
BATCH_SAMPLES = Meter(
    name="fxcast_batch_samples", kind="histogram", labels=_MODEL, unit="samples", buckets=_SAMPLES,
    meaning="Monte-Carlo samples computed at once",
)  # fmt: skip
MODEL_LOADS = Meter(
    name="fxcast_model_loads", kind="counter", labels=("outcome",), meaning="Models that were loaded, or could not be"
)
SNAPSHOT_READ = Meter(
    name="fxcast_snapshot_read_timestamp_seconds", kind="gauge", labels=_OF, unit="s since 1970",
    meaning="When it was last read; 0 is never",
)  # fmt: skip
BACKLOG_WAITING = Meter(name="fxcast_backlog_waiting", kind="gauge", labels=_OF, meaning="What waits to be written to a database")
BACKLOG_WRITTEN = Meter(name="fxcast_backlog_written", kind="counter", labels=_OF, meaning="What was written to a database")
BACKLOG_DROPPED = Meter(
    name="fxcast_backlog_dropped", kind="counter", labels=_OF, meaning="What is lost: a database was away for too long"
)
BACKLOG_FAILURES = Meter(
    name="fxcast_backlog_failures", kind="counter", labels=_OF, meaning="Failed attempts to write; what waits is tried again"
)
SERVICE_METERS = (
    FORECASTS, LATENCY_MS, INFERENCE_MS, BATCH_SAMPLES, MODEL_LOADS, SNAPSHOT_READ, BACKLOG_WAITING, BACKLOG_WRITTEN,
    BACKLOG_DROPPED, BACKLOG_FAILURES,
)  # fmt: skip

Outcome = Literal["answered", "fallback", "refused", "unavailable", "late", "failed"]


class ForecastCounts:
    """What became of the forecasts that were asked of an ingress; create it in a replica.

    A body that is none of the API's is refused before, and counted by Serve alone.
    """

    def __init__(self) -> None:
        self._forecasts = _counter(FORECASTS)

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


class LatencyMeter:
    """How long forecasts take that an ingress answers; create it in a replica."""

    def __init__(self) -> None:
        self._latency = _histogram(LATENCY_MS)

    @contextmanager
    def measured(self) -> Generator[None]:
        """Measure the block; one that raises is not counted here, but by `ForecastCounts`."""
        started = time.perf_counter()
        yield
        self._latency.observe(1000 * (time.perf_counter() - started))


class InferenceMeters:
    """What a replica computes; create it there."""

    def __init__(self) -> None:
        self._time = _histogram(INFERENCE_MS)
        self._samples = _histogram(BATCH_SAMPLES)
        self._loads = _counter(MODEL_LOADS)

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
        self._snapshots = _gauge(SNAPSHOT_READ)
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
        self._waiting = _gauge(BACKLOG_WAITING)
        self._written = _Total(_counter(BACKLOG_WRITTEN))
        self._dropped = _Total(_counter(BACKLOG_DROPPED))
        self._failures = _Total(_counter(BACKLOG_FAILURES))

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


# Serve's annotation of labels is of one, and means any number.
def _counter(meter: Meter) -> Counter:
    return Counter(meter.name, meter.meaning, cast("Any", meter.labels))


def _gauge(meter: Meter) -> Gauge:
    return Gauge(meter.name, meter.meaning, cast("Any", meter.labels))


def _histogram(meter: Meter) -> Histogram:
    return Histogram(meter.name, meter.meaning, list(meter.buckets), cast("Any", meter.labels))
