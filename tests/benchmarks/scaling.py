"""Measure training and batch forecasting on one worker and two, fit `scaling_model` to one, check it on two, and plan further.

`make bench`. Times are by the clock: leave the machine alone, and have a core for each worker.

    python -m tests.benchmarks.scaling
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray
import torch
import torch.distributed
from torch.multiprocessing.spawn import spawn
from torch.utils.flop_counter import FlopCounterMode

from fxcast.cluster.batch_forecast import ForecastSource, WindowRequest, Workers, batch_forecast, folder_source
from fxcast.cluster.forecast_cache import ForecastCache
from fxcast.cluster.local import REPOSITORY, ray_session
from fxcast.cluster.train_driver import train_model
from fxcast.data.packaged import read_packaged_sample
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import predict
from fxcast.domain.timeframe import Timeframe
from fxcast.models.folder import from_pretrained
from fxcast.models.load import load_forecaster
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.shipped import shipped_model
from fxcast.training.config import TrainingConfig
from jobs.train import TrainJob, plan_training
from tests.benchmarks.database_writes import measured_rows_s
from tests.benchmarks.result import Against, Figure
from tests.benchmarks.scaling_model import Assumed, Measured, Plan, StepTime, planned, predicted_windows_s

_COMMAND = "python -m tests.benchmarks.scaling"
_FOLDER = REPOSITORY / "runs" / "bench"
_TARGET = 1.7
_GPUS = (8, 64, 512)
_EACH = (48, 96, 192)  # windows of a step, of one worker
_STEPS, _WARM = 40, 8  # of the denoiser; the first ones are not counted
_FORECASTS, _SAMPLES, _BATCH = 512, 50, 4  # sixteen blocks, which actors take one after the other


def step_seconds(folder: Path, workers: int, windows_each: int) -> float:
    """Train, and return the seconds of an optimiser step once it runs."""
    seen: list[tuple[float, int]] = []

    def progress(stage: str, done: int, _total: int) -> None:
        if stage == "denoiser" and _WARM <= done < _STEPS:  # the last one waits for the validation
            seen.append((time.perf_counter(), done))

    training = TrainingConfig(
        steps=_STEPS,
        batch_size=windows_each * workers,
        evaluate_every_steps=_STEPS,
        checkpoint_every_steps=_STEPS,
        validation_windows=48,
        scored_windows=0,
        width_steps=0,
        fusion_steps=1,
        calibration_windows=20,
        calibration_samples=4,
    )
    job = TrainJob(
        name=f"workers-{workers}-{windows_each}",
        store=str(folder / "store"),
        storage_path=str(folder / "train"),
        training=training,
        workers=str(workers),
    )
    train_model(plan_training(job), progress)
    (began, first), (ended, last) = seen[0], seen[-1]
    return (ended - began) / (last - first)


def forecasts_per_second(source: ForecastSource, series: CandleSeries, folder: Path, actors: int) -> float:
    """Return the forecasts a second once the actors run: between the first ones that came and the last."""
    came: list[tuple[float, int]] = []

    def show(done: int, _total: int) -> None:
        if done:
            came.append((time.perf_counter(), done))

    ends = np.arange(len(series) - _FORECASTS, len(series))
    batch_forecast(
        source,
        [WindowRequest(series=series, ends=ends)],
        timeframe=Timeframe("1h"),
        num_samples=_SAMPLES,
        cache=ForecastCache(folder / f"forecasts-{actors}"),
        workers=Workers(actors=actors, batch_windows=_BATCH),
        show=show,
    )
    (began, first), (ended, last) = came[actors], came[-1]  # by then each has done something
    return (last - first) / (ended - began)


def forecast_gflop(pipeline: LDM4TSPipeline, series: CandleSeries) -> float:
    """Count the arithmetic of a forecast."""
    window = series.slice(len(series) - CONTEXT_BARS, len(series))
    with FlopCounterMode(display=False) as counter:
        predict(pipeline, window, horizons_minutes=pipeline.horizons_minutes, num_samples=_SAMPLES, seed=1)
    return counter.get_total_flops() / 1e9


def all_reduce_mb_s(megabytes: float) -> float:
    """Return the rate at which gloo sums a gradient between two processes of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_all_reduce, args=(folder, megabytes), nprocs=2)
        return float((Path(folder) / "rate").read_text())


def _all_reduce(rank: int, folder: str, megabytes: float) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    gradient = torch.ones(int(megabytes * 1e6 / 4))
    torch.distributed.all_reduce(gradient)
    started, times = time.perf_counter(), 50
    for _ in range(times):
        torch.distributed.all_reduce(gradient)
    if rank == 0:
        (Path(folder) / "rate").write_text(str(megabytes * times / (time.perf_counter() - started)))
    torch.distributed.destroy_process_group()


@ray.remote(num_cpus=1)  # with none, Ray would start a process for each of them
def _nothing() -> None:
    """Do nothing."""


@ray.remote(num_cpus=1)
def _total(array: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(array[:: 4096 // 8].sum())  # each page once


def tasks_per_second(count: int = 2000) -> float:
    """Return how many empty tasks one driver has run."""
    ray.get([_nothing.remote() for _ in range(100)])
    started = time.perf_counter()
    ray.get([_nothing.remote() for _ in range(count)])
    return count / (time.perf_counter() - started)


def object_store_mb_s(megabytes: int = 64, times: int = 8) -> float:
    """Return the rate of putting arrays and having another process read them."""
    array = np.ones(megabytes * 1_000_000 // 8)
    ray.get(_total.remote(ray.put(array)))
    started = time.perf_counter()
    for _ in range(times):
        ray.get(_total.remote(ray.put(array)))
    return megabytes * times / (time.perf_counter() - started)


def measure(folder: Path, series: CandleSeries) -> tuple[Measured, dict[str, tuple[float, float]]]:
    """Measure; also return each figure on one worker and on two."""
    CandleStore(folder / "store").append(series)
    shipped = shipped_model("1h")
    assert shipped is not None
    source = folder_source(shipped, partial(load_forecaster, shipped))
    pipeline = from_pretrained(shipped)
    with ray_session(num_cpus=2):
        alone = [step_seconds(folder, 1, each) for each in _EACH]
        together = [step_seconds(folder, 2, each) for each in _EACH]
        forecasts = [forecasts_per_second(source, series, folder, actors) for actors in (1, 2)]
        tasks_s, store_mb_s = tasks_per_second(), object_store_mb_s()
    parts = (pipeline.unet, pipeline.conditioner)  # what the denoiser's training changes
    gradient_mb = sum(weights.numel() for part in parts for weights in part.parameters()) * 4 / 1e6
    shards = list((folder / "train").rglob("*.parquet"))
    rows = sum(_rows(shard) for shard in shards)
    stored = sum(path.stat().st_size for path in (folder / "forecasts-1").rglob("*.parquet"))
    measured = Measured(
        step=StepTime.fitted(_EACH, alone),
        gradient_mb=gradient_mb,
        all_reduce_mb_s=all_reduce_mb_s(gradient_mb),
        forecasts_s=forecasts[0],
        forecast_gflop=forecast_gflop(pipeline, series),
        window_kb=sum(shard.stat().st_size for shard in shards) / rows / 1000.0,
        forecast_kb=stored / _FORECASTS / 1000.0,
        object_store_mb_s=store_mb_s,
        tasks_s=tasks_s,
        rows_s=measured_rows_s(),
    )
    pairs = {
        f"training_windows_{each}": (each / one, 2 * each / two) for each, one, two in zip(_EACH, alone, together, strict=True)
    }
    return measured, {**pairs, "batch_forecasts": (forecasts[0], forecasts[1])}


def _rows(shard: Path) -> int:
    return pq.read_metadata(shard).num_rows


def show(measured: Measured, pairs: dict[str, tuple[float, float]], plans: Sequence[Plan]) -> None:
    """Print what was measured, what the model says of two workers, and its plans."""
    print(json.dumps(asdict(measured), indent=2))
    for name, (one, two) in pairs.items():
        Figure(
            name=f"scaling_{name}", value=two / one, unit="×", against=Against(name="target", value=_TARGET), command=_COMMAND
        ).publish(_FOLDER)
        print(f"{name}: {one:.1f} /s on one worker, {two:.1f} on two")
    for each in _EACH:
        predicted, (_, found) = predicted_windows_s(measured, 2, each), pairs[f"training_windows_{each}"]
        error = predicted / found - 1
        print(f"{each} windows each: the model says {predicted:.0f} /s on two workers, found {found:.0f} ({error:+.0%})")
    for plan in plans:
        print(json.dumps(asdict(plan), indent=2))


def main() -> None:
    """Run the benchmark."""
    with tempfile.TemporaryDirectory() as name:
        measured, pairs = measure(Path(name), read_packaged_sample().series)
    show(measured, pairs, [planned(measured, Assumed(), gpus) for gpus in _GPUS])


if __name__ == "__main__":
    main()
