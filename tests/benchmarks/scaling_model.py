"""How far a cluster scales: a model of training and batch forecasting, fitted to what one machine does.

Each resource that GPUs share gives so much, and so much is asked of it; the one of which the largest share is asked is the
bottleneck. What was measured is in `Measured`, what nobody here could measure in `Assumed`.

A ring all-reduce sends 2·(n−1)/n of the gradient over each link, with 2·(n−1) latencies (Patarasuk & Yuan 2009).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_MEGABYTE = 1e6
_HORIZONS = 3  # rows of a forecast
_CONTEXT_MB = 100 * 48 / _MEGABYTE  # candles of six numbers, if each forecast read its own
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """The time of an optimiser step of one worker: `fixed_s` and `window_s` for each of its windows."""

    fixed_s: float
    window_s: float

    @classmethod
    def fitted(cls, windows: Sequence[int], seconds: Sequence[float]) -> StepTime:
        """Fit a line by least squares of the relative error, so that a short step counts as much as a long one."""
        weights = 1.0 / np.asarray(seconds)
        window_s, fixed_s = np.polyfit(np.asarray(windows, dtype=float), np.asarray(seconds), 1, w=weights)
        return cls(fixed_s=max(float(fixed_s), 0.0), window_s=float(window_s))

    def of(self, windows: float) -> float:
        """Return the seconds of a step."""
        return self.fixed_s + self.window_s * windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured on one machine.

    Attributes:
        step: Of training, one worker on one core.
        gradient_mb: What workers tell each other in a step.
        all_reduce_mb_s: Of gloo between two processes of this machine.
        forecasts_s: Of one actor on one core, a second, once it runs.
        forecast_gflop: Arithmetic of a forecast of 50 samples.
        window_kb: Of an encoded window in its shard.
        forecast_kb: Of a forecast as it is kept.
        object_store_mb_s: Put and read by another process.
        tasks_s: Empty tasks that one driver has run, a second.
        rows_s: Forecast rows that PostgreSQL takes in, a second.
    """

    step: StepTime
    gradient_mb: float
    all_reduce_mb_s: float
    forecasts_s: float
    forecast_gflop: float
    window_kb: float
    forecast_kb: float
    object_store_mb_s: float
    tasks_s: float
    rows_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What could not be measured here: no GPU and no network was there.

    Attributes:
        gpu_tflops: That a GPU keeps up in batches of 1,000 samples: a tenth of an L4's 121 in bf16.
        launch_s: Of a step's or a batch's kernels, whatever their size.
        gpus_a_node: Of the larger node type.
        link_mb_s: Between two nodes, each way (25 Gbit/s).
        latency_s: Of a message between two nodes.
        store_mb_s: That a node reads of the object store (S3).
        windows_a_task: Of batch forecasting.
        price: Of a GPU with its share of a node, dollars an hour, on demand.
    """

    gpu_tflops: float = 12.0
    launch_s: float = 0.010
    gpus_a_node: int = 8
    link_mb_s: float = 3_000.0
    latency_s: float = 50e-6
    store_mb_s: float = 1_000.0
    windows_a_task: int = 64
    price: float = 0.80


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a number of GPUs would do.

    Attributes:
        training_windows_s: Of one model, with all GPUs.
        training_efficiency: Beside as many times what one GPU does.
        training_load: Share of what each shared resource can give; above 1 it is the limit.
        forecasts_s: As many as the GPUs compute, or as the tightest resource lets through.
        forecast_load: As for training, if every GPU forecasts as fast as it can.
        forecasts_a_gpu_hour: Of that.
        dollars_a_million: Forecasts.
    """

    gpus: int
    training_windows_s: float
    training_efficiency: float
    training_load: Mapping[str, float]
    forecasts_s: float
    forecast_load: Mapping[str, float]
    forecasts_a_gpu_hour: float
    dollars_a_million: float


def all_reduce_s(workers: int, megabytes: float, *, link_mb_s: float, latency_s: float) -> float:
    """Return the seconds that a ring of workers takes to sum a gradient."""
    return 2 * (workers - 1) * (megabytes / workers / link_mb_s + latency_s)


def predicted_windows_s(measured: Measured, workers: int, windows_each: int) -> float:
    """Return the windows a second that workers with a core each take in on one machine."""
    wait_s = all_reduce_s(workers, measured.gradient_mb, link_mb_s=measured.all_reduce_mb_s, latency_s=0.0)
    return workers * windows_each / (measured.step.of(windows_each) + wait_s)


def planned(measured: Measured, assumed: Assumed, gpus: int, *, windows_each: int = 96) -> Plan:
    """Return what a number of GPUs would do, each with `windows_each` training windows a step."""
    nodes = -(-gpus // assumed.gpus_a_node)
    faster = assumed.gpu_tflops * 1000.0 / (measured.forecasts_s * measured.forecast_gflop)  # than a core of this machine
    compute_s = assumed.launch_s + windows_each * measured.step.window_s / faster
    reduce_s = all_reduce_s(gpus, measured.gradient_mb, link_mb_s=assumed.link_mb_s, latency_s=assumed.latency_s)
    windows_s = gpus * windows_each / (compute_s + reduce_s)
    training_load = {
        "DDP all-reduce": reduce_s / (compute_s + reduce_s),
        "store reads": windows_s * measured.window_kb / 1000.0 / (nodes * assumed.store_mb_s),
    }
    batch = 20  # forecasts of 50 samples at once, as serve_configs/gpu.yaml has it
    computed_s = gpus * batch / (assumed.launch_s + batch * measured.forecast_gflop / assumed.gpu_tflops / 1000.0)
    forecast_load = {
        "store reads": computed_s * _CONTEXT_MB / (nodes * assumed.store_mb_s),
        "object store of the driver": computed_s * measured.forecast_kb / 1000.0 / measured.object_store_mb_s,
        "head and driver (tasks)": computed_s / assumed.windows_a_task / measured.tasks_s,
        "database writes": computed_s * _HORIZONS / measured.rows_s,
    }
    through_s = computed_s / max(1.0, *forecast_load.values())
    an_hour = through_s * _HOUR_S
    return Plan(
        gpus=gpus,
        training_windows_s=windows_s,
        training_efficiency=windows_s / gpus * compute_s / windows_each,
        training_load=training_load,
        forecasts_s=through_s,
        forecast_load=forecast_load,
        forecasts_a_gpu_hour=an_hour / gpus,
        dollars_a_million=gpus * assumed.price / an_hour * _MEGABYTE,
    )
