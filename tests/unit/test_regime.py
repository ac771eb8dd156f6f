"""Regimes are found, named, filtered without looking ahead, and survive JSON."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.signal import Regime
from fxcast.errors import BadCandles
from fxcast.signals.regime import (
    RegimeModel,
    RegimeState,
    fit_regimes,
    regime_features,
    regime_model_from_dict,
    regime_state_from_dict,
    unknown_regime,
)
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


def followed(state: RegimeState, series: CandleSeries, first: int, last: int, *, bars: int = 100) -> list[RegimeState]:
    """Take in the candles from one position to another, each as the last of a window."""
    states: list[RegimeState] = []
    for position in range(first, last + 1):
        state = state.advanced(series.slice(max(0, position + 1 - bars), position + 1))
        states.append(state)
    return states


def test_step_by_step_the_filter_is_the_whole_path_from_where_it_began(model: RegimeModel) -> None:
    series = three_regimes()
    states = followed(RegimeState(model=model), series, 99, 500)
    # It began on candles 0 to 99 and has forgotten none of them since, though it saw no more than 100 at a time.
    path = model.filtered_path(series.slice(0, 501))[99 - 12 :]
    np.testing.assert_allclose([state.probabilities for state in states], path, rtol=1e-9, atol=1e-12)
    assert {state.view().regime for state in states} == set(Regime)


def test_what_lies_before_the_window_is_remembered_and_fades(model: RegimeModel) -> None:
    series = three_regimes()

    def forgotten_by_starting_anew(bars: int) -> float:
        """How far the probabilities of the climb's first candles depend on what lies before windows of some candles."""
        remembering = followed(RegimeState(model=model), series, 99, 200, bars=bars)[-40:]
        anew = [model.filtered_path(series.slice(position + 1 - bars, position + 1))[-1] for position in range(161, 201)]
        return float(np.abs(np.array([state.probabilities for state in remembering]) - anew).max())

    assert forgotten_by_starting_anew(13) > 1e-3
    assert forgotten_by_starting_anew(100) < 1e-6


def test_a_candle_counts_the_same_however_many_are_taken_in_at_once(model: RegimeModel) -> None:
    """Longer than what is filtered at a time, so that it is put together from parts."""
    series = make_series(bars=9_000, timeframe="1m", seed=8)
    alone = followed(RegimeState(model=model), series, 99, 8_999)
    for first, stop in ((99, 9_000), (99, 4_195), (99, 4_196), (99, 8_291), (99, 8_292)):
        assert RegimeState(model=model).advanced_over(series, first, stop) == alone[stop - 1 - 99]
    for first, stop in ((100, 101), (500, 4_596), (500, 4_597), (5_000, 9_000)):
        assert alone[first - 1 - 99].advanced_over(series, first, stop) == alone[stop - 1 - 99]


def test_the_path_is_the_same_to_the_last_bit_from_whichever_candles_it_is_made(model: RegimeModel) -> None:
    series = three_regimes()
    path, features = model.filtered_path(series), regime_features(series)
    assert path.shape == (len(series) - 12, 3)
    for length in (13, 14, 15, 20, 29, 77, 300):
        for first in (0, 1, 5, 333):
            part = series.slice(first, first + length)
            np.testing.assert_array_equal(regime_features(part), features[first : first + length - 12])
            if first == 0:
                np.testing.assert_array_equal(model.filtered_path(part), path[: length - 12])
            else:
                before = path[first - 1].tolist()  # of candle first + 11
                assert model.filtered_on(before, part.closes) == tuple(path[first + length - 13].tolist())


def test_before_a_fit_candles_are_counted_alone() -> None:
    series = three_regimes()
    counted = RegimeState().advanced_over(series, 99, 150)
    assert counted == followed(RegimeState(), series, 99, 149)[-1]
    assert (counted.candles_since_fit, counted.as_of, counted.probabilities) == (51, to_datetime(series.close_times[149]), ())
    assert counted.advanced_over(series, 149, 151) == counted.advanced_over(series, 150, 151), "one again changes nothing"


def test_no_candles_change_nothing(model: RegimeModel) -> None:
    state = RegimeState(model=model).advanced(three_regimes().slice(0, 100))
    assert state.advanced_over(three_regimes(), 100, 100) is state
    assert state.advanced_over(three_regimes(), 99, 100) is state, "it was taken in already"


def test_after_a_gap_in_what_was_seen_the_filter_starts_anew(model: RegimeModel) -> None:
    series = three_regimes()
    # Windows of 14 candles, as the storm comes: two looks at the market, so that what was before still counts.
    before = RegimeState(model=model).advanced(series.slice(288, 302))
    following, later = series.slice(289, 303), series.slice(290, 304)
    assert before.advanced(following).probabilities != RegimeState(model=model).advanced(following).probabilities
    assert before.advanced(later).probabilities == RegimeState(model=model).advanced(later).probabilities


def test_a_weekend_is_no_gap_in_what_was_seen(model: RegimeModel) -> None:
    series = three_regimes().slice(0, 101)
    times = series.open_times.copy()
    times[100:] += np.timedelta64(48 * 3600, "s")
    weekend = CandleSeries(symbol="EURUSD", timeframe=series.timeframe, open_times=times, values=series.values)
    before = RegimeState(model=model).advanced(weekend.slice(0, 100))
    expected = RegimeState(model=model).advanced(series.slice(0, 100)).advanced(series.slice(1, 101)).probabilities
    assert before.advanced(weekend.slice(1, 101)).probabilities == expected


def test_the_same_candle_again_changes_nothing(model: RegimeModel) -> None:
    window = three_regimes().slice(0, 100)
    state = RegimeState(model=model).advanced(window)
    assert state.advanced(window) is state


def test_candles_are_counted_from_the_fit_on_and_another_model_starts_anew(model: RegimeModel) -> None:
    series = three_regimes()
    unfitted = followed(RegimeState(), series, 99, 101)[-1]
    assert (unfitted.candles_since_fit, unfitted.view()) == (3, unknown_regime())
    fitted_at = to_datetime(series.close_times[101])
    fitted = unfitted.refitted(model, fitted_at)
    assert (fitted.candles_since_fit, fitted.fitted_at, fitted.view()) == (0, fitted_at, unknown_regime())
    window = series.slice(3, 103)
    after = fitted.advanced(window)
    assert (after.candles_since_fit, after.as_of) == (1, fitted_at + timedelta(hours=1))
    assert after.view() == model.filtered(window)


def test_a_window_too_short_to_begin_on_is_refused(model: RegimeModel) -> None:
    with pytest.raises(BadCandles, match="more than 12"):
        RegimeState(model=model).advanced(three_regimes().slice(0, 12))


def test_too_few_candles_to_begin_on_are_refused_in_bulk_too(model: RegimeModel) -> None:
    with pytest.raises(BadCandles, match="more than 12"):
        RegimeState(model=model).advanced_over(three_regimes(), 11, 20)
    begun = RegimeState(model=model).advanced_over(three_regimes(), 12, 20)
    assert begun == followed(RegimeState(model=model), three_regimes(), 12, 19)[-1]


def test_a_model_that_was_copied_filters_alike(model: RegimeModel) -> None:
    series = three_regimes()
    for again in (pickle.loads(pickle.dumps(model)), replace(model), copy.deepcopy(model)):  # noqa: S301  # our own bytes
        assert again == model
        np.testing.assert_array_equal(again.filtered_path(series), model.filtered_path(series))
    other = replace(model, means=model.means + 0.1)
    assert other != model
    assert not np.allclose(other.filtered_path(series), model.filtered_path(series))


def test_a_state_survives_json_exactly_and_goes_on_alike(model: RegimeModel) -> None:
    series = three_regimes()
    for state in (RegimeState(), RegimeState(model=model), followed(RegimeState(model=model), series, 99, 140)[-1]):
        again = regime_state_from_dict(json.loads(json.dumps(state.to_dict())))
        assert again == state
        assert again.advanced(series.slice(42, 142)) == state.advanced(series.slice(42, 142))
