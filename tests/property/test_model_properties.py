"""What the model is told of a window depends on that window alone, and not on its price level."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.domain.candle import CandleSeries, candle_problem
from fxcast.domain.forecaster import WindowBatch
from fxcast.models.config import preset_config
from fxcast.models.features import ConditionFeatures, condition_features
from fxcast.models.path import moves_from_closes, path_from_moves
from fxcast.models.text import SENTENCE_INDEX, describe_window
from fxcast.training.charts import windows_of
from tests.factories import make_series

CONFIG = preset_config("tiny", "1h")

seeds = st.integers(0, 10_000)
starts = st.datetimes(datetime(2000, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds
volatilities = st.floats(0.0, 0.05)


@st.composite
def any_window(draw: st.DrawFn) -> CandleSeries:
    closes = draw(st.lists(st.floats(0.01, 1e5), min_size=100, max_size=100)) if draw(st.booleans()) else None
    start = draw(starts).replace(microsecond=0)
    return make_series(closes, start=start, volatility=draw(volatilities), seed=draw(seeds), range_width=1e-5)


def features_of(values: np.ndarray, window: CandleSeries) -> ConditionFeatures:
    windows = WindowBatch(
        symbols=(window.symbol,) * len(values),
        timeframe=window.timeframe,
        candles=values,
        open_times=np.stack([window.open_times.astype(np.int64)] * len(values)),
    )
    return condition_features(windows, CONFIG)


@settings(max_examples=200, deadline=None)
@given(any_window())
def test_whatever_is_said_of_a_window_is_in_the_vocabulary(window: CandleSeries) -> None:
    assert describe_window(window, 120) in SENTENCE_INDEX


@settings(max_examples=60, deadline=None)
@given(any_window())
def test_features_are_finite(window: CandleSeries) -> None:
    assert all(torch.isfinite(part).all() for part in features_of(window.values[None], window))


@settings(max_examples=40, deadline=None)
@given(starts, seeds, st.sampled_from([0.001, 100.0, 1000.0]))
def test_features_do_not_change_when_all_prices_are_multiplied(start: datetime, seed: int, factor: float) -> None:
    window = make_series(start=start.replace(microsecond=0), seed=seed, range_width=1e-4)
    scaled = window.values * np.array([factor, factor, factor, factor, 1.0])
    for plain, multiplied in zip(features_of(window.values[None], window), features_of(scaled[None], window), strict=True):
        assert torch.allclose(plain.to(torch.float64), multiplied.to(torch.float64), atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(seeds, seeds)
def test_features_are_the_same_alone_or_in_a_batch(seed: int, other_seed: int) -> None:
    window, other = make_series(seed=seed), make_series(seed=other_seed, volatility=0.02, price=150.0)
    alone = features_of(window.values[None], window)
    together = features_of(np.stack([other.values, window.values, other.values]), window)
    for mine, batched in zip(alone, together, strict=True):
        assert torch.allclose(mine[0].to(torch.float64), batched[1].to(torch.float64), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seeds, volatilities)
def test_mirroring_twice_is_the_identity(seed: int, volatility: float) -> None:
    windows = windows_of(make_series(bars=166, seed=seed, volatility=volatility, range_width=1e-5), CONFIG)
    mirrored = windows.mirrored()
    again = mirrored.mirrored()
    assert np.allclose(again.windows.candles, windows.windows.candles, rtol=1e-12)
    assert (again.paths == windows.paths).all()
    assert (again.windows.open_times == windows.windows.open_times).all()
    assert all(candle_problem(*(float(value) for value in candle)) is None for candle in mirrored.windows.candles.reshape(-1, 5))


@settings(max_examples=60, deadline=None)
@given(seeds, st.floats(1e-8, 0.05), st.floats(0.0, 0.2), st.sampled_from(["1m", "1h"]))
def test_a_path_stays_within_one_of_zero(seed: int, volatility: float, future_volatility: float, timeframe: str) -> None:
    config = preset_config("tiny", timeframe)
    future = make_series(bars=config.future_bars, seed=seed, volatility=future_volatility).closes[None]
    path = path_from_moves(moves_from_closes(np.array([1.1]), future, np.array([volatility]), config), config)
    assert path.shape == (1, 64)
    assert (np.abs(path) <= 1.0).all()
