"""The trading job against an engine that runs: attach and Ctrl-C, the kill switch, stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import cast

import pytest
import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError

from actors.trading_engine import ENDED, EngineStatus, ReplaySetup, find_engine, start_engine
from fxcast.adapters.storage.database import migrate
from fxcast.cluster.local import REPOSITORY
from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime
from fxcast.errors import BadSetup
from fxcast.trading.config import CandleSide, PaperMarketConfig, TradingConfig
from fxcast.trading.state import KillSwitch
from jobs.entry import INTERRUPTED, REFUSED
from jobs.trade import stop, throw_kill_switch
from tests.factories import make_series

_FIRST = 1000


@pytest.fixture(scope="module")
def running(dashboard_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplaySetup]:
    """The setup of an engine that runs for longer than these tests take: seven years of candles are half an hour."""
    assert dashboard_url
    folder = tmp_path_factory.mktemp("running")
    series = make_series(bars=60_000, range_width=0.0003)
    CandleStore(folder / "store").append(series)
    migrate(f"sqlite:///{folder / 'ledger.db'}")
    setup = ReplaySetup(
        account="running",
        store=str(folder / "store"),
        database_url=f"sqlite:///{folder / 'ledger.db'}",
        broker_file=folder / "broker.db",
        start=to_datetime(series.close_times[_FIRST]),
        stop=to_datetime(series.close_times[-1]),
        trading=TradingConfig(use_ldm4ts=False),
        market=PaperMarketConfig(candle_side=CandleSide.ASK),
    )
    engine = start_engine(setup)
    _wait_until_running("running")
    yield setup
    if find_engine("running") is not None:
        ray.kill(engine, no_restart=True)


def _wait_until(fact: object) -> None:
    assert callable(fact)
    deadline = time.monotonic() + 600
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.1)  # nothing announces what another process does: it is looked at again


def _wait_until_running(account: str, *, other_than: int = 0) -> None:
    def runs() -> bool:
        try:
            status = _status(account)
        except (ActorUnavailableError, GetTimeoutError):
            return False
        return status["pid"] != other_than and status["state"] == "running"

    _wait_until(runs)


def _status(account: str) -> EngineStatus:
    engine = find_engine(account)
    assert engine is not None
    return cast("EngineStatus", ray.get(engine.status.remote(), timeout=60))


def _job(setup: ReplaySetup, *options: str) -> subprocess.Popen[str]:
    """Start the job as another person on the same cluster would."""
    arguments = {
        "account": setup.account,
        "store": setup.store,
        "database-url": setup.database_url,
        "broker-file": str(setup.broker_file),
        "start": setup.start.isoformat(),
        "stop": setup.stop.isoformat(),
    }
    given = [text for name, value in arguments.items() for text in (f"--engine.{name}", value)]
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.trade", *given, *options],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": "platform", "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_interrupted_attachment_leaves_the_engine_running(running: ReplaySetup) -> None:
    job = _job(running, "--attach")
    assert job.stdout is not None
    assert "attached to the engine of account 'running'" in job.stdout.readline()
    before = _status(running.account)
    assert before["state"] not in ENDED, "the engine outlasts the attachment"

    job.send_signal(signal.SIGINT)
    _, errors = job.communicate(timeout=300)

    assert job.returncode == INTERRUPTED, errors
    after = _status(running.account)
    assert (after["state"], after["pid"]) == ("running", before["pid"])


def test_kill_switch_is_thrown_from_the_command_line(running: ReplaySetup) -> None:
    output, errors = (job := _job(running, "--kill-switch", "reducing")).communicate(timeout=600)
    assert job.returncode == 0, errors
    assert "kill switch of account 'running': reducing" in output
    assert _status(running.account)["kill_switch"] == "reducing"


def test_kill_switch_survives_the_engines_process(running: ReplaySetup) -> None:
    throw_kill_switch(running.account, KillSwitch.HALTED)
    killed = _status(running.account)
    assert killed["kill_switch"] == "halted"

    os.kill(killed["pid"], signal.SIGKILL)

    _wait_until_running(running.account, other_than=killed["pid"])
    assert _status(running.account)["kill_switch"] == "halted"


def test_stop_takes_the_engine_down_and_a_second_one_says_that_there_is_none(running: ReplaySetup) -> None:
    stop(running.account)
    _wait_until(lambda: find_engine(running.account) is None)
    with pytest.raises(BadSetup, match="no engine runs for account 'running' on the cluster at"):
        stop(running.account)


def test_kill_switch_of_an_account_without_an_engine_is_refused(running: ReplaySetup) -> None:
    nobody = running.model_copy(update={"account": "nobody"})
    _, errors = (job := _job(nobody, "--kill-switch", "halted")).communicate(timeout=600)
    assert job.returncode == REFUSED
    assert errors.startswith("error: no engine runs for account 'nobody'")
