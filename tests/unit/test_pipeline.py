"""A forecast follows from its window and seed alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch

from fxcast.data.windows import window_at
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.forecaster import WindowBatch, predict
from fxcast.errors import BadRequest
from fxcast.models.pipeline import LDM4TSPipeline
from tests.factories import make_series
from tests.model_factories import SMALL_CONFIG, make_calibration, make_pipeline

HORIZONS = (240, 960, 3840)


@pytest.fixture(scope="module")
def pipeline() -> LDM4TSPipeline:
    torch.set_num_threads(1)
    return make_pipeline()


def ask(pipeline: LDM4TSPipeline, window: CandleSeries, *, seed: int = 7, num_samples: int = 4) -> LDM4TSPrediction:
    return predict(pipeline, window, horizons_minutes=HORIZONS, num_samples=num_samples, seed=seed)


def test_the_same_seed_and_window_give_the_same_answer(pipeline: LDM4TSPipeline) -> None:
    window = make_series()
    assert ask(pipeline, window).horizons == ask(pipeline, window).horizons


def test_another_seed_gives_another_answer(pipeline: LDM4TSPipeline) -> None:
    window = make_series()
    assert ask(pipeline, window, seed=7).horizons[240].samples != ask(pipeline, window, seed=8).horizons[240].samples


def test_another_window_gives_other_moves(pipeline: LDM4TSPipeline) -> None:
    first, second = make_series(seed=1), make_series(seed=2)
    moves = [pipeline.sample_moves(WindowBatch.of(window), num_samples=2, seeds=[7]) for window in (first, second)]
    assert not np.allclose(moves[0], moves[1], atol=1e-6)


def test_a_forecast_says_what_it_is_of(pipeline: LDM4TSPipeline) -> None:
    window = make_series()
    prediction = ask(pipeline, window)
    assert prediction.symbol == "EURUSD"
    assert prediction.timeframe.name == "1h"
    assert prediction.made_at == to_datetime(window.open_times[-1]) + timedelta(hours=1)
    assert prediction.price == window.closes[-1]
    assert prediction.num_samples == 4
    assert prediction.model_version == "untrained"
    assert prediction.inference_time_ms > 0
    assert tuple(prediction.horizons) == HORIZONS


def test_quantiles_are_ordered_and_samples_are_prices(pipeline: LDM4TSPipeline) -> None:
    for horizon in ask(pipeline, make_series(), num_samples=8).horizons.values():
        assert horizon.q05 <= horizon.q50 <= horizon.q95
        assert len(horizon.samples) == 8
        assert min(horizon.samples) > 0
        assert horizon.std > 0


def test_samples_are_the_same_alone_or_in_a_batch(pipeline: LDM4TSPipeline) -> None:
    windows = [make_series(seed=seed, volatility=0.0005 * (seed + 1)) for seed in range(3)]
    batch = WindowBatch(
        symbols=("EURUSD",) * 3,
        timeframe=windows[0].timeframe,
        candles=np.stack([window.values for window in windows]),
        open_times=np.stack([window.open_times.astype(np.int64) for window in windows]),
    )
    together = pipeline.sample_paths(batch, num_samples=3, seeds=[5, 6, 7])
    alone = pipeline.sample_paths(batch.take(np.array([1])), num_samples=3, seeds=[6])
    assert together.paths.shape == (3, 3, 64)
    assert together.charts.shape == (3, 3, 3, 32, 32)
    assert np.allclose(together.paths[1], alone.paths[0], atol=1e-4)
    assert torch.allclose(together.charts[1], alone.charts[0], atol=1e-4)
    assert not np.allclose(together.paths[0], alone.paths[0], atol=1e-3)


def test_a_forecast_is_the_same_whether_the_data_set_ends_today_or_later(pipeline: LDM4TSPipeline) -> None:
    long = make_series(bars=150)
    today = to_datetime(long.close_times[119])
    assert ask(pipeline, window_at(long, today)).horizons == ask(pipeline, window_at(long.slice(0, 120), today)).horizons


def test_a_horizon_is_answered_alike_whatever_else_is_asked(pipeline: LDM4TSPipeline) -> None:
    window = make_series()
    alone = predict(pipeline, window, horizons_minutes=(960,), num_samples=4, seed=7)
    assert alone.horizons == {960: ask(pipeline, window).horizons[960]}


def test_a_forecast_scales_with_the_price(pipeline: LDM4TSPipeline) -> None:
    window = make_series()
    yen = replace(window, values=window.values * [100, 100, 100, 100, 1])
    dear, cheap = ask(pipeline, yen).horizons[960], ask(pipeline, window).horizons[960]
    assert dear.std == pytest.approx(100 * cheap.std, rel=1e-3)


def test_the_calibration_is_part_of_the_answer(pipeline: LDM4TSPipeline) -> None:
    wide = replace(pipeline, calibration=make_calibration(mean_weight=0.0, width=3.0))
    raw, calibrated = (np.log(ask(each, make_series()).horizons[240].samples) for each in (pipeline, wide))
    assert calibrated.std() == pytest.approx(3 * raw.std(), rel=1e-6)
    assert calibrated.mean() == pytest.approx(np.log(make_series().closes[-1]), abs=1e-12)


def test_a_single_sample_is_accepted(pipeline: LDM4TSPipeline) -> None:
    assert ask(pipeline, make_series(), num_samples=1).horizons[240].std == 0.0


@pytest.mark.parametrize("num_samples", [0, 1001])
def test_too_few_or_too_many_samples_are_refused(pipeline: LDM4TSPipeline, num_samples: int) -> None:
    with pytest.raises(BadRequest, match=f"num_samples: found {num_samples}"):
        ask(pipeline, make_series(), num_samples=num_samples)


def test_candles_of_another_timeframe_are_refused(pipeline: LDM4TSPipeline) -> None:
    with pytest.raises(BadRequest, match="timeframe: found 1m; allowed: 1h"):
        ask(pipeline, make_series(timeframe="1m"))


def test_a_forecast_leaves_the_random_numbers_of_others_alone(pipeline: LDM4TSPipeline) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    ask(pipeline, make_series())
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_the_sampler_takes_any_small_number_of_steps(pipeline: LDM4TSPipeline, steps: int) -> None:
    prediction = ask(replace(pipeline, config=SMALL_CONFIG.model_copy(update={"sampler_steps": steps})), make_series())
    assert prediction.horizons[240].std > 0
