"""Fit the calibration on a validation period, its windows shared out over the workers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fxcast.domain.candle import FloatArray
from fxcast.models.calibration import fit_calibration
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.width import path_widths
from fxcast.training.callbacks import Callbacks
from fxcast.training.charts import WindowArrays
from fxcast.training.config import TrainingConfig
from fxcast.training.workers import gather, rank, world_size

_CHUNK = 4  # windows sampled at a time


def calibrate(
    pipeline: LDM4TSPipeline,
    validation: WindowArrays,
    training: TrainingConfig,
    callbacks: Callbacks,
    fitted_on: str,
    *,
    stage: str = "calibration",
) -> LDM4TSPipeline:
    """Return the pipeline with a calibration fitted on validation windows, all of them.

    Args:
        validation: Windows of the validation period, of the pipeline's timeframe, of several symbols in any order, moves in units
            of volatility·√bars; the same on every worker.
        fitted_on: The period in words, kept in `calibration.json`.
        stage: As progress calls it.
    """
    validation = validation.take(np.argsort(validation.windows.closed_at, kind="stable"))
    mine = np.arange(rank(), len(validation), world_size())
    horizons = len(pipeline.horizons_minutes)
    sampled: list[FloatArray] = [np.empty((0, training.calibration_samples, horizons))]
    for start in range(0, len(mine), _CHUNK):
        positions = mine[start : start + _CHUNK]
        windows = validation.windows.take(positions)
        seeds = [int(position) for position in positions]
        sampled.append(pipeline.sample_moves(windows, num_samples=training.calibration_samples, seeds=seeds))
        callbacks.progress(stage, min(start + _CHUNK, len(mine)), len(mine))
    shares = gather((mine, np.concatenate(sampled)))
    order = np.argsort(np.concatenate([positions for positions, _ in shares]))
    moves = np.concatenate([drawn for _, drawn in shares])[order]  # (windows, samples, horizons)
    outcomes = validation.divided(path_widths(pipeline.width, validation.windows, pipeline.config), pipeline.config).moves
    at_horizons = outcomes[:, list(pipeline.config.horizon_points)]
    return replace(pipeline, calibration=fit_calibration(moves, at_horizons, pipeline.horizons_minutes, fitted_on))
