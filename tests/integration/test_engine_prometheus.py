"""A real Prometheus reads a real cluster: service, feed, engine and rolling scores, as rules and dashboards ask for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import ray
import yaml

from actors.engine_meters import CANDLES, EQUITY, ORDERS
from actors.engine_settings import LiveSetup
from actors.feed_meters import NEWEST_CLOSE, PUBLISHED
from actors.market_feed import FeedSettings, find_feed, start_feed
from actors.trading_engine import find_engine, start_engine
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.predictions import record_predictions
from fxcast.cluster.local import REPOSITORY
from fxcast.cluster.outcome_meters import SCORED
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction, summarize
from fxcast.serving.prometheus import BACKLOG_DROPPED, BACKLOG_FAILURES, BACKLOG_WAITING, BACKLOG_WRITTEN, SNAPSHOT_READ
from fxcast.trading.config import TradingConfig
from tests.factories import make_series
from tests.http import body_of
from tests.integration.service_apps import session_folder
from tests.ports import free_port
from tests.prometheus_files import ALL_METERS, DASHBOARDS, DEPLOY, names_used, panel_queries
from tests.state import job_database
from tests.waiting import wait_for

BARS, ACCOUNT = 220, "watched"
HANDLED = BARS - 99
# Of a service with databases: test_service_prometheus.py looks them up.
ELSEWHERE = {
    name
    for meter in (BACKLOG_DROPPED, BACKLOG_FAILURES, BACKLOG_WAITING, BACKLOG_WRITTEN, SNAPSHOT_READ)
    for name in meter.exported
}
# Panels of a service with databases, of failures, and of events above zero.
EMPTY_HERE = {"Age of what is known", "Not answered", "Risk events", "Waiting to be written", "Written and failed"}

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is missing: apt-get install prometheus")


@dataclass(frozen=True)
class Watched:
    """A Prometheus that reads the cluster, and the ledger of the engine that runs there."""

    url: str
    ledger: SqlLedger

    def get(self, path: str, **parameters: str) -> Any:
        """Return what the HTTP API answers; a query that it can't parse fails."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, trust_env=False, timeout=30.0)
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]

    def values(self, query: str) -> dict[frozenset[tuple[str, str]], float]:
        """Return the values of a query by their labels."""
        return {frozenset(each["metric"].items()): float(each["value"][1]) for each in self.get("query", query=query)["result"]}

    def number(self, query: str) -> float | None:
        """Return the only value of a query, None while there is none, or one of an actor before that Ray has not forgotten."""
        found = [*self.values(query).values()]
        return found[0] if len(found) == 1 else None


def forecasts(series: CandleSeries) -> list[LDM4TSPrediction]:
    """Forecasts as a service would have made them, four hours ahead."""
    random = np.random.default_rng(1)
    return [
        LDM4TSPrediction(
            symbol=series.symbol,
            timeframe=series.timeframe,
            made_at=to_datetime(series.close_times[end]),
            price=float(series.closes[end]),
            horizons={240: summarize(series.closes[end] * np.exp(0.001 * random.standard_normal(20)))},
            inference_time_ms=1.0,
            num_samples=20,
            model_version="watched",
        )
        for end in range(120, 200)
    ]


@pytest.fixture(scope="module")
def watched(service_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Ask the service, replay a feed into an engine, score forecasts, and let Prometheus read all of it."""
    root = tmp_path_factory.mktemp("watched")
    database_url = job_database(root, "fx")
    migrate(database_url)
    series = make_series(bars=BARS, price=1.1, seed=4, range_width=0.0003)
    CandleStore(root / "history").append(series)
    record_predictions(open_database(database_url), forecasts(series))
    store = str(root / "store")
    start_feed(FeedSettings(symbols=("EURUSD",), timeframe="1h", store=store, source=str(root / "history")))
    start_engine(
        LiveSetup(
            account=ACCOUNT,
            store=store,
            database_url=database_url,
            broker_file=root / "broker.db",
            provider="replay",
            begin=to_datetime(series.open_times[0]),  # all of them, also those that were stored before the engine began
            poll_s=0.2,
            trading=TradingConfig(use_ldm4ts=False, min_quality=0.0),
        )
    )
    port = free_port()
    with (
        _asked_all_the_time(service_url, series),
        subprocess.Popen(_prometheus(root, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as prometheus,
    ):
        outcomes = subprocess.Popen(
            [
                *(sys.executable, "-m", "jobs.outcomes", "--every", "5", "--metrics"),
                *("--store", str(root / "history"), "--database-url", database_url),
            ],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": "platform", "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            ledger = SqlLedger(open_database(database_url), engine_id=ACCOUNT)
            wait_for(lambda: _handled(ledger) == HANDLED, timeout_s=300)
            yield Watched(f"http://127.0.0.1:{port}", ledger)
        finally:
            for process in (outcomes, prometheus):
                process.terminate()
                process.wait()
            for actor in (find_engine(ACCOUNT), find_feed("replay")):
                if actor is not None:
                    ray.kill(actor, no_restart=True)


@contextmanager
def _asked_all_the_time(service_url: str, series: CandleSeries) -> Generator[None]:
    """Ask for a forecast each second: some of what Serve counts it shows while there are requests, and 20 s longer."""
    closing, answers = threading.Event(), list[int]()

    def ask() -> None:
        body = body_of(series.slice(0, 100))
        while not closing.wait(1.0):
            answers.append(httpx.post(f"{service_url}/v1/forecast", json=body, timeout=120.0, trust_env=False).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        closing.set()
        asking.join()
    assert set(answers) == {200}


def _handled(ledger: SqlLedger) -> int:
    state = ledger.load_state()
    return 0 if state is None else sum(state.candles.values())


def _prometheus(root: Path, port: int) -> list[str]:
    """Write the shipped config for this cluster, read every second, and return the command that runs Prometheus with it."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yml")]
    (scrape,) = config["scrape_configs"]
    (discovery,) = scrape["file_sd_configs"]
    (shipped,) = discovery["files"]  # of the cluster that was started last on this machine, which may be another's
    discovery["files"] = [str(session_folder() / Path(shipped).name)]
    (root / "prometheus.yml").write_text(yaml.safe_dump(config))
    return [
        "prometheus",
        f"--config.file={root / 'prometheus.yml'}",
        f"--storage.tsdb.path={root / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]


def test_every_number_that_rules_and_dashboards_ask_for_is_exported(watched: Watched) -> None:
    ours = {name for meter in ALL_METERS for name in meter.exported}
    ended = {name for name in ours if "ended" in name}  # made below
    wanted = (names_used() | ours) - ELSEWHERE - ended

    def missing() -> set[str]:
        try:
            return wanted - set(watched.get("label/__name__/values"))
        except httpx.TransportError:  # it has just been started
            return wanted

    try:
        wait_for(lambda: not missing(), timeout_s=120)
    finally:
        assert missing() == set()


def test_an_engine_a_feed_and_scores_show_what_they_are(watched: Watched) -> None:
    of = f'{{account="{ACCOUNT}"}}'
    wait_for(lambda: watched.number(f"ray_{CANDLES.name}{of}") == HANDLED)
    orders = watched.ledger.orders()
    assert orders, "the replay trades"
    decided = f'sum(ray_{ORDERS.name}{{account="{ACCOUNT}",status="intent"}})'
    wait_for(lambda: watched.number(decided) == len(orders))
    signals = f"sum(ray_fxcast_engine_decisions_total{of})"
    wait_for(lambda: watched.number(signals) == len(watched.ledger.signals()))
    state = watched.ledger.load_state()
    assert state is not None
    assert state.last_equity is not None
    wait_for(lambda: watched.number(f"ray_{EQUITY.name}{of}") == float(state.last_equity or 0))
    wait_for(lambda: watched.number(f"ray_{PUBLISHED.name}") == BARS)
    assert watched.number(f"ray_{NEWEST_CLOSE.name}") == state.cursors["EURUSD"].timestamp()
    wait_for(lambda: watched.number(f'ray_{SCORED.name}{{model_version="watched"}}') == 80)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_prometheus_answers_every_query_of_a_dashboard_and_with_data(watched: Watched, path: Path) -> None:
    empty = {title for title, query in panel_queries(path) if not watched.values(query)}
    full = {title for title, query in panel_queries(path) if watched.values(query)}
    assert empty - full <= EMPTY_HERE


def test_prometheus_evaluates_every_rule_and_alerts_of_nothing(watched: Watched) -> None:
    rules = [rule for group in watched.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) >= 18
    wait_for(lambda: all(rule["health"] != "unknown" for group in watched.get("rules")["groups"] for rule in group["rules"]))
    groups = watched.get("rules")["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    alerts = [alert for group in groups for rule in group["rules"] for alert in rule["alerts"] if alert["state"] == "firing"]
    ours = [alert["labels"] for alert in alerts if alert["labels"].get("account", ACCOUNT) == ACCOUNT]
    assert ours == []


def test_an_engine_that_is_stopped_shows_that_it_has_ended(watched: Watched) -> None:
    engine = find_engine(ACCOUNT)
    assert engine is not None
    ray.get(engine.stop.remote(), timeout=60)
    wait_for(lambda: watched.number(f'ray_fxcast_engine_state{{account="{ACCOUNT}",state="stopped"}}') == 1)
    ended, seen = (f'ray_fxcast_engine_{what}_timestamp_seconds{{account="{ACCOUNT}"}}' for what in ("ended", "seen"))
    assert (watched.number(ended) or 0) >= (watched.number(seen) or 0) > 0
