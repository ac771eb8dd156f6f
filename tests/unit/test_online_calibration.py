"""Online calibration keeps its promise while the market changes, and knows no outcome before its time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scoringrules import crps_ensemble

from fxcast.domain.candle import FloatArray
from fxcast.domain.forecaster import WindowBatch, predict
from fxcast.domain.timeframe import Timeframe
from fxcast.evaluation.assess import Samples, Windows
from fxcast.evaluation.online import calibrated_online
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.online_calibration import OnlineCalibrated, OnlineCalibration, calibrated_in_turn, rate_for
from tests.factories import make_series

MONTH = 520  # hourly candles of a month
SAMPLES = 50


def doubling_market(horizon_bars: int, *, months: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return samples of a forecaster that never learns, and outcomes of a market whose volatility doubles half-way."""
    draws = np.random.default_rng(seed)
    count = months * MONTH
    volatility = np.where(np.arange(count + horizon_bars) < count // 2, 1.0, 2.0) * 1e-3
    price = np.concatenate([[0.0], np.cumsum(draws.standard_normal(count + horizon_bars) * volatility)])
    samples = draws.standard_normal((count, SAMPLES)) * 1e-3 * horizon_bars**0.5
    return samples, (price[horizon_bars:] - price[:-horizon_bars])[:count]


def monthly_coverage(samples: FloatArray, outcomes: FloatArray) -> FloatArray:
    low, high = np.quantile(samples, (0.05, 0.95), axis=1, method="weibull")
    return ((low <= outcomes) & (outcomes <= high)).reshape(-1, MONTH).mean(axis=1)


@pytest.mark.parametrize("horizon_bars", [1, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_month_is_covered_though_volatility_doubles_half_way(horizon_bars: int, seed: int) -> None:
    samples, outcomes = doubling_market(horizon_bars, months=12, seed=seed)
    coverage = monthly_coverage(calibrated_in_turn(samples, outcomes, np.arange(len(samples)) + horizon_bars), outcomes)
    assert ((coverage >= 0.87) & (coverage <= 0.93)).all(), coverage
    assert monthly_coverage(samples, outcomes)[6:].max() < 0.75, "without it, the second half is not"


def test_outcomes_known_long_after_do_not_make_the_width_swing() -> None:
    """At the full rate the width overshoots for as long as it waits: on real candles that cost 14 % in CRPS at a delay of 48."""
    delay = 48
    samples, outcomes = doubling_market(delay, months=12, seed=5)
    samples[len(samples) // 2 :] *= 2.0  # a forecaster that knows the market, and needs no correction
    known_from = np.arange(len(samples)) + delay
    in_turn = calibrated_in_turn(samples, outcomes, known_from)
    too_fast = calibrated_in_turn(samples, outcomes, known_from, rate=0.08)
    before, after, swinging = (float(np.asarray(crps_ensemble(outcomes, each)).mean()) for each in (samples, in_turn, too_fast))
    assert after < 1.03 * before
    assert swinging > 1.10 * before
    assert rate_for(delay) * delay == pytest.approx(0.32)
    assert rate_for(1) == rate_for(4) == 0.08


def test_a_forecast_is_calibrated_by_outcomes_that_were_known_when_it_was_made() -> None:
    samples, outcomes = doubling_market(4, months=1, seed=3)
    changed = outcomes.copy()
    changed[200:] *= 50.0
    first, second = (calibrated_in_turn(samples, each, np.arange(len(samples)) + 4) for each in (outcomes, changed))
    assert (first[:204] == second[:204]).all(), "the outcome of forecast 200 is known when 204 is made"
    assert (first[204] != second[204]).any()


def test_a_miss_widens_nine_times_as_much_as_a_hit_narrows_and_other_horizons_stay() -> None:
    fresh = OnlineCalibration.fresh((240, 960), rate=0.1)
    missed = fresh.learned(240, inside=False)
    assert missed.log_widths == pytest.approx((0.09, 0.0))
    assert missed.learned(240, inside=True).log_widths == pytest.approx((0.08, 0.0))
    assert fresh.log_widths == (0.0, 0.0)
    assert OnlineCalibration.model_validate_json(missed.model_dump_json()) == missed
    with pytest.raises(ValueError, match="not in tuple"):
        fresh.learned(60, inside=True)


def test_widths_stay_within_bounds_whatever_comes() -> None:
    calibration = OnlineCalibration.fresh((240,), rate=1.0)
    for _ in range(20):
        calibration = calibration.learned(240, inside=False)
    assert calibration.log_widths == (2.0,)


def test_a_calibrated_forecaster_is_wider_about_the_same_mean() -> None:
    walk = RandomWalk(timeframe=Timeframe("1h"), horizons_minutes=(240, 960))
    calibration = OnlineCalibration(horizons_minutes=(240, 960), log_widths=(0.0, float(np.log(2.0))))
    wide = OnlineCalibrated(forecaster=walk, calibration=calibration)
    windows = WindowBatch.of(make_series())
    before, after = (each.sample(windows, num_samples=9, seeds=[1]) for each in (walk, wide))
    assert np.allclose(after.mean(axis=1), before.mean(axis=1))
    assert np.allclose(after.std(axis=1), before.std(axis=1) * [1.0, 2.0])
    assert predict(wide, make_series(), horizons_minutes=(960,), num_samples=9, seed=1).model_version == "random-walk"
    with pytest.raises(ValueError, match="the forecaster of"):
        OnlineCalibrated(forecaster=walk, calibration=OnlineCalibration.fresh((240,)))


@pytest.mark.parametrize("known_from", [[0, 2, 3], [1, 1, 3], [2, 1, 3]])
def test_an_outcome_known_before_its_forecast_or_out_of_order_is_refused(known_from: list[int]) -> None:
    with pytest.raises(ValueError, match="becomes known after its forecast"):
        calibrated_in_turn(np.ones((3, 5)), np.ones(3), np.array(known_from))


def test_an_evaluated_forecaster_is_calibrated_by_outcomes_that_its_windows_had_seen() -> None:
    series = make_series(bars=600, seed=4)
    ends = np.concatenate([np.arange(100, 300, 5), np.arange(320, 590, 5)])  # with a hole
    windows = Windows(series=series, ends=ends, horizons_minutes=(240, 960), step_bars=5, terciles=None)
    narrow = np.random.default_rng(0).normal(size=(len(ends), 20, 2)).astype(np.float32) * np.float32(2e-4)
    online = calibrated_online(windows, Samples(name="m", moves=narrow))
    assert online.name == "m+online"
    assert (online.moves[-5:].std(axis=1) > 1.2 * narrow[-5:].std(axis=1)).all(), "it widens"
    for position in (1, 20, 60):
        for index, bars in enumerate((4, 16)):
            changed = series.values.copy()
            changed[ends[position] + 1 :] *= np.linspace(1.5, 9.0, len(changed) - ends[position] - 1)[:, None]  # all outside
            other = calibrated_online(replace(windows, series=replace(series, values=changed)), Samples(name="m", moves=narrow))
            assert (other.moves[: position + 1, :, index] == online.moves[: position + 1, :, index]).all()
            later = int(np.searchsorted(ends, ends[position] + bars))
            assert (other.moves[later + 3 :, :, index] != online.moves[later + 3 :, :, index]).any()
