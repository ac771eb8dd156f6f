"""Forecasts of the model that the settings name, and of no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import structlog

from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.errors import BadRequest, BadSetting, ForecastUnavailable
from fxcast.models.summary import check_forecaster
from fxcast.serving.schemas import ModelDescription
from fxcast.trading.config import TradingConfig
from fxcast.trading.ports import ForecastAnswer, ForecastQuestion, ForecastService

log = structlog.get_logger(__name__)


class DescribedService(ForecastService, Protocol):
    """A forecast service that says which model answers, as `fxcast.serving.client.ServeForecasts` does."""

    def describe(self, timeframe: str | None = None) -> ModelDescription: ...


class CheckedForecasts:
    """Implements `trading.ports.ForecastService`: checks the service as soon as it answers, before its first forecast.

    A service that does not answer is no reason to stop: there is no forecast then, and so no new risk.

    Args:
        service: Who is asked.
        timeframe: Of the candles that are traded.

    Raises:
        BadModelFolder: If `ldm4ts_checkpoint_path` is no complete model of this timeframe.
        BadSetting: If the service answers, and has another model, or one of other candles or horizons.
    """

    def __init__(self, service: DescribedService, trading: TradingConfig, *, timeframe: str) -> None:
        self._service = service
        self._timeframe = timeframe
        self._horizons = trading.ldm4ts_horizons
        self._folder = trading.ldm4ts_checkpoint_path
        self._version = None if self._folder is None else check_forecaster(self._folder, timeframe=timeframe).model_version
        self._checked = False
        try:
            self._check()
        except ForecastUnavailable as error:
            log.warning("no forecast service yet", problem=str(error))

    def ask(self, questions: Sequence[ForecastQuestion], *, timeout_s: float) -> tuple[ForecastAnswer, ...]:
        """Ask all questions at once; see `ForecastService.ask`.

        Raises:
            BadSetting: If the service has another model than it should, or other horizons.
        """
        if not self._checked:
            try:
                self._check()
            except ForecastUnavailable as error:
                return (error,) * len(questions)
        answers = self._service.ask(questions, timeout_s=timeout_s)
        for question, answer in zip(questions, answers, strict=True):
            if question.model_version is None and isinstance(answer, LDM4TSPrediction):
                self._refuse_other_model(answer.model_version)  # the service may have been given another one since
        return answers

    def _check(self) -> None:
        try:
            found = self._service.describe(self._timeframe)
        except KeyError as error:  # what Serve says, in Ray 2.60, of an application that it does not have
            raise ForecastUnavailable(f"the forecast service is not deployed: {error}") from error
        except BadRequest as error:  # the model is of other candles
            raise BadSetting(f"the forecast service can't answer: {error}") from error
        self._refuse_other_model(found.model_version)
        unknown = [horizon for horizon in self._horizons if horizon not in found.horizons]
        if unknown:
            raise BadSetting(
                f"ldm4ts_horizons: {unknown} are not among {list(found.horizons)}, those of model {found.model_version}"
            )
        self._checked = True

    def _refuse_other_model(self, found: str) -> None:
        if self._version is not None and found != self._version:
            raise BadSetting(_other_model(self._folder, self._version, found))


def _other_model(folder: Path | None, version: str, found: str) -> str:
    return (
        f"ldm4ts_checkpoint_path: {folder} holds model {version!r}, and the forecast service answers with model {found!r}; "
        "deploy the service with that folder, or set the path to the folder of the model it has"
    )
