"""The scores of a rolling window of served forecasts, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fxcast.domain.candle import FloatArray
from fxcast.evaluation.rolling_quality import RollingQuality, rolling_quality
from fxcast.evaluation.scores import ensemble_crps

PIP = 0.0001


def scored(actual: list[float], *, samples: list[list[float]] | None = None) -> RollingQuality:
    quantiles: FloatArray = np.tile([1.09, 1.10, 1.12], (len(actual), 1))
    return rolling_quality(
        quantiles,
        np.array(actual),
        np.full(len(actual), 1.105),
        samples=[[]] * len(actual) if samples is None else samples,
        directions_right=[True, False, None, True][: len(actual)],
        pip=PIP,
    )


def test_the_scores_are_those_of_the_forecasts_as_given_out() -> None:
    found = scored([1.11, 1.13, 1.105, 1.08])
    assert found.forecasts == 4
    assert found.coverage_90 == 0.5
    assert found.mae_ratio == pytest.approx((0.01 + 0.03 + 0.005 + 0.02) / (0.005 + 0.025 + 0.0 + 0.025))
    assert (found.direction_windows, found.direction_right) == (3, pytest.approx(2 / 3))
    assert found.crps_pips is None


def test_pinball_weighs_a_miss_above_and_below_by_the_level() -> None:
    above, below = scored([1.13]), scored([1.08])
    assert above.pinball_pips == pytest.approx((0.05 * 400 + 0.5 * 300 + 0.95 * 100) / 3)
    assert below.pinball_pips == pytest.approx((0.95 * 100 + 0.5 * 200 + 0.05 * 400) / 3)


def test_crps_needs_the_samples_of_every_forecast_whatever_their_number() -> None:
    few, many = [1.09, 1.10, 1.12], [1.08, 1.09, 1.10, 1.11]
    found = scored([1.11, 1.13], samples=[few, many])
    each = [
        ensemble_crps(np.array([samples]), np.array([actual]), np.array([1.105]), pip=PIP)[0]
        for samples, actual in ((few, 1.11), (many, 1.13))
    ]
    assert found.crps_pips == pytest.approx(sum(each) / 2)
    assert scored([1.11, 1.13], samples=[few, [1.1]]).crps_pips is None


def test_a_price_that_never_moved_has_no_ratio() -> None:
    found = scored([1.105, 1.105])
    assert found.mae_ratio is None
    assert found.coverage_90 == 1.0
