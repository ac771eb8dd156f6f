"""Calibration widens narrow samples to the truth, and lets the mean in only if it has earned its place."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from fxcast.domain.candle import FloatArray
from fxcast.models.calibration import Calibration, HorizonCalibration, fit_calibration, no_calibration

SAMPLES = 50


def raw_and_outcomes(
    seed: int, *, narrow: float = 1.0, mean_size: float = 0.0, mean_worth: float = 0.0, windows: int = 400
) -> tuple[FloatArray, FloatArray]:
    """Draw samples `narrow` times too narrow, (windows, SAMPLES, 1), and outcomes, (windows, 1)."""
    draws = np.random.default_rng(seed)
    mean = draws.normal(0.0, mean_size, windows) if mean_size else np.zeros(windows)
    samples = mean[:, None] + draws.normal(size=(windows, SAMPLES)) / narrow
    return samples[:, :, None], (mean_worth * mean + draws.normal(size=windows))[:, None]


@pytest.mark.parametrize("narrow", [0.7, 1.0, 1.6, 3.0])
def test_samples_of_a_wrong_width_are_brought_to_the_right_one(narrow: float) -> None:
    calibration = fit_calibration(*raw_and_outcomes(1, narrow=narrow, windows=1500), (240,), "2016")
    assert calibration.horizons[0].width == pytest.approx(narrow, rel=0.08)


def test_each_horizon_gets_a_width_of_its_own() -> None:
    parts = [raw_and_outcomes(2, narrow=narrow) for narrow in (1.0, 2.0)]
    moves, outcomes = (np.concatenate([part[index] for part in parts], axis=-1) for index in (0, 1))
    calibration = fit_calibration(moves, outcomes, (240, 960), "2016")
    assert [horizon.horizon_minutes for horizon in calibration.horizons] == [240, 960]
    assert calibration.horizons[1].width > 1.6 * calibration.horizons[0].width


def test_a_mean_that_is_noise_stays_out() -> None:
    weights = [
        fit_calibration(*raw_and_outcomes(seed, mean_size=0.5), (240,), "2016").horizons[0].mean_weight for seed in range(12)
    ]
    assert sum(weight > 0 for weight in weights) <= 3  # each has about one chance in ten to pass on each quarter
    assert max(weights) < 0.25


def test_a_mean_that_points_the_wrong_way_stays_out() -> None:
    calibration = fit_calibration(*raw_and_outcomes(3, mean_size=0.5, mean_worth=-1.0), (240,), "2016")
    assert calibration.horizons[0].mean_weight == 0.0


@pytest.mark.parametrize(("worth", "expected"), [(1.0, 1.0), (0.5, 0.5), (3.0, 1.0)])
def test_a_mean_that_comes_true_gets_its_share(worth: float, expected: float) -> None:
    calibration = fit_calibration(*raw_and_outcomes(4, mean_size=0.8, mean_worth=worth, windows=1500), (240,), "2016")
    assert calibration.horizons[0].mean_weight == pytest.approx(expected, abs=0.12)


def test_a_mean_that_helps_in_one_half_only_stays_out() -> None:
    first, second = raw_and_outcomes(5, mean_size=1.0, mean_worth=1.0), raw_and_outcomes(6, mean_size=1.0, mean_worth=-0.7)
    moves, outcomes = (np.concatenate([first[index], second[index]]) for index in (0, 1))
    assert fit_calibration(moves, outcomes, (240,), "2016").horizons[0].mean_weight == 0.0


def test_calibrated_intervals_cover_what_they_say() -> None:
    fit, test = raw_and_outcomes(7, narrow=1.7, windows=1000), raw_and_outcomes(8, narrow=1.7, windows=2000)
    calibrated = fit_calibration(*fit, (240,), "2016").apply(test[0])[:, :, 0]
    low, high = np.quantile(calibrated, (0.05, 0.95), axis=1, method="weibull")
    assert ((low <= test[1][:, 0]) & (test[1][:, 0] <= high)).mean() == pytest.approx(0.90, abs=0.03)


def test_applying_scales_mean_and_spread_of_each_horizon() -> None:
    calibration = Calibration(
        horizons=(
            HorizonCalibration(horizon_minutes=240, mean_weight=0.0, width=2.0),
            HorizonCalibration(horizon_minutes=960, mean_weight=0.5, width=1.0),
        ),
        fitted_on="2016",
        windows=400,
    )
    moves = np.random.default_rng(0).normal(1.0, 1.0, (3, SAMPLES, 2))
    calibrated = calibration.apply(moves)
    assert calibrated.shape == moves.shape
    assert np.allclose(calibrated.mean(axis=1), moves.mean(axis=1) * [0.0, 0.5])
    assert np.allclose(calibrated.std(axis=1), moves.std(axis=1) * [2.0, 1.0])
    assert np.allclose(calibration.apply(moves[0]), calibrated[0])


def test_without_a_fit_nothing_changes() -> None:
    moves = np.random.default_rng(0).normal(size=(2, SAMPLES, 3))
    assert np.allclose(no_calibration((240, 960, 3840)).apply(moves), moves)


def test_a_calibration_comes_back_from_json() -> None:
    calibration = fit_calibration(*raw_and_outcomes(9, narrow=1.5), (240,), "EURUSD 2016")
    assert calibration.windows == 400
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration


@pytest.mark.parametrize("change", [{"width": 0.0}, {"mean_weight": 1.5}, {"mean_weight": -0.1}, {"wide": 2.0}])
def test_an_impossible_calibration_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        HorizonCalibration.model_validate({"horizon_minutes": 240, "mean_weight": 0.0, "width": 1.0, **change})
