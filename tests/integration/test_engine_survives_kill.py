"""The engine actor's process is killed in mid-replay; Ray restarts it, and nothing may differ."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import ray

from actors.engine_settings import ReplaySetup
from actors.engine_status import EngineStatus
from actors.trading_engine import start_engine
from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.errors import BadSetup
from fxcast.trading.config import CandleSide, PaperMarketConfig, TradingConfig
from jobs.engine_calls import follow
from jobs.trade import replay
from tests.state import job_database

_FIRST, _CANDLES = 2400, 400
_KILL_AT = (37, 158, 311)  # between forecasts, and not at their interval


@pytest.fixture
def setup(store: str, series: CandleSeries, tmp_path: Path) -> ReplaySetup:
    database_url = job_database(tmp_path, "ledger")
    migrate(database_url)
    return ReplaySetup(
        account="calm",
        store=store,
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
    assert brokers[0].transactions_since(0) == brokers[1].transactions_since(0) == calm.fills()
    assert brokers[0].account() == brokers[1].account()


def _replay_with_kills(setup: ReplaySetup) -> list[int]:
    """Kill the engine's process each time it has come so far, in mid-replay; returns the pids that it had."""
    engine = start_engine(setup)
    pids: list[int] = []
    remaining = list(_KILL_AT)
    killed_at = 0

    def kill_in_time(status: EngineStatus) -> None:
        nonlocal killed_at
        if status["state"] not in {"running", "finished"}:
            return
        if status["pid"] not in pids:
            assert status["candles_done"] >= killed_at, "a restarted engine goes on where the killed one was"
            pids.append(status["pid"])
        if remaining and status["candles_done"] >= remaining[0]:
            assert status["candles_done"] < _CANDLES
            remaining.pop(0)
            killed_at = status["candles_done"]
            os.kill(status["pid"], signal.SIGKILL)

    try:
        status = follow(engine, kill_in_time, poll_s=0.02)
    finally:
        ray.kill(engine, no_restart=True)
    assert not remaining, "every kill hit in the middle of the replay"
    assert status["state"] == "finished"
    assert status["candles_done"] == _CANDLES
    return pids


def test_second_engine_of_an_account_is_refused(service_url: str, setup: ReplaySetup) -> None:
    assert service_url
    engine = start_engine(setup)
    try:
        with pytest.raises(BadSetup, match="runs already; attach to it, or stop it first"):
            start_engine(setup)
    finally:
        ray.kill(engine, no_restart=True)


def test_engine_without_a_service_goes_on_opens_nothing_and_counts_the_missed_forecasts(
    dashboard_url: str, setup: ReplaySetup, series: CandleSeries
) -> None:
    assert dashboard_url
    candles = 20
    lonely = setup.model_copy(
        update={
            "application": "absent",
            "account": "lonely",
            "stop": to_datetime(series.close_times[_FIRST + candles]),
            "trading": setup.trading.model_copy(update={"forecast_timeout_s": 0.5}),
        }
    )

    status = replay(lonely)

    assert (status["state"], status["candles_done"], status["problem"]) == ("finished", candles, "")
    # Every eighth candle wants one; one that got none is not asked for again before the next.
    assert status["forecasts_missed"] >= candles // setup.trading.forecast_interval_bars
    assert SqlLedger(open_database(setup.database_url), engine_id="lonely").orders() == ()


def test_engine_refuses_a_service_that_has_another_model_than_its_checkpoint_path(
    service_url: str, setup: ReplaySetup, model_folder: Path, tmp_path: Path
) -> None:
    assert service_url
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    index = other / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "model_version": "newer"}))
    wanting = setup.trading.model_copy(update={"ldm4ts_checkpoint_path": other})
    with pytest.raises(BadSetup, match=r"BadSetting: ldm4ts_checkpoint_path: .* model 'newer', .* answers with model 'random'"):
        replay(setup.model_copy(update={"trading": wanting}))
    assert SqlLedger(open_database(setup.database_url), engine_id="calm").orders() == ()
