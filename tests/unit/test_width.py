"""The width network finds when the market will move, from what is known then alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecaster import WindowBatch
from fxcast.models.config import LDM4TSConfig
from fxcast.models.symbols import UNKNOWN, forget_some, symbol_numbers
from fxcast.models.width import WidthNetwork, path_widths
from fxcast.models.width_features import WIDTH_FEATURES, width_features
from fxcast.training.charts import WindowArrays, windows_of
from fxcast.training.config import TrainingConfig
from fxcast.training.denoiser import Callbacks
from fxcast.training.width import WidthFit, fit_width
from tests.factories import make_series
from tests.model_factories import SMALL_CONFIG, make_pipeline


def _silent(*said: object) -> None:
    del said


def _as_it_is(module: nn.Module) -> nn.Module:
    return module


CALLBACKS = Callbacks(wrap=_as_it_is, progress=_silent, checkpoint=_silent)
CONFIG = SMALL_CONFIG.model_copy(update={"symbols": ("EURUSD", "USDJPY")})


def breathing_market(bars: int, seed: int = 0) -> CandleSeries:
    """Return hourly candles that move four times as far in the twelve hours after noon UTC as in those before."""
    hours = np.arange(bars) % 24
    steps = np.random.default_rng(seed).normal(0.0, np.where(hours >= 12, 8e-4, 2e-4))
    return make_series((1.1 * np.exp(np.cumsum(steps))).tolist(), range_width=1e-4)


def fitted(train: WindowArrays, validation: WindowArrays, **changes: int) -> tuple[WidthNetwork, WidthFit]:
    torch.set_num_threads(1)
    pipeline = make_pipeline(config=CONFIG)
    training = TrainingConfig(width_steps=400, width_patience=2).model_copy(update=changes)
    fit = fit_width(pipeline, train, validation, training, CALLBACKS)
    return pipeline.width, fit


def test_it_learns_the_hours_at_which_the_market_moves() -> None:
    series = breathing_market(3000)
    train, validation = windows_of(series, CONFIG, 0, 2000), windows_of(series, CONFIG, 2064, 3000)
    network, fit = fitted(train, validation)
    assert fit.step > 0
    assert fit.skill > 0.03
    fresh = windows_of(breathing_market(1500, seed=7), CONFIG)
    widths = path_widths(network, fresh.windows, CONFIG)
    at_noon, at_midnight = (fresh.windows.closed_at // 3600 % 24 == hour for hour in (12, 0))
    assert widths[at_noon, 3].mean() > 1.7 * widths[at_midnight, 3].mean(), "four hours ahead"
    assert widths[at_noon, 63].mean() < 1.3 * widths[at_midnight, 63].mean(), "64 hours ahead every hour has its turn"


def test_without_steps_it_stays_the_random_walk() -> None:
    series = make_series(bars=1500, seed=3)
    network, fit = fitted(windows_of(series, CONFIG, 0, 900), windows_of(series, CONFIG, 964, 1500), width_steps=0)
    assert fit == WidthFit(step=0, skill=0.0)
    assert (path_widths(network, WindowBatch.of(series.slice(0, 100)), CONFIG) == 1.0).all()


def test_only_what_is_known_at_the_windows_end_enters() -> None:
    series = breathing_market(400)
    values = series.values.copy()
    values[200:, :4] *= 2.0
    ends = np.arange(99, 200)
    before, after = (width_features(WindowBatch.ending_at(each, ends), 120) for each in (series, replace(series, values=values)))
    assert before.shape == (101, WIDTH_FEATURES)
    assert (before == after).all()
    assert np.isfinite(before).all()
    alone = width_features(WindowBatch.ending_at(series, ends[7:8]), 120)
    assert alone[0] == pytest.approx(before[7], abs=1e-12)


def test_features_do_not_depend_on_the_price_or_on_which_way_round_it_is_quoted() -> None:
    windows = windows_of(breathing_market(170), CONFIG)
    dear = replace(windows.windows, candles=windows.windows.candles * [100.0, 100.0, 100.0, 100.0, 1.0])
    features = width_features(windows.windows, 120)
    assert np.allclose(width_features(dear, 120), features, atol=1e-6)
    assert np.allclose(width_features(windows.mirrored().windows, 120), features, atol=1e-6)


@pytest.mark.parametrize("volume", [0.0, 1e9])
def test_features_of_a_flat_window_are_finite(volume: float) -> None:
    flat = make_series([1.25] * 100)
    values = flat.values.copy()
    values[:, 4] = volume
    assert np.isfinite(width_features(WindowBatch.of(replace(flat, values=values)), 120)).all()


def test_widths_are_a_line_in_the_logarithm_of_time_between_powers_of_two_and_bounded() -> None:
    network = WidthNetwork(path_points=64, symbols=0).eval()
    with torch.no_grad():
        network.layers[-1].get_parameter("bias").copy_(torch.tensor([0.0, 0.0, 0.0, 0.4, 0.8, 99.0, -99.0]))
        [widths] = network(torch.zeros(1, WIDTH_FEATURES), torch.tensor([0])).tolist()
    assert widths[:4] == pytest.approx([0.0, 0.0, 0.0, 0.0], abs=1e-6)
    assert widths[7] < widths[10] < widths[15] < widths[31]
    assert widths[31] == pytest.approx(1.5)
    assert widths[63] == pytest.approx(-1.5)


def test_dividing_by_widths_changes_units_and_clips_only_the_path() -> None:
    windows = windows_of(breathing_market(170), CONFIG)
    widths = np.full_like(windows.moves, 0.1)
    divided = windows.divided(widths, CONFIG)
    assert np.allclose(divided.moves, windows.moves * 10)
    assert np.abs(divided.moves).max() > 4.0
    assert np.abs(divided.paths).max() == 1.0


def test_an_unknown_pair_has_a_number_of_its_own_that_training_meets() -> None:
    assert symbol_numbers(["USDJPY", "GBPUSD", "EURUSD"], CONFIG.symbols).tolist() == [2, UNKNOWN, 1]
    numbers = torch.ones(1000, dtype=torch.int64)
    forgotten = forget_some(numbers, 0.25, torch.Generator().manual_seed(0))
    assert 200 < int((forgotten == UNKNOWN).sum()) < 300
    assert (numbers == 1).all()


def test_a_model_of_some_pairs_forecasts_any_other_and_tells_its_own_apart() -> None:
    pipeline = make_pipeline(config=CONFIG)
    window = WindowBatch.of(make_series())
    samples = [
        pipeline.sample(replace(window, symbols=(symbol,)), num_samples=3, seeds=[1])
        for symbol in ("EURUSD", "USDJPY", "NZDCAD", "AUDCHF")
    ]
    assert not np.allclose(samples[0], samples[1], rtol=1e-6)
    assert (samples[2] == samples[3]).all(), "pairs that it never saw are alike to it"


def test_pairs_that_are_named_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="symbols must differ"):
        LDM4TSConfig(symbols=("EURUSD", "EURUSD"))
