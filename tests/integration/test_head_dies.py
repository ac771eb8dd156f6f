"""The head of a cluster is lost, with Redis behind it: a cluster of its own, for the others would not survive the experiment.

The head does no work. Service, feed and engine are on the other node, and so is the proxy that is asked.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from actors.engine_settings import LiveSetup
from actors.market_feed import FeedSettings
from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.serving.names import APPLICATION
from fxcast.trading.config import CandleSide, PaperMarketConfig, TradingConfig
from tests.cluster_nodes import ClusterWithRedis, cluster_with_redis, listens, needs_redis
from tests.http import body_of, wait_until_ready
from tests.integration.work_under_a_head import Work
from tests.ports import free_port
from tests.state import job_database
from tests.waiting import wait_for

pytestmark = [pytest.mark.ray, pytest.mark.long, needs_redis]

_ACCOUNT = "under-a-head"
_FIRST = 2400
_CANDLES_PER_S = 5  # hourly ones, which the feed replays until the end of the test
_WHILE_AWAY = 15  # candles, and answers, that the head is away at least
_PATIENCE_S = 300.0


@pytest.fixture
def work(series: CandleSeries, model_folder: Path, tmp_path: Path) -> Work:
    """A service, and an engine that trades a replay on its forecasts."""
    CandleStore(tmp_path / "history").append(series)
    CandleStore(tmp_path / "store").append(series.slice(0, _FIRST))
    migrate(job_database(tmp_path, "ledger"))
    engine = LiveSetup(
        account=_ACCOUNT,
        store=str(tmp_path / "store"),
        database_url=job_database(tmp_path, "ledger"),
        broker_file=tmp_path / "broker.db",
        provider="replay",
        begin=to_datetime(series.close_times[_FIRST - 1]),
        poll_s=0.2,
        trading=TradingConfig(
            ldm4ts_horizons=(240, 960, 3840),
            ldm4ts_num_samples=4,
            forecast_interval_bars=4,
            ldm4ts_uncertainty_threshold=3.0,
            min_quality=0.2,
            forecast_timeout_s=20.0,
        ),
        market=PaperMarketConfig(candle_side=CandleSide.ASK),
    )
    feed = FeedSettings(timeframe="1h", store=engine.store, source=str(tmp_path / "history"), speed=3600.0 * _CANDLES_PER_S)
    return Work(engine=engine, feed=feed, model_folder=model_folder, http_port=free_port())


def test_while_the_head_is_away_the_service_answers_and_the_engine_trades_and_a_killed_engine_goes_on_when_it_is_back(
    work: Work, series: CandleSeries, tmp_path: Path
) -> None:
    ledger = SqlLedger(open_database(work.engine.database_url), engine_id=_ACCOUNT)

    def handled() -> int:
        return len(ledger.equity_curve())

    port = free_port()
    url = f"http://127.0.0.1:{port}/{APPLICATION}"
    with cluster_with_redis(worker_http_port=port) as cluster:
        setup = tmp_path / "work.json"
        setup.write_text(work.model_dump_json())
        _act(cluster, "start", str(setup))
        wait_until_ready(url)
        wait_for(lambda: handled() >= 5, timeout_s=_PATIENCE_S)
        before = _act(cluster, "look", _ACCOUNT)
        assert (before["serve"], before["engine"]) == ("RUNNING", "running")
        with _asked(f"{url}/v1/forecast", body_of(series.slice(1000, 1100), num_samples=4)) as statuses:
            wait_for(lambda: len(statuses) >= 3, timeout_s=_PATIENCE_S)
            cluster.lose_head()
            lost_at, answered = handled(), len(statuses)
            wait_for(lambda: handled() >= lost_at + _WHILE_AWAY and len(statuses) >= answered + _WHILE_AWAY, timeout_s=_PATIENCE_S)
            assert not listens(work.http_port), "the head's own proxy is gone with it"
            os.kill(before["pid"], signal.SIGKILL)  # which nobody can start again while the head is away
            cluster.start_head()
            killed_at = handled()
            wait_for(lambda: handled() >= killed_at + _WHILE_AWAY, timeout_s=_PATIENCE_S)
        after = _act(cluster, "look", _ACCOUNT)
        _act(cluster, "stop", _ACCOUNT)
    assert set(statuses) == {200}, "no request failed, before, while and after the head was away"
    assert (after["serve"], after["engine"]) == ("RUNNING", "running")
    assert after["pid"] != before["pid"]
    curve = [to_datetime64(point.at) for point in ledger.equity_curve()]
    expected = series.close_times[_FIRST : _FIRST + len(curve)]
    np.testing.assert_array_equal(np.array(curve), expected, "no candle is left out or handled twice")
    orders = ledger.orders()
    assert orders
    assert len({order.intent.client_order_id for order in orders}) == len(orders), "no order is doubled"
    broker = PaperBroker(work.engine.broker_file, work.engine.market)
    assert broker.transactions_since(0) == ledger.fills()
    broker.close()


def _act(cluster: ClusterWithRedis, act: str, argument: str) -> Any:
    return json.loads(cluster.run("tests.integration.work_under_a_head", act, argument))


@contextmanager
def _asked(url: str, body: dict[str, Any]) -> Generator[list[int | str]]:
    """Ask again and again for the length of the block; yields what is answered: statuses, or errors of the connection."""
    statuses: list[int | str] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=120.0, trust_env=False) as http:
            while not over.is_set():
                try:
                    statuses.append(http.post(url, json=body).status_code)
                except httpx.TransportError as error:
                    statuses.append(repr(error))
                over.wait(0.1)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield statuses
        finally:
            over.set()
        asking.result()
