"""The HTTP API on a real Serve deployment: answers, and refusals that name what was wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.checked_forecasts import CheckedForecasts
from fxcast.cluster.local import REPOSITORY, require_free_port
from fxcast.cluster.serve_driver import served
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.forecaster import predict
from fxcast.errors import BadModelFolder, BadSetting, BadSetup
from fxcast.models.folder import from_pretrained
from fxcast.serving.app import build
from fxcast.serving.client import ServeForecasts
from fxcast.trading.config import TradingConfig
from tests.factories import make_question
from tests.http import body_of, wait_until_ready
from tests.ports import free_port

Body = dict[str, Any]


@pytest.fixture
def client(service_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service_url, timeout=300.0, trust_env=False) as client:
        yield client


@pytest.fixture
def window(series: CandleSeries) -> CandleSeries:
    return series.slice(3000, 3100)


@pytest.fixture
def body(window: CandleSeries) -> Body:
    return body_of(window, horizons=[240, 3840], num_samples=10, seed=5)


def test_forecast_has_ordered_quantiles_for_each_horizon(client: httpx.Client, body: Body) -> None:
    answer = client.post("/v1/forecast", json=body)
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert set(content["horizons"]) == {"240", "3840"}
    for horizon in content["horizons"].values():
        assert horizon["q05"] <= horizon["q50"] <= horizon["q95"]
        assert horizon["uncertainty_pct"] == pytest.approx(100 * horizon["std"] / content["price"])
    assert content["model_version"] == "random"
    assert content["num_samples"] == 10
    assert content["inference_time_ms"] > 0


def test_same_seed_gives_the_same_answer_over_http_through_the_handle_and_in_process(
    client: httpx.Client, body: Body, window: CandleSeries, model_folder: Path
) -> None:
    first, second = (client.post("/v1/forecast", json=body).json()["horizons"] for _ in range(2))
    other = client.post("/v1/forecast", json=body | {"seed": 6}).json()["horizons"]
    question = make_question(window, horizons_minutes=(240, 3840), num_samples=10, seed=5)
    (through_handle,) = ServeForecasts().ask([question], timeout_s=60)
    here = predict(from_pretrained(model_folder), window, horizons_minutes=(240, 3840), num_samples=10, seed=5)
    assert first == second
    assert first != other
    assert isinstance(through_handle, LDM4TSPrediction)
    assert through_handle.to_dict()["horizons"] == first
    for minutes, horizon in here.to_dict()["horizons"].items():
        # Another number of threads adds floats in another order.
        assert horizon == pytest.approx(first[minutes], rel=1e-4)


def _with_candle(change: Callable[[Body], None], position: int = 7) -> Callable[[Body], None]:
    return lambda body: change(body["candles"][position])


_REFUSALS: list[tuple[str, Callable[[Body], Any], str]] = [
    ("99 candles", lambda body: body["candles"].pop(), "candles"),
    ("101 candles", lambda body: body["candles"].append(body["candles"][-1]), "candles"),
    ("a price that is not a number", _with_candle(lambda candle: candle.update(open=float("nan"))), "candles[7].open"),
    ("an infinite price", _with_candle(lambda candle: candle.update(close=float("inf"))), "candles[7].close"),
    ("a price of zero", _with_candle(lambda candle: candle.update(low=0.0)), "candles[7].low"),
    ("a negative price", _with_candle(lambda candle: candle.update(low=-1.0)), "candles[7].low"),
    ("a price in quotes", _with_candle(lambda candle: candle.update(open="1.1")), "candles[7].open"),
    ("high below low", _with_candle(lambda candle: candle.update(high=0.5)), "candles[7].high"),
    ("a negative volume", _with_candle(lambda candle: candle.update(volume=-1.0)), "candles[7].volume"),
    ("times out of order", lambda body: body["candles"].reverse(), "candles[1].time"),
    ("a repeated time", lambda body: body["candles"][8].update(time=body["candles"][7]["time"]), "candles[8].time"),
    ("a time without a zone", _with_candle(lambda candle: candle.update(time="2017-06-01T10:00:00")), "candles[7].time"),
    (
        "a time off the grid",
        _with_candle(lambda candle: candle.update(time=candle["time"].replace(":00:00", ":07:00"))),
        "candles[7].time",
    ),
    ("the first moment there is", _with_candle(lambda candle: candle.update(time="0001-01-01T00:00:00+14:00")), "candles[7].time"),
    ("a price no market has", _with_candle(lambda candle: candle.update(low=1e-300)), "candles[7].low"),
    ("a missing price", _with_candle(lambda candle: candle.pop("close")), "candles[7].close"),
    ("an unknown field", lambda body: body.update(colour="red"), "colour"),
    ("an unknown field of a candle", _with_candle(lambda candle: candle.update(bid=1.0)), "candles[7].bid"),
    ("an unknown horizon", lambda body: body.update(horizons=[240, 7]), "horizons"),
    ("no horizon", lambda body: body.update(horizons=[]), "horizons"),
    ("no sample", lambda body: body.update(num_samples=0), "num_samples"),
    ("too many samples", lambda body: body.update(num_samples=1001), "num_samples"),
    ("a negative seed", lambda body: body.update(seed=-1), "seed"),
    ("an unknown timeframe", lambda body: body.update(timeframe="7m"), "timeframe"),
    ("another timeframe than the model's", lambda body: body.update(timeframe="1m"), "timeframe"),
    ("a symbol in small letters", lambda body: body.update(symbol="eurusd"), "symbol"),
]


@pytest.mark.parametrize(("change", "field"), [refusal[1:] for refusal in _REFUSALS], ids=[refusal[0] for refusal in _REFUSALS])
def test_bad_request_is_refused_by_field_and_the_service_goes_on(
    client: httpx.Client, body: Body, change: Callable[[Body], Any], field: str
) -> None:
    change(body)
    answer = client.post("/v1/forecast", content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 422
    (error,) = problem["errors"]
    assert error["field"] == field
    assert error["found"]
    assert error["allowed"]
    assert field in problem["detail"]
    assert wait_until_ready(str(client.base_url))["model_version"] == "random"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 50_000])
def test_body_that_is_not_a_json_object_is_refused(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/v1/forecast", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"]


def test_body_over_a_megabyte_is_refused_whatever_its_headers_say(client: httpx.Client, body: Body) -> None:
    large = json.dumps(body).encode() + b" " * 1_000_000

    def chunks() -> Iterator[bytes]:  # no content-length
        for start in range(0, len(large), 65_536):
            yield large[start : start + 65_536]

    for content in (large, chunks()):
        answer = client.post("/v1/forecast", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert answer.json()["errors"][0] == {
            "field": "body",
            "found": "more than 1,000,000 bytes",
            "allowed": "at most 1,000,000 bytes",
        }
    assert wait_until_ready(str(client.base_url))["model_version"] == "random"


def test_unknown_path_and_method_are_problem_details_too(client: httpx.Client) -> None:
    for answer, status in ((client.get("/v2/forecast"), 404), (client.get("/v1/forecast"), 405)):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


def test_api_describes_itself(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    assert {"/v1/forecast", "/v1/forecasts", "/v1/models", "/healthz", "/readyz"} <= set(schema["paths"])
    assert {"200", "413", "422", "503"} <= set(schema["paths"]["/v1/forecast"]["post"]["responses"])
    assert client.get("/docs").status_code == 200


def test_answer_that_comes_too_late_is_a_408(client: httpx.Client, body: Body) -> None:
    answer = client.post("/v1/forecast", json=body | {"num_samples": 1000}, headers={"x-request-timeout-seconds": "0.05"})
    assert answer.status_code == 408
    assert answer.headers["content-type"].startswith("text/plain")


def test_cluster_that_serves_something_is_refused_and_goes_on_serving(
    client: httpx.Client, dashboard_url: str, model_folder: Path
) -> None:
    config = REPOSITORY / "serve_configs" / "local.yaml"
    args = {"model_folder": str(model_folder)}
    with (
        pytest.raises(BadSetup, match=r"Serve runs 'fxcast' on this cluster.*take it down with `serve shutdown`"),
        served(config, args=args, port=free_port(), dashboard_url=dashboard_url, timeout_s=30.0),
    ):
        pass
    assert wait_until_ready(str(client.base_url))["model_version"] == "random"


def test_horizons_that_the_model_does_not_know_are_refused_before_trading(service_url: str) -> None:
    assert service_url
    with pytest.raises(BadSetting, match=r"\[15\] are not among \[240, 960, 3840\]"):
        CheckedForecasts(ServeForecasts(), TradingConfig(ldm4ts_horizons=(15, 240)), timeframe="1h")
    with pytest.raises(BadSetting, match="timeframe: found 5m; allowed: 1h, the timeframes of model random"):
        CheckedForecasts(ServeForecasts(), TradingConfig(ldm4ts_horizons=(240,)), timeframe="5m")


def test_occupied_port_is_refused_before_anything_is_started(service_url: str) -> None:
    port = int(service_url.rsplit(":", 1)[1])
    with pytest.raises(BadSetup, match=f"port {port} is in use; stop what listens there, or choose another with --port"):
        require_free_port(port, "--port")


def test_broken_model_is_refused_before_serving_starts(tmp_path: Path) -> None:
    with pytest.raises(BadModelFolder, match="there is no such folder"):
        build({"model_folder": str(tmp_path / "absent")})


def test_unknown_arg_of_the_serve_config_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(BadSetting, match="unknown key 'model_foldr'; did you mean 'model_folder'"):
        build({"model_foldr": "somewhere"})
