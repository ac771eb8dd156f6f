"""Errors of the API as problem details, and which of Ray's errors mean that the service is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayError, RayTaskError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from structlog.testing import capture_logs

from fxcast.errors import BadRequest, ForecastUnavailable
from fxcast.serving.client import ServeForecasts
from fxcast.serving.middleware import surround
from fxcast.serving.outages import outages
from tests.factories import make_question, make_series


def raised_in_replica(cause: Exception) -> Exception:
    """What a caller gets for an error that the code of a replica raised."""
    return RayTaskError("forecast", f"Traceback: secret\n{cause!r}", cause).as_instanceof_cause()


OUTAGES = [
    ActorDiedError(),
    ActorUnavailableError("gone", None),
    GetTimeoutError(),
    TimeoutError(),
    ConnectionResetError("reset by peer"),
    BackPressureError(64, 64),
    DeploymentUnavailableError(DeploymentID(name="LDM4TSInferenceService", app_name="fxcast")),
    ReplicaUnavailableError("abc"),
    RequestCancelledError("7"),
    RayServeException("There is no Serve instance running on this Ray cluster."),
    raised_in_replica(BackPressureError(64, 64)),
    raised_in_replica(ActorDiedError()),
    raised_in_replica(raised_in_replica(ActorDiedError())),
    raised_in_replica(ForecastUnavailable("the model is loading")),
]
BUGS = [
    ValueError("secret"),
    raised_in_replica(ValueError("secret")),
    raised_in_replica(raised_in_replica(ValueError("secret"))),
    raised_in_replica(AttributeError("secret")),
    raised_in_replica(AssertionError("secret")),
    raised_in_replica(RayError("exception Odd isn't serializable: secret")),
]


def _named(error: Exception) -> str:
    return type(error).__name__


class FakeAnswer:
    request_id = "some-id"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def result(self, timeout_s: float) -> Any:
        assert timeout_s > 0
        raise self._error


class FakeMethod:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def remote(self, *_: object) -> FakeAnswer:
        return FakeAnswer(self._error)


class FakeHandle:
    """A deployment handle whose every answer is an error."""

    def __init__(self, error: Exception) -> None:
        self.predict = FakeMethod(error)
        self.describe = FakeMethod(error)


def forecasts_that_fail(error: Exception) -> ServeForecasts:
    forecasts = ServeForecasts()
    vars(forecasts)["_handle"] = FakeHandle(error)
    return forecasts


def ask(forecasts: ServeForecasts) -> object:
    (answer,) = forecasts.ask([make_question(make_series())], timeout_s=1.0)
    if isinstance(answer, ForecastUnavailable):
        raise answer
    return answer


@pytest.mark.parametrize("error", OUTAGES, ids=_named)
def test_a_service_that_is_not_there_is_unavailable(error: Exception) -> None:
    for call in (ask, ServeForecasts.describe):
        with pytest.raises(ForecastUnavailable):
            call(forecasts_that_fail(error))


@pytest.mark.parametrize("error", BUGS, ids=_named)
def test_a_bug_of_the_service_is_not_reported_as_an_outage(error: Exception) -> None:
    for call in (ask, ServeForecasts.describe):
        with pytest.raises(type(error)) as raised:
            call(forecasts_that_fail(error))
        assert raised.value is error


def test_a_refusal_of_the_service_stays_a_refusal() -> None:
    with pytest.raises(BadRequest, match="horizons"):
        ask(forecasts_that_fail(raised_in_replica(BadRequest("horizons", "7", "240"))))


def app_that_raises(error: Exception) -> FastAPI:
    app = FastAPI()
    surround(app)

    @app.get("/")
    async def fail() -> None:  # pyright: ignore[reportUnusedFunction]  # FastAPI calls it
        with outages("the model does not answer"):
            raise error

    return app


@pytest.fixture
def answer_to() -> Callable[[Exception], Any]:
    async def get(error: Exception) -> httpx.Response:
        transport = httpx.ASGITransport(app=app_that_raises(error))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/")

    return get


@pytest.mark.parametrize("error", OUTAGES, ids=_named)
def test_outage_is_a_503_that_says_to_ask_again(error: Exception, answer_to: Callable[[Exception], Any]) -> None:
    answer = _run(answer_to(error))
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["detail"].startswith("the model does not answer: ")
    assert "secret" not in answer.text
    assert "\n" not in answer.json()["detail"]


@pytest.mark.parametrize("error", BUGS, ids=_named)
def test_bug_is_a_500_without_internals_and_is_logged_once(error: Exception, answer_to: Callable[[Exception], Any]) -> None:
    with capture_logs() as logs:
        answer = _run(answer_to(error))
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 500
    assert "secret" not in answer.text
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("request failed", "error")]
    assert "secret" in logs[0]["exception"]


def test_refusal_that_comes_from_the_replica_is_a_422(answer_to: Callable[[Exception], Any]) -> None:
    answer = _run(answer_to(raised_in_replica(BadRequest("horizons", "7", "240"))))
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": "horizons", "found": "7", "allowed": "240"}]


class Named(BaseModel):
    name: str


def app_that_takes_names() -> FastAPI:
    app = FastAPI()
    surround(app)

    @app.post("/")
    async def take(named: Named) -> str:  # pyright: ignore[reportUnusedFunction]  # FastAPI calls it
        return named.name

    return app


def asked(app: FastAPI, method: str, **request: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            return await client.request(method, "/", **request)

    return _run(ask())


def test_a_method_that_a_path_has_not_is_a_405_that_says_which_it_has() -> None:
    answer = asked(app_that_raises(TimeoutError()), "PUT")
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_that_is_not_called_json_is_refused_for_its_content_type(content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = asked(app_that_takes_names(), "POST", content=b'{"name": "EURUSD"}', headers=headers)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["field"], error["found"]) == ("body", "a body of another content type")
    assert "Content-Type: application/json" in error["allowed"]
    assert asked(app_that_takes_names(), "POST", json={"name": "EURUSD"}).status_code == 200


def _run(coroutine: Any) -> httpx.Response:
    return asyncio.run(coroutine)
