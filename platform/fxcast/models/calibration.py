"""Calibration: a per-horizon map from raw samples to samples whose widths have been right on a validation period."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

import numpy as np
import scoringrules
from pydantic import Field
from scipy.optimize import OptimizeResult, minimize_scalar

from fxcast.config import Settings
from fxcast.domain.candle import FloatArray


class HorizonCalibration(Settings):
    """calibrated = mean_weight · mean + width · (raw − mean), in units of the width network's width."""

    horizon_minutes: int
    mean_weight: float = Field(ge=0, le=1, description="share of the raw mean that has earned its place; 0 is a driftless walk")
    width: float = Field(gt=0, description="factor on the raw spread")


class Calibration(Settings):
    """The map of every horizon, and where it was fitted."""

    horizons: tuple[HorizonCalibration, ...]
    fitted_on: str = Field(description="the validation period, in words")
    windows: int = Field(ge=0, description="validation windows; 0 is no calibration")

    def apply(self, moves: FloatArray) -> FloatArray:
        """Calibrate samples.

        Args:
            moves: Raw standardised moves, (..., samples, horizons).

        Returns:
            The same shape.
        """
        centre = moves.mean(axis=-2, keepdims=True)
        weight = np.array([horizon.mean_weight for horizon in self.horizons])
        width = np.array([horizon.width for horizon in self.horizons])
        return centre * weight + (moves - centre) * width

    def at(self, horizons_minutes: tuple[int, ...]) -> Calibration:
        """Return the same map for as many other horizons, where a timeframe takes over another one's; `fitted_on` stays."""
        pairs = zip(self.horizons, horizons_minutes, strict=True)
        return self.model_copy(
            update={"horizons": tuple(one.model_copy(update={"horizon_minutes": minutes}) for one, minutes in pairs)}
        )


def _is_empty(values: Mapping[str, Any]) -> bool:
    return not values


class CalibrationFile(Calibration):
    """Content of a model's `calibration.json`: the map of its main timeframe, and of others that have one of their own."""

    also_timeframes: dict[str, Calibration] = Field(default={}, exclude_if=_is_empty, description="by timeframe")

    @classmethod
    def of(cls, main: Calibration, others: Mapping[str, Calibration]) -> Self:
        """Put the maps together."""
        return cls(**dict(main), also_timeframes=dict(others))

    @property
    def main(self) -> Calibration:
        """The main timeframe's alone."""
        return Calibration(horizons=self.horizons, fitted_on=self.fitted_on, windows=self.windows)


def no_calibration(horizons_minutes: tuple[int, ...]) -> Calibration:
    """Return the map that changes nothing."""
    return Calibration(
        horizons=tuple(HorizonCalibration(horizon_minutes=minutes, mean_weight=1.0, width=1.0) for minutes in horizons_minutes),
        fitted_on="never",
        windows=0,
    )


def fit_calibration(moves: FloatArray, outcomes: FloatArray, horizons_minutes: tuple[int, ...], fitted_on: str) -> Calibration:
    """Fit the map by the lowest fair CRPS.

    The mean must earn its place: it leaves zero only if its best weight lowers the CRPS on each quarter of the validation
    period.

    Args:
        moves: Raw standardised moves, (windows, samples, horizons), in time order.
        outcomes: What happened, in the same units, (windows, horizons).
    """
    fitted: list[HorizonCalibration] = []
    for index, minutes in enumerate(horizons_minutes):
        raw, actual = moves[:, :, index], outcomes[:, index]
        centre = raw.mean(axis=1, keepdims=True)
        spread = raw - centre
        without_mean = _best_width(spread, actual)
        weight = float(np.clip((centre[:, 0] @ actual) / max(float(centre[:, 0] @ centre[:, 0]), 1e-12), 0.0, 1.0))
        shifted = actual - weight * centre[:, 0]
        with_mean = _best_width(spread, shifted)
        gain = _crps(spread * without_mean, actual) - _crps(spread * with_mean, shifted)
        earned = weight > 0 and all(quarter.mean() > 0 for quarter in np.array_split(gain, 4))
        fitted.append(
            HorizonCalibration(
                horizon_minutes=minutes, mean_weight=weight if earned else 0.0, width=with_mean if earned else without_mean
            )
        )
    return Calibration(horizons=tuple(fitted), fitted_on=fitted_on, windows=len(outcomes))


def _crps(samples: FloatArray, actual: FloatArray) -> FloatArray:
    return np.asarray(scoringrules.crps_ensemble(actual, samples, estimator="fair"), dtype=np.float64)


def _best_width(spread: FloatArray, actual: FloatArray) -> float:
    def score(width: float) -> float:
        return float(_crps(spread * width, actual).mean())

    search = cast("OptimizeResult", minimize_scalar(score, bounds=(0.2, 8.0), method="bounded"))
    return float(search["x"])
