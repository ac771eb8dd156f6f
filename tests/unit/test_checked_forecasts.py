"""Forecasts of the model that the settings name, from a service that may be away and come back with another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from actors.checked_forecasts import CheckedForecasts
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.errors import BadRequest, BadSetting, ForecastUnavailable
from fxcast.models.folder import save_pretrained
from fxcast.serving.schemas import ModelDescription
from fxcast.trading.config import TradingConfig
from fxcast.trading.ports import ForecastAnswer, ForecastQuestion
from tests.factories import make_prediction, make_question, make_series
from tests.model_factories import make_pipeline


class MovingService:
    """A forecast service that may be away, and come back with another model."""

    absence: Exception = ForecastUnavailable("away")

    def __init__(self, *, version: str = "right", away: bool = False, horizons: tuple[int, ...] = (240,)) -> None:
        self.version = version
        self.away = away
        self.horizons = horizons

    def describe(self, timeframe: str | None = None) -> ModelDescription:
        self._answer()
        if timeframe not in (None, "1h"):
            raise BadRequest("timeframe", timeframe, "1h")
        return ModelDescription(model_version=self.version, timeframe="1h", horizons=self.horizons)

    def ask(self, questions: Sequence[ForecastQuestion], *, timeout_s: float) -> tuple[ForecastAnswer, ...]:
        del timeout_s
        self._answer()
        return (replace(make_prediction({240: (1.1, 0.001)}), model_version=self.version),) * len(questions)

    def _answer(self) -> None:
        if self.away:
            raise self.absence


def ask(forecasts: CheckedForecasts) -> LDM4TSPrediction:
    (answer,) = forecasts.ask([make_question(make_series())], timeout_s=1.0)
    if isinstance(answer, ForecastUnavailable):
        raise answer
    return answer


@pytest.mark.parametrize("absence", [ForecastUnavailable("away"), KeyError("Deployment does not exist")])
def test_service_that_is_away_at_the_start_is_checked_when_it_answers(absence: Exception) -> None:
    service = MovingService(away=True, horizons=(960,))
    service.absence = absence
    forecasts = CheckedForecasts(service, TradingConfig(ldm4ts_horizons=(240,)), timeframe="1h")
    with pytest.raises(ForecastUnavailable):
        ask(forecasts)
    service.away = False
    with pytest.raises(BadSetting, match="ldm4ts_horizons"):
        ask(forecasts)
    service.horizons = (240, 960)
    assert ask(forecasts).model_version == "right"


def test_service_with_other_horizons_is_refused_at_the_start() -> None:
    with pytest.raises(BadSetting, match="ldm4ts_horizons"):
        CheckedForecasts(MovingService(horizons=(960,)), TradingConfig(ldm4ts_horizons=(240,)), timeframe="1h")


def test_service_whose_model_is_of_other_candles_is_refused_at_the_start() -> None:
    with pytest.raises(BadSetting, match="found 5m; allowed: 1h"):
        CheckedForecasts(MovingService(), TradingConfig(ldm4ts_horizons=(240,)), timeframe="5m")


def test_service_that_is_given_another_model_in_mid_run_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "right"
    pipeline = replace(make_pipeline(), model_version="right")
    save_pretrained(pipeline, folder, card="", fxcast_version="0")
    service = MovingService()
    trading = TradingConfig(ldm4ts_horizons=(240,), ldm4ts_checkpoint_path=folder)
    forecasts = CheckedForecasts(service, trading, timeframe="1h")
    assert ask(forecasts).model_version == "right"
    service.version = "wrong"
    with pytest.raises(BadSetting, match=r"ldm4ts_checkpoint_path: .*right holds model 'right', .* answers with model 'wrong'"):
        ask(forecasts)
    with pytest.raises(BadSetting, match="answers with model 'wrong'"):
        CheckedForecasts(service, trading, timeframe="1h")
