"""A forecast: its quantiles, its plain form, and the requests that are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from fxcast.domain.candle import FloatArray, to_datetime
from fxcast.domain.forecast import HorizonForecast, prediction_from_dict, summarize, summarize_many
from fxcast.domain.forecaster import ForecastRequest, WindowBatch, check_request, predict
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadRequest
from fxcast.models.baselines.random_walk import RandomWalk
from tests.factories import NOON, make_prediction, make_series

_KNOWING = RandomWalk(timeframe=Timeframe("1h"), horizons_minutes=(240, 960, 3840))


def test_weibull_quantiles_of_fifty_samples_cover_ninety_per_cent() -> None:
    draws = np.random.default_rng(0).standard_normal((4000, 51))
    hits, hits_of_numpy = 0, 0
    for trial in draws:
        summary = summarize(trial[:50])
        hits += summary.q05 <= trial[50] <= summary.q95
        low, high = np.quantile(trial[:50], (0.05, 0.95))
        hits_of_numpy += low <= trial[50] <= high
    assert hits / len(draws) == pytest.approx(0.90, abs=0.014)  # three standard errors
    assert hits_of_numpy / len(draws) < 0.88


def test_a_summary_holds_the_moments_and_the_ordered_samples() -> None:
    summary = summarize(np.array([1.3, 1.1, 1.2]))
    assert summary.samples == (1.1, 1.2, 1.3)
    assert summary.mean == pytest.approx(1.2)
    assert summary.std == pytest.approx(0.1)
    assert summary.q50 == 1.2
    assert (summary.q05, summary.q95) == (1.1, 1.3)


def test_a_quantile_lies_between_two_samples_by_the_weibull_rule() -> None:
    summary = summarize(np.arange(1.0, 51.0))
    assert summary.q05 == pytest.approx(0.05 * 51)
    assert summary.q95 == pytest.approx(0.95 * 51)


def test_a_single_sample_has_no_spread() -> None:
    summary = summarize(np.array([1.1]))
    assert (summary.mean, summary.std, summary.q05, summary.q95) == (1.1, 0.0, 1.1, 1.1)


def drawn(rows: int, samples: int, *, seed: int) -> FloatArray:
    """Return prices, (rows, samples), of several kinds: all different, of ties, or very small."""
    rng = np.random.default_rng([rows, samples, seed])
    prices = rng.normal(1.1, 0.01, (rows, samples))
    return (prices, np.round(prices, 2), prices * 1e-7)[seed % 3]


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 8, 9, 10, 18, 19, 20, 39, 49, 50, 51, 99, 127, 128, 129, 200, 999, 1000])
def test_many_are_summarized_as_each_alone_to_the_last_bit(samples: int) -> None:
    for seed, rows in enumerate((1, 2, 3, 7, 16, 33)):
        prices = drawn(rows, samples, seed=seed)
        alone = tuple(summarize(row) for row in prices)
        assert summarize_many(prices) == alone
        assert summarize_many(np.asfortranarray(prices)) == alone, "however they lie in memory"
        assert summarize_many(np.stack([prices, prices + 1], axis=2)[:, :, 0]) == alone
        assert tuple(summarize(np.repeat(row, 2)[::2]) for row in prices) == alone
        assert summarize_many(prices, with_samples=False) == tuple(replace(each, samples=()) for each in alone)


def test_quantiles_and_moments_are_those_of_numpy() -> None:
    for samples in range(2, 1001, 7):
        (prices,) = drawn(1, samples, seed=samples)
        summary = summarize(prices)
        q05, q50, q95 = np.quantile(prices, (0.05, 0.5, 0.95), method="weibull").tolist()
        assert (summary.q05, summary.q50, summary.q95) == (q05, q50, q95)
        ordered = np.sort(prices)
        assert (summary.mean, summary.std) == (float(ordered.mean()), float(ordered.std(ddof=1)))
        assert summary.samples == tuple(ordered.tolist())


def test_summarizing_leaves_the_prices_as_they_were() -> None:
    prices = np.array([[1.3, 1.1, 1.2]])
    summarize_many(prices)
    assert prices.tolist() == [[1.3, 1.1, 1.2]]
    assert summarize_many(prices[:0]) == ()


def test_a_row_that_is_no_forecast_is_refused() -> None:
    prices = drawn(3, 50, seed=0)
    prices[1, 7] = np.nan
    with pytest.raises(ValueError, match="not a forecast"):
        summarize_many(prices)


@pytest.mark.parametrize(
    "change",
    [
        {"std": -0.1},
        {"q05": 1.2},
        {"q95": 1.0},
        {"q50": 1.13},
        *({name: float(odd)} for name in ("mean", "std", "q05", "q50", "q95") for odd in ("nan", "inf", "-inf")),
    ],
)
def test_numbers_that_are_no_forecast_are_refused(change: dict[str, float]) -> None:
    sound = HorizonForecast(mean=1.1, std=0.01, q05=1.08, q50=1.1, q95=1.12)
    with pytest.raises(ValueError, match="not a forecast"):
        replace(sound, **change)


def test_a_prediction_comes_back_from_json() -> None:
    prediction = replace(make_prediction(), horizons={240: summarize(np.array([1.1, 1.2, 1.3]))})
    assert prediction_from_dict(json.loads(json.dumps(prediction.to_dict(with_samples=True)))) == prediction


def test_samples_travel_only_when_asked_for() -> None:
    prediction = replace(make_prediction(), horizons={240: summarize(np.array([1.1, 1.2, 1.3]))})
    assert "samples" not in prediction.to_dict()["horizons"]["240"]
    assert prediction_from_dict(prediction.to_dict()).horizons[240].samples == ()


def test_the_plain_form_tells_the_uncertainty_in_per_cent_of_price() -> None:
    prediction = make_prediction({240: (1.2, 0.006)}, price=1.2)
    assert prediction.uncertainty_pct(240) == pytest.approx(0.5)
    assert prediction.to_dict()["horizons"]["240"]["uncertainty_pct"] == pytest.approx(0.5)


def test_the_quantiles_format_is_keyed_by_minutes_with_the_time_it_speaks_of() -> None:
    formatted = make_prediction().to_quantiles_format()
    assert set(formatted) == {240, 960}
    assert set(formatted[240]) == {"q05", "q50", "q95", "future_ts"}
    assert formatted[960]["future_ts"] == NOON + timedelta(minutes=960)
    assert formatted[240]["q05"] == make_prediction().horizons[240].q05


@pytest.mark.parametrize("num_samples", [1, 50, 1000])
def test_up_to_a_thousand_samples_may_be_asked_for(num_samples: int) -> None:
    check_request(_KNOWING, ForecastRequest(window=make_series(), horizons_minutes=(240, 3840), num_samples=num_samples))


@pytest.mark.parametrize(
    ("bars", "horizons", "num_samples", "field", "found", "allowed"),
    [
        (99, (240,), 50, "candles", "99 candles", "exactly 100"),
        (101, (240,), 50, "candles", "101 candles", "exactly 100"),
        (100, (), 50, "horizons", "none", "[240, 960, 3840]"),
        (100, (240, 241), 50, "horizons", "241", "[240, 960, 3840]"),
        (100, (240,), 0, "num_samples", "0", "1 to 1000"),
        (100, (240,), 1001, "num_samples", "1001", "1 to 1000"),
    ],
)
def test_a_refused_request_says_which_field_what_was_found_and_what_is_allowed(
    bars: int, horizons: tuple[int, ...], num_samples: int, field: str, found: str, allowed: str
) -> None:
    asked = ForecastRequest(window=make_series(bars=bars), horizons_minutes=horizons, num_samples=num_samples)
    with pytest.raises(BadRequest) as refused:
        check_request(_KNOWING, asked)
    assert (refused.value.field, refused.value.found) == (field, found)
    assert allowed in refused.value.allowed


class _Named:
    """Forecasts moves that tell a window's symbol and seed."""

    model_version = "named"
    timeframe = Timeframe("1h")
    horizons_minutes = (240, 960)

    def sample(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        base = np.array([len(symbol) for symbol in windows.symbols]) + np.array(seeds)  # (windows,)
        return base[:, None, None] * 1e-3 * np.ones((1, num_samples, 1)) * [1.0, 2.0]


def test_an_answer_is_made_of_the_samples_of_any_forecaster() -> None:
    window = make_series()
    answer = predict(_Named(), window, horizons_minutes=(960,), num_samples=3, seed=4)
    assert answer.horizons.keys() == {960}
    assert answer.horizons[960].samples == pytest.approx([window.closes[-1] * np.exp(0.020)] * 3)
    assert (answer.made_at, answer.price) == (to_datetime(window.close_times[-1]), window.closes[-1])
    with pytest.raises(BadRequest, match=r"timeframe: found 1m; allowed: 1h, the timeframe of model named"):
        predict(_Named(), make_series(timeframe="1m"), horizons_minutes=(960,), num_samples=3, seed=4)


def test_windows_of_a_batch_are_those_of_the_series() -> None:
    series = make_series(bars=150)
    batch = WindowBatch.ending_at(series, np.array([99, 120, 149]))
    alone = WindowBatch.of(series.slice(21, 121))
    assert (batch.take(np.array([1])).candles == alone.candles).all()
    assert (batch.take(np.array([1])).open_times == alone.open_times).all()
    assert batch.closed_at.tolist() == series.close_times.astype(np.int64)[[99, 120, 149]].tolist()
    assert batch.prices.tolist() == series.closes[[99, 120, 149]].tolist()
    with pytest.raises(ValueError, match="are not 2 windows"):
        WindowBatch(symbols=("EURUSD",) * 2, timeframe=alone.timeframe, candles=alone.candles, open_times=alone.open_times)
