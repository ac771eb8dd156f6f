"""Forecasts with outcomes, and registered models, for tests of what models are worth."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from fxcast.adapters.storage.database import Database
from fxcast.adapters.storage.predictions import resolve_outcomes
from fxcast.adapters.storage.recent import ForecastKind, RecentForecast, recent_forecasts
from fxcast.adapters.storage.registry import RegisteredModel
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction, summarize
from tests.factories import NOON

HORIZON, BARS, MADE, FIRST = 240, 4, 60, 220  # minutes, candles of an hour, forecasts, candle of the first
KIND = ForecastKind(model_version="wide", symbol="EURUSD", timeframe="1h", horizon_minutes=HORIZON)
METRICS: Mapping[str, Any] = {
    "validation_crps_ratio": 0.964,
    "validation_coverage_90": 0.90625,
    "validation_crps_skill_3840": 0.02,
    "validation_crps_skill_240": 0.0545,
    "width_4h_960": 1.25,
    "step": 1200,
    "stopped_by": "patience",
    "EURUSD omega": 0.02131,
    "train_windows": "unknown",
}


def predictions(series: CandleSeries, version: str, *, width: float, count: int = MADE) -> list[LDM4TSPrediction]:
    """Forecasts around the last price, as wide as is asked for."""
    draws = np.random.default_rng(1)
    made: list[LDM4TSPrediction] = []
    for end in range(FIRST, FIRST + count):
        price = float(series.closes[end])
        samples = np.sort(price * np.exp(width * draws.standard_normal(40)))
        made.append(
            LDM4TSPrediction(
                symbol=series.symbol,
                timeframe=series.timeframe,
                made_at=to_datetime(series.close_times[end]),
                price=price,
                horizons={HORIZON: summarize(samples)},
                inference_time_ms=1.0,
                num_samples=40,
                model_version=version,
            )
        )
    return made


def resolved(database: Database, series: CandleSeries) -> tuple[RecentForecast, ...]:
    resolve_outcomes(database, series, spread=0.0)
    return recent_forecasts(database, KIND, limit=500)


def registered(version: str, *, symbol: str = "EURUSD") -> RegisteredModel:
    return RegisteredModel(
        version=version,
        preset="tiny",
        symbol=symbol,
        timeframe="1h",
        folder=Path("/models") / version,
        config={"validation": ["2017-08-21T20:00:00Z", "2017-10-22T22:00:00Z"]},
        data_hash="abc",
        data_start=NOON - timedelta(days=90),
        data_end=NOON,
        metrics=METRICS,
    )
