"""The client of the HTTP API, sync and async, against a server on loopback."""

from __future__ import annotations

import asyncio
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fxcast.client import (
    AsyncForecastClient,
    BadRequest,
    Conflict,
    Forbidden,
    ForecastChoices,
    ForecastClient,
    ForecastLate,
    ForecastUnavailable,
    FxcastError,
    NotFound,
    PredictionsWanted,
    RowsWanted,
    Unauthorized,
    UnexpectedAnswer,
    candles_of,
)
from fxcast.domain.candle import CandleSeries
from fxcast.errors import BadCandles, BadSetting
from fxcast.serving.schemas import (
    FieldProblem,
    ForecastBody,
    ForecastOptions,
    MinutesQuery,
    ModelBody,
    PredictionBody,
    PredictionsQuery,
    Problem,
)
from tests.api_server import ApiServer, Trouble, api_server, dropped, problem, slow, text, trickling
from tests.factories import make_series

Ask = Callable[..., Any]
WINDOW = make_series()


def ask_sync(url: str | None, method: str, *args: object, patience: dict[str, Any] | None = None, **options: object) -> Any:
    with ForecastClient(url, **(patience or {})) as client:
        return getattr(client, method)(*args, **options)


def ask_async(url: str | None, method: str, *args: object, patience: dict[str, Any] | None = None, **options: object) -> Any:
    async def ask() -> Any:
        async with AsyncForecastClient(url, **(patience or {})) as client:
            return await getattr(client, method)(*args, **options)

    return asyncio.run(ask())


@pytest.fixture(params=[ask_sync, ask_async], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param


@pytest.fixture(scope="module")
def running() -> Iterator[ApiServer]:
    with api_server() as server:
        yield server


@pytest.fixture
def server(running: ApiServer) -> ApiServer:
    for seen in (running.troubles, running.headers, running.started_at, running.asked):
        seen.clear()
    return running


def test_a_window_arrives_as_it_is_and_its_forecast_is_typed(server: ApiServer, ask: Ask) -> None:
    forecast = ask(
        server.url, "forecast", WINDOW, horizons=(240,), num_samples=20, seed=3, quantiles=[0.25], fallback="random-walk"
    )
    assert isinstance(forecast, PredictionBody)
    assert (forecast.num_samples, forecast.made_at.tzinfo is not None, set(forecast.horizons)) == (20, True, {"240", "960"})
    (body,) = server.asked
    assert isinstance(body, ForecastBody)
    assert (body.horizons, body.seed, body.quantiles, body.fallback, body.paths) == ((240,), 3, (0.25,), "random-walk", False)
    arrived = body.window()
    assert (arrived.open_times == WINDOW.open_times).all()
    assert (arrived.values == WINDOW.values).all()


def test_several_windows_are_answered_or_refused_each_for_itself(server: ApiServer, ask: Ask) -> None:
    short = make_series(bars=99)
    other = make_series(symbol="GBPUSD")
    windows = [WINDOW, (WINDOW, {"horizons": [7]}), short, (other, {"num_samples": 9})]
    first, wrong, cut, last = ask(server.url, "forecasts", windows, num_samples=30)
    assert (first.symbol, first.num_samples, last.symbol, last.num_samples) == ("EURUSD", 30, "GBPUSD", 9)
    assert isinstance(wrong, Problem)
    assert wrong.errors == [FieldProblem(field="horizons", found="7", allowed="any of [240, 960] minutes")]
    assert isinstance(cut, Problem)
    assert cut.errors[0].field == "candles"


def test_every_other_route_has_its_method(server: ApiServer, ask: Ask) -> None:
    assert ask(server.url, "latest_forecast", "GBPUSD", "1h", horizons=[240, 960], paths=True).symbol == "GBPUSD"
    symbol, timeframe, options = server.asked.pop()
    assert (symbol, timeframe, options) == ("GBPUSD", "1h", ForecastOptions(horizons=(240, 960), paths=True))
    listed = ask(server.url, "models")
    assert [each.version for each in listed] == ["new", "old"]
    assert isinstance(listed[0], ModelBody)
    assert ask(server.url, "activate", "tiny 1?x=é#2").version == "tiny 1?x=é#2"
    since = datetime(2017, 3, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    (row,) = ask(server.url, "predictions", symbol="EURUSD", horizon=240, since=since, limit=5)
    assert (row.horizon_minutes, row.actual_price) == (240, None)
    assert server.asked.pop() == PredictionsQuery(symbol="EURUSD", horizon=240, since=datetime(2017, 3, 1, tzinfo=UTC), limit=5)
    (minute,) = ask(server.url, "inference_metrics", model_version="new")
    assert (minute.count, minute.average_ms) == (2, 20.0)
    assert server.asked.pop() == MinutesQuery(model_version="new")
    assert ask(server.url, "health").status == "ok"
    assert ask(server.url, "ready").horizons == (240, 960)


REFUSALS: list[tuple[str, tuple[object, ...], type[FxcastError], str]] = [
    ("forecast", (make_series(bars=101),), BadRequest, "candles: found 101; allowed: at most 100"),
    ("latest_forecast", ("EURUSD", "1h", 7), BadRequest, "horizons: found 7; allowed: any of [240, 960] minutes"),
    ("forecasts", ([WINDOW] * 128,), BadRequest, "body: found more than 1,000,000 bytes"),
    ("activate", ("secret",), Unauthorized, "Authorization: found nothing; allowed: Bearer TOKEN"),
    ("activate", ("another's",), Forbidden, "token: found engine's; allowed: admin"),
    ("activate", ("never",), NotFound, "version: found 'never'"),
    ("activate", ("broken",), Conflict, "broken stays out of use"),
    ("activate", ("a/b",), UnexpectedAnswer, "HTTP 404: Not Found"),
]


@pytest.mark.parametrize(("method", "args", "kind", "words"), REFUSALS)
def test_a_refusal_is_an_error_of_its_kind_with_the_requests_id_and_is_not_sent_again(
    server: ApiServer, ask: Ask, method: str, args: tuple[Any, ...], kind: type[FxcastError], words: str
) -> None:
    options = {"horizons": [args[2]]} if len(args) == 3 else {}
    with pytest.raises(kind) as raised:
        ask(server.url, method, *args[:2], **options)
    assert type(raised.value) is kind
    assert words in str(raised.value)
    (headers,) = server.headers
    assert str(raised.value).endswith(f"(request {headers['x-request-id']})")
    again = pickle.loads(pickle.dumps(raised.value))  # noqa: S301 - our own bytes
    assert (type(again), str(again), again.request_id) == (kind, str(raised.value), headers["x-request-id"])


def test_all_that_is_wrong_with_a_request_can_be_read(server: ApiServer, ask: Ask) -> None:
    with pytest.raises(BadRequest) as raised:
        ask(server.url, "forecast", WINDOW, num_samples=0, quantiles=[float("nan")], horizon=240)
    error = raised.value
    assert (error.field, error.found) == ("num_samples", "0")
    assert [note.split(":")[0] for note in error.__notes__] == ["quantiles[0]", "horizon"]


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        (problem(500), UnexpectedAnswer, "HTTP 500: as the test wants it"),
        (text(502, "<h1>Bad\n Gateway</h1>"), UnexpectedAnswer, "HTTP 502: <h1>Bad Gateway</h1>"),
        (text(404, ""), UnexpectedAnswer, "HTTP 404: Not Found"),
        (text(302, "", headers={"Location": "http://127.0.0.1:9/"}), UnexpectedAnswer, "HTTP 302: Found"),
        (text(200, "<p>It works!</p>"), UnexpectedAnswer, "HTTP 200: not as the API answers"),
        (text(200, '{"version": 1}'), UnexpectedAnswer, "HTTP 200: not as the API answers"),
        (text(401, "who?"), UnexpectedAnswer, "HTTP 401: who?"),
    ],
)
def test_an_answer_that_is_not_the_apis_says_what_came_and_is_not_asked_for_again(
    server: ApiServer, ask: Ask, trouble: Trouble, kind: type[FxcastError], words: str
) -> None:
    server.troubles.append(trouble)
    with pytest.raises(kind) as raised:
        ask(server.url, "models")
    assert words in str(raised.value)
    assert server.headers[0]["x-request-id"] in str(raised.value)
    assert len(server.headers) == 1


@pytest.mark.parametrize("method", ["forecast", "activate"])
@pytest.mark.parametrize(
    "trouble",
    [problem(503), problem(504), problem(429), text(503, "no healthy upstream"), dropped],
    ids=["503", "504", "429", "a proxy's 503", "dropped"],
)
def test_what_may_work_later_is_asked_again_under_the_same_id(server: ApiServer, ask: Ask, method: str, trouble: Trouble) -> None:
    server.troubles += [trouble, trouble]
    assert ask(server.url, method, {"forecast": WINDOW, "activate": "new"}[method])
    assert len(server.headers) == 3
    assert len({headers["x-request-id"] for headers in server.headers}) == 1


def test_an_attempt_that_takes_too_long_is_followed_by_another(server: ApiServer, ask: Ask) -> None:
    server.troubles.append(slow(6.0))
    assert ask(server.url, "forecast", WINDOW, patience={"attempt_timeout_s": 2.0}).symbol == "EURUSD"
    first, second = server.started_at
    assert 1.9 <= second - first < 6.0


@pytest.mark.parametrize("dated", [False, True], ids=["seconds", "date"])
def test_it_is_asked_again_no_sooner_than_the_answer_says(server: ApiServer, ask: Ask, dated: bool) -> None:
    when = f"{datetime.now(UTC) + timedelta(seconds=3):%a, %d %b %Y %H:%M:%S GMT}" if dated else "1"
    server.troubles.append(problem(503, headers={"Retry-After": when}))
    ask(server.url, "health")
    first, second = server.started_at
    assert 1.0 <= second - first < 5.0


def test_a_pause_that_the_call_has_no_time_for_is_left_to_the_caller(server: ApiServer, ask: Ask) -> None:
    server.troubles.append(problem(503, headers={"Retry-After": "30"}))
    started = time.monotonic()
    with pytest.raises(ForecastUnavailable, match="as the test wants it") as raised:
        ask(server.url, "forecast", WINDOW, patience={"timeout_s": 5.0})
    assert raised.value.retry_after_s == 30.0
    assert (len(server.headers), time.monotonic() - started < 3.0) == (1, True)


def test_retries_end_with_the_last_error(server: ApiServer, ask: Ask) -> None:
    server.troubles += [problem(503), problem(503), problem(504), problem(503)]
    with pytest.raises(ForecastLate):
        ask(server.url, "forecast", WINDOW, patience={"retries": 2})
    with pytest.raises(ForecastUnavailable):
        ask(server.url, "forecast", WINDOW, patience={"retries": 0})
    assert len(server.headers) == 4


@pytest.mark.parametrize("trouble", [slow(8.0), trickling], ids=["silent", "trickling"])
def test_a_call_ends_in_time_whatever_the_service_does(server: ApiServer, ask: Ask, trouble: Trouble) -> None:
    server.troubles += [trouble] * 9
    started = time.monotonic()
    with pytest.raises(ForecastLate, match="no answer within"):
        ask(server.url, "forecast", WINDOW, patience={"timeout_s": 1.2, "attempt_timeout_s": 0.5, "retries": 9})
    assert time.monotonic() - started < 5.0
    assert len(server.headers) >= 2


def test_a_service_that_is_not_there_is_asked_until_it_is(ask: Ask) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/base"
    with pytest.raises(ForecastUnavailable, match=r"ConnectError.*\(request [0-9a-f]{32}\)"):
        ask(url, "ready", patience={"retries": 1})
    done = threading.Event()

    def serve_later() -> None:
        time.sleep(0.5)  # while the client asks
        with api_server(port):
            done.wait(timeout=60)

    thread = threading.Thread(target=serve_later)
    thread.start()
    try:
        assert ask(url, "ready", patience={"retries": 50}).model_version == "new"
    finally:
        done.set()
        thread.join()


def test_a_cancelled_call_ends_and_is_not_sent_again(server: ApiServer) -> None:
    server.troubles.append(slow(1.0))

    async def cancel() -> None:
        async with AsyncForecastClient(server.url) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.forecast(WINDOW), 0.3)
            assert (await client.health()).status == "ok"

    asyncio.run(cancel())
    assert len(server.headers) == 2


def test_tasks_and_threads_share_a_client(server: ApiServer) -> None:
    async def together() -> list[PredictionBody]:
        async with AsyncForecastClient(server.url) as client:
            return await asyncio.gather(*(client.forecast(WINDOW, num_samples=each) for each in range(1, 21)))

    assert [each.num_samples for each in asyncio.run(together())] == list(range(1, 21))
    answers: dict[int, int] = {}
    with ForecastClient(server.url) as client:

        def forecast(num_samples: int) -> None:
            answers[num_samples] = client.forecast(WINDOW, num_samples=num_samples).num_samples

        threads = [threading.Thread(target=forecast, args=(each,)) for each in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {each: each for each in range(1, 9)}


def test_address_and_token_come_from_the_environment_and_nothing_else_does(
    server: ApiServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FXCAST_URL", server.url)
    monkeypatch.setenv("FXCAST_TOKEN", "fxc_environment")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    ask(None, "health")
    ask(f"{server.url}/", "health", patience={"token": "fxc_given"})
    ask(server.url, "health", patience={"token": ""})
    assert [headers.get("authorization") for headers in server.headers] == ["Bearer fxc_environment", "Bearer fxc_given", None]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "base_url: found nothing, and FXCAST_URL is not set"),
        ({"base_url": "127.0.0.1:8000"}, "base_url: found '127.0.0.1:8000'; allowed: http://"),
        ({"base_url": "ftp://host"}, "allowed: http://"),
        ({"base_url": "http://host:port"}, "allowed: http://"),
        ({"base_url": "http://host/?token=x"}, "allowed: http://"),
        ({"base_url": "http://me:hush@host"}, "a user or password"),
        ({"base_url": "http://me:hush@host:port"}, "a user or password"),
        ({"base_url": "http://host", "token": "hush\r\nX-Evil: 1"}, "a space or a letter beyond ASCII"),
        ({"base_url": "http://host", "timeout_s": 0.0}, "timeout_s: found 0;"),
        ({"base_url": "http://host", "attempt_timeout_s": float("nan")}, "attempt_timeout_s: found nan;"),
        ({"base_url": "http://host", "retries": -1}, "retries: found -1;"),
    ],
)
@pytest.mark.parametrize("kind", [ForecastClient, AsyncForecastClient])
def test_a_client_that_could_not_work_is_refused_and_no_secret_is_repeated(
    kind: type[ForecastClient | AsyncForecastClient], arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadSetting) as raised:
        kind(**arguments)
    assert words in str(raised.value)
    assert "hush" not in str(raised.value)


def test_a_frame_with_a_zone_becomes_candles() -> None:
    index = pd.DatetimeIndex(WINDOW.open_times).tz_localize("UTC")
    frame = pd.DataFrame(WINDOW.values, columns=["open", "high", "low", "close", "volume"], index=index).assign(spread=0.1)
    for whole in (frame, frame.tz_convert("Asia/Tokyo"), frame.sort_index(axis="columns")):
        candles = candles_of(whole, symbol="EURUSD", timeframe="1h")
        assert isinstance(candles, CandleSeries)
        assert (candles.open_times == WINDOW.open_times).all()
        assert (candles.values == WINDOW.values).all()
    assert (candles_of(frame.drop(columns="volume"), symbol="EURUSD", timeframe="1h").values[:, 4] == 0).all()
    odd = frame.set_index(frame.index + pd.Timedelta(milliseconds=1))
    never = frame.set_index(pd.DatetimeIndex([pd.NaT, *frame.index[1:]]))
    for wrong, field in (
        (frame.tz_localize(None), "index"),
        (frame.reset_index(drop=True), "index"),
        (odd, "index[0]"),
        (never, "index[0]"),
        (frame.drop(columns="low"), "columns"),
        (frame.assign(close="x"), "close"),
        (frame.assign(close=np.nan), "candles[0].close"),
    ):
        with pytest.raises(BadCandles) as raised:
            candles_of(wrong, symbol="EURUSD", timeframe="1h")
        assert raised.value.field == field


def test_options_are_those_of_the_api_and_both_clients_have_the_same_methods() -> None:
    for choices, body in ((ForecastChoices, ForecastOptions), (RowsWanted, MinutesQuery), (PredictionsWanted, PredictionsQuery)):
        assert set(choices.__annotations__) == set(body.model_fields)

    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(ForecastClient) == public(AsyncForecastClient)


def test_the_client_needs_none_of_what_the_service_runs_on() -> None:
    heavy = ("torch", "ray", "sqlalchemy", "pandas", "fastapi", "starlette")
    code = f"import sys, fxcast.client; print(*[name for name in {heavy} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == ""
