"""One order followed from its fill back to the candle, through the logs of five processes and through one trace."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import ray
from ray import serve

from actors.engine_settings import LiveSetup
from actors.engine_status import EngineStatus
from actors.market_feed import NAMESPACE, FeedSettings, MarketFeedActor
from actors.market_feed import actor_name as feed_name
from actors.trading_engine import ENDED, EngineActor
from actors.trading_engine import actor_name as engine_name
from fxcast import logs, tracing
from fxcast.adapters.brokers.oanda import OandaBrokerSettings
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.data.store import CandleStore
from fxcast.domain.order import OrderIntent, OrderPurpose
from fxcast.serving.api import ForecastApi
from fxcast.serving.backend import ApiSetup
from fxcast.serving.directory import ModelKey
from fxcast.serving.service import LDM4TSInferenceService
from fxcast.trading.config import TradingConfig
from tests.brokers.oanda_server import TOKEN, OandaServer
from tests.factories import make_series
from tests.integration.service_apps import processes, save_garch_that_fails_on, session_folder
from tests.state import job_database
from tests.trace_collector import SeenSpan, TraceCollector
from tests.waiting import wait_for

_NAME = "followed"
_BARS, _STORED = 300, 99
_SPEED = 18_000  # five candles a second: one that is stored before the engine follows the feed has no trace of the feed's

Line = dict[str, Any]


@pytest.fixture
def collector() -> Iterator[TraceCollector]:
    with TraceCollector() as collector:
        yield collector


@pytest.fixture
def server() -> Iterator[OandaServer]:
    with OandaServer() as server:
        server.account.set_price("EUR_USD", "1.09995", "1.10005")
        yield server


@pytest.fixture
def ledger(service_url: str, collector: TraceCollector, server: OandaServer, tmp_path: Path) -> Iterator[SqlLedger]:
    """The ledger of an engine that trades replayed waves at OANDA's server, and asks a service for a forecast of each candle."""
    assert service_url, "Serve runs, with its proxy"
    variables = {logs.FORMAT_VARIABLE: "json", tracing.TRACES_VARIABLE: collector.url, "FXCAST_OANDA_TOKEN": TOKEN}
    environment = {"env_vars": variables}
    _serve(tmp_path, environment)
    closes = [1.1 + 0.0006 * math.sin(2 * math.pi * bar / 40) for bar in range(_BARS)]
    series = make_series(closes, range_width=0.0002)
    CandleStore(tmp_path / "history").append(series)
    CandleStore(tmp_path / "store").append(series.slice(0, _STORED))
    url = job_database(tmp_path, "ledger")
    migrate(url)
    setup = LiveSetup.model_validate(
        {
            "account": _NAME,
            "timeframe": "1h",
            "store": str(tmp_path / "store"),
            "database_url": url,
            "provider": "replay",
            "begin": "1970-01-01T00:00:00Z",
            "broker": "oanda",
            "oanda": OandaBrokerSettings(rest_url=server.url, account_id=server.account.account_id),
            "application": _NAME,
            "poll_s": 0.2,
            "trading": TradingConfig(ldm4ts_horizons=(240, 960), ldm4ts_num_samples=20, min_quality=0.0),
        }
    )
    settings = FeedSettings(
        symbols=("EURUSD",), timeframe="1h", store=str(tmp_path / "store"), source=str(tmp_path / "history"), speed=_SPEED
    )
    options = {"namespace": NAMESPACE, "num_cpus": 0.1, "runtime_env": environment}
    engine = EngineActor.options(name=engine_name(_NAME), max_concurrency=4, **options).remote(setup)
    feed = MarketFeedActor.options(name=feed_name("replay"), max_concurrency=8, **options).remote(settings.absolute())
    ledger = SqlLedger(open_database(url), engine_id=_NAME)

    def has_traded() -> bool:
        status = cast("EngineStatus", ray.get(engine.status.remote()))
        assert status["state"] not in ENDED, status
        return bool(_traced(ledger, collector))

    try:
        wait_for(has_traded)
        yield ledger
    finally:
        ray.kill(engine, no_restart=True)
        ray.kill(feed, no_restart=True)
        serve.delete(_NAME)


def _serve(folder: Path, environment: dict[str, Any]) -> None:
    """Deploy a GARCH in a replica of its own, behind the API."""
    save_garch_that_fails_on("USDJPY", folder / "garch")
    options = {"num_cpus": 0.1, "runtime_env": environment}
    key = str(ModelKey(folder=str(folder / "garch"), timeframe="1h"))
    service = LDM4TSInferenceService.options(ray_actor_options=options).bind(
        [key], threads=1, max_batch_samples=1000, batch_wait_s=0.005
    )
    setup = ApiSetup(
        model_folder=folder / "garch",
        database_url="sqlite:///unused.db",
        default_symbol="EURUSD",
        default_timeframe=None,
        preset=None,
        timeout_s=60.0,
        store="unused",
        tokens_database_url=None,
        predictions_database_url=None,
        metrics_database_url=None,
        online_calibration=False,
    )
    serve.run(ForecastApi.options(ray_actor_options=options).bind(service, setup), name=_NAME, route_prefix=f"/{_NAME}")


def _traced(ledger: SqlLedger, collector: TraceCollector) -> list[OrderIntent]:
    """Return the entries that are filled, of candles that the feed has brought."""
    filled = {fill.client_order_id for fill in ledger.fills()}
    brought = {span.trace_id for span in _named(collector, "bring candles")}
    sent = {span.attributes["client_order_id"] for span in _named(collector, "send order") if span.trace_id in brought}
    opened = [order.intent for order in ledger.orders() if order.intent.purpose is OrderPurpose.OPEN]
    return [intent for intent in opened if intent.client_order_id in sent & filled]


def _named(collector: TraceCollector, name: str) -> list[SeenSpan]:
    return [span for span in collector.spans if span.name == name]


def _lines(pattern: str) -> list[Line]:
    """Return the lines of JSON that the session's log files of a pattern hold; Ray writes lines of its own among them."""
    text = [line for file in (session_folder() / "logs").glob(pattern) for line in file.read_text().splitlines()]
    return [json.loads(line) for line in text if line.startswith("{")]


def _one(lines: list[Line], event: str, **about: str) -> Line:
    found = [line for line in lines if line["event"] == event and about.items() <= line.items()]
    assert len(found) == 1, (event, about, found)
    return found[0]


def test_an_order_is_followed_through_logs_and_trace_from_its_fill_to_its_candle(
    ledger: SqlLedger, collector: TraceCollector, server: OandaServer
) -> None:
    order_id = _traced(ledger, collector)[0].client_order_id
    order = next(each for each in ledger.orders() if each.intent.client_order_id == order_id)
    fill = next(fill for fill in ledger.fills() if fill.client_order_id == order_id)
    candle = order.intent.created_at.isoformat()
    assert candle[:13].replace("-", "") in order.intent.signal_id, "the order names its candle"

    # By the logs.
    engine = [line for line in _lines("worker-*.err") if line.get("account") == _NAME]
    filled = _one(engine, "order filled", client_order_id=order_id, reason="market")
    assert (filled["transaction"], filled["price"]) == (fill.sequence, str(fill.price))
    taken = _one(engine, "order taken", client_order_id=order_id, moment=candle)  # the next look finds it again
    assert (taken["status"], taken["broker_order_id"]) == ("filled", order.broker_order_id)
    sent = _one(engine, "order sent", client_order_id=order_id)
    committed = _one(engine, "order committed", client_order_id=order_id)
    assert sent["signal_id"] == committed["signal_id"] == order.intent.signal_id
    decided = _one(engine, "signal decided", signal_id=committed["signal_id"])
    assert (decided["verdict"], decided["candle"]) in {("accepted", candle), ("reduced", candle)}
    assert {line["moment"] for line in (taken, sent, committed, decided)} == {candle}
    answered = _one(engine, "forecast answered", candle=candle, symbol="EURUSD")
    assert _one(engine, "forecast asked", candle=candle)["request_id"] == answered["request_id"]
    service = [line for line in _lines(f"serve/replica_{_NAME}_*.log") if line.get("request_id") == answered["request_id"]]
    assert _one(service, "forecast made")["candle"] == candle
    assert len({line["event"].split()[1] for line in service if line["event"].startswith("CALL")}) == 2, "of the API and the model"
    (feed,) = processes(feed_name("replay"))  # feeds of other tests may have published candles of the same times
    told = [line for line in _lines(f"worker-*-{feed}.err") if line["event"] == "candles published"]
    published = [line for line in told if line["first"] <= candle <= line["candle"]]
    assert [line["symbol"] for line in published] == ["EURUSD"]

    # By the trace.
    def sending() -> list[SeenSpan]:
        return [span for span in collector.spans if span.attributes.get("client_order_id") == order_id]

    def trace() -> dict[str, SeenSpan]:
        return {span.name: span for span in collector.spans if span.trace_id == sending()[0].trace_id} if sending() else {}

    def path(name: str) -> list[str]:
        """Return the names from the root of the trace down to a span."""
        spans = [span for span in collector.spans if span.trace_id == sending()[0].trace_id]
        by_id = {span.span_id: span for span in spans}
        span = next(span for span in spans if span.name == name)
        names = [span.name]
        while span.parent_id:
            span = by_id[span.parent_id]
            names.insert(0, span.name)
        return names

    ends = {"bring candles", "handle candles", "send order", "oanda POST orders", "predict", "forecast"}
    wait_for(lambda: ends <= trace().keys())
    assert path("oanda POST orders") == ["bring candles", "handle candles", "send order", "oanda POST orders"]
    assert path("forecast") == ["bring candles", "handle candles", "ask forecasts", "predict", "forecast"]
    services = ["bring candles", "handle candles", "predict", "forecast", "oanda POST orders"]
    assert [trace()[name].service for name in services] == [
        "fxcast-feed",
        "fxcast-engine",
        "fxcast-api",
        "fxcast-model",
        "fxcast-engine",
    ]
    assert len({span.process for span in trace().values()}) == 4

    # And neither tells the token.
    everything = [file.read_text() for file in (session_folder() / "logs").glob("worker-*.err")]
    everything += [file.read_text() for file in (session_folder() / "logs" / "serve").glob(f"replica_{_NAME}_*.log")]
    assert not [text for text in [*everything, repr(collector.spans)] if TOKEN in text]
    assert server.account.account_id not in repr(collector.spans)
