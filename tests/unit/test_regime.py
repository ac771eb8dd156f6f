"""Regimes are found, named, filtered without looking ahead, and survive JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fxcast.domain.candle import CandleSeries
from fxcast.domain.signal import Regime
from fxcast.errors import BadCandles
from fxcast.signals.regime import RegimeModel, fit_regimes, regime_features, regime_model_from_dict, unknown_regime
from tests.factories import make_series


def three_regimes() -> CandleSeries:
    """Blocks of 150 candles: a quiet range, a straight climb, a storm, and again."""
    rng = np.random.default_rng(3)
    blocks = [rng.normal(0, 1e-4, 150), rng.normal(3e-4, 1e-4, 150), rng.normal(0, 2e-3, 150)] * 3
    return make_series([float(close) for close in 1.1 * np.exp(np.cumsum(np.concatenate(blocks)))])


@pytest.fixture(scope="module")
def model() -> RegimeModel:
    return fit_regimes(three_regimes())


def test_each_regime_is_named_as_it_was_made(model: RegimeModel) -> None:
    series = three_regimes()
    assert model.filtered(series.slice(50, 150)).regime is Regime.RANGING
    assert model.filtered(series.slice(200, 300)).regime is Regime.TRENDING
    assert model.filtered(series.slice(350, 450)).regime is Regime.VOLATILE


def test_filtered_probabilities_sum_to_one_and_name_the_likeliest(model: RegimeModel) -> None:
    view = model.filtered(three_regimes().slice(200, 300))
    assert sum(view.probabilities.values()) == pytest.approx(1.0)
    assert view.regime is max(view.probabilities, key=lambda regime: view.probabilities[regime])


def test_later_candles_do_not_change_an_earlier_filtered_probability(model: RegimeModel) -> None:
    series = three_regimes().slice(0, 280)
    closes = series.closes.copy()
    closes[261:] *= 1.05  # a shock from candle 261 on
    shocked = make_series([float(close) for close in closes])
    before, after = model.filtered_path(series), model.filtered_path(shocked)
    known = 261 - 12  # rows begin at candle 12
    np.testing.assert_array_equal(before[:known], after[:known])
    assert not np.allclose(before[known:], after[known:])


def test_filtering_is_the_forward_recursion() -> None:
    """Two candles of features, worked out with explicit sums over every path of states."""
    model = fit_regimes(three_regimes())
    series = three_regimes().slice(0, 14)
    features = (regime_features(series) - model.center) / model.scale
    density = np.exp(-0.5 * (((features[:, None] - model.means) ** 2) / model.variances).sum(2)) / np.sqrt(model.variances.prod(1))
    joint = np.array(
        [[model.start[i] * density[0, i] * model.transition[i, j] * density[1, j] for j in range(3)] for i in range(3)]
    )
    np.testing.assert_allclose(model.filtered_path(series)[1], joint.sum(0) / joint.sum(), rtol=1e-9, atol=1e-12)


def test_model_survives_json_exactly(model: RegimeModel) -> None:
    assert regime_model_from_dict(json.loads(json.dumps(model.to_dict()))) == model


def test_the_same_candles_give_the_same_model(model: RegimeModel) -> None:
    assert fit_regimes(three_regimes()) == model


def test_too_few_candles_are_refused() -> None:
    with pytest.raises(BadCandles, match="at least 300"):
        fit_regimes(make_series(bars=299))


def test_without_a_model_every_regime_is_as_likely_as_the_next() -> None:
    assert set(unknown_regime().probabilities.values()) == {1 / 3}


def test_flat_prices_give_finite_features() -> None:
    assert np.isfinite(regime_features(make_series([1.1] * 20))).all()
