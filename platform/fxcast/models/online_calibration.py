"""Online calibration: widths that follow the market after training, by adaptive conformal inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fxcast.config import Settings
from fxcast.domain.candle import FloatArray
from fxcast.domain.forecaster import Forecaster, WindowBatch, widened
from fxcast.domain.timeframe import Timeframe

COVERAGE = 0.9  # of [q05, q95]
_RATE, _DELAY_OF_FULL_RATE = 0.08, 4
_LARGEST_LOG_WIDTH = 2.0  # no forecast is widened or narrowed more than 7.4 times


class OnlineCalibration(Settings):
    """One factor on the spread of each horizon; a miss widens it, a hit narrows it a ninth as much.

    After many outcomes the share of misses is 10 %, whatever the market does: the factor could otherwise not have stayed within
    its bounds. A larger rate follows sooner and wanders more: at 0.08 by about a tenth, which costs some 0.2 % in CRPS.
    Source: Gibbs & Candès 2021, arXiv:2106.00170, tracking the width itself as Angelopoulos et al. 2023, arXiv:2307.16895.
    """

    horizons_minutes: tuple[int, ...]
    log_widths: tuple[float, ...] = Field(description="of each horizon; 0 changes nothing")
    rate: float = Field(default=_RATE, gt=0, le=1, description="how much a miss widens, in logarithm")

    @classmethod
    def fresh(cls, horizons_minutes: tuple[int, ...], *, rate: float = _RATE) -> OnlineCalibration:
        """Return one that has seen nothing and changes nothing."""
        return cls(horizons_minutes=horizons_minutes, log_widths=(0.0,) * len(horizons_minutes), rate=rate)

    def learned(self, horizon_minutes: int, *, inside: bool) -> OnlineCalibration:
        """Return what it becomes when an outcome is known.

        Args:
            horizon_minutes: Of the forecast.
            inside: Whether the outcome lay in [q05, q95] as that was given out. Outcomes are told in the order in which they
                become known, never before.

        Raises:
            ValueError: If the horizon is not one of its own.
        """
        position = self.horizons_minutes.index(horizon_minutes)
        widths = list(self.log_widths)
        step = self.rate * ((0.0 if inside else 1.0) - (1.0 - COVERAGE))
        widths[position] = float(np.clip(widths[position] + step, -_LARGEST_LOG_WIDTH, _LARGEST_LOG_WIDTH))
        return self.model_copy(update={"log_widths": tuple(widths)})

    def apply(self, moves: FloatArray) -> FloatArray:
        """Return samples, (..., samples, horizons), with their spread about the mean scaled."""
        return widened(moves, np.exp(np.array(self.log_widths)))


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineCalibrated:
    """A forecaster with an online calibration over it; implements `Forecaster`."""

    forecaster: Forecaster
    calibration: OnlineCalibration

    def __post_init__(self) -> None:
        if self.calibration.horizons_minutes != self.forecaster.horizons_minutes:
            found, known = self.calibration.horizons_minutes, self.forecaster.horizons_minutes
            raise ValueError(f"the calibration is of horizons {found}, the forecaster of {known}")

    @property
    def model_version(self) -> str:
        return self.forecaster.model_version

    @property
    def timeframe(self) -> Timeframe:
        return self.forecaster.timeframe

    @property
    def horizons_minutes(self) -> tuple[int, ...]:
        return self.forecaster.horizons_minutes

    def sample(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        """Draw log moves, (windows, num_samples, horizons); see `Forecaster.sample`."""
        return self.calibration.apply(self.forecaster.sample(windows, num_samples=num_samples, seeds=seeds))


def rate_for(delay: int) -> float:
    """Return the rate for outcomes that become known some forecasts later.

    A width that is corrected by what was given out long ago overshoots: a miss moves the share of misses by about 0.34 of the step,
    and such a loop swings ever wider where 0.34 · rate · delay passes π / 2. Four forecasts' delay take the full rate, more take
    less: rate · delay stays at 0.32 or below.

    Args:
        delay: Forecasts made until an outcome is known, its own included; 1 or more.
    """
    return _RATE * min(1.0, _DELAY_OF_FULL_RATE / delay)


def calibrated_in_turn(
    moves: FloatArray, outcomes: FloatArray, known_from: NDArray[np.int64], *, rate: float | None = None
) -> FloatArray:
    """Calibrate forecasts of one horizon as they would have been while serving: each by the outcomes known when it was made.

    Args:
        moves: Samples of log moves, (n, samples), in the order in which the forecasts were made.
        outcomes: Log moves that came, (n,).
        known_from: Position of the first forecast that is made when an outcome is known, ascending, (n,).
        rate: As `OnlineCalibration.rate`; by default what suits the delay, `rate_for`.

    Returns:
        (n, samples).

    Raises:
        ValueError: If an outcome is said to be known before or when its own forecast is made, or out of order.
    """
    if (known_from <= np.arange(len(moves))).any() or (np.diff(known_from) < 0).any():
        raise ValueError("an outcome becomes known after its forecast is made, and in the order of the forecasts")
    delay = int((known_from - np.arange(len(moves))).max(initial=1))
    calibration = OnlineCalibration.fresh((1,), rate=rate_for(delay) if rate is None else rate)
    calibrated = np.empty_like(moves)
    inside = np.empty(len(moves), dtype=np.bool_)
    told = 0
    for position, samples in enumerate(moves):
        while known_from[told] <= position:  # never its own, so `told` stays below `position`
            calibration = calibration.learned(1, inside=bool(inside[told]))
            told += 1
        calibrated[position] = calibration.apply(samples[:, None])[:, 0]
        low, high = np.quantile(calibrated[position], (0.05, 0.95), method="weibull")
        inside[position] = low <= outcomes[position] <= high
    return calibrated
