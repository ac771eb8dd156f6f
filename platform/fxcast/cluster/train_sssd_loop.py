"""The torch loop of SSSD on a Ray Train worker: its windows from the candle store, its checkpoints and metrics to Ray."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
from ray.util.queue import Queue
from torch import nn

from fxcast.cluster.train_checkpoint import MODEL_FOLDER, write_identity
from fxcast.cluster.train_device import worker_device
from fxcast.cluster.train_plan import positions_of
from fxcast.cluster.train_sssd import SSSDPlan
from fxcast.models.baselines.card import opponent_card
from fxcast.models.baselines.folder import Seen
from fxcast.models.baselines.sssd import SSSD, save_sssd
from fxcast.training.denoiser import Callbacks
from fxcast.training.sssd import Windows, calibrate_sssd, fit_sssd
from fxcast.training.workers import rank, world_size


def fit(config: dict[str, Any], resume_from: Path | None) -> None:
    """Train on this worker, and report checkpoints to Ray.

    Args:
        config: `plan` and `identity` as JSON types, and the `queue` for progress.
        resume_from: Folder of a checkpoint of the same run.
    """
    plan = SSSDPlan.model_validate(config["plan"])
    torch.set_num_threads(plan.threads_per_worker)
    torch.manual_seed(plan.training.seed)  # the same untrained weights on every worker
    started = datetime.now(UTC)
    device = worker_device()
    sssd = SSSD.untrained(plan.model).to(device)
    series = plan.series()
    train = Windows.of(series, [positions_of(one, plan.train) for one in series], plan.model)
    validation = Windows.of(series, [positions_of(one, plan.validation) for one in series], plan.model)
    stride = plan.training.window_stride_bars
    mine = train.chosen(np.arange(rank() * stride, len(train), world_size() * stride))
    evenly = validation.evenly(plan.training.validation_windows)
    checked = evenly.chosen(np.arange(rank(), len(evenly), world_size()))
    callbacks = _callbacks(config["queue"], config["identity"], device)
    fitted = fit_sssd(sssd, mine, checked, plan.training, callbacks, resume_from)
    sssd = replace(sssd, model_version=plan.name)
    if plan.calibrate:
        fitted_on = f"{', '.join(plan.symbols)} {plan.validation[0]:%Y-%m-%d} to {plan.validation[1]:%Y-%m-%d}"
        sssd = calibrate_sssd(sssd, validation, plan.training, callbacks, fitted_on)
    metrics: dict[str, float | str] = {
        "stage": "done",
        "step": fitted.steps,
        "best_loss": fitted.best_loss,
        "best_step": fitted.best_step,
        "stopped_by": fitted.stopped_by,
        "train_windows": -(-len(train) // stride),  # each also as its mirror image
        "validation_windows": len(validation),
        "parameters": sum(parameter.numel() for parameter in sssd.network.parameters()),
    }
    for horizon in () if sssd.calibration is None else sssd.calibration.horizons:
        metrics[f"width_{horizon.horizon_minutes}"] = horizon.width
        metrics[f"mean_weight_{horizon.horizon_minutes}"] = horizon.mean_weight
    metrics["seconds"] = (datetime.now(UTC) - started).total_seconds()
    seen = Seen(symbols=plan.symbols, start=plan.train[0], end=plan.validation[1], data_hash=config["identity"]["candles_hash"])
    card = opponent_card(sssd, "SSSD", seen, metrics)
    callbacks.checkpoint(metrics, lambda folder: save_sssd(sssd, folder / MODEL_FOLDER, seen=seen, card=card))


def _callbacks(queue: Queue, identity: Mapping[str, Any], device: torch.device) -> Callbacks:
    is_first = rank() == 0

    def wrap(module: nn.Module) -> nn.Module:
        return ray.train.torch.prepare_model(module, move_to_device=device)

    def progress(stage: str, done: int, total: int) -> None:
        if is_first and (done % 5 == 0 or done == total):
            queue.put((stage, done, total))

    def checkpoint(metrics: Mapping[str, float | str], write: Callable[[Path], None]) -> None:
        if not is_first:
            ray.train.report(dict(metrics))
            return
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            write_identity(identity, Path(folder))
            ray.train.report(dict(metrics), checkpoint=ray.train.Checkpoint.from_directory(folder))

    return Callbacks(wrap=wrap, progress=progress, checkpoint=checkpoint)
