"""Candles and forecasts of known worth for the tests of the evaluation."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from fxcast.evaluation.assess import Samples, Windows
from fxcast.evaluation.rolling import rolling_ends
from fxcast.evaluation.strata import volatility_terciles
from tests.factories import make_series

RANDOM_WALK = "random-walk"
VOLATILITY = 0.0005
HORIZONS = (240, 960)
START = datetime(2017, 4, 1, tzinfo=UTC)
STOP = datetime(2017, 8, 1, tzinfo=UTC)


def make_windows(*, bars: int = 3600, step_bars: int = 2, seed: int = 3, terciles: bool = True) -> Windows:
    """Hourly windows of a random walk of constant volatility, from 1 April 2017; a month of candles lies before."""
    series = make_series(bars=bars, volatility=VOLATILITY, seed=seed)
    before = series.slice(0, int(np.searchsorted(series.close_times, np.datetime64("2017-04-01T00:00:00"), side="right")))
    return Windows(
        series=series,
        ends=rolling_ends(series, START, STOP, step_bars=step_bars),
        horizons_minutes=HORIZONS,
        step_bars=step_bars,
        terciles=volatility_terciles(before.closes) if terciles else None,
    )


def make_samples(windows: Windows, name: str, *, width: float = 1.0, num_samples: int = 50, seed: int = 9) -> Samples:
    """Samples of the true law of `make_windows`, stretched by `width`."""
    bars = np.array([windows.series.timeframe.bars(minutes) for minutes in windows.horizons_minutes])
    draws = np.random.default_rng(seed).standard_normal((len(windows.ends), num_samples, len(bars)))
    return Samples(
        name=name, moves=(draws * width * VOLATILITY * np.sqrt(bars)).astype(np.float32), is_random_walk=name == RANDOM_WALK
    )
