"""Forecasts from a Serve application on the same cluster, through a handle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.forecaster import ForecastRequest
from fxcast.serving.names import API, APPLICATION
from fxcast.serving.outages import outages
from fxcast.serving.schemas import ModelDescription

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

    def forecast(
        self, window: CandleSeries, *, horizons_minutes: Sequence[int], num_samples: int, seed: int, timeout_s: float
    ) -> LDM4TSPrediction:
        """Ask for a forecast; see `ForecastService.forecast`. An error of the service's own passes as it is."""
        with outages(f"no forecast of {window.symbol}"):
            request = ForecastRequest(window=window, horizons_minutes=tuple(horizons_minutes), num_samples=num_samples, seed=seed)
            return self._connected().predict.remote(request).result(timeout_s=timeout_s)

    def _connected(self) -> DeploymentHandle[Any]:
        if self._handle is None:
            self._handle = serve.get_deployment_handle(API, app_name=self._application)
        return self._handle
