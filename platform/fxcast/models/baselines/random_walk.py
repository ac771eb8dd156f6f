"""The driftless Gaussian random walk with EWMA width: the first opponent of every forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fxcast.domain.candle import FloatArray
from fxcast.domain.forecaster import WindowBatch
from fxcast.domain.timeframe import Timeframe
from fxcast.models.path import ewma_volatility


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomWalk:
    """Log price moves by N(0, volatility² · bars); implements `Forecaster`."""

    timeframe: Timeframe
    horizons_minutes: tuple[int, ...]
    volatility_span_bars: int = 120
    model_version: str = "random-walk"

    def standard_deviations(self, windows: WindowBatch) -> FloatArray:
        """Return the standard deviation of the log move over each horizon, (windows, horizons)."""
        volatility = ewma_volatility(windows.candles[:, :, 3], self.volatility_span_bars)
        bars = np.array([self.timeframe.bars(minutes) for minutes in self.horizons_minutes], dtype=np.float64)
        return volatility[:, None] * np.sqrt(bars)

    def sample(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        """Draw log moves, (windows, num_samples, horizons); see `Forecaster.sample`."""
        shape = (len(self.horizons_minutes), num_samples)
        draws = np.stack([np.random.default_rng(seed).standard_normal(shape) for seed in seeds])  # (windows, horizons, samples)
        return (draws * self.standard_deviations(windows)[:, :, None]).swapaxes(1, 2)
