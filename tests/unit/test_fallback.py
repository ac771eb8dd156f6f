"""The random walk that answers in a model's place."""

from __future__ import annotations

import pytest

from fxcast.domain.forecaster import ForecastRequest
from fxcast.errors import BadRequest
from fxcast.serving.router import walk_forecast
from tests.factories import make_series


def test_it_answers_at_any_horizon_of_the_grid_and_by_default_at_those_of_the_preset() -> None:
    window = make_series()
    assert tuple(walk_forecast(ForecastRequest(window=window)).horizons) == (240, 960, 3840)
    assert tuple(walk_forecast(ForecastRequest(window=window, horizons_minutes=(60,))).horizons) == (60,)


@pytest.mark.parametrize("minutes", [0, -60, 90, 60_060, 60 * 10**300])
def test_a_horizon_off_the_grid_or_too_far_is_refused_by_the_name_of_its_field(minutes: int) -> None:
    with pytest.raises(BadRequest, match=r"^horizons: found .*; allowed: multiples of 60 up to 60000 minutes$"):
        walk_forecast(ForecastRequest(window=make_series(), horizons_minutes=(60, minutes)))
