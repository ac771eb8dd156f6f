"""Forecasts from a Serve application on the same cluster, through a handle."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import structlog
from ray import serve
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from fxcast import tracing
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.forecaster import ForecastRequest
from fxcast.errors import ForecastUnavailable
from fxcast.serving.names import API, APPLICATION
from fxcast.serving.outages import outages
from fxcast.serving.schemas import ModelDescription
from fxcast.trading.ports import ForecastAnswer, ForecastQuestion

log = structlog.get_logger(__name__)

_DESCRIBE_TIMEOUT_S = 30.0


class ServeForecasts:
    """Implements `trading.ports.ForecastService` on a running application.

    Args:
        application: Name of the Serve application.
    """

    def __init__(self, application: str = APPLICATION) -> None:
        self._application = application
        self._handle: DeploymentHandle[Any] | None = None

    def describe(self, timeframe: str | None = None) -> ModelDescription:
        """Say which model answers for candles of a timeframe, or by default.

        Raises:
            BadRequest: If the model that is served does not forecast such candles.
            ForecastUnavailable: If the application does not run, or has no model.
        """
        with outages(f"the application {self._application!r} does not answer"):
            return self._connected().describe.remote(timeframe).result(timeout_s=_DESCRIBE_TIMEOUT_S)

    def ask(self, questions: Sequence[ForecastQuestion], *, timeout_s: float) -> tuple[ForecastAnswer, ...]:
        """Ask all questions at once; see `ForecastService.ask`. An error of the service's own passes as it is."""
        deadline = time.monotonic() + timeout_s
        with tracing.span("ask forecasts", "client", questions=len(questions)):
            asked = [(question, self._asked(question)) for question in questions]
            return tuple(_answer(question, response, deadline) for question, response in asked)

    def _asked(self, question: ForecastQuestion) -> DeploymentResponse[Any] | ForecastUnavailable:
        request = ForecastRequest(
            window=question.window,
            horizons_minutes=question.horizons_minutes,
            num_samples=question.num_samples,
            seed=question.seed,
        )
        try:
            with outages(f"no forecast of {question.window.symbol}"):
                response = self._connected().predict.remote(request, question.model_version, tracing.traceparent())
        except ForecastUnavailable as error:
            return error
        asked = cast("DeploymentResponse[Any]", response)
        log.info("forecast asked", **_about(question), request_id=asked.request_id)
        return asked

    def _connected(self) -> DeploymentHandle[Any]:
        if self._handle is None:
            self._handle = serve.get_deployment_handle(API, app_name=self._application)
        return self._handle


def _answer(question: ForecastQuestion, response: DeploymentResponse[Any] | ForecastUnavailable, deadline: float) -> ForecastAnswer:
    if isinstance(response, ForecastUnavailable):
        return response
    try:
        with outages(f"no forecast of {question.window.symbol}"):
            prediction = cast("LDM4TSPrediction", response.result(timeout_s=max(0.0, deadline - time.monotonic())))
    except ForecastUnavailable as error:
        log.warning("forecast not answered", **_about(question), request_id=response.request_id, problem=str(error))
        return error
    log.info("forecast answered", **_about(question), request_id=response.request_id, model_version=prediction.model_version)
    return prediction


def _about(question: ForecastQuestion) -> dict[str, str]:
    window = question.window
    return {"symbol": window.symbol, "candle": window.close_time(-1).isoformat(), "source": question.source}
