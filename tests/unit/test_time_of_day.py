"""The random walk by hour of day learns when the market moves, and knows nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from fxcast.domain.candle import FloatArray
from fxcast.domain.forecaster import WindowBatch, predict
from fxcast.errors import BadCandles
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.baselines.time_of_day import TimeOfDayWalk
from tests.factories import make_series

HORIZONS = (240, 960)


def windows_and_moves(*, bars: int = 3000, seed: int = 0) -> tuple[WindowBatch, FloatArray]:
    """Return hourly windows whose moves are four times as large when the last candle closes at 8:00 New York."""
    series = make_series(bars=bars, start=datetime(2017, 1, 2, tzinfo=UTC), seed=seed)
    windows = WindowBatch.ending_at(series, np.arange(99, bars))
    deviations = RandomWalk(timeframe=series.timeframe, horizons_minutes=HORIZONS).standard_deviations(windows)
    times = 4.0 if seed == 0 else 1.0
    at_eight = ((windows.closed_at // 3600 - 5) % 24 == 8)[:, None]  # New York is UTC − 5 in winter
    draws = np.random.default_rng(seed + 1).standard_normal(deviations.shape)
    return windows, deviations * draws * np.where(at_eight, times, 1.0)


def test_a_forecast_is_wide_at_the_hour_that_was_wide_and_as_wide_as_a_random_walk_at_others() -> None:
    windows, moves = windows_and_moves(bars=1600)  # ends in March, before the clocks change
    walk = TimeOfDayWalk.fit(windows, moves, HORIZONS)
    assert (np.diff(walk.sizes, axis=2) >= 0).all()
    eight, nine = (int(np.flatnonzero((windows.closed_at // 3600 - 5) % 24 == hour)[10]) for hour in (8, 9))
    chosen = windows.take(np.array([eight, nine]))
    deviations = RandomWalk(timeframe=chosen.timeframe, horizons_minutes=HORIZONS).standard_deviations(chosen)
    spread = walk.sample(chosen, num_samples=4000, seeds=[1, 2]).std(axis=1) / deviations
    assert (spread[0] > 1.6 * spread[1]).all(), "62 windows of the hour, with the prior of a hundred of all hours"
    assert spread[1] == pytest.approx([1.0, 1.0], abs=0.35)


def test_no_side_is_favoured_though_the_training_period_only_rose() -> None:
    windows, moves = windows_and_moves(seed=5)
    walk = TimeOfDayWalk.fit(windows, np.abs(moves), HORIZONS)
    drawn = walk.sample(windows.take(np.array([7])), num_samples=4000, seeds=[3])[0]
    assert np.abs(drawn.mean(axis=0) / drawn.std(axis=0)) == pytest.approx([0.0, 0.0], abs=0.06)


def test_samples_are_the_same_alone_and_in_a_batch_and_follow_from_the_seed() -> None:
    windows, moves = windows_and_moves(seed=5)
    walk = TimeOfDayWalk.fit(windows, moves, HORIZONS)
    together = walk.sample(windows.take(np.array([5, 6])), num_samples=4, seeds=[1, 2])
    assert (together[1] == walk.sample(windows.take(np.array([6])), num_samples=4, seeds=[2])[0]).all()
    assert (together[1] != walk.sample(windows.take(np.array([6])), num_samples=4, seeds=[3])[0]).any()
    answer = predict(walk, make_series(), horizons_minutes=(960,), num_samples=50, seed=1)
    assert answer.model_version == "time-of-day"
    assert answer.horizons[960].q05 < answer.price < answer.horizons[960].q95


def test_too_few_windows_and_sizes_of_another_shape_are_refused() -> None:
    windows, moves = windows_and_moves(seed=5)
    with pytest.raises(BadCandles, match="23 of the training period"):
        TimeOfDayWalk.fit(windows.take(np.arange(23)), moves[:23], HORIZONS)
    walk = TimeOfDayWalk.fit(windows, moves, HORIZONS)
    with pytest.raises(ValueError, match="sizes have shape"):
        replace(walk, sizes=walk.sizes[:, :1])
