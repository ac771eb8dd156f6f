"""What could not be answered is found in the logs by the id that its caller was told, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve

from fxcast.domain.candle import CandleSeries
from fxcast.serving.names import API, DEPLOYMENT
from tests.http import body_of
from tests.integration.service_apps import deployed, make_registry, save_garch_that_fails_on, session_folder
from tests.state import job_database
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def url(service_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service whose one model fails on USDJPY, and whose registry has none for EURUSD."""
    root = tmp_path_factory.mktemp("logs")
    save_garch_that_fails_on("USDJPY", root / "garch")
    make_registry(job_database(root, "fxcast"), {"garch": root / "garch"}, symbol="USDJPY", active="garch")
    deployed("logged", root / "garch", {"ray_actor_options": {"num_cpus": 0.1}}, registry_url=job_database(root, "fxcast"))
    try:
        yield f"{service_url}/logged"
    finally:
        serve.delete("logged")


@pytest.fixture
def body(series: CandleSeries) -> dict[str, Any]:
    return body_of(series.slice(3000, 3100))


def logged(deployment: str, request_id: str, words: str) -> str:
    """Wait for a line of the deployment's replicas with a request's id and some words; return it and what follows."""
    folder: Path = session_folder() / "logs" / "serve"
    found = ""

    def is_there() -> bool:
        nonlocal found
        for file in folder.glob(f"replica_logged_{deployment}_*.log"):
            lines = file.read_text().splitlines()
            for number, line in enumerate(lines):
                if request_id in line and words in line:
                    found = "\n".join(lines[number:])
                    return True
        return False

    wait_for(is_there)
    return found


def test_the_reason_of_a_503_is_in_the_log_under_its_id(url: str, body: dict[str, Any]) -> None:
    answer = httpx.post(f"{url}/v1/forecast", json=body, headers={"X-Request-ID": "some-id-503"}, trust_env=False, timeout=120.0)
    assert (answer.status_code, answer.json()["request_id"]) == (503, "some-id-503")
    (line, *_) = logged(API, "some-id-503", "request not answered").splitlines()
    assert line.startswith("WARNING ")
    assert "no model is active for EURUSD 1h" in line
    assert "path=/logged/v1/forecast" in line


def test_the_traceback_of_a_500_is_in_the_logs_of_both_replicas_and_not_in_the_answer(url: str, body: dict[str, Any]) -> None:
    failing = body | {"symbol": "USDJPY"}
    answer = httpx.post(f"{url}/v1/forecast", json=failing, headers={"X-Request-ID": "some-id-500"}, trust_env=False, timeout=120.0)
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["request_id"] == "some-id-500"
    for secret in ("Traceback", "ValueError", "service.py"):
        assert secret not in answer.text
    for deployment, words in ((API, "request failed"), (DEPLOYMENT, "Request failed.")):
        found = logged(deployment, "some-id-500", words)
        assert found.startswith("ERROR ")
        assert "Traceback (most recent call last)" in found
        assert "ValueError: not a forecast: mean inf" in found


def test_a_refused_request_is_no_error_of_the_replica(url: str, body: dict[str, Any]) -> None:
    for request_id, wrong in (("some-id-422", {"horizons": [7]}), ("some-id-vision", {"vision": True, "symbol": "GBPUSD"})):
        asked = {**body, "symbol": "USDJPY", "model_version": "garch", **wrong}
        answer = httpx.post(f"{url}/v1/forecast", json=asked, headers={"X-Request-ID": request_id}, trust_env=False, timeout=120.0)
        assert answer.status_code == 422, answer.text
        assert not logged(DEPLOYMENT, request_id, "").startswith("ERROR ")


def test_a_window_that_no_model_can_forecast_costs_the_others_nothing(url: str, body: dict[str, Any]) -> None:
    usual = {**body, "symbol": "GBPUSD", "model_version": "garch"}
    failing = {**usual, "symbol": "USDJPY"}
    alone = httpx.post(f"{url}/v1/forecast", json=usual, trust_env=False, timeout=120.0).json()["horizons"]
    many = {"requests": [usual, failing, usual]}
    answer = httpx.post(f"{url}/v1/forecasts", json=many, headers={"X-Request-ID": "some-id-many"}, trust_env=False, timeout=120.0)
    assert answer.status_code == 200, answer.text
    first, second, third = answer.json()["answers"]
    assert [each["forecast"]["horizons"] for each in (first, third)] == [alone, alone]
    assert second["problem"]["status"] == 500
    assert "ValueError: not a forecast: mean inf" in logged(API, "some-id-many", "request failed")
