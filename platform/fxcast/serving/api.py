"""The HTTP API: POST /v1/forecast, GET /healthz, OpenAPI at /docs.

Annotations are real ones here: Serve pickles these functions without the names that only a text annotation mentions, and
FastAPI would then take a body for a query parameter.
"""

import asyncio
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from fxcast import __version__
from fxcast.serving.outages import outages
from fxcast.serving.problems import answer_errors
from fxcast.serving.schemas import ForecastBody, Health, PredictionBody, Problem, prediction_body

app = FastAPI(title="fxcast", version=__version__, description="Calibrated probabilistic FX forecasts (LDM4TS).")
answer_errors(app)

_HEALTH_TIMEOUT_S = 5.0


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text, "content": {"application/problem+json": {}}}
    for status, text in (
        (413, "the body is too large"),
        (422, "the request was refused"),
        (500, "the service failed"),
        (503, "try again"),
    )
}


@serve.deployment(name="ForecastApi")
@serve.ingress(app)  # pyright: ignore[reportUntypedClassDecorator]  # Ray publishes no type for it
class ForecastApi:
    """The ingress: checks requests and passes windows to the inference service."""

    def __init__(self, service: DeploymentHandle[Any]) -> None:
        self._service = service

    @app.post("/v1/forecast", responses=_PROBLEMS)
    async def forecast(self, body: ForecastBody) -> PredictionBody:
        """Forecast from the last 100 candles."""
        window = body.window()
        with outages("no forecast"):
            prediction = await self._service.forecast.remote(window, body.horizons, body.num_samples, body.seed)
        return prediction_body(prediction)

    @app.get("/healthz", responses={503: _PROBLEMS[503]})
    async def healthz(self) -> Health:
        """Say that the service answers, and with which model; 503 if no replica does within 5 s."""
        with outages("the model does not answer"):
            return await asyncio.wait_for(self._service.describe.remote(), _HEALTH_TIMEOUT_S)
