"""The service under load, on a node with logical GPUs: replicas come and go, a full queue says so at once, no request fails."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import ray
from ray import serve
from ray.util.state import list_actors

from fxcast.domain.candle import CandleSeries
from fxcast.serving.names import DEPLOYMENT
from tests.http import body_of
from tests.integration.service_apps import deployed

Body = dict[str, Any]

_PATIENCE_S = 300  # a replica takes half a minute to start while the load keeps the cores busy, on a slower machine more


def asking(series: CandleSeries, number: int, num_samples: int = 50) -> Body:
    return body_of(series.slice(number, number + 100), seed=number, num_samples=num_samples)


async def asked_by(clients: int, url: str, body: Callable[[int], Body], until: Callable[[], bool]) -> list[httpx.Response]:
    """Ask from several clients at once, again and again until a condition holds."""
    answers: list[httpx.Response] = []

    async def client(http: httpx.AsyncClient, number: int) -> None:
        while not until():
            answers.append(await http.post(f"{url}/v1/forecast", json=body(number)))
            number += clients

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(timeout=120.0, trust_env=False, limits=limits) as http:
        await asyncio.gather(*(client(http, number) for number in range(clients)))
    return answers


def nodes_of(name: str) -> set[str]:
    address = ray.get_runtime_context().gcs_address  # of several clusters on a machine it would take the newest
    actors = cast("list[Any]", list_actors(address, filters=[("state", "=", "ALIVE")]))
    return {actor.node_id for actor in actors if f"{name}#{DEPLOYMENT}" in (actor.name or "")}


def replicas(name: str) -> int:
    return serve.status().applications[name].deployments[DEPLOYMENT].replica_states.get("RUNNING", 0)  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_replicas_with_a_share_of_a_gpu_come_with_the_load_and_go_after_it(
    gpu_node: str, service_url: str, model_folder: Path, series: CandleSeries
) -> None:
    scaling = {
        "min_replicas": 1,
        "max_replicas": 3,
        "target_ongoing_requests": 2,
        "upscale_delay_s": 1,
        "downscale_delay_s": 5,
        "look_back_period_s": 11,
    }
    options = {
        "autoscaling_config": scaling,
        "max_ongoing_requests": 16,
        "graceful_shutdown_timeout_s": 20,
        "ray_actor_options": {"num_cpus": 0.1, "num_gpus": 0.25},
    }
    deployed("scaled", model_folder, options)
    try:
        assert replicas("scaled") == 1
        assert nodes_of("scaled") == {gpu_node}
        seen = Counter[int]()
        deadline = time.monotonic() + _PATIENCE_S

        def has_grown() -> bool:
            seen[replicas("scaled")] += 1
            return max(seen) >= 2 or time.monotonic() > deadline

        answers = asyncio.run(asked_by(8, f"{service_url}/scaled", lambda number: asking(series, number), has_grown))
        assert max(seen) >= 2, "the load brought replicas"
        assert Counter(answer.status_code for answer in answers) == {200: len(answers)}

        async def while_shrinking() -> list[httpx.Response]:
            return await asked_by(
                1,
                f"{service_url}/scaled",
                lambda number: asking(series, number, 1),
                lambda: replicas("scaled") == 1 or time.monotonic() > deadline,
            )

        deadline = time.monotonic() + _PATIENCE_S
        answers = asyncio.run(while_shrinking())
        assert replicas("scaled") == 1, "and without it they went"
        assert Counter(answer.status_code for answer in answers) == {200: len(answers)}
    finally:
        serve.delete("scaled")


@pytest.mark.parametrize("late_after", [0.3])
def test_a_full_queue_is_a_503_at_once_and_what_takes_too_long_a_504(
    service_url: str, model_folder: Path, series: CandleSeries, late_after: float
) -> None:
    options = {"num_replicas": 1, "max_ongoing_requests": 1, "max_queued_requests": 1, "ray_actor_options": {"num_cpus": 0.1}}
    deployed("full", model_folder, options, timeout_s=60.0)
    url = f"{service_url}/full"
    try:

        async def at_once() -> list[tuple[float, httpx.Response]]:
            async with httpx.AsyncClient(timeout=120.0, trust_env=False) as http:

                async def one(number: int) -> tuple[float, httpx.Response]:
                    started = time.perf_counter()
                    answer = await http.post(f"{url}/v1/forecast", json=asking(series, number, 1000))
                    return time.perf_counter() - started, answer

                return await asyncio.gather(*(one(number) for number in range(12)))

        found = asyncio.run(at_once())
        answered = [taken for taken, answer in found if answer.status_code == 200]
        refused = [(taken, answer) for taken, answer in found if answer.status_code == 503]
        assert len(answered) + len(refused) == 12
        assert answered
        assert len(refused) >= 8
        for taken, answer in refused:
            assert answer.headers["retry-after"] == "1"
            assert "the queue is full" in answer.json()["detail"]
            assert taken < max(answered), "a refusal waits for no forecast"
    finally:
        serve.delete("full")
    deployed("late", model_folder, {"num_replicas": 1, "ray_actor_options": {"num_cpus": 0.1}}, timeout_s=late_after)
    try:
        with httpx.Client(base_url=f"{service_url}/late", timeout=60.0, trust_env=False) as client:
            answer = client.post("/v1/forecast", json=asking(series, 0, 1000))
            assert (answer.status_code, answer.headers["content-type"]) == (504, "application/problem+json")
            assert answer.json()["detail"] == f"no forecast within {late_after:g} s"
            assert client.get("/healthz").status_code == 200
    finally:
        serve.delete("late")
