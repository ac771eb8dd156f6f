"""The service with a registry: which model answers, changing it while it runs, and what is kept of its forecasts."""

from __future__ import annotations

import base64
import io
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from ray import serve

from fxcast import errors
from fxcast.adapters.storage.access_tokens import Scope, create_token, revoke_token
from fxcast.adapters.storage.database import Database, migrate, open_database
from fxcast.adapters.storage.predictions import record_inference_minute
from fxcast.adapters.storage.quality import newest_quality
from fxcast.adapters.storage.registry import RegisteredModel, activate, register_model
from fxcast.client import BadRequest, Conflict, Forbidden, ForecastClient, ForecastUnavailable
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.timeframe import Timeframe
from fxcast.models.baselines.folder import save_opponent
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.serving.app import build
from fxcast.serving.client import ServeForecasts
from jobs.outcomes import OutcomesJob, fill_in_outcomes
from tests.factories import make_question
from tests.http import body_of
from tests.state import job_database

Body = dict[str, Any]
NOON = datetime(2024, 3, 4, 12, tzinfo=UTC)
START, END = datetime(2017, 1, 1, tzinfo=UTC), datetime(2017, 6, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Service:
    """A running service with a registry, its database, and a token of each scope."""

    client: httpx.Client
    database: Database
    url: str
    forecast: dict[str, str]
    admin: dict[str, str]
    folders: Path


@pytest.fixture(scope="module")
def service(service_url: str, model_folder: Path, store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    root = tmp_path_factory.mktemp("service")
    url = job_database(root, "fxcast")
    migrate(url)
    database = open_database(url)
    shutil.copytree(model_folder, root / "random")
    walk = RandomWalk(timeframe=Timeframe("1h"), horizons_minutes=(240, 960, 3840), model_version="walk")
    save_opponent(walk, root / "walk", seen=None, card="# walk\n")
    for version in ("random", "walk", "broken"):
        register_model(
            database,
            RegisteredModel(
                version=version,
                preset="tiny",
                symbol="EURUSD",
                timeframe="1h",
                folder=root / version,
                config={},
                data_hash="ab",
                data_start=START,
                data_end=END,
                metrics={"best_loss": 0.5},
            ),
        )
    activate(database, "random")
    now = datetime.now(UTC)
    forecast, admin = (
        {"Authorization": f"Bearer {create_token(database, name=name, scopes=[scope], now=now)}"}
        for name, scope in (("engine", Scope.FORECAST), ("operator", Scope.ADMIN))
    )
    args = {
        "database_url": url,
        "tokens_database_url": url,
        "predictions_database_url": url,
        "metrics_database_url": url,
        "store": store,
        "threads": 1,
    }
    serve.run(build(args), name="registry", route_prefix="/registry")
    try:
        with httpx.Client(base_url=f"{service_url}/registry", timeout=120.0, trust_env=False) as client:
            yield Service(client, database, url, forecast, admin, root)
    finally:
        serve.delete("registry")


@pytest.fixture
def body(series: CandleSeries) -> Body:
    return body_of(series.slice(3000, 3100), seed=5)


def ask(service: Service, body: Body, **options: object) -> Body:
    answer = service.client.post("/v1/forecast", json=body | options, headers=service.forecast)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_active_model_answers_and_any_other_if_it_is_named(service: Service, body: Body) -> None:
    assert ask(service, body)["model_version"] == "random"
    assert ask(service, body | {"symbol": "GBPUSD"})["model_version"] == "random", "a pair without one gets the default pair's"
    assert ask(service, body, model_version="walk")["model_version"] == "walk"
    assert service.client.get("/readyz").json() == {"model_version": "random", "timeframe": "1h", "horizons": [240, 960, 3840]}
    refused = service.client.post("/v1/forecast", json=body | {"model_version": "none"}, headers=service.forecast)
    assert refused.status_code == 422
    assert "the newest are broken, walk, random" in refused.json()["detail"]


def test_an_engine_asks_several_models_at_once_and_one_that_is_broken_costs_the_others_nothing(
    service: Service, series: CandleSeries
) -> None:
    assert service
    question = make_question(series.slice(3000, 3100), seed=5)
    asked = [question, *(replace(question, model_version=version) for version in ("walk", "broken"))]
    own, walk, broken = ServeForecasts("registry").ask(asked, timeout_s=120)
    assert isinstance(own, LDM4TSPrediction)
    assert isinstance(walk, LDM4TSPrediction)
    assert (own.model_version, walk.model_version) == ("random", "walk")
    assert isinstance(broken, errors.ForecastUnavailable)


def test_quantiles_paths_and_pictures_come_if_they_are_asked_for(service: Service, body: Body) -> None:
    plain = ask(service, body)
    assert {"quantiles", "samples"} & set(plain["horizons"]["240"]) == set()
    assert "vision" not in plain
    full = ask(service, body, quantiles=[0.05, 0.25, 0.95], paths=True, vision=True, futures=2)
    for horizon in full["horizons"].values():
        assert len(horizon["samples"]) == 50
        assert horizon["samples"] == sorted(horizon["samples"])
        assert (horizon["quantiles"]["0.05"], horizon["quantiles"]["0.95"]) == (horizon["q05"], horizon["q95"])
        assert horizon["quantiles"]["0.25"] == pytest.approx(np.quantile(horizon["samples"], 0.25, method="weibull"))
    assert set(full["vision"]) == {"seg", "gaf", "rp"}
    for picture in full["vision"].values():
        image = Image.open(io.BytesIO(base64.b64decode(picture)))
        assert (image.format, image.size) == ("PNG", (32, 32))
        assert len(image.getcolors() or ()) > 4
    assert len(full["seen"]["futures"]) == 2
    at = full["seen"]["future_minutes"].index(240.0)
    for future in full["seen"]["futures"]:
        distances = np.abs(np.array(full["horizons"]["240"]["samples"]) - future["prices"][at])
        assert distances.min() < 1e-4 * future["prices"][at]
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"quantiles": [0.5, 0.01]}, "quantiles[1]"),
        ({"vision": True, "model_version": "walk"}, "vision"),
        ({"futures": 2}, "futures"),
    ]
    for wrong, field in wrongs:
        refused = service.client.post("/v1/forecast", json=body | wrong, headers=service.forecast)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)


def test_many_windows_are_answered_one_by_one_as_they_would_be_alone(service: Service, series: CandleSeries) -> None:
    bodies = [
        body_of(series.slice(start, start + 100)) | {"num_samples": count} for start, count in ((100, 20), (200, 30), (300, 20))
    ]
    bad = bodies[0] | {"horizons": [7]}
    shapeless = {"symbol": "EURUSD"}
    answer = service.client.post(
        "/v1/forecasts", json={"requests": [bodies[0], bad, bodies[1], shapeless, bodies[2]]}, headers=service.forecast
    )
    assert answer.status_code == 200, answer.text
    answers = answer.json()["answers"]
    assert [set(each) for each in answers] == [{"forecast"}, {"problem"}, {"forecast"}, {"problem"}, {"forecast"}]
    assert answers[1]["problem"]["errors"][0]["field"] == "horizons"
    assert {error["field"] for error in answers[3]["problem"]["errors"]} == {"timeframe", "candles"}
    for position, alone in ((0, bodies[0]), (2, bodies[1]), (4, bodies[2])):
        for minutes, horizon in ask(service, alone)["horizons"].items():
            assert answers[position]["forecast"]["horizons"][minutes] == pytest.approx(horizon, rel=1e-4)


def test_the_newest_window_of_the_store_is_forecast_without_sending_candles(service: Service, series: CandleSeries) -> None:
    answer = service.client.get(
        "/v1/forecast/EURUSD/1h", params={"horizons": [240], "num_samples": 20, "seed": 3}, headers=service.forecast
    )
    assert answer.status_code == 200, answer.text
    assert datetime.fromisoformat(answer.json()["made_at"]) == to_datetime(series.close_times[-1])
    assert answer.json()["price"] == series.closes[-1]
    assert set(answer.json()["horizons"]) == {"240"}
    refused = service.client.get("/v1/forecast/GBPUSD/1h", headers=service.forecast)
    assert (refused.status_code, refused.json()["status"]) == (422, 422)
    assert service.client.get("/v1/forecast/EURUSD/7m", headers=service.forecast).json()["errors"][0]["field"] == "timeframe"


def test_another_model_is_put_to_use_and_back_without_a_restart_and_a_broken_one_is_refused(service: Service, body: Body) -> None:
    def put_to_use(version: str) -> httpx.Response:
        return service.client.post(f"/v1/models/{version}/activate", headers=service.admin)

    listed = service.client.get("/v1/models", headers=service.forecast).json()
    assert [(each["version"], each["is_active"]) for each in listed] == [("broken", False), ("walk", False), ("random", True)]
    refused = put_to_use("broken")
    assert refused.status_code == 409
    assert "broken stays out of use" in refused.json()["detail"]
    assert "there is no such folder" in refused.json()["detail"]
    assert ask(service, body)["model_version"] == "random"
    assert put_to_use("never").status_code == 404
    assert put_to_use("walk").json()["is_active"]
    assert ask(service, body)["model_version"] == "walk"
    assert ServeForecasts("registry").describe("1h").model_version == "walk"
    assert put_to_use("random").json()["is_active"]
    assert ask(service, body)["model_version"] == "random"


def test_a_missing_model_is_a_503_with_its_reason_unless_a_fallback_is_allowed(service: Service, body: Body) -> None:
    five = body | {
        "timeframe": "5m",
        "candles": [each | {"time": f"2017-05-0{1 + at // 24}T{at % 24:02d}:00:00Z"} for at, each in enumerate(body["candles"])],
    }
    for asked, reason in (
        (body | {"model_version": "broken"}, "there is no such folder"),
        (five, "no model is active for EURUSD 5m"),
    ):
        answer = service.client.post("/v1/forecast", json=asked, headers=service.forecast)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert reason in answer.json()["detail"]
        allowed = ask(service, asked, fallback="random-walk")
        assert allowed["model_version"] == "random-walk"
        assert reason in allowed["fallback_reason"]
    assert set(ask(service, five, fallback="random-walk")["horizons"]) == {"20", "80", "320"}


def test_tokens_open_what_their_scope_is_for_and_are_revoked_while_the_service_runs(service: Service, body: Body) -> None:
    assert service.client.post("/v1/forecast", json=body).status_code == 401
    wrong = service.client.post("/v1/forecast", json=body, headers={"Authorization": "Bearer fxc_wrong"})
    assert (wrong.status_code, wrong.headers["content-type"]) == (401, "application/problem+json")
    assert service.client.post("/v1/models/walk/activate", headers=service.forecast).status_code == 403
    assert service.client.get("/v1/models", headers=service.admin).status_code == 200
    assert [service.client.get(path).status_code for path in ("/healthz", "/readyz", "/openapi.json")] == [200, 200, 200]
    secret = create_token(service.database, name="guest", scopes=[Scope.FORECAST], now=datetime.now(UTC))
    header = {"Authorization": f"Bearer {secret}"}

    def status() -> int:
        return service.client.get("/v1/models", headers=header).status_code

    assert reached(lambda: status() == 200)
    revoke_token(service.database, name="guest", now=datetime.now(UTC))
    assert reached(lambda: status() == 401)


def test_every_answer_has_an_id_and_a_problem_names_it(service: Service, body: Body) -> None:
    answer = service.client.post("/v1/forecast", json=body, headers=service.forecast | {"X-Request-ID": "mine-7"})
    assert answer.headers["x-request-id"] == "mine-7"
    refused = [service.client.post("/v1/forecast", json={}, headers=service.forecast) for _ in range(2)]
    ids = [answer.headers["x-request-id"] for answer in refused]
    assert ids == [answer.json()["request_id"] for answer in refused]
    assert len(set(ids)) == 2
    assert len(ids[0]) >= 32


def test_forecasts_are_kept_get_their_outcomes_and_widen_the_next_ones(service: Service, series: CandleSeries) -> None:
    starts = range(1000, 1000 + 4 * 40, 4)
    for start in starts:
        ask(service, body_of(series.slice(start, start + 100)), horizons=[240], num_samples=20)
    made_at = to_datetime(series.close_times[1099])
    wanted = {"symbol": "EURUSD", "horizon": 240, "model_version": "random", "since": made_at.isoformat(), "limit": 1000}

    def kept() -> list[Body]:
        answer = service.client.get("/v1/predictions", params=wanted, headers=service.forecast)
        assert answer.status_code == 200, answer.text
        until = to_datetime(series.close_times[starts[-1] + 99]) + timedelta(seconds=1)
        return [row for row in answer.json() if row["num_samples"] == 20 and datetime.fromisoformat(row["made_at"]) < until]

    assert reached(lambda: len(kept()) == len(starts))
    assert {row["actual_price"] for row in kept()} == {None}

    fill_in_outcomes(
        OutcomesJob(store=str(_store_of(service, series)), database_url=service.url), service.database, datetime.now(UTC)
    )
    rows = kept()
    assert None not in {row["actual_price"] for row in rows}
    (learned,) = (
        each
        for each in newest_quality(service.database, model_version="random")
        if each.symbol == "EURUSD" and each.horizon_minutes == 240
    )
    assert learned.learned.outcomes_learned >= len(starts)
    later = body_of(series.slice(5000, 5100))
    assert reached(lambda: ask(service, later)["horizons"]["240"].get("online_width") == pytest.approx(learned.learned.factor))
    widened, earlier = ask(service, later)["horizons"]["240"], ask(service, body_of(series.slice(900, 1000)))["horizons"]["240"]
    assert "online_width" not in earlier, "a forecast of the past knows nothing that was learned later"
    assert widened["std"] > 0


def test_the_minutes_of_inference_can_be_read_back(service: Service) -> None:
    for minute, latencies in ((NOON, (10.0, 30.0)), (NOON + timedelta(minutes=1), ())):
        record_inference_minute(service.database, minute=minute, model_version="old", latencies_ms=latencies, errors=1)
    wanted = {"model_version": "old", "until": (NOON + timedelta(minutes=2)).isoformat()}
    answer = service.client.get("/v1/metrics/inference", params=wanted, headers=service.forecast)
    assert [(row["count"], row["errors"], row["average_ms"], row["max_ms"]) for row in answer.json()] == [
        (0, 1, None, None),
        (2, 1, 20.0, 30.0),
    ]


def test_the_typed_client_asks_and_is_refused_as_any_caller(service: Service, series: CandleSeries) -> None:
    def client_of(header: dict[str, str]) -> ForecastClient:
        token = header["Authorization"].removeprefix("Bearer ")
        return ForecastClient(str(service.client.base_url), token, timeout_s=120.0, attempt_timeout_s=60.0, retries=1)

    window, other = series.slice(3000, 3100), series.slice(3100, 3200)
    with client_of(service.forecast) as engine, client_of(service.admin) as operator:
        forecast = engine.forecast(window, horizons=[240], seed=5)
        raw = ask(service, body_of(window, seed=5), horizons=[240])
        assert forecast.model_dump(mode="json", exclude_none=True)["horizons"] == raw["horizons"]
        assert engine.latest_forecast("EURUSD", "1h", num_samples=20).num_samples == 20
        first, second = engine.forecasts([window, (other, {"horizons": [7]})], horizons=[240], seed=5)
        assert (first.model_dump(include={"made_at"}), second.model_dump(include={"status"})) == (
            {"made_at": forecast.made_at},
            {"status": 422},
        )
        assert operator.activate("walk").is_active
        assert [each.version for each in engine.models() if each.is_active] == ["walk"]
        assert operator.activate("random").is_active
        assert reached(lambda: bool(engine.predictions(symbol="EURUSD", horizon=240, since=forecast.made_at, limit=1)))
        assert isinstance(engine.inference_metrics(model_version="random"), list)
        assert (engine.health().status, engine.ready().timeframe) == ("ok", "1h")
        for refused, kind in (
            (lambda: engine.forecast(window, horizons=[7]), BadRequest),
            (lambda: engine.activate("walk"), Forbidden),
            (lambda: operator.activate("broken"), Conflict),
            (lambda: engine.forecast(window, model_version="broken"), ForecastUnavailable),
        ):
            with pytest.raises(kind, match=r"\(request [0-9a-f]{32}\)$"):
                refused()


def _store_of(service: Service, series: CandleSeries) -> Path:
    root = service.folders / "store"
    CandleStore(root).append(series)
    return root


def reached(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)  # nothing announces what another process does: it is looked at again
    return False
