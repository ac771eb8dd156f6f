"""What Prometheus reads of the service, over HTTP from the node's metrics agent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from ray import serve

from fxcast.adapters.storage.database import migrate
from fxcast.domain.candle import CandleSeries
from fxcast.serving.prometheus import LATENCY_MS, NO_MODEL
from tests.http import body_of
from tests.integration.service_apps import deployed, make_registry, save_garch_that_fails_on
from tests.state import job_database
from tests.waiting import wait_for

Numbers = dict[tuple[str, ...], float]
_UNKNOWN = "no-such-model"


@dataclass(frozen=True)
class Service:
    """A service that was asked for forecasts: 3 answered, 2 refused, 1 by the fallback, 1 in vain, 1 that failed."""

    predictions_url: str
    started: float


@pytest.fixture(scope="module")
def service(
    service_url: str, model_folder: Path, series: CandleSeries, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    root = tmp_path_factory.mktemp("prometheus")
    registry, predictions = job_database(root, "fxcast"), job_database(root, "later")
    save_garch_that_fails_on("USDJPY", root / "garch")
    make_registry(registry, {"random": model_folder, "garch": root / "garch"}, symbol="GBPUSD", active="random")
    started = time.time()
    deployed(
        "observed",
        model_folder,
        {"ray_actor_options": {"num_cpus": 0.1}},
        registry_url=registry,
        predictions_database_url=predictions,
        metrics_database_url=registry,
    )
    pound = body_of(series.slice(3000, 3100), num_samples=30) | {"symbol": "GBPUSD"}
    euro = pound | {"symbol": "EURUSD"}
    asked: list[tuple[dict[str, Any], int]] = [
        *[(pound, 200)] * 3,
        (pound | {"horizons": [7]}, 422),
        (pound | {"model_version": _UNKNOWN}, 422),
        (euro | {"fallback": "random-walk"}, 200),
        (euro, 503),
        (euro | {"symbol": "USDJPY", "model_version": "garch"}, 500),
    ]
    try:
        with httpx.Client(base_url=f"{service_url}/observed", timeout=120.0, trust_env=False) as client:
            for body, status in asked:
                assert client.post("/v1/forecast", json=body).status_code == status
        yield Service(predictions, started)
    finally:
        serve.delete("observed")


def page() -> str:
    (node,) = (node for node in ray.nodes() if node["NodeID"] == ray.get_runtime_context().get_node_id())
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    return httpx.get(address, trust_env=False, timeout=30.0).text


def scraped(name: str, *labels: str) -> Numbers:
    """Return the numbers of the application under a name, by some of their labels; those of several replicas are added."""
    numbers: Numbers = {}
    for family in text_string_to_metric_families(page()):
        for sample in family.samples:
            if sample.name == name and sample.labels.get("application") == "observed":
                key = tuple(sample.labels[label] for label in labels)
                numbers[key] = numbers.get(key, 0.0) + sample.value
    return numbers


def shows(expected: Numbers, name: str, *labels: str) -> Numbers:
    """Wait until some numbers under a name are what they should be; return all of them."""
    found: Numbers = {}

    def is_so() -> bool:
        nonlocal found
        found = scraped(name, *labels)
        return found.items() >= expected.items()

    try:
        wait_for(is_so)
    finally:
        assert found.items() >= expected.items(), found
    return found


def test_forecasts_are_counted_by_what_became_of_them_and_by_model(service: Service) -> None:
    assert service  # has been asked
    expected = {
        ("random", "answered"): 3.0,
        ("random", "refused"): 1.0,
        (NO_MODEL, "refused"): 1.0,
        (NO_MODEL, "fallback"): 1.0,
        (NO_MODEL, "unavailable"): 1.0,
        ("garch", "failed"): 1.0,
    }
    assert shows(expected, "ray_fxcast_forecasts_total", "model_version", "outcome") == expected
    assert _UNKNOWN not in page(), "no label is a text of the caller's"
    shows({("observed",): 4.0}, f"ray_{LATENCY_MS.name}_count", "application")  # those that were answered, the fallback's too


def test_replicas_show_how_long_and_how_much_they_compute_and_what_they_hold(service: Service) -> None:
    assert service  # has been asked
    shows({("random",): 3.0}, "ray_fxcast_inference_time_ms_count", "model_version")
    samples = scraped("ray_fxcast_batch_samples_bucket", "model_version", "le")
    assert (samples["random", "20.0"], samples["random", "50.0"], samples["random", "+Inf"]) == (0.0, 3.0, 3.0)
    shows({("loaded",): 2.0}, "ray_fxcast_model_loads_total", "outcome")
    shows({(): 2.0}, "ray_serve_num_multiplexed_models")


def test_what_waits_for_a_database_is_shown_until_it_is_written(service: Service) -> None:
    of = ("of",)
    shows({("predictions",): 4.0, ("inference minutes",): 0.0}, "ray_fxcast_backlog_waiting", *of)
    wait_for(lambda: scraped("ray_fxcast_backlog_failures_total", *of).get(("predictions",), 0.0) >= 1.0)
    migrate(service.predictions_url)
    shows({("predictions",): 4.0}, "ray_fxcast_backlog_written_total", *of)
    shows({("predictions",): 0.0, ("inference minutes",): 0.0}, "ray_fxcast_backlog_waiting", *of)
    assert ("predictions",) not in scraped("ray_fxcast_backlog_dropped_total", *of)


def test_it_is_shown_when_the_registry_was_read_last(service: Service) -> None:
    wait_for(lambda: scraped("ray_fxcast_snapshot_read_timestamp_seconds", "of").get(("model registry",), 0.0) >= service.started)
