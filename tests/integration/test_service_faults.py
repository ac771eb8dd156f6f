"""The service when something breaks under load: no wrong answer, and through the client no failed one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve

from fxcast.adapters.storage.database import migrate
from fxcast.client import ForecastClient
from fxcast.domain.candle import CandleSeries
from fxcast.serving.names import DEPLOYMENT
from fxcast.serving.schemas import PredictionBody
from tests.http import body_of, wait_until_ready
from tests.integration.service_apps import deployed, processes
from tests.state import ON_SERVERS, job_database
from tests.waiting import wait_for

_WINDOWS = 8


@pytest.fixture(scope="module")
def url(service_url: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of two replicas that keeps its forecasts."""
    root = tmp_path_factory.mktemp("faults")
    migrate(job_database(root, "fxcast"))
    options = {"num_replicas": 2, "max_ongoing_requests": 16, "max_queued_requests": 64, "ray_actor_options": {"num_cpus": 0.1}}
    deployed("faults", model_folder, options, predictions_database_url=job_database(root, "fxcast"))
    try:
        yield f"{service_url}/faults"
    finally:
        serve.delete("faults")


@pytest.fixture(scope="module")
def windows(series: CandleSeries) -> list[CandleSeries]:
    return [series.slice(start, start + 100) for start in range(1000, 1000 + 50 * _WINDOWS, 50)]


@pytest.fixture(scope="module")
def right(url: str, windows: list[CandleSeries]) -> list[dict[str, Any]]:
    """What each window's forecast is."""
    with ForecastClient(url, timeout_s=120.0, retries=30) as client:
        return [horizons_of(client.forecast(window, seed=number)) for number, window in enumerate(windows)]


def horizons_of(answer: PredictionBody) -> dict[str, Any]:
    return {minutes: horizon.model_dump(exclude_none=True) for minutes, horizon in answer.horizons.items()}


def while_asked(url: str, windows: list[CandleSeries], breaking: Callable[[], None]) -> list[tuple[int, dict[str, Any]]]:
    """Let four clients ask again and again while something is broken, and for a while after it; return what they were answered."""
    answers: list[tuple[int, dict[str, Any]]] = []
    over = threading.Event()

    def ask(number: int) -> None:
        with ForecastClient(url, timeout_s=120.0, retries=30) as client:
            while not over.is_set():
                number = (number + 1) % _WINDOWS
                answers.append((number, horizons_of(client.forecast(windows[number], seed=number))))

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask, number) for number in range(4)]
        try:
            wait_for(lambda: len(answers) >= 8)
            breaking()
            after = len(answers)
            wait_for(lambda: len(answers) >= after + 16)
        finally:
            over.set()
        for client in clients:
            client.result()
    return answers


def assert_right(answers: list[tuple[int, dict[str, Any]]], right: list[dict[str, Any]]) -> None:
    for number, answer in answers:
        for minutes, horizon in right[number].items():
            assert answer[minutes] == pytest.approx(horizon, rel=1e-4), "another batch adds floats in another order"


@pytest.mark.parametrize("actor", [f"faults#{DEPLOYMENT}", "SERVE_PROXY_ACTOR", "SERVE_CONTROLLER_ACTOR"])
def test_a_killed_process_costs_no_answer_of_the_client(
    url: str, windows: list[CandleSeries], right: list[dict[str, Any]], actor: str
) -> None:
    def kill() -> None:
        os.kill(processes(actor)[0], signal.SIGKILL)

    assert_right(while_asked(url, windows, kill), right)
    wait_until_ready(url)


def test_a_killed_replica_fails_at_most_the_requests_that_it_held(url: str, windows: list[CandleSeries]) -> None:
    async def asked() -> Counter[int]:
        statuses = Counter[int]()
        killed = False

        async def client(http: httpx.AsyncClient, number: int) -> None:
            nonlocal killed
            for turn in range(6):
                if turn == 2 and not killed:
                    killed = True
                    os.kill(processes(f"faults#{DEPLOYMENT}")[0], signal.SIGKILL)
                statuses[(await http.post(f"{url}/v1/forecast", json=body_of(windows[number], seed=turn))).status_code] += 1

        async with httpx.AsyncClient(timeout=120.0, trust_env=False) as http:
            await asyncio.gather(*(client(http, number) for number in range(_WINDOWS)))
        return statuses

    statuses = asyncio.run(asked())
    assert set(statuses) <= {200, 503}
    assert statuses[503] <= _WINDOWS, "no more than were under way"
    wait_for(lambda: len(processes(f"faults#{DEPLOYMENT}")) == 2)


@pytest.mark.skipif(ON_SERVERS, reason="takes SQLite's file away")
def test_without_its_database_the_service_forecasts_as_before(
    url: str, windows: list[CandleSeries], right: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "faults0" / "fxcast.db"

    def lose() -> None:
        file.rename(file.with_suffix(".away"))

    assert_right(while_asked(url, windows, lose), right)
    file.with_suffix(".away").rename(file)


def test_five_hundred_clients_at_once_are_answered_or_told_to_come_back(url: str, windows: list[CandleSeries]) -> None:
    async def all_at_once() -> Counter[int]:
        limits = httpx.Limits(max_connections=500)
        async with httpx.AsyncClient(timeout=300.0, trust_env=False, limits=limits) as http:
            body = body_of(windows[0], num_samples=1)
            answers = await asyncio.gather(*(http.post(f"{url}/v1/forecast", json=body) for _ in range(500)))
            return Counter(answer.status_code for answer in answers)

    statuses = asyncio.run(all_at_once())
    assert set(statuses) <= {200, 503}
    assert statuses[200] > 0
    wait_until_ready(url)


def test_bodies_that_no_client_sends_are_refused(url: str, windows: list[CandleSeries]) -> None:
    text = json.dumps(body_of(windows[0]))
    twice = text[:-1] + ', "symbol": "euro"}'
    deep = '{"symbol": ' + "[" * 5_000 + "]" * 5_000 + "}"

    def large() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1_000_000

    with httpx.Client(timeout=120.0, trust_env=False) as client:
        for body, status in (
            (twice, 422),
            (deep, 422),
            (text.replace("1.", "NaN, 1.", 1), 422),
            (text.replace(":00+00:00", ":00"), 422),
        ):
            answer = client.post(f"{url}/v1/forecast", content=body, headers={"content-type": "application/json"})
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), body[:80]
        with contextlib.suppress(httpx.WriteError):  # the connection may be closed before all is sent
            assert client.post(f"{url}/v1/forecast", content=large()).status_code == 413
    wait_until_ready(url)
