"""The future in units of volatility·√bars, and what of the past enters those units."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecaster import WindowBatch, predict
from fxcast.domain.timeframe import Timeframe
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.config import LDM4TSConfig, preset_config
from fxcast.models.features import condition_features
from fxcast.models.path import VOLATILITY_FLOOR, ewma_volatility, moves_at_horizons, moves_from_closes, path_bars, path_from_moves
from fxcast.training.charts import windows_of
from tests.factories import make_series


@pytest.mark.parametrize("timeframe", ["1m", "5m", "1h", "4h"])
def test_every_horizon_falls_on_a_point_of_the_path(timeframe: str) -> None:
    config = preset_config("tiny", timeframe)
    assert path_bars(config)[list(config.horizon_points)].tolist() == list(config.horizon_bars)


def test_the_path_ends_at_the_longest_horizon() -> None:
    assert preset_config("tiny", "1m").future_bars == 240
    assert preset_config("tiny", "1h").future_bars == 64
    assert path_bars(preset_config("tiny", "1m"))[:4].tolist() == [3.75, 7.5, 11.25, 15.0]


def test_a_horizon_between_two_points_is_refused() -> None:
    with pytest.raises(ValidationError, match="horizon 50 falls on none of the 64 points"):
        LDM4TSConfig(timeframe="1m", horizons_minutes=(15, 50, 240))


@pytest.mark.parametrize("timeframe", ["1m", "1h"])
def test_prices_come_back_from_the_path_at_the_horizons(timeframe: str) -> None:
    config = preset_config("tiny", timeframe)
    future = np.stack([make_series(bars=config.future_bars, volatility=0.0004, seed=seed).closes for seed in range(5)])
    last = np.array([1.10, 1.11, 1.09, 1.10, 1.12])
    at_points = moves_from_closes(last, future, np.full(5, 0.02), config)  # so volatile that nothing is clipped
    moves = moves_at_horizons(path_from_moves(at_points, config), config)
    for column, bars in enumerate(config.horizon_bars):
        assert np.allclose(last * np.exp(moves[:, column] * 0.02 * np.sqrt(bars)), future[:, bars - 1], rtol=1e-12)


def test_between_two_bars_the_log_price_is_taken_along_a_line() -> None:
    config = preset_config("tiny", "1m")
    future = np.exp(np.arange(1, config.future_bars + 1, dtype=np.float64) ** 2 * 1e-6)[None]
    moves = moves_from_closes(np.ones(1), future, np.array([0.001]), config)
    at_third, at_fourth = 9e-6, 16e-6
    expected = (0.25 * at_third + 0.75 * at_fourth) / (0.001 * math.sqrt(3.75))
    assert moves[0, 0] == pytest.approx(expected, rel=1e-9)


def test_a_move_of_one_volatility_times_root_bars_is_one_unit() -> None:
    config = preset_config("tiny", "1h")
    future = np.full((1, 64), math.exp(0.001 * math.sqrt(16)))
    moves = moves_at_horizons(path_from_moves(moves_from_closes(np.ones(1), future, np.array([0.001]), config), config), config)
    assert moves[0, 1] == pytest.approx(1.0)
    assert moves[0, 0] == pytest.approx(2.0)


def test_extreme_moves_are_clipped_at_four_units() -> None:
    config = preset_config("tiny", "1h")
    futures = np.stack([np.full(64, 2.0), np.full(64, 0.5)])
    path = path_from_moves(moves_from_closes(np.ones(2), futures, np.full(2, 0.001), config), config)
    assert (path[0] == 1.0).all()
    assert (path[1] == -1.0).all()
    assert (moves_at_horizons(path, config)[0] == 4.0).all()


def test_volatility_weighs_recent_moves_more_as_computed_by_hand() -> None:
    closes = np.exp(np.array([[0.0, 0.01, 0.03, 0.0]]))  # moves 0.01, 0.02, −0.03
    weights = np.array([0.25, 0.5, 1.0])  # span 3: each bar counts half of the next
    expected = math.sqrt((0.25 * 0.01**2 + 0.5 * 0.02**2 + 0.03**2) / weights.sum())
    assert ewma_volatility(closes, 3)[0] == pytest.approx(expected)


def test_volatility_of_a_flat_window_is_the_floor() -> None:
    assert ewma_volatility(np.full((2, 100), 1.1), 120).tolist() == [VOLATILITY_FLOOR, VOLATILITY_FLOOR]


def with_other_future(series: CandleSeries, position: int) -> CandleSeries:
    values = series.values.copy()
    values[position:, :4] *= 3.0
    return CandleSeries(symbol=series.symbol, timeframe=series.timeframe, open_times=series.open_times, values=values)


def test_nothing_of_the_future_enters_what_is_known_of_a_window() -> None:
    config = preset_config("tiny", "1h")
    series = make_series(bars=200)
    seen = windows_of(series, config)
    other = windows_of(with_other_future(series, 100), config)  # candle 99 is the last of the first window
    assert seen.volatility[0] == other.volatility[0]
    assert (seen.windows.candles[0] == other.windows.candles[0]).all()
    assert (seen.paths[0] != other.paths[0]).all()
    first = np.array([0])
    for mine, changed in zip(
        condition_features(seen.windows.take(first), config),
        condition_features(other.windows.take(first), config),
        strict=True,
    ):
        assert mine.equal(changed)


def test_a_window_and_its_future_lie_next_to_each_other_inside_the_period() -> None:
    config = preset_config("tiny", "1h")
    series = make_series(bars=300)
    windows = windows_of(series, config, 20, 200)
    assert len(windows) == 180 - 100 - 64 + 1
    assert (windows.windows.candles[0] == series.values[20:120]).all()
    assert (windows.windows.open_times[0] == series.open_times[20:120].astype(np.int64)).all()
    final = np.log(series.closes[199] / series.closes[135]) / (windows.volatility[-1] * 8.0 * 4.0)
    assert windows.paths[-1, -1] == pytest.approx(np.clip(final, -1, 1))


def test_the_random_walk_is_as_wide_as_volatility_times_root_bars() -> None:
    window = make_series()
    forecaster = RandomWalk(timeframe=Timeframe("1h"), horizons_minutes=(240, 960, 3840))
    volatility = ewma_volatility(window.closes[None], 120)[0]
    prediction = predict(forecaster, window, horizons_minutes=(240, 3840), num_samples=1000, seed=0)
    assert sorted(prediction.horizons) == [240, 3840]
    [deviations] = forecaster.standard_deviations(WindowBatch.of(window))
    assert deviations == pytest.approx(volatility * np.sqrt([4, 16, 64]))
    for minutes, bars in ((240, 4), (3840, 64)):
        moves = np.log(np.array(prediction.horizons[minutes].samples) / window.closes[-1])
        assert moves.std() == pytest.approx(volatility * math.sqrt(bars), rel=0.08)
        assert abs(moves.mean()) < 4 * volatility * math.sqrt(bars / 1000)


def test_a_random_walk_answers_a_horizon_alike_whatever_else_is_asked() -> None:
    forecaster = RandomWalk(timeframe=Timeframe("1h"), horizons_minutes=(240, 960, 3840))
    alone = predict(forecaster, make_series(), horizons_minutes=(960,), num_samples=20, seed=5)
    together = predict(forecaster, make_series(), horizons_minutes=(3840, 240, 960), num_samples=20, seed=5)
    other_seed = predict(forecaster, make_series(), horizons_minutes=(960,), num_samples=20, seed=6)
    assert alone.horizons[960] == together.horizons[960]
    assert alone.horizons[960] != other_seed.horizons[960]
