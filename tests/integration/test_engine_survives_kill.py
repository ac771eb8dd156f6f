"""The engine actor's process is killed in mid-replay; Ray restarts it, and nothing may differ."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import cast

import pytest
import ray

from actors.trading_engine import EngineStatus, ReplaySetup, start_engine
from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.errors import BadSetup
from fxcast.trading.config import CandleSide, PaperMarketConfig, TradingConfig
from jobs.trade import follow, replay

_FIRST, _CANDLES = 2400, 400
_KILL_AT = (60, 200)


@pytest.fixture
def setup(store: Path, series: CandleSeries, tmp_path: Path) -> ReplaySetup:
    database_url = f"sqlite:///{tmp_path / 'ledger.db'}"
    migrate(database_url)
    return ReplaySetup(
        account="calm",
        store=str(store),
        database_url=database_url,
        broker_file=tmp_path / "calm.db",
        start=to_datetime(series.close_times[_FIRST]),
        stop=to_datetime(series.close_times[_FIRST + _CANDLES]),
        trading=TradingConfig(
            ldm4ts_horizons=(240, 960, 3840),
            ldm4ts_num_samples=4,
            forecast_interval_bars=8,
            ldm4ts_uncertainty_threshold=3.0,
            min_quality=0.2,
            forecast_timeout_s=60.0,
        ),
        market=PaperMarketConfig(candle_side=CandleSide.ASK),
    )


def test_killed_engine_ends_in_the_same_orders_fills_and_equity(service_url: str, setup: ReplaySetup, tmp_path: Path) -> None:
    assert service_url
    undisturbed = replay(setup)
    disturbed_setup = setup.model_copy(update={"account": "killed", "broker_file": tmp_path / "killed.db"})

    pids = _replay_with_kills(disturbed_setup)

    assert undisturbed["candles_done"] == _CANDLES
    assert len(set(pids)) == len(_KILL_AT) + 1, "each kill is followed by a process of its own"
    database = open_database(setup.database_url)
    calm, killed = (SqlLedger(database, engine_id=account) for account in ("calm", "killed"))
    orders = calm.orders()
    assert len(orders) >= 10, "the replay trades enough to be a test"
    assert killed.orders() == orders
    assert len({order.intent.client_order_id for order in killed.orders()}) == len(orders)
    assert killed.fills() == calm.fills()
    assert killed.equity_curve() == calm.equity_curve()
    assert len(calm.equity_curve()) == _CANDLES
    assert killed.positions() == calm.positions()
    assert killed.signals() == calm.signals()
    brokers = [PaperBroker(path, setup.market) for path in (setup.broker_file, disturbed_setup.broker_file)]
    assert brokers[0].fills_since(0) == brokers[1].fills_since(0) == calm.fills()
    assert brokers[0].account() == brokers[1].account()


def _replay_with_kills(setup: ReplaySetup) -> list[int]:
    """Kill the engine's process each time it has come so far; returns the pids that it had."""
    engine = start_engine(setup)
    pids: list[int] = []
    remaining = list(_KILL_AT)

    def kill_in_time(status: EngineStatus) -> None:
        if status["pid"] not in pids:
            pids.append(status["pid"])
        if remaining and status["candles_done"] >= remaining[0]:
            assert status["state"] == "running", "the kill must hit in the middle of the replay"
            remaining.pop(0)
            os.kill(status["pid"], signal.SIGKILL)

    try:
        status = follow(engine, kill_in_time, poll_s=0.02)
    finally:
        ray.kill(engine, no_restart=True)
    assert not remaining
    assert status["state"] == "finished"
    return pids


def test_second_engine_of_an_account_is_refused(service_url: str, setup: ReplaySetup) -> None:
    assert service_url
    engine = start_engine(setup)
    try:
        with pytest.raises(BadSetup, match="runs already; attach to it with --attach, or stop it first with --stop"):
            start_engine(setup)
    finally:
        ray.kill(engine, no_restart=True)


def test_engine_without_a_service_says_so_and_trades_nothing(dashboard_url: str, setup: ReplaySetup) -> None:
    assert dashboard_url
    lonely = setup.model_copy(update={"application": "absent", "account": "lonely"})
    engine = start_engine(lonely)
    deadline = time.monotonic() + 120
    try:
        while (status := cast("EngineStatus", ray.get(engine.status.remote())))["state"] != "failed":
            assert time.monotonic() < deadline, status
            time.sleep(0.2)
    finally:
        ray.kill(engine, no_restart=True)
    assert "absent" in status["problem"]
    assert SqlLedger(open_database(setup.database_url), engine_id="lonely").orders() == ()
