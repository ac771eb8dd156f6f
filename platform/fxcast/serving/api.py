"""The HTTP API; OpenAPI at /docs.

Annotations are real ones here: Serve pickles these functions without the names that only a text annotation mentions, and
FastAPI would then take a body for a query parameter.
"""

import asyncio
from typing import Annotated, Any, Protocol, cast

import structlog
from fastapi import Body, Depends, FastAPI, Path, Query
from pydantic import ValidationError
from ray import serve
from ray.serve.handle import DeploymentHandle

from fxcast import __version__, tracing
from fxcast.adapters.storage.access_tokens import Scope
from fxcast.adapters.storage.registry import ListedModel
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.forecaster import ForecastRequest
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadRequest, Conflict, ModelUnavailable, NotFound, Unavailable
from fxcast.serving import examples
from fxcast.serving.access import Access
from fxcast.serving.backend import ApiSetup, Backend
from fxcast.serving.bearer import require
from fxcast.serving.middleware import logged_bug, surround
from fxcast.serving.names import API
from fxcast.serving.outages import outages
from fxcast.serving.problems import problem_of
from fxcast.serving.prometheus import LatencyMeter
from fxcast.serving.router import Asked, ForecastRouter, asked_in, asked_with
from fxcast.serving.schemas import (
    ONE_OF_THE_TIMEFRAMES,
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
    StoredPredictionBody,
)

log = structlog.get_logger(__name__)

_READY_S = 5.0

_ABOUT = """Calibrated probabilistic FX forecasts (LDM4TS).

What is refused, and what can't be answered now, comes as problem details (RFC 9457, `application/problem+json`): the field,
what was found there, what is allowed, and the request's id, which is in the logs too. Only Serve's proxy, which stands before
the service, has an answer of its own, in plain text: 408 after its `request_timeout_s`, or after the seconds of a request's
`X-Request-Timeout-Seconds`.
"""
_FORECASTS, _MODELS, _RECORDS, _HEALTH = "forecasts", "models", "records", "health"
_TAGS = [
    {"name": _FORECASTS, "description": "What a price may be at each horizon, from the last 100 candles."},
    {"name": _MODELS, "description": "Which models there are, and which of them is in use."},
    {"name": _RECORDS, "description": "What was forecast and what came of it, and how fast; newest first."},
    {"name": _HEALTH, "description": "For probes; they need no token."},
]

app = FastAPI(
    title="fxcast",
    version=__version__,
    description=_ABOUT,
    license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
    openapi_tags=_TAGS,
)
surround(app)


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


def _logged(prediction: LDM4TSPrediction) -> LDM4TSPrediction:
    """Log which candle a request was about: with its id, that leads from the candle to the forecast."""
    candle = prediction.made_at.isoformat()
    log.info("forecast made", symbol=prediction.symbol, candle=candle, model_version=prediction.model_version)
    return prediction


def _access() -> Access:
    return cast("_Guarded", serve.get_replica_context().servable_object).access


Caller = Annotated[str, Depends(require(Scope.FORECAST, _access))]
Admin = Annotated[str, Depends(require(Scope.ADMIN, _access))]
Pair = Annotated[
    str, Path(pattern="^[A-Z]{6}$", description="base then quote currency", openapi_examples={"EURUSD": {"value": "EURUSD"}})
]
Length = Annotated[
    str,
    Path(description="length of a candle", json_schema_extra=ONE_OF_THE_TIMEFRAMES, openapi_examples={"1h": {"value": "1h"}}),
]
Version = Annotated[
    str, Path(description="of the registry", openapi_examples={"of a shipped model": {"value": examples.MODEL_VERSION}})
]
Window = Annotated[ForecastBody, Body(openapi_examples=examples.FORECAST_BODIES)]
Windows = Annotated[ForecastsBody, Body(openapi_examples=examples.FORECASTS_BODIES)]


@serve.deployment(name=API)
@serve.ingress(app)  # pyright: ignore[reportUntypedClassDecorator]  # Ray publishes no type for it
class ForecastApi:
    """The ingress: checks requests, and hands them to the model that they are for.

    Args:
        service: The deployment that forecasts.
        setup: What it works with.
    """

    def __init__(self, service: DeploymentHandle[Any], setup: ApiSetup) -> None:
        tracing.configure("fxcast-api")
        self._backend = Backend(setup)
        self.access = self._backend.access
        self._latency = LatencyMeter()
        self._router = ForecastRouter(
            service, self._backend.directory, width_factors=self._backend.width_factors, timeout_s=setup.timeout_s
        )

    def __del__(self) -> None:
        # Serve calls it when a replica is shut down gracefully.
        self._backend.close()

    @app.post(
        "/v1/forecast",
        tags=[_FORECASTS],
        summary="Forecast from a window",
        responses=examples.FORECAST,
        response_model_exclude_none=True,
    )
    async def forecast(self, body: Window, _: Caller) -> PredictionBody:
        """Forecast from the last 100 candles; the forecast is made at the close of the last one."""
        return await self._answered(asked_in(body))

    @app.post(
        "/v1/forecasts",
        tags=[_FORECASTS],
        summary="Forecast from several windows",
        responses=examples.FORECASTS,
        response_model_exclude_none=True,
    )
    async def forecasts(self, body: Windows, _: Caller) -> AnswersBody:
        """Forecast from several windows; each is answered or refused for itself."""
        return AnswersBody(answers=list(await asyncio.gather(*(self._answer_or_problem(each) for each in body.requests))))

    @app.get(
        "/v1/forecast/{symbol}/{timeframe}",
        tags=[_FORECASTS],
        summary="Forecast from the newest candles",
        responses=examples.LATEST_FORECAST,
        response_model_exclude_none=True,
    )
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

    @app.get("/v1/models", tags=[_MODELS], summary="List the models", responses=examples.MODELS)
    async def models(self, _: Caller) -> list[ModelBody]:
        """List the models of the registry, newest first."""
        return [_model_body(each) for each in self._backend.directory.known()]

    @app.post("/v1/models/{version}/activate", tags=[_MODELS], summary="Put a model to use", responses=examples.ACTIVATE)
    async def activate(self, version: Version, _: Admin) -> ModelBody:
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

    @app.get("/v1/predictions", tags=[_RECORDS], summary="List stored forecasts", responses=examples.PREDICTIONS)
    async def predictions(self, wanted: Annotated[PredictionsQuery, Query()], _: Caller) -> list[StoredPredictionBody]:
        """List stored forecasts, newest first, with their outcomes where those are known."""
        return await asyncio.to_thread(self._backend.predictions, wanted)

    @app.get("/v1/metrics/inference", tags=[_RECORDS], summary="List minutes of inference", responses=examples.INFERENCE_METRICS)
    async def inference_metrics(self, wanted: Annotated[MinutesQuery, Query()], _: Caller) -> list[InferenceMinuteBody]:
        """List minutes of inference, newest first."""
        return await asyncio.to_thread(self._backend.inference_minutes, wanted)

    @app.get("/healthz", tags=[_HEALTH], summary="Is it alive?", responses=examples.HEALTH)
    async def healthz(self) -> Health:
        """Say that the API is alive, whatever its models do."""
        return Health()

    @app.get("/readyz", tags=[_HEALTH], summary="Is a model ready?", responses=examples.READY)
    async def readyz(self) -> ModelDescription:
        """Say which model is loaded and warm; 503 if none is within 5 s."""
        with outages("the model does not answer"):
            return await asyncio.wait_for(self.describe(None), _READY_S)

    async def describe(self, timeframe: str | None) -> ModelDescription:
        """Say which model answers for a timeframe, or by default; for handles."""
        return await self._router.describe(self._backend.directory.default(timeframe))

    async def predict(
        self, request: ForecastRequest, model_version: str | None = None, traceparent: str | None = None
    ) -> LDM4TSPrediction:
        """Forecast with a model of the registry, or with the active one; for handles."""
        with tracing.span("predict", "server", parent=traceparent, symbol=request.window.symbol):
            with self._latency.measured():
                prediction = await self._router.predict(request, model_version)
            return _logged(prediction)

    async def _answered(self, asked: Asked) -> PredictionBody:
        with self._latency.measured():
            prediction, body = await self._router.answer(asked)
        _logged(prediction)
        if asked.is_kept:
            self._backend.keep(prediction)
        return body

    async def _answer_or_problem(self, content: object) -> AnswerBody:
        try:
            return AnswerBody(forecast=await self._answered(asked_in(ForecastBody.model_validate(content))))
        except (ValidationError, BadCandles, BadRequest, Unavailable) as error:
            return AnswerBody(problem=problem_of(error))
        except Exception as error:  # noqa: BLE001  # a bug may raise anything: logged, and the other windows keep their answers
            return AnswerBody(problem=logged_bug(error, "/v1/forecasts"))
