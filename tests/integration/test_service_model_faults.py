"""The service while its model's folder is broken, and when a body is far too large: it says why, and is itself again after."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve

from fxcast.domain.candle import CandleSeries
from fxcast.serving.names import API, DEPLOYMENT
from tests.http import body_of
from tests.integration.service_apps import deployed, processes
from tests.waiting import wait_for

Numbers = dict[tuple[str, str], float]

_TIMEOUT_S = 60.0
_LARGE = 100_000_000  # bytes


@dataclass(frozen=True)
class Service:
    """A running service with a folder of its own."""

    client: httpx.Client
    folder: Path
    body: dict[str, Any]

    def ask(self, **options: object) -> httpx.Response:
        """Ask for a forecast; an answer that takes longer than the service's own limit raises."""
        return self.client.post("/v1/forecast", json=self.body | options)

    def forecast(self) -> Numbers:
        answer = self.ask()
        assert answer.status_code == 200, answer.text
        return numbers_of(answer)


def numbers_of(answer: httpx.Response) -> Numbers:
    return {(minutes, name): number for minutes, horizon in answer.json()["horizons"].items() for name, number in horizon.items()}


def service_of(name: str, replicas: int, url: str, model_folder: Path, body: dict[str, Any], root: Path) -> Iterator[Service]:
    shutil.copytree(model_folder, root / "model")
    deployed(name, root / "model", {"num_replicas": replicas, "ray_actor_options": {"num_cpus": 0.1}}, timeout_s=_TIMEOUT_S)
    try:
        with httpx.Client(base_url=f"{url}/{name}", timeout=_TIMEOUT_S + 30.0, trust_env=False) as client:
            yield Service(client, root / "model", body)
    finally:
        serve.delete(name)


@pytest.fixture(scope="module")
def body(series: CandleSeries) -> dict[str, Any]:
    return body_of(series.slice(3000, 3100), seed=5)


@pytest.fixture(scope="module")
def service(
    service_url: str, model_folder: Path, body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    yield from service_of("broken", 1, service_url, model_folder, body, tmp_path_factory.mktemp("broken"))


@pytest.fixture
def pair(service_url: str, model_folder: Path, body: dict[str, Any], tmp_path: Path) -> Iterator[Service]:
    """A service with two replicas of the model."""
    yield from service_of("pair", 2, service_url, model_folder, body, tmp_path)


def cut_short(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def overwrite(folder: Path) -> None:
    (folder / "model_index.json").write_text("garbage")


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{process}").exists())


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (cut_short, "component 'unet' can't be loaded"),
        (overwrite, "model_index.json is not JSON"),
        (shutil.rmtree, "there is no such folder"),
    ],
)
def test_a_broken_folder_costs_nothing_until_the_replica_dies_then_is_named_and_once_it_is_whole_all_is_well(
    service: Service, tmp_path: Path, break_it: Callable[[Path], None], reason: str
) -> None:
    right = service.forecast()
    shutil.copytree(service.folder, tmp_path / "whole")
    break_it(service.folder)
    assert service.forecast() == pytest.approx(right), "the model is in memory"

    (replica,) = processes(f"broken#{DEPLOYMENT}")
    kill(replica)
    told: list[str] = []

    def is_told_why() -> bool:
        answer = service.ask()
        assert (answer.status_code, answer.headers["content-type"]) in {
            (503, "application/problem+json"),
            (504, "application/problem+json"),
        }
        told.append(answer.json()["detail"])
        return reason in told[-1]

    wait_for(is_told_why)
    assert told[-1].startswith(f"model folder {service.folder}: {reason}")
    assert "Traceback" not in "".join(told)
    instead = service.ask(fallback="random-walk")
    assert (instead.status_code, instead.json()["model_version"]) == (200, "random-walk")
    assert instead.json()["fallback_reason"].startswith(f"model folder {service.folder}: {reason}")
    ready = service.client.get("/readyz")
    assert (ready.status_code, service.client.get("/healthz").status_code) == (503, 200)
    assert reason in ready.json()["detail"]

    shutil.rmtree(service.folder, ignore_errors=True)
    shutil.copytree(tmp_path / "whole", service.folder)
    wait_for(lambda: service.ask().status_code == 200)
    assert service.forecast() == pytest.approx(right)
    wait_for(lambda: service.client.get("/readyz").status_code == 200)


def test_while_a_replica_has_the_model_in_memory_it_answers_all_and_its_broken_fellow_none(pair: Service, tmp_path: Path) -> None:
    right = pair.forecast()
    shutil.copytree(pair.folder, tmp_path / "whole")
    cut_short(pair.folder)
    first, second = processes(f"pair#{DEPLOYMENT}")
    seen = {first, second}
    kill(first)

    def has_failed_to_start() -> bool:
        seen.update(processes(f"pair#{DEPLOYMENT}"))
        return len(seen) >= 4  # the successor's successor

    wait_for(has_failed_to_start)
    with ThreadPoolExecutor(12) as pool:  # more than one replica takes at once
        answers = [future.result() for future in [pool.submit(pair.ask) for _ in range(48)]]
    assert Counter(answer.status_code for answer in answers) == {200: 48}
    for answer in answers:
        assert numbers_of(answer) == pytest.approx(right, rel=1e-4), "another batch adds floats in another order"
    assert second in processes(f"pair#{DEPLOYMENT}")

    shutil.rmtree(pair.folder)
    shutil.copytree(tmp_path / "whole", pair.folder)
    wait_for(lambda: _running("pair") == 2)


def _running(name: str) -> int:
    states: Any = serve.status().applications[name].deployments[DEPLOYMENT].replica_states
    return states.get("RUNNING", 0)


def test_a_body_of_100_mb_is_refused_and_leaves_nothing_behind(service: Service) -> None:
    (process,) = processes(f"broken#{API}")

    def send(length: int) -> None:
        with suppress(httpx.TransportError):  # the connection may be closed before all is sent
            answer = service.client.post("/v1/forecast", content=b" " * length, headers={"content-type": "application/json"})
            assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")

    send(2_000_000)  # what the first refusal needs for good is no part of the question
    before = _own_bytes(process)
    for _ in range(3):
        send(_LARGE)
    wait_for(lambda: _own_bytes(process) - before < 30_000_000)
    assert processes(f"broken#{API}") == [process]
    assert service.forecast()


def _own_bytes(process: int) -> int:
    """Return the resident memory of a process without what it shares: bodies come to it through Ray's object store."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("RssAnon:"))
    return 1024 * int(kilobytes)
