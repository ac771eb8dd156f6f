"""The service and its OpenAPI document: what that allows, and much that it forbids, is answered as it says, and never by a 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from ray import serve
from schemathesis import checks

from fxcast.adapters.storage.access_tokens import Scope, create_token
from fxcast.adapters.storage.database import Database, migrate, open_database
from fxcast.adapters.storage.predictions import record_inference_minute, record_predictions
from fxcast.adapters.storage.registry import RegisteredModel, activate, register_model
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import prediction_from_dict
from fxcast.domain.timeframe import timeframes
from fxcast.models.baselines.folder import save_opponent
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.config import preset_config
from fxcast.serving.api import app as api
from fxcast.serving.app import build
from fxcast.serving.examples import MODEL_VERSION
from tests.factories import make_series
from tests.state import job_database

DOCUMENT: dict[str, Any] = api.openapi()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=schemathesis.Config(seed=0))  # its own seed wins over `derandomize`
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
    checks.ignored_auth,
]


@dataclass(frozen=True)
class Service:
    """A running service, a session without a proxy, and the header of a token that may do everything."""

    url: str
    admin: dict[str, str]
    session: requests.Session


@pytest.fixture(scope="module")
def service(
    service_url: str, model_folder: Path, series: CandleSeries, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service that has something behind every route, and an active model for every timeframe."""
    root = tmp_path_factory.mktemp("openapi")
    url = job_database(root, "fxcast")
    migrate(url)
    database = open_database(url)
    for candles in (series, make_series(timeframe="1m", bars=2000)):
        CandleStore(root / "store").append(candles)
    for timeframe in timeframes():
        if timeframe.name == "1h":
            put_to_use(database, MODEL_VERSION, model_folder, timeframe.name)
        else:
            version = f"walk-{timeframe}"
            horizons = preset_config("tiny", timeframe.name).horizons_minutes
            walk = RandomWalk(timeframe=timeframe, horizons_minutes=horizons, model_version=version)
            save_opponent(walk, root / version, seen=None, card="# walk\n")
            put_to_use(database, version, root / version, timeframe.name)
    record_predictions(database, [prediction_from_dict(shown("post", "/v1/forecast"))])
    record_inference_minute(
        database, minute=datetime(2024, 3, 8, 4, tzinfo=UTC), model_version=MODEL_VERSION, latencies_ms=(10.0, 30.0), errors=0
    )
    token = create_token(database, name="operator", scopes=[Scope.ADMIN], now=datetime.now(UTC))
    databases = dict.fromkeys(("database_url", "tokens_database_url", "predictions_database_url", "metrics_database_url"), url)
    serve.run(build({**databases, "store": str(root / "store"), "threads": 1}), name="openapi", route_prefix="/openapi")
    try:
        with requests.Session() as session:
            session.trust_env = False
            yield Service(f"{service_url}/openapi", {"Authorization": f"Bearer {token}"}, session)
    finally:
        serve.delete("openapi")


def put_to_use(database: Database, version: str, folder: Path, timeframe: str) -> None:
    start, end = datetime(2017, 1, 1, tzinfo=UTC), datetime(2017, 6, 1, tzinfo=UTC)
    model = RegisteredModel(
        version=version,
        preset="tiny",
        symbol="EURUSD",
        timeframe=timeframe,
        folder=folder,
        config={},
        data_hash="ab",
        data_start=start,
        data_end=end,
        metrics={"best_loss": 0.5},
    )
    register_model(database, model)
    activate(database, version)


def shown(method: str, path: str) -> Any:
    """Return the first answer that the document shows of a route."""
    content = DOCUMENT["paths"][path][method]["responses"]["200"]["content"]["application/json"]
    return next(iter(content["examples"].values()))["value"]


# Fifteen besides the examples of the document and the edges of its schemas, which are hundreds. A hundred candles take Hypothesis
# a while, and on a busy machine longer.
@SCHEMA.parametrize()  # pyright: ignore[reportUntypedFunctionDecorator]  # it publishes no type
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_asked_is_answered_as_the_document_says(case: schemathesis.Case[Any], service: Service) -> None:
    case.call_and_validate(base_url=service.url, session=service.session, headers=service.admin, timeout=120, checks=CHECKS)


def test_the_document_that_is_served_is_the_one_that_is_tested(service: Service) -> None:
    served = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
    assert served.pop("servers") == [{"url": "/openapi"}]
    assert served == DOCUMENT


@pytest.mark.parametrize(("method", "path"), [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods])
def test_what_the_document_shows_is_answered_200(service: Service, method: str, path: str) -> None:
    operation = DOCUMENT["paths"][path][method]
    values: dict[str, dict[str, Any]] = {"path": {}, "query": {}}
    for parameter in operation.get("parameters", []):
        named = [example["value"] for example in parameter.get("examples", {}).values()]
        values[parameter["in"]][parameter["name"]] = [*named, *parameter["schema"].get("examples", [])][0]
    bodies: list[Any] = [None]
    if "requestBody" in operation:
        bodies = [example["value"] for example in operation["requestBody"]["content"]["application/json"]["examples"].values()]
    with httpx.Client(base_url=service.url, headers=service.admin, timeout=120.0, trust_env=False) as client:
        for body in bodies:
            answer = client.request(method, path.format(**values["path"]), params=values["query"], json=body)
            assert answer.status_code == 200, answer.text
            assert type(answer.json()) is type(shown(method, path))
            assert answer.json(), "a list that holds something"


def test_a_refusal_among_several_windows_is_the_one_that_is_shown(service: Service) -> None:
    (example,) = DOCUMENT["paths"]["/v1/forecasts"]["post"]["requestBody"]["content"]["application/json"]["examples"].values()
    answer = service.session.post(f"{service.url}/v1/forecasts", json=example["value"], headers=service.admin, timeout=120)
    assert answer.json()["answers"][1] == shown("post", "/v1/forecasts")["answers"][1]
