"""Nothing that is computed for a moment knows what comes after it; and the check of that finds leaks that are planted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.data.windows import known_at, window_at
from fxcast.domain.candle import FloatArray, to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import Forecaster, WindowBatch, predict
from fxcast.domain.timeframe import Timeframe
from fxcast.evaluation.strata import strata_masks, volatility_terciles, window_volatility
from fxcast.models.baselines.garch import Garch, GarchParameters
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.baselines.sssd import SSSD, known_of
from fxcast.models.baselines.sssd_config import SSSDConfig
from fxcast.models.baselines.time_of_day import TimeOfDayWalk
from fxcast.models.features import condition_features
from fxcast.models.path import ewma_volatility
from fxcast.models.width import path_widths
from fxcast.models.width_features import width_features
from fxcast.signals.regime import FEATURE_BARS, fit_regimes
from fxcast.trading.forecasting import forecast_seed
from fxcast.training.charts import WindowArrays, windows_of
from fxcast.training.latents import to_latents
from fxcast.vision.encoder import TimeSeriesVisionEncoder, scale_closes
from tests.factories import make_series
from tests.look_ahead import PAIRS, WITH_OUTCOMES, Look, Market, heeds_the_past, leaks, make_market, moment_of
from tests.model_factories import SMALL_CONFIG, make_calibration, make_pipeline

HORIZONS = SMALL_CONFIG.horizons_minutes
SAMPLES = 2
seeds = st.integers(0, 2**32 - 1)
moments = st.integers(CONTEXT_BARS + 20, 180)  # candles known


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


# --- The check itself ---


def _position(market: Market, moment: datetime) -> int:
    return len(known_at(market[0], moment)) - 1


def centred_average(market: Market, moment: datetime) -> FloatArray:
    at = _position(market, moment)
    return market[0].closes[at - 5 : at + 6].mean()


def trailing_average(market: Market, moment: datetime) -> FloatArray:
    at = _position(market, moment)
    return market[0].closes[at - 10 : at + 1].mean()


def normalised_by_all(market: Market, moment: datetime) -> FloatArray:
    logs = np.log(market[0].closes)
    return (logs[_position(market, moment)] - logs.mean()) / logs.std()


def normalised_by_what_was_known(market: Market, moment: datetime) -> FloatArray:
    logs = np.log(known_at(market[0], moment).closes)
    return (logs[-1] - logs.mean()) / logs.std()


def next_return(market: Market, moment: datetime) -> FloatArray:
    at = _position(market, moment)
    return np.diff(np.log(market[0].closes[at : at + 2]))


def last_return(market: Market, moment: datetime) -> FloatArray:
    at = _position(market, moment)
    return np.diff(np.log(market[0].closes[at - 1 : at + 1]))


def volume_to_come(market: Market, moment: datetime) -> FloatArray:
    at = _position(market, moment)
    return market[0].values[at + 1 : at + 25, 4].sum()


def volume_of_late(market: Market, moment: datetime) -> FloatArray:
    at = _position(market, moment)
    return market[0].values[at - 23 : at + 1, 4].sum()


def candle_that_is_still_open(market: Market, moment: datetime) -> FloatArray:
    """Take candles by when they open, as if they were known then."""
    begun = int(np.searchsorted(market[0].open_times, to_datetime64(moment), side="right"))
    return market[0].values[begun - 5 : begun]


def candles_that_have_closed(market: Market, moment: datetime) -> FloatArray:
    return window_at(market[0], moment, 5).values


def next_return_of_the_other_pair(market: Market, moment: datetime) -> FloatArray:
    at = len(known_at(market[1], moment)) - 1
    return np.diff(np.log(market[1].closes[at : at + 2]))


def last_return_of_the_other_pair(market: Market, moment: datetime) -> FloatArray:
    return np.diff(np.log(window_at(market[1], moment, 2).closes))


def share_of_the_data_set(market: Market, moment: datetime) -> float:
    return _position(market, moment) / len(market[0])


def candles_so_far(market: Market, moment: datetime) -> float:
    return _position(market, moment) / 1000.0


PLANTED: Mapping[str, tuple[Look, Look, set[str]]] = {
    "a centred moving average": (centred_average, trailing_average, {"prices", "next candle", "gaps", "the data set ends"}),
    "a normalisation by the whole series": (
        normalised_by_all,
        normalised_by_what_was_known,
        {"prices", "next candle", "gaps", "the data set ends", "the data set goes on"},
    ),
    "the next candle": (next_return, last_return, {"prices", "next candle", "gaps", "the data set ends"}),
    "volume to come": (volume_to_come, volume_of_late, {"volume", "next candle", "gaps", "the data set ends"}),
    "a candle that is still open": (candle_that_is_still_open, candles_that_have_closed, {"prices", "volume", "next candle"}),
    "the next candle of another pair": (
        next_return_of_the_other_pair,
        last_return_of_the_other_pair,
        {"other pairs", "the data set ends"},
    ),
    "how much of the data set has passed": (
        share_of_the_data_set,
        candles_so_far,
        {"gaps", "the data set ends", "the data set goes on"},
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
@settings(max_examples=25)
@given(seed=seeds, known=moments)
def test_a_planted_leak_is_caught_and_its_honest_version_is_not(planted: str, seed: int, known: int) -> None:
    leaky, honest, expected = PLANTED[planted]
    market, rng = make_market(seed), np.random.default_rng(seed)
    # At a moment when the next candle is about to open: there, not to wait for its close is no rounding of the clock.
    known = next(one for one in range(known, 200) if market[0].open_times[one] == market[0].close_times[one - 1])
    moment = moment_of(market, known)
    found = set(leaks(leaky, market, moment, rng))
    assert expected <= found
    if planted == "volume to come":
        assert "prices" not in found
    assert leaks(honest, market, moment, rng) == ()


# --- Inputs ---


def around(market: Market, moment: datetime) -> WindowBatch:
    """Return a batch whose first window ends at the moment; others end before, and after it as far as there are candles."""
    parts: list[WindowBatch] = []
    for one in market:
        last = len(known_at(one, moment)) - 1
        ends = [last, *(end for end in (last - 20, last + 1, last + 30, len(one) - 1) if CONTEXT_BARS - 1 <= end < len(one))]
        parts.append(WindowBatch.ending_at(one, np.array(ends)))
    return WindowBatch(
        symbols=tuple(symbol for part in parts for symbol in part.symbols),
        timeframe=parts[0].timeframe,
        candles=np.concatenate([part.candles for part in parts]),
        open_times=np.concatenate([part.open_times for part in parts]),
    )


def of_first(compute: Callable[[WindowBatch], object]) -> Look:
    """Compute something of windows all over the data set in one batch, and look at the window that ends at the moment."""

    def look(market: Market, moment: datetime) -> object:
        computed = compute(around(market, moment))
        if isinstance(computed, tuple):  # a NamedTuple of batches
            return [part[0] for part in computed]
        return computed[0]  # pyright: ignore[reportIndexIssue]  # arrays and tensors

    return look


PIPELINE = make_pipeline(config=SMALL_CONFIG.model_copy(update={"symbols": PAIRS}))
with torch.random.fork_rng(devices=[]), torch.no_grad():
    torch.manual_seed(1)
    PIPELINE.width.layers[-1].get_parameter("weight").normal_(0.0, 0.1)  # an untrained one says nothing
    SSSD_SMALL = SSSD.untrained(SSSDConfig(channels=8, blocks=1, states=2, sampler_steps=2))
    for _parameter in SSSD_SMALL.network.out.parameters():
        _parameter.normal_(0.0, 0.1)
CALIBRATED = replace(PIPELINE, calibration=make_calibration())
REGIMES = fit_regimes(make_series(bars=500, seed=11, start=datetime(2016, 1, 4, tzinfo=UTC)))
ENCODER = TimeSeriesVisionEncoder(SMALL_CONFIG.image_size)
LARGE_ENCODER = TimeSeriesVisionEncoder(224)


def filtered_regime(market: Market, moment: datetime) -> FloatArray:
    return REGIMES.filtered_path(market[0])[_position(market, moment) - FEATURE_BARS]


def regime_of_the_evaluation(market: Market, moment: datetime) -> object:
    """Say as the report does whether a window is calm, by the terciles of what was known when a period began."""
    windows = around(market, moment)
    terciles = volatility_terciles(np.tile(known_at(market[0], moment).closes, 4))  # long enough to have them
    assert terciles is not None
    masks = strata_masks(windows.closed_at, window_volatility(windows.candles[:, :, 3]), terciles)
    return terciles, {kind: {name: bool(mask[0]) for name, mask in kinds.items()} for kind, kinds in masks.items()}


def training_windows(market: Market, moment: datetime) -> WindowArrays:
    """Return three windows with their outcomes, of which the second ends at the moment."""
    last, future = _position(market, moment), PIPELINE.config.future_bars
    return windows_of(market[0], PIPELINE.config, last - CONTEXT_BARS, last + future + 2)


def training_inputs(market: Market, moment: datetime) -> object:
    """Return what the denoiser is told of a training window, and of its mirror image; its target, the future, is left out."""
    windows = training_windows(market, moment)
    both = [
        to_latents(each, config=PIPELINE.config, vae=PIPELINE.vae, width=PIPELINE.width) for each in (windows, windows.mirrored())
    ]
    return [(one.past[1], one.widths[1], one.volatility[1], [part[1] for part in one.features]) for one in both]


def training_target(market: Market, moment: datetime) -> object:
    return training_windows(market, moment).moves[1]


def scaled_closes_and_period(windows: WindowBatch) -> tuple[torch.Tensor, ...]:
    scaled = scale_closes(torch.from_numpy(windows.candles))
    return (*scaled, ENCODER.periods(scaled.series))


INPUTS: Mapping[str, Look] = {
    "charts": of_first(lambda windows: ENCODER(torch.from_numpy(windows.candles))),
    "charts of 224 pixels": of_first(lambda windows: LARGE_ENCODER(torch.from_numpy(windows.candles))),
    "scaled closes and period": of_first(scaled_closes_and_period),
    "width features": of_first(lambda windows: width_features(windows, SMALL_CONFIG.volatility_span_bars)),
    "widths": of_first(lambda windows: path_widths(PIPELINE.width, windows, PIPELINE.config)),
    "conditions with spectrum": of_first(lambda windows: tuple(condition_features(windows, PIPELINE.config))),
    "what SSSD is told": of_first(lambda windows: tuple(known_of(windows, SSSD_SMALL.config))),
    "EWMA volatility": of_first(lambda windows: ewma_volatility(windows.candles[:, :, 3], 120)),
    "filtered regime": filtered_regime,
    "regime of the evaluation": regime_of_the_evaluation,
}


@pytest.mark.parametrize("name", INPUTS)
@settings(max_examples=12)
@given(seed=seeds, known=moments, timeframe=st.sampled_from(["1m", "1h"]))
def test_no_input_changes_with_the_future(name: str, seed: int, known: int, timeframe: str) -> None:
    market, rng = make_market(seed, timeframe=timeframe), np.random.default_rng(seed)
    moment = moment_of(market, known)
    assert leaks(INPUTS[name], market, moment, rng, tolerance=1e-6) == ()
    assert heeds_the_past(INPUTS[name], market, moment, rng)


@settings(max_examples=6)
@given(seed=seeds, known=moments)
def test_a_training_window_knows_the_future_only_as_its_target(seed: int, known: int) -> None:
    market, rng = make_market(seed), np.random.default_rng(seed)
    moment = moment_of(market, known)
    assert leaks(training_inputs, market, moment, rng, futures=WITH_OUTCOMES) == ()
    assert "prices" in leaks(training_target, market, moment, rng, futures=WITH_OUTCOMES)
    assert heeds_the_past(training_inputs, market, moment, rng)


# --- Forecasts ---


def time_of_day(*, span_bars: int = 120) -> TimeOfDayWalk:
    series = make_series(bars=1200, seed=21, start=datetime(2016, 1, 4, tzinfo=UTC))
    return TimeOfDayWalk.fit_series([series], HORIZONS, span_bars=span_bars)


LAW = GarchParameters(scale=5e-4, omega=0.02, alpha=0.08, beta=0.9, freedom=5.0, log_likelihood=0.0, returns=1)
HOUR = Timeframe("1h")
# What may differ between batches of several sizes, as a share: single precision rounds otherwise.
FORECASTERS: Mapping[str, tuple[Forecaster, float]] = {
    "LDM4TS": (CALIBRATED, 2e-4),
    "random walk": (RandomWalk(timeframe=HOUR, horizons_minutes=HORIZONS), 0.0),
    "time of day": (time_of_day(), 0.0),
    "GARCH": (Garch(timeframe=HOUR, horizons_minutes=HORIZONS, by_symbol={"EURUSD": LAW}, pooled=LAW), 1e-6),
    "SSSD": (SSSD_SMALL, 1e-6),
}


def seeds_of(windows: WindowBatch) -> list[int]:
    """Return the seeds with which the engine and the evaluation ask for forecasts of these windows."""
    return [
        forecast_seed(symbol, to_datetime(np.datetime64(int(second), "s")))
        for symbol, second in zip(windows.symbols, windows.closed_at, strict=True)
    ]


def asked(forecaster: Forecaster) -> Look:
    """Forecast at a moment as the engine does."""

    def look(market: Market, moment: datetime) -> object:
        window = window_at(market[0], moment)
        seed = forecast_seed(window.symbol, to_datetime(window.close_times[-1]))
        answer = predict(forecaster, window, horizons_minutes=HORIZONS, num_samples=SAMPLES, seed=seed)
        return replace(answer, inference_time_ms=0.0)

    return look


def sampled(forecaster: Forecaster) -> Look:
    """Forecast as the evaluation does, in one batch with windows of all the data set."""
    return of_first(lambda windows: forecaster.sample(windows, num_samples=SAMPLES, seeds=seeds_of(windows)))


@pytest.mark.parametrize("name", FORECASTERS)
@settings(max_examples=5)
@given(seed=seeds, known=moments)
def test_no_forecast_changes_with_the_future(name: str, seed: int, known: int) -> None:
    (forecaster, rounding), market, rng = FORECASTERS[name], make_market(seed), np.random.default_rng(seed)
    moment = moment_of(market, known)
    assert leaks(asked(forecaster), market, moment, rng) == ()
    assert leaks(sampled(forecaster), market, moment, rng, tolerance=rounding) == ()
    assert heeds_the_past(asked(forecaster), market, moment, rng)


@pytest.mark.parametrize("name", FORECASTERS)
@settings(max_examples=8)
@given(seed=seeds, known=moments)
def test_a_forecast_is_the_same_alone_in_any_batch_in_any_order_and_on_a_longer_data_set(name: str, seed: int, known: int) -> None:
    (forecaster, rounding), market, rng = FORECASTERS[name], make_market(seed), np.random.default_rng(seed)
    windows = around(market, moment_of(market, known))
    together = forecaster.sample(windows, num_samples=SAMPLES, seeds=seeds_of(windows))
    scale = rounding * np.abs(together).max()
    order = rng.permutation(len(windows))
    shuffled = windows.take(order)
    in_another_order = forecaster.sample(shuffled, num_samples=SAMPLES, seeds=seeds_of(shuffled))
    np.testing.assert_allclose(in_another_order, together[order], rtol=0.0, atol=scale)
    few = windows.take(order[: int(rng.integers(1, len(order)))])
    np.testing.assert_allclose(
        forecaster.sample(few, num_samples=SAMPLES, seeds=seeds_of(few)), together[order[: len(few)]], rtol=0.0, atol=scale
    )
    shortest = WindowBatch.of(market[0].slice(known - CONTEXT_BARS, known))  # a data set of that window alone
    alone = forecaster.sample(shortest, num_samples=SAMPLES, seeds=seeds_of(shortest))
    np.testing.assert_allclose(alone[0], together[0], rtol=0.0, atol=scale)


class WalkOfItsBatch(RandomWalk):
    """A leak of the kind that a batch normalisation is: as wide as all windows of the batch together."""

    def standard_deviations(self, windows: WindowBatch) -> FloatArray:
        own = super().standard_deviations(windows)
        return np.broadcast_to(own.mean(axis=0), own.shape)


@settings(max_examples=10)
@given(seed=seeds, known=moments)
def test_a_forecaster_that_normalises_over_its_batch_is_caught(seed: int, known: int) -> None:
    market, rng = make_market(seed), np.random.default_rng(seed)
    leaky = WalkOfItsBatch(timeframe=HOUR, horizons_minutes=HORIZONS)
    moment = moment_of(market, known)
    assert leaks(asked(leaky), market, moment, rng) == (), "alone it has no batch to leak from"
    found = leaks(sampled(leaky), market, moment, rng)
    assert {"prices", "the data set ends", "other pairs"} <= set(found)
