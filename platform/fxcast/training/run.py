"""All stages of LDM4TS on one worker: denoiser, temporal fusion, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training.calibrate import calibrate
from fxcast.training.charts import WindowArrays, join
from fxcast.training.config import TrainingConfig
from fxcast.training.denoiser import Callbacks, fit_denoiser
from fxcast.training.fusion import fit_fusion
from fxcast.training.latents import to_latents
from fxcast.training.workers import rank, world_size


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedPipeline:
    """The pipeline with its metrics, plain numbers and text."""

    pipeline: LDM4TSPipeline
    metrics: Mapping[str, float | str]


def train_ldm4ts(
    pipeline: LDM4TSPipeline,
    train: WindowArrays,
    validation: WindowArrays,
    training: TrainingConfig,
    callbacks: Callbacks,
    *,
    fitted_on: str,
    resume_from: Path | None = None,
) -> TrainedPipeline:
    """Train every part around the frozen autoencoder.

    Args:
        pipeline: Untrained, on this worker's device.
        train: All training windows; this worker takes its share, and their mirror images.
        validation: All validation windows; for early stopping and calibration.
        fitted_on: The validation period in words.
        resume_from: Folder of a checkpoint of the same run.
    """
    stride = training.window_stride_bars
    mine = train.take(np.arange(rank() * stride, len(train), world_size() * stride))
    latents = to_latents(pipeline, join([mine, mine.mirrored()]))
    evenly = np.unique(np.linspace(0, len(validation) - 1, min(training.validation_windows, len(validation))).astype(np.int64))
    checked = to_latents(pipeline, validation.take(evenly[rank() :: world_size()]))
    denoiser = fit_denoiser(pipeline, latents, checked, training, callbacks, resume_from)
    path_error = fit_fusion(pipeline, latents, training, callbacks)
    calibrated = calibrate(pipeline, validation, training, callbacks, fitted_on)
    metrics: dict[str, float | str] = {
        "stage": "done",
        "step": denoiser.steps,
        "best_loss": denoiser.best_loss,
        "best_step": denoiser.best_step,
        "stopped_by": denoiser.stopped_by,
        "fusion_path_sigma": path_error,
        "train_windows": -(-len(train) // stride),  # each also as its mirror image
        "validation_windows": len(validation),
    }
    for horizon in calibrated.calibration.horizons:
        metrics[f"width_{horizon.horizon_minutes}"] = horizon.width
        metrics[f"mean_weight_{horizon.horizon_minutes}"] = horizon.mean_weight
    return TrainedPipeline(pipeline=calibrated, metrics=metrics)
