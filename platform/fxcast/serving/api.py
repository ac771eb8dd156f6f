"""The HTTP API; OpenAPI at /docs.

Annotations are real ones here: Serve pickles these functions without the names that only a text annotation mentions, and
FastAPI would then take a body for a query parameter.
"""

import asyncio
from typing import Annotated, Any, Protocol, cast

from fastapi import Depends, FastAPI, Path, Query
from pydantic import ValidationError
from ray import serve
from ray.serve.handle import DeploymentHandle

from fxcast import __version__
from fxcast.adapters.storage.access_tokens import Scope
from fxcast.adapters.storage.registry import ListedModel
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.forecaster import ForecastRequest
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadRequest, Conflict, ModelUnavailable, NotFound, Unavailable
from fxcast.serving.access import Access
from fxcast.serving.backend import ApiSetup, Backend
from fxcast.serving.bearer import require
from fxcast.serving.middleware import surround
from fxcast.serving.names import API
from fxcast.serving.outages import outages
from fxcast.serving.problems import problem_of
from fxcast.serving.router import Asked, ForecastRouter, asked_in, asked_with
from fxcast.serving.schemas import (
    AnswerBody,
    AnswersBody,
    ForecastBody,
    ForecastOptions,
    ForecastsBody,
    Health,
    InferenceMinuteBody,
    MinutesQuery,
    ModelBody,
    ModelDescription,
    PredictionBody,
    PredictionsQuery,
    Problem,
    StoredPredictionBody,
)

_READY_S = 5.0

app = FastAPI(title="fxcast", version=__version__, description="Calibrated probabilistic FX forecasts (LDM4TS).")
surround(app)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    texts = {
        401: "a valid token is needed",
        403: "the token lacks the scope",
        404: "there is no such thing",
        409: "the model can't be put to use",
        413: "the body is too large",
        422: "the request was refused",
        500: "the service failed",
        503: "the service can't answer now",
        504: "the forecast took too long",
    }
    content = {"application/problem+json": {}}
    return {status: {"model": Problem, "description": texts[status], "content": content} for status in statuses}


_ASKED = _problems(401, 403, 413, 422, 500, 503, 504)
_READ = _problems(401, 403, 404, 422, 500, 503)


class _Guarded(Protocol):
    access: Access


def _model_body(listed: ListedModel) -> ModelBody:
    model = listed.model
    return ModelBody(
        version=model.version,
        preset=model.preset,
        symbol=model.symbol,
        timeframe=model.timeframe,
        is_active=listed.is_active,
        data_start=model.data_start,
        data_end=model.data_end,
        created_at=listed.created_at,
        metrics=dict(model.metrics),
    )


def _access() -> Access:
    return cast("_Guarded", serve.get_replica_context().servable_object).access


Caller = Annotated[str, Depends(require(Scope.FORECAST, _access))]
Admin = Annotated[str, Depends(require(Scope.ADMIN, _access))]
Pair = Annotated[str, Path(pattern="^[A-Z]{6}$", description="base then quote currency", examples=["EURUSD"])]
Length = Annotated[str, Path(description="length of a candle", examples=["1h"])]


@serve.deployment(name=API)
@serve.ingress(app)  # pyright: ignore[reportUntypedClassDecorator]  # Ray publishes no type for it
class ForecastApi:
    """The ingress: checks requests, and hands them to the model that they are for.

    Args:
        service: The deployment that forecasts.
        setup: What it works with.
    """

    def __init__(self, service: DeploymentHandle[Any], setup: ApiSetup) -> None:
        self._backend = Backend(setup)
        self.access = self._backend.access
        self._router = ForecastRouter(
            service, self._backend.directory, width_factors=self._backend.width_factors, timeout_s=setup.timeout_s
        )

    def __del__(self) -> None:
        # Serve calls it when a replica is shut down gracefully.
        self._backend.close()

    @app.post("/v1/forecast", responses=_ASKED, response_model_exclude_none=True)
    async def forecast(self, body: ForecastBody, _: Caller) -> PredictionBody:
        """Forecast from the last 100 candles."""
        return await self._answered(asked_in(body))

    @app.post("/v1/forecasts", responses=_ASKED, response_model_exclude_none=True)
    async def forecasts(self, body: ForecastsBody, _: Caller) -> AnswersBody:
        """Forecast from several windows; each is answered or refused for itself."""
        return AnswersBody(answers=list(await asyncio.gather(*(self._answer_or_problem(each) for each in body.requests))))

    @app.get("/v1/forecast/{symbol}/{timeframe}", responses=_ASKED, response_model_exclude_none=True)
    async def latest_forecast(
        self,
        symbol: Pair,
        timeframe: Length,
        options: Annotated[ForecastOptions, Query()],
        _: Caller,
    ) -> PredictionBody:
        """Forecast from the last 100 candles of the service's own store that have closed."""
        window = await asyncio.to_thread(self._backend.latest_window, symbol, Timeframe(timeframe))
        return await self._answered(asked_with(options, window))

    @app.get("/v1/models", responses=_READ | _problems(409))
    async def models(self, _: Caller) -> list[ModelBody]:
        """List the models of the registry, newest first."""
        return [_model_body(each) for each in self._backend.directory.known()]

    @app.post("/v1/models/{version}/activate", responses=_READ | _problems(409))
    async def activate(self, version: str, _: Admin) -> ModelBody:
        """Put a model to use in place of the one that is active for its pair and timeframe, once a replica has loaded it.

        To go back, activate the earlier version.
        """
        directory = self._backend.directory
        try:
            model = directory.named(version).model
        except BadRequest as error:
            raise NotFound("version", error.found, error.allowed) from error
        try:
            await self._router.describe(directory.find(model.symbol, model.timeframe, version))
        except ModelUnavailable as error:
            raise Conflict(f"{version} stays out of use: {error}") from error
        await asyncio.to_thread(self._backend.activate, version)
        return _model_body(directory.named(version))

    @app.get("/v1/predictions", responses=_READ)
    async def predictions(self, wanted: Annotated[PredictionsQuery, Query()], _: Caller) -> list[StoredPredictionBody]:
        """List stored forecasts, newest first, with their outcomes where those are known."""
        return await asyncio.to_thread(self._backend.predictions, wanted)

    @app.get("/v1/metrics/inference", responses=_READ)
    async def inference_metrics(self, wanted: Annotated[MinutesQuery, Query()], _: Caller) -> list[InferenceMinuteBody]:
        """List minutes of inference, newest first."""
        return await asyncio.to_thread(self._backend.inference_minutes, wanted)

    @app.get("/healthz")
    async def healthz(self) -> Health:
        """Say that the API is alive, whatever its models do."""
        return Health()

    @app.get("/readyz", responses=_problems(503))
    async def readyz(self) -> ModelDescription:
        """Say which model is loaded and warm; 503 if none is within 5 s."""
        with outages("the model does not answer"):
            return await asyncio.wait_for(self.describe(None), _READY_S)

    async def describe(self, timeframe: str | None) -> ModelDescription:
        """Say which model answers for a timeframe, or by default; for handles."""
        return await self._router.describe(self._backend.directory.default(timeframe))

    async def predict(self, request: ForecastRequest) -> LDM4TSPrediction:
        """Forecast; for handles."""
        return await self._router.predict(request)

    async def _answered(self, asked: Asked) -> PredictionBody:
        prediction, body = await self._router.answer(asked)
        self._backend.keep(prediction)
        return body

    async def _answer_or_problem(self, content: object) -> AnswerBody:
        try:
            return AnswerBody(forecast=await self._answered(asked_in(ForecastBody.model_validate(content))))
        except (ValidationError, BadCandles, BadRequest, Unavailable) as error:
            return AnswerBody(problem=problem_of(error))
