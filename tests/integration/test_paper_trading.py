"""The engine on a feed: candles as they are published, against the paper broker, through the commands that a user gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from actors.market_feed import find_feed
from actors.trading_engine import find_engine
from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.cluster.local import REPOSITORY
from fxcast.data.store import CandleStore
from fxcast.trading.config import PaperMarketConfig
from fxcast.trading.replay import decide_again
from jobs.engine_calls import status_of, stop
from jobs.entry import INTERRUPTED, REFUSED
from tests.factories import make_series
from tests.state import job_database
from tests.waiting import wait_for

_BARS = 400
_SYMBOLS = {"EURUSD": 1.1, "GBPUSD": 1.3, "EURGBP": 0.85}


@pytest.fixture
def folder(dashboard_url: str, tmp_path: Path) -> Iterator[Path]:
    """Three pairs to replay and a database; whatever engine and feed a test leaves is taken down."""
    assert dashboard_url
    for seed, (symbol, price) in enumerate(_SYMBOLS.items()):
        series = make_series(bars=_BARS, symbol=symbol, price=price, seed=seed, range_width=0.0003)
        CandleStore(tmp_path / "history").append(series)
    migrate(job_database(tmp_path, "ledger"))
    yield tmp_path
    for actor in (find_engine("live-paper"), find_feed("replay")):
        if actor is not None:
            ray.kill(actor, no_restart=True)


def _config(folder: Path, **engine: Any) -> Path:
    content = {
        "engine": {
            "account": "live-paper",
            "symbols": ["EURUSD", "EURGBP"],
            "conversion_symbols": ["GBPUSD"],
            "timeframe": "1h",
            "store": str(folder / "store"),
            "database_url": job_database(folder, "ledger"),
            "broker_file": str(folder / "broker.db"),
            "feed": {"provider": "replay", "source": str(folder / "history")},
            "poll_s": 0.2,
            "trading": {"use_ldm4ts": False, "min_quality": 0.2, "use_pattern": True, "use_multi_timeframe": True},
            **engine,
        }
    }
    path = folder / "trade.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _job(config: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.trade", "--config", str(config), *options],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": "platform", "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _handled() -> int:
    engine = find_engine("live-paper")
    return 0 if engine is None else status_of(engine)["candles_done"]


def test_engine_trades_a_feed_is_left_running_by_ctrl_c_and_keeps_everything(folder: Path) -> None:
    job = _job(_config(folder), "--mode", "paper")
    wait_for(lambda: _handled() >= 3 * (_BARS - 99) or job.poll() is not None, timeout_s=300)
    job.send_signal(2)
    output, errors = job.communicate(timeout=120)
    assert job.returncode == INTERRUPTED, errors
    assert "paper account live-paper: no real money" in output
    engine = find_engine("live-paper")
    assert engine is not None, "the engine outlasts the command that started it"
    status = status_of(engine)
    assert status["candles_done"] == 3 * (_BARS - 99)
    ledger = SqlLedger(open_database(job_database(folder, "ledger")), engine_id="live-paper")
    symbols = {record.intent.symbol for record in ledger.orders()}
    assert symbols == {"EURUSD", "EURGBP"}, "a pair that is there for its price is not traded"
    assert {source for decided in ledger.signals() for source in decided.signal.sources} >= {"trend", "multi_timeframe"}
    decisions = ledger.decisions()
    assert decisions
    assert all(decide_again(each, ledger.settings(each.settings_hash) or "") == each.commands for each in decisions[:50])
    stop("live-paper")
    broker = PaperBroker(folder / "broker.db", PaperMarketConfig())
    assert broker.transactions_since(0) == ledger.fills()
    assert {position.stop is not None for position in broker.positions()} <= {True}
    broker.close()


@pytest.mark.parametrize(
    ("options", "engine", "sentence"),
    [
        (["--mode", "live"], {}, "engine.broker: missing; --mode live needs oanda or ctrader"),
        (["--mode", "paper"], {"broker": "oanda"}, "engine.broker: found oanda with --mode paper"),
        (["--mode", "live"], {"broker": "oanda"}, "engine: oanda.account_id: missing"),
        (
            ["--mode", "paper"],
            {"conversion_symbols": []},
            "an account in USD can't trade EURUSD, EURGBP",
        ),
    ],
    ids=["no broker", "paper with a broker", "no account", "no way to convert"],
)
def test_settings_that_do_not_go_together_are_refused_with_a_sentence(
    folder: Path, options: list[str], engine: dict[str, Any], sentence: str
) -> None:
    if "conversion_symbols" in engine:  # EUR/GBP alone leads to no dollar
        engine = {**engine, "symbols": ["EURGBP"]}
        sentence = "an account in USD can't trade EURGBP"
    job = _job(_config(folder, **engine), *options)
    _, errors = job.communicate(timeout=300)
    assert job.returncode == REFUSED, errors
    assert sentence in errors


def test_real_money_needs_the_flag_and_the_account(folder: Path) -> None:
    config = _config(folder, broker="oanda", oanda={"environment": "live", "account_id": "001-004-1234567-001"})
    job = _job(config, "--mode", "live")
    _, errors = job.communicate(timeout=300)
    assert job.returncode == REFUSED, errors
    assert "allow_live" in errors


def test_status_of_an_engine_that_runs_is_json_too(folder: Path) -> None:
    job = _job(_config(folder), "--mode", "paper")
    wait_for(lambda: _handled() > 0 or job.poll() is not None, timeout_s=300)
    shown = subprocess.run(
        [sys.executable, "-m", "jobs.control", "--account", "live-paper", "--json"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": "platform", "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    job.send_signal(2)
    job.communicate(timeout=120)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["describe"] == "paper account live-paper: no real money"
