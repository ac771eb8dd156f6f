"""As what a forecast counts that its caller did not get."""

from __future__ import annotations

import pytest

from fxcast.errors import BadCandles, BadRequest, ForecastLate, ForecastUnavailable, ModelUnavailable
from fxcast.serving.prometheus import outcome_of
from tests.unit.test_serving_problems import raised_in_replica


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (BadRequest("horizons", "7", "240"), "refused"),
        (BadCandles("high", "1", "more than low"), "refused"),
        (raised_in_replica(BadRequest("horizons", "7", "240")), "refused"),
        (ModelUnavailable("no model is active"), "unavailable"),
        (ForecastUnavailable("the queue is full"), "unavailable"),
        (ForecastLate("no forecast within 20 s"), "late"),
        (ValueError("a bug"), "failed"),
        (raised_in_replica(ValueError("a bug")), "failed"),
    ],
)
def test_an_error_counts_by_what_its_caller_is_to_do(error: Exception, outcome: str) -> None:
    assert outcome_of(error) == outcome
