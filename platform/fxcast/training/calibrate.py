"""Fit the calibration on a validation period, its windows shared out over the workers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fxcast.domain.candle import FloatArray
from fxcast.models.calibration import fit_calibration
from fxcast.models.path import moves_at_horizons
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training.charts import WindowArrays
from fxcast.training.config import TrainingConfig
from fxcast.training.denoiser import Callbacks
from fxcast.training.workers import gather, rank, world_size

_CHUNK = 4  # windows sampled at a time


def calibrate(
    pipeline: LDM4TSPipeline, validation: WindowArrays, training: TrainingConfig, callbacks: Callbacks, fitted_on: str
) -> LDM4TSPipeline:
    """Return the pipeline with a calibration fitted on validation windows.

    Args:
        validation: All windows of the validation period; the same on every worker.
        fitted_on: The period in words, kept in `calibration.json`.
    """
    validation = validation.take(np.argsort(validation.open_times[:, -1], kind="stable"))  # of several symbols, all in time order
    chosen = np.unique(np.linspace(0, len(validation) - 1, min(training.calibration_windows, len(validation))).astype(np.int64))
    mine = chosen[rank() :: world_size()]
    sampled: list[FloatArray] = []
    for start in range(0, len(mine), _CHUNK):
        positions = mine[start : start + _CHUNK]
        windows = validation.take(positions)
        sampled.append(
            pipeline.sample_moves(
                windows.candles, windows.open_times, num_samples=training.calibration_samples, seeds=[int(p) for p in positions]
            )
        )
        callbacks.progress("calibration", min(start + _CHUNK, len(mine)), len(mine))
    shares = gather((mine, np.concatenate(sampled)))
    positions = np.concatenate([share[0] for share in shares])
    order = np.argsort(positions)
    moves = np.concatenate([share[1] for share in shares])[order]  # (windows, samples, horizons)
    outcomes = moves_at_horizons(validation.paths[positions[order]], pipeline.config)
    return replace(pipeline, calibration=fit_calibration(moves, outcomes, pipeline.horizons_minutes, fitted_on))
