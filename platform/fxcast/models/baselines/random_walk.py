"""The driftless Gaussian random walk with EWMA width: the first opponent of every forecast."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction, check_request, summarize
from fxcast.models.path import ewma_volatility, prices_from_moves


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomWalk:
    """Log price moves by N(0, volatility² · bars); implements `Forecaster`."""

    horizons_minutes: tuple[int, ...]
    volatility_span_bars: int = 120
    model_version: str = "random-walk"

    def standard_deviation(self, window: CandleSeries, horizon_minutes: int) -> float:
        """Return the standard deviation of the log move over a horizon."""
        volatility = float(ewma_volatility(window.closes[None], self.volatility_span_bars)[0])
        return volatility * window.timeframe.bars(horizon_minutes) ** 0.5

    def forecast(self, window: CandleSeries, *, horizons_minutes: Sequence[int], num_samples: int, seed: int) -> LDM4TSPrediction:
        """Forecast one window; see `Forecaster.forecast`."""
        started = time.perf_counter()
        check_request(window, horizons_minutes, num_samples, self.horizons_minutes)
        price = float(window.closes[-1])
        # All horizons are drawn, so that an answer does not depend on what else was asked.
        draws = np.random.default_rng(seed).standard_normal((len(self.horizons_minutes), num_samples))
        horizons = {
            minutes: summarize(prices_from_moves(moves, price, self.standard_deviation(window, minutes), 1))
            for minutes, moves in zip(self.horizons_minutes, draws, strict=True)
            if minutes in horizons_minutes
        }
        return LDM4TSPrediction(
            symbol=window.symbol,
            timeframe=window.timeframe,
            made_at=to_datetime(window.close_times[-1]),
            price=price,
            horizons=horizons,
            inference_time_ms=(time.perf_counter() - started) * 1000.0,
            num_samples=num_samples,
            model_version=self.model_version,
        )
