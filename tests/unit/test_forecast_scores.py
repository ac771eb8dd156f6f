"""What the forecasts of a fold were worth, beside a computation window by window; and forecasts with fewer samples."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import scoringrules

from fxcast.backtest.forecasts import CalibratedForecasts, PreparedForecasts, SymbolForecasts
from fxcast.cluster.batch_forecast import kept_means
from fxcast.data.packaged import read_packaged_sample
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import Forecaster, WindowBatch
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.load import load_forecaster
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.shipped import shipped_model
from fxcast.trading.forecasting import forecast_seed
from fxcast.tuning.forecast_scores import forecast_scores
from tests.factories import make_series

HORIZONS = (240, 960)


def prepared_of(forecaster: Forecaster, series: CandleSeries, ends: np.ndarray, *, samples: int) -> PreparedForecasts:
    windows = WindowBatch.ending_at(series, ends)
    seeds = [forecast_seed(series.symbol, series.close_time(int(end))) for end in ends]
    moves = forecaster.sample(windows, num_samples=samples, seeds=seeds).astype(np.float32)
    symbols = {series.symbol: SymbolForecasts.of(series, ends, moves)}
    named: dict[str, Any] = {
        "model_version": forecaster.model_version,
        "horizons_minutes": forecaster.horizons_minutes,
        "symbols": symbols,
    }
    kept = kept_means(forecaster)
    return PreparedForecasts(**named) if kept is None else CalibratedForecasts(**named, kept_means=kept)


def test_scores_are_those_of_a_computation_window_by_window() -> None:
    series = {symbol: make_series(bars=200, symbol=symbol, seed=seed) for seed, symbol in enumerate(("EURUSD", "GBPUSD"))}
    ends = np.array([120, 133, 140, 185])
    walk = RandomWalk(timeframe=series["EURUSD"].timeframe, horizons_minutes=HORIZONS)
    parts = [prepared_of(walk, each, ends, samples=30) for each in series.values()]
    both = {symbol: each for part in parts for symbol, each in part.symbols.items()}
    forecasts = PreparedForecasts(model_version="both", horizons_minutes=HORIZONS, symbols=both)
    stop = to_datetime(series["EURUSD"].close_times[190])
    found = forecast_scores(forecasts, series, (960, 240), stop)

    assert [each.minutes for each in found] == [960, 240]
    for score in found:
        windows, inside, crps, walk_crps = 0, 0, 0.0, 0.0
        bars, at = score.minutes // 60, HORIZONS.index(score.minutes)
        for symbol, candles in series.items():
            closes = candles.closes
            for row, end in enumerate(ends):
                if end + bars >= 190:  # the outcome is not known before the stop
                    continue
                samples = closes[end] * np.exp(forecasts.symbols[symbol].moves[row, :, at].astype(float))
                actual = closes[end + bars]
                pairs = np.abs(samples[:, None] - samples[None, :]).sum() / (2 * 30 * 29)  # fair: without the pairs with itself
                crps += (np.abs(samples - actual).mean() - pairs) / closes[end]
                returns = np.diff(np.log(closes[end - CONTEXT_BARS + 1 : end + 1]))
                assert len(returns) == CONTEXT_BARS - 1
                deviation = walk.standard_deviations(WindowBatch.ending_at(candles, np.array([end])))[0, at]
                walk_crps += float(scoringrules.crps_lognormal(actual, np.log(closes[end]), deviation)) / closes[end]
                low, high = np.quantile(samples, (0.05, 0.95), method="weibull")
                inside += int(low <= actual <= high)
                windows += 1
        assert windows == score.windows
        assert windows == (6 if score.minutes == 960 else 8)
        assert inside == score.inside
        assert score.crps == pytest.approx(crps, rel=1e-9)
        assert score.walk_crps == pytest.approx(walk_crps, rel=1e-6)


def test_an_outcome_at_the_stop_is_behind_the_fold() -> None:
    series = make_series(bars=160)
    walk = RandomWalk(timeframe=series.timeframe, horizons_minutes=(240,))
    forecasts = prepared_of(walk, series, np.array([140]), samples=10)
    reached = to_datetime(series.close_times[144])
    for stop, windows in ((reached, 0), (reached + timedelta(seconds=1), 1)):
        (score,) = forecast_scores(forecasts, {"EURUSD": series}, (240,), stop)
        assert (score.windows, score.crps > 0, score.walk_crps > 0) == (windows, bool(windows), bool(windows))
    beyond = prepared_of(walk, series, np.array([158]), samples=10)
    (score,) = forecast_scores(beyond, {"EURUSD": series}, (240,), reached + timedelta(days=100))
    assert score.windows == 0


def test_candles_at_or_after_the_stop_do_not_matter() -> None:
    series = make_series(bars=200)
    walk = RandomWalk(timeframe=series.timeframe, horizons_minutes=HORIZONS)
    forecasts = prepared_of(walk, series, np.arange(110, 180, 3), samples=10)
    values = series.values.copy()
    values[170:, :4] *= 1.5
    other = CandleSeries(symbol="EURUSD", timeframe=series.timeframe, open_times=series.open_times, values=values)
    stop = to_datetime(series.close_times[170])
    assert forecast_scores(forecasts, {"EURUSD": series}, HORIZONS, stop) == forecast_scores(
        forecasts, {"EURUSD": other}, HORIZONS, stop
    )
    later = to_datetime(series.close_times[175])
    assert forecast_scores(forecasts, {"EURUSD": series}, HORIZONS, later) != forecast_scores(
        forecasts, {"EURUSD": other}, HORIZONS, later
    )


def test_a_random_walk_has_no_skill_against_itself() -> None:
    series = read_packaged_sample().series
    walk = RandomWalk(timeframe=series.timeframe, horizons_minutes=HORIZONS)
    forecasts = prepared_of(walk, series, np.arange(200, len(series) - 100, 4), samples=50)
    for score in forecast_scores(forecasts, {"EURUSD": series}, HORIZONS, to_datetime(series.close_times[-1])):
        assert score.windows > 1_000
        assert abs(1.0 - score.crps / score.walk_crps) < 0.02
        assert abs(score.inside / score.windows - 0.9) < 0.05


@pytest.mark.parametrize("mean_weight", [0.0, 0.3])
def test_fewer_samples_of_a_model_are_what_it_says_when_asked_for_so_many(mean_weight: float) -> None:
    series = read_packaged_sample().series
    folder = shipped_model("1h")
    assert folder is not None
    shipped = load_forecaster(folder, timeframe="1h")
    assert isinstance(shipped, LDM4TSPipeline)
    horizons = tuple(each.model_copy(update={"mean_weight": mean_weight}) for each in shipped.calibration.horizons)
    model = replace(shipped, calibration=shipped.calibration.model_copy(update={"horizons": horizons}))
    ends = np.array([400, 2_345])
    many, few = (prepared_of(model, series, ends, samples=samples) for samples in (100, 30))
    cut = many.first(30)
    assert cut.symbols["EURUSD"].moves.shape == few.symbols["EURUSD"].moves.shape == (2, 30, len(model.horizons_minutes))
    np.testing.assert_allclose(cut.symbols["EURUSD"].moves, few.symbols["EURUSD"].moves, rtol=0, atol=1e-6)
    assert type(cut) is type(many), "the model's version and horizons are as before"
    uncentred = many.symbols["EURUSD"].moves[:, :30]
    assert np.abs(uncentred - few.symbols["EURUSD"].moves).max() > 1e-4, "the first samples as they are, are not"


def test_more_samples_than_there_are_is_our_own_bug() -> None:
    series = make_series(bars=150)
    walk = RandomWalk(timeframe=series.timeframe, horizons_minutes=(240,))
    with pytest.raises(ValueError, match="found 10 samples of random-walk; 11 were asked for"):
        prepared_of(walk, series, np.array([140]), samples=10).first(11)
