"""Forecasts from the Serve deployment, through a handle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.errors import BadSetting
from fxcast.serving.names import APPLICATION, DEPLOYMENT
from fxcast.serving.outages import outages
from fxcast.serving.schemas import Health

_DESCRIBE_TIMEOUT_S = 30.0


class ServeForecasts:
    """Implements `trading.ports.ForecastService` on a running application.

    Args:
        application: Name of the Serve application.
    """

    def __init__(self, application: str = APPLICATION) -> None:
        self._application = application
        self._handle: DeploymentHandle[Any] | None = None

    def describe(self) -> Health:
        """Say which model answers.

        Raises:
            ForecastUnavailable: If the application does not run.
        """
        with outages(f"the application {self._application!r} does not answer"):
            return self._connected().describe.remote().result(timeout_s=_DESCRIBE_TIMEOUT_S)

    def check_horizons(self, horizons_minutes: Sequence[int]) -> None:
        """Raise BadSetting if the model that runs does not know a horizon."""
        known = self.describe()
        unknown = [horizon for horizon in horizons_minutes if horizon not in known.horizons]
        if unknown:
            raise BadSetting(
                f"ldm4ts_horizons: {unknown} are not among {list(known.horizons)}, those of model {known.model_version}"
            )

    def forecast(
        self, window: CandleSeries, *, horizons_minutes: Sequence[int], num_samples: int, seed: int, timeout_s: float
    ) -> LDM4TSPrediction:
        """Ask for a forecast; see `ForecastService.forecast`. An error of the service's own passes as it is."""
        with outages(f"no forecast of {window.symbol}"):
            answer = self._connected().forecast.remote(window, tuple(horizons_minutes), num_samples, seed)
            return answer.result(timeout_s=timeout_s)

    def _connected(self) -> DeploymentHandle[Any]:
        if self._handle is None:
            self._handle = serve.get_deployment_handle(DEPLOYMENT, app_name=self._application)
        return self._handle
