"""The torch loop on a Ray Train worker: its windows from the candle store, its checkpoints and metrics to Ray."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.util.queue import Queue

from fxcast import __version__
from fxcast.cluster.train_checkpoint import MODEL_FOLDER, write_identity
from fxcast.cluster.train_plan import TrainPlan, positions_of, read_series
from fxcast.domain.candle import CandleSeries
from fxcast.models.autoencoder import load_autoencoder
from fxcast.models.folder import save_pretrained
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training.charts import WindowArrays, join, windows_of
from fxcast.training.denoiser import Callbacks
from fxcast.training.run import train_ldm4ts


def _windows(plan: TrainPlan, series: Sequence[CandleSeries], period: tuple[datetime, datetime]) -> WindowArrays:
    return join([windows_of(one, plan.model, *positions_of(one, period)) for one in series])


def fit(config: dict[str, Any], resume_from: Path | None) -> None:
    """Train on this worker, and report checkpoints to Ray.

    Args:
        config: As `train_worker` gets it.
        resume_from: Folder of a checkpoint of the same run.
    """
    plan = TrainPlan.model_validate(config["plan"])
    torch.set_num_threads(plan.threads_per_worker)
    torch.manual_seed(plan.training.seed)  # the same untrained weights on every worker
    queue: Queue = config["queue"]
    is_first = ray.train.get_context().get_world_rank() == 0
    started = datetime.now(UTC)
    pipeline = LDM4TSPipeline.untrained(
        plan.model, load_autoencoder(plan.autoencoder), torch.from_numpy(config["sentence_embeddings"])
    )
    pipeline = pipeline.to(ray.train.torch.get_device())

    def progress(stage: str, done: int, total: int) -> None:
        if is_first and (done % 5 == 0 or done == total):
            queue.put((stage, done, total))

    def checkpoint(metrics: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        if not is_first:
            ray.train.report(dict(metrics))
            return
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            write_identity(config["identity"], Path(folder))
            ray.train.report(dict(metrics), checkpoint=ray.train.Checkpoint.from_directory(folder))

    callbacks = Callbacks(
        wrap=ray.train.torch.prepare_model,
        progress=progress,
        checkpoint=checkpoint,
    )
    series = read_series(plan)
    trained = train_ldm4ts(
        pipeline,
        _windows(plan, series, plan.train),
        _windows(plan, series, plan.validation),
        plan.training,
        callbacks,
        fitted_on=f"{', '.join(plan.symbols)} {plan.validation[0]:%Y-%m-%d} to {plan.validation[1]:%Y-%m-%d}",
        resume_from=resume_from,
    )
    final = replace(trained.pipeline, model_version=plan.name)
    metrics = {**trained.metrics, "seconds": (datetime.now(UTC) - started).total_seconds()}
    card = _card(plan, metrics, config["identity"]["candles_hash"])
    checkpoint(metrics, lambda folder: save_pretrained(final, folder / MODEL_FOLDER, card=card, fxcast_version=__version__))


def _card(plan: TrainPlan, metrics: Mapping[str, Any], data_hash: str) -> str:
    scores = "\n".join(
        f"| {name} | {value:.4f} |" if isinstance(value, float) else f"| {name} | {value} |" for name, value in metrics.items()
    )
    horizons = ", ".join(map(str, plan.model.horizons_minutes))
    return f"""# {plan.name}

LDM4TS, preset `{plan.model.preset}`, {plan.model.timeframe} candles, horizons {horizons} minutes.

- Symbols: {", ".join(plan.symbols)}
- Trained on candles from {plan.train[0]:%Y-%m-%d %H:%M} to {plan.train[1]:%Y-%m-%d %H:%M} UTC
- Early stopping and calibration on {plan.validation[0]:%Y-%m-%d %H:%M} to {plan.validation[1]:%Y-%m-%d %H:%M} UTC
- SHA-256 of the candles: `{data_hash}`
- fxcast {__version__}, seed {plan.training.seed}, {plan.workers} workers

| training | value |
|---|---|
{scores}

The samples are widened by `width_…` and their mean is held at `mean_weight_…` of itself, both fitted on the validation period. What
the forecasts are worth is measured later, on a test period that nothing above has seen.
"""
