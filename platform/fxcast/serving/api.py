"""The HTTP API: POST /v1/forecast, GET /healthz, OpenAPI at /docs.

Annotations are real ones here: Serve pickles these functions without the names that only a text annotation mentions, and
FastAPI would then take a body for a query parameter.
"""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException

from fxcast import __version__
from fxcast.errors import BadCandles, BadRequest
from fxcast.serving.problems import LimitBody, problem_response, refused, validation_problem
from fxcast.serving.schemas import FieldProblem, ForecastBody, Health, PredictionBody, Problem, prediction_body

app = FastAPI(title="fxcast", version=__version__, description="Calibrated probabilistic FX forecasts (LDM4TS).")
app.add_middleware(LimitBody)


@app.exception_handler(RequestValidationError)
async def _on_invalid(_: Request, error: RequestValidationError) -> Response:
    return validation_problem(error)


@app.exception_handler(BadRequest)
@app.exception_handler(BadCandles)
async def _on_refused(_: Request, error: BadRequest | BadCandles) -> Response:
    return refused(422, "The request was refused", [FieldProblem(field=error.field, found=error.found, allowed=error.allowed)])


@app.exception_handler(HTTPException)
async def _on_http_error(_: Request, error: HTTPException) -> Response:
    if error.status_code == 400:  # FastAPI's answer to JSON that its parser gives up on
        return refused(422, "The request was refused", [FieldProblem(field="body", found="not JSON", allowed="a JSON object")])
    return problem_response(Problem(title=str(error.detail), status=error.status_code, detail=str(error.detail)))


@app.exception_handler(BackPressureError)
async def _on_full(_: Request, error: BackPressureError) -> Response:
    return _unavailable(f"the queue is full: {error}")


@app.exception_handler(RayActorError)
async def _on_dead_replica(_: Request, error: RayActorError) -> Response:
    return _unavailable(f"the replica that held the request died; ask again: {error}")


def _unavailable(detail: str) -> Response:
    response = problem_response(Problem(title="The service can't answer now", status=503, detail=detail))
    response.headers["Retry-After"] = "1"
    return response


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text, "content": {"application/problem+json": {}}}
    for status, text in ((413, "the body is too large"), (422, "the request was refused"), (503, "try again"))
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
        prediction = await self._service.forecast.remote(body.window(), body.horizons, body.num_samples, body.seed)
        return prediction_body(prediction)

    @app.get("/healthz")
    async def healthz(self) -> Health:
        """Say that the service is alive, and which model answers."""
        return await self._service.describe.remote()
