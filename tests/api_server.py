"""A server on loopback that speaks the HTTP API without a model, and can be told to fail; what stands around its routes is ours."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Query
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Message, Receive, Scope, Send

from fxcast.errors import BadRequest, Conflict, Forbidden, NotFound, Unauthorized
from fxcast.serving.middleware import surround
from fxcast.serving.problems import problem_of
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
    prediction_body,
)
from tests.factories import NOON, make_prediction

# Answers a request in the place of the API; returns False if the API is to answer after all.
Trouble = Callable[[Send], Awaitable[bool]]


@dataclass(kw_only=True)
class ApiServer:
    """A running server.

    Attributes:
        troubles: What happens to the next requests, the first first.
        headers: Of each request, in order.
        started_at: When each request came, seconds.
        asked: The body or query that each route understood.
    """

    url: str
    troubles: list[Trouble] = field(default_factory=list[Trouble])
    headers: list[Headers] = field(default_factory=list[Headers])
    started_at: list[float] = field(default_factory=list[float])
    asked: list[Any] = field(default_factory=list[Any])


def problem(status: int, *, headers: Mapping[str, str] | None = None, errors: tuple[Any, ...] = ()) -> Trouble:
    """Answer problem details."""
    body = Problem(title="so it is", status=status, detail="as the test wants it", errors=list(errors)).model_dump_json()
    return text(status, body, headers=headers, media_type="application/problem+json")


def text(status: int, body: str, *, headers: Mapping[str, str] | None = None, media_type: str = "text/html") -> Trouble:
    """Answer what a proxy may."""

    async def answer(send: Send) -> bool:
        await Response(body, status, headers=headers, media_type=media_type)({"type": "http"}, _nothing_more, send)
        return True

    return answer


def slow(seconds: float) -> Trouble:
    """Let the API answer, but late."""

    async def answer(_: Send) -> bool:
        await asyncio.sleep(seconds)
        return False

    return answer


async def dropped(send: Send) -> bool:
    """Close the connection in the middle of an answer."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
    await send({"type": "http.response.body", "body": b'{"symbol"', "more_body": True})
    return True


async def trickling(send: Send) -> bool:
    """Answer a byte at a time, for ten seconds."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(100):
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await asyncio.sleep(0.1)
    return True


@contextmanager
def api_server(port: int = 0) -> Generator[ApiServer]:
    """Serve, on a free port by default, until the block ends."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        server = ApiServer(url=f"http://127.0.0.1:{listener.getsockname()[1]}/base")
        app = _troubled(server, Starlette(routes=[Mount("/base", _app(server))]))
        runner = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not runner.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.01)  # uvicorn announces its start by this flag alone
            yield server
        finally:
            runner.should_exit = True
            thread.join(timeout=10)


def _troubled(server: ApiServer, app: Starlette) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            server.headers.append(Headers(scope=scope))
            server.started_at.append(time.monotonic())
            if server.troubles and await server.troubles.pop(0)(send):
                return
        await app(scope, receive, send)

    return serve


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}


def _model(version: str) -> ModelBody:
    start, end = datetime(2017, 1, 1, tzinfo=UTC), datetime(2017, 6, 1, tzinfo=UTC)
    return ModelBody(
        version=version,
        preset="tiny",
        symbol="*",
        timeframe="1h",
        is_active=True,
        data_start=start,
        data_end=end,
        created_at=NOON,
        metrics={"best_loss": 0.5},
    )


def _app(server: ApiServer) -> FastAPI:
    app = FastAPI()
    surround(app)

    def answered(options: ForecastOptions, symbol: str) -> PredictionBody:
        if options.horizons is not None and 7 in options.horizons:
            raise BadRequest("horizons", "7", "any of [240, 960] minutes")
        prediction = replace(make_prediction(symbol=symbol), num_samples=options.num_samples)
        return prediction_body(prediction)

    def answer_or_problem(content: object) -> AnswerBody:
        try:
            body = ForecastBody.model_validate(content)
            server.asked.append(body)
            return AnswerBody(forecast=answered(body, body.symbol))
        except (ValidationError, BadRequest) as error:
            return AnswerBody(problem=problem_of(error))

    @app.post("/v1/forecast", response_model_exclude_none=True)
    async def forecast(body: ForecastBody) -> PredictionBody:
        server.asked.append(body)
        return answered(body, body.symbol)

    @app.post("/v1/forecasts", response_model_exclude_none=True)
    async def forecasts(body: ForecastsBody) -> AnswersBody:
        return AnswersBody(answers=[answer_or_problem(each) for each in body.requests])

    @app.get("/v1/forecast/{symbol}/{timeframe}", response_model_exclude_none=True)
    async def latest_forecast(symbol: str, timeframe: str, options: Annotated[ForecastOptions, Query()]) -> PredictionBody:
        server.asked.append((symbol, timeframe, options))
        return answered(options, symbol)

    @app.get("/v1/models")
    async def models() -> list[ModelBody]:
        return [_model("new"), _model("old")]

    @app.post("/v1/models/{version}/activate")
    async def activate(version: str) -> ModelBody:
        match version:
            case "broken":
                raise Conflict("broken stays out of use")
            case "never":
                raise NotFound("version", "'never'", "any of the registry's")
            case "secret":
                raise Unauthorized("Authorization", "nothing", "Bearer TOKEN")
            case "another's":
                raise Forbidden("token", "engine's", "admin")
            case _:
                return _model(version)

    @app.get("/v1/predictions")
    async def predictions(wanted: Annotated[PredictionsQuery, Query()]) -> list[StoredPredictionBody]:
        server.asked.append(wanted)
        return [StoredPredictionBody.model_validate(_ROW)]

    @app.get("/v1/metrics/inference")
    async def inference_metrics(wanted: Annotated[MinutesQuery, Query()]) -> list[InferenceMinuteBody]:
        server.asked.append(wanted)
        return [InferenceMinuteBody.model_validate(_MINUTE)]

    @app.get("/healthz")
    async def healthz() -> Health:
        return Health()

    @app.get("/readyz")
    async def readyz() -> ModelDescription:
        return ModelDescription(model_version="new", timeframe="1h", horizons=(240, 960))

    del forecast, forecasts, latest_forecast, models, activate, predictions, inference_metrics, healthz, readyz  # the app has them
    return app


_ROW: dict[str, Any] = {
    "symbol": "EURUSD",
    "timeframe": "1h",
    "made_at": NOON,
    "horizon_minutes": 240,
    "model_version": "new",
    **dict.fromkeys(("price", "mean", "q05", "q50", "q95"), 1.1),
    "std": 0.001,
    "uncertainty_pct": 0.1,
    "num_samples": 50,
    "inference_time_ms": 5.0,
    **dict.fromkeys(("target_at", "actual_price", "error", "absolute_error", "inside_90", "direction_right")),
}
_MINUTE: dict[str, Any] = {
    "minute": NOON,
    "model_version": "new",
    "replica": "a",
    "count": 2,
    "errors": 1,
    **dict.fromkeys(("average_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"), 20.0),
}
