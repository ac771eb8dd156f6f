"""Measure training and batch forecasting of preset `tiny` on the packaged sample. `make bench`."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from fxcast.cluster.batch_forecast import (
    ForecastSource,
    WindowRequest,
    Workers,
    batch_forecast,
    folder_source,
    random_walk_source,
)
from fxcast.cluster.forecast_cache import ForecastCache
from fxcast.cluster.local import REPOSITORY, ray_session
from fxcast.cluster.train_checkpoint import install_model
from fxcast.cluster.train_driver import train_model
from fxcast.data.packaged import read_packaged_sample
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.domain.timeframe import Timeframe
from fxcast.models.load import load_forecaster
from fxcast.training.config import TrainingConfig
from jobs.train import TrainJob, plan_training
from tests.benchmarks.processes import family, memory_mb
from tests.benchmarks.result import Against, Figure

_COMMAND = "python -m tests.benchmarks.training"
_FOLDER = REPOSITORY / "runs" / "bench"
_LIMIT_MB = 4096.0
_HOUR = Timeframe("1h")
_FORECASTS, _SAMPLES = 256, 50
# Default sizes; only shorter, and validated at its end alone.
_TRAINING = TrainingConfig(
    steps=80, evaluate_every_steps=80, checkpoint_every_steps=80, width_steps=400, fusion_steps=20, calibration_samples=20
)


@dataclass(slots=True)
class MemoryWatch:
    """Looks at the memory of this process and its descendants, inside a `with` block.

    Counted is each process' own memory and its share of what it shares with others. To ask for that takes long, and would slow the
    training down: so what each has for itself is looked at twice a second, and the whole where that reaches a new height.

    Attributes:
        training_mb: The most that this process and what Ray started for it (workers, actors, tasks) had together.
        all_mb: The most with Ray's own servers too (scheduler, object store, dashboard).
    """

    training_mb: float = 0.0
    all_mb: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()

    def _watch(self) -> None:
        own, highest = int(Path("/proc/self").readlink().name), 0.0
        while not self._stop.wait(0.5):
            processes = list(family(own))
            alone = sum(memory_mb(process, "status", "RssAnon") for process, _ in processes)
            if alone < 1.01 * highest:
                continue
            highest = alone
            sizes = {(process, command): memory_mb(process, "smaps_rollup", "Pss") for process, command in processes}
            working = sum(size for (process, command), size in sizes.items() if process == own or command.startswith("ray::"))
            self.training_mb = max(self.training_mb, working)
            self.all_mb = max(self.all_mb, sum(sizes.values()))


def windows_per_second(job: TrainJob, models: Path) -> float:
    """Train, keep the model, and return how many windows a second the denoiser took in; without the workers' start."""
    seen: list[tuple[float, int]] = []

    def progress(stage: str, done: int, _total: int) -> None:
        if stage == "denoiser":
            seen.append((time.perf_counter(), done))

    plan = plan_training(job)
    outcome = train_model(plan, progress)
    assert outcome.model is not None
    install_model(outcome.model, models / plan.name, preset=job.preset, timeframe=job.timeframe)
    (began, first), (ended, last) = seen[0], seen[-1]
    return (last - first) * plan.training.batch_size / (ended - began)


def measure_training(folder: Path) -> None:
    """Train once on one worker and once on two, from the same encoded windows, and watch the memory of both."""
    speeds: list[float] = []
    with MemoryWatch() as memory:
        for workers in (1, 2):
            job = TrainJob(
                name=f"workers-{workers}",
                store=str(folder / "store"),
                storage_path=str(folder / "train"),
                training=_TRAINING,
                workers=str(workers),
            )
            speeds.append(windows_per_second(job, folder / "models"))
    one, two = speeds
    _publish("training_windows_per_second", two, "/s", Against(name="1 worker instead of 2", value=one))
    print(f"2 workers took in {two / one:.2f} times the windows of 1")
    _publish("training_peak_memory", memory.training_mb, "MB", Against(name="allowed", value=_LIMIT_MB))
    print(f"driver, workers and Ray's own actors at their most; with Ray's servers {memory.all_mb:,.0f} MB")


def seconds_to_forecast(source: ForecastSource, series: CandleSeries, folder: Path) -> tuple[float, float]:
    """Return the seconds from the call to the last forecast, and to the first ones, when two actors have been started."""
    came: list[float] = []

    def show(done: int, _total: int) -> None:
        if done:
            came.append(time.perf_counter())

    ends = np.arange(len(series) - _FORECASTS, len(series))  # the newest, which training has not seen
    started = time.perf_counter()
    forecasts = batch_forecast(
        source,
        [WindowRequest(series=series, ends=ends)],
        timeframe=_HOUR,
        num_samples=_SAMPLES,
        cache=ForecastCache(folder),
        workers=Workers(actors=2),
        show=show,
    )
    assert forecasts.computed == _FORECASTS, forecasts.computed
    return time.perf_counter() - started, came[0] - started


def measure_forecasts(folder: Path, series: CandleSeries) -> None:
    """Forecast the same windows with the model that was just trained and with the random walk."""
    model = folder / "models" / "workers-2"
    ldm4ts = folder_source(model, partial(load_forecaster, model))
    walk = random_walk_source(_HOUR, ldm4ts.horizons_minutes)
    walk_s, walk_first_s = seconds_to_forecast(walk, series, folder / "forecasts")
    ldm4ts_s, first_s = seconds_to_forecast(ldm4ts, series, folder / "forecasts")
    _publish("batch_forecasts_per_second", _FORECASTS / ldm4ts_s, "/s", Against(name="random walk", value=_FORECASTS / walk_s))
    print(
        f"{_FORECASTS} windows of {_SAMPLES} samples on 2 actors: {ldm4ts_s:.1f} s, the first after {first_s:.1f} s; "
        f"random walk {walk_s:.1f} s, the first after {walk_first_s:.1f} s"
    )


def _publish(name: str, value: float, unit: str, against: Against) -> None:
    Figure(name=name, value=value, unit=unit, against=against, command=_COMMAND).publish(_FOLDER)


def main() -> None:
    """Run the benchmark."""
    series = read_packaged_sample().series
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        CandleStore(folder / "store").append(series)
        with ray_session(num_cpus=2):
            measure_training(folder)
            measure_forecasts(folder, series)


if __name__ == "__main__":
    main()
