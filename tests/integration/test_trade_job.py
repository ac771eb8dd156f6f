"""The trading job and its control against an engine that runs: attach and Ctrl-C, status, the kill switch, stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError

from actors.engine_settings import ReplaySetup
from actors.engine_status import EngineStatus
from actors.trading_engine import ENDED, EngineShell, find_engine, start_engine
from fxcast.adapters.storage.database import migrate
from fxcast.cluster.local import REPOSITORY
from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime
from fxcast.trading.config import CandleSide, PaperMarketConfig, TradingConfig
from jobs.engine_calls import status_of, stop
from jobs.entry import FAILED, INTERRUPTED, REFUSED
from tests.factories import make_series
from tests.state import job_database
from tests.waiting import wait_for

_FIRST = 1000


@pytest.fixture(scope="module")
def running(dashboard_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplaySetup]:
    """The setup of an engine that runs for longer than these tests take: seven years of candles are half an hour."""
    assert dashboard_url
    folder = tmp_path_factory.mktemp("running")
    series = make_series(bars=60_000, range_width=0.0003)
    CandleStore(folder / "store").append(series)
    migrate(job_database(folder, "ledger"))
    setup = ReplaySetup(
        account="running",
        store=str(folder / "store"),
        database_url=job_database(folder, "ledger"),
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


def _wait_until_running(account: str, *, other_than: int = 0) -> None:
    def runs() -> bool:
        try:
            status = _status(account)
        except (ActorUnavailableError, GetTimeoutError):
            return False
        return status["pid"] != other_than and status["state"] == "running"

    wait_for(runs, timeout_s=600)


def _status(account: str) -> EngineStatus:
    engine = find_engine(account)
    assert engine is not None
    return status_of(engine)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": "platform", "RAY_ADDRESS": ray.get_runtime_context().gcs_address}


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
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _control(setup: ReplaySetup, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.control", "--account", setup.account, "--database-url", setup.database_url, *options],
        cwd=REPOSITORY,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_interrupted_attachment_leaves_the_engine_running(running: ReplaySetup) -> None:
    job = _job(running)
    assert job.stdout is not None
    assert "attached to the engine of account 'running'" in job.stdout.readline()
    before = _status(running.account)
    assert before["state"] not in ENDED, "the engine outlasts the attachment"

    job.send_signal(signal.SIGINT)
    _, errors = job.communicate(timeout=300)

    assert job.returncode == INTERRUPTED, errors
    after = _status(running.account)
    assert (after["state"], after["pid"]) == ("running", before["pid"])


def test_status_is_shown_to_people_and_to_programs(running: ReplaySetup) -> None:
    shown = _control(running)
    assert shown.returncode == 0, shown.stderr
    for part in ("paper account running, replaying EURUSD 1h", "kill switch", "last decisions"):
        assert part in shown.stdout
    told = json.loads(_control(running, "--json").stdout)
    assert told.keys() == EngineStatus.__annotations__.keys()
    assert (told["account"], told["state"]) == ("running", "running")
    assert told["decisions"][0]["verdict"] in {"accepted", "rejected"}


def test_kill_switch_is_thrown_from_the_command_line_and_counts_at_once(running: ReplaySetup) -> None:
    thrown = _control(running, "--kill-switch", "reducing", "--by", "Anna", "--reason", "payrolls at 13:30")
    assert thrown.returncode == 0, thrown.stderr
    assert thrown.stdout == "kill switch of account 'running': reducing, by Anna\n"
    status = _status(running.account)
    assert status["kill_switch"] == "reducing"
    assert "kill_switch active → reducing by Anna: payrolls at 13:30" in " ".join(status["risk_events"])


def test_kill_switch_survives_the_engines_process(running: ReplaySetup) -> None:
    assert _control(running, "--kill-switch", "halted").returncode == 0
    killed = _status(running.account)
    assert killed["kill_switch"] == "halted"

    os.kill(killed["pid"], signal.SIGKILL)

    _wait_until_running(running.account, other_than=killed["pid"])
    assert _status(running.account)["kill_switch"] == "halted"


def test_second_engine_of_an_account_under_another_name_is_refused_by_the_lease(running: ReplaySetup, tmp_path: Path) -> None:
    copy = running.model_copy(update={"broker_file": tmp_path / "copy.db"})  # the paper broker's lock would be too easy
    shell = EngineShell(copy)
    wait_for(lambda: shell.status()["state"] in ENDED, timeout_s=300)
    status = shell.status()
    assert (status["state"], status["refused"]) == ("failed", True)
    assert "account paper:running is traded by actor" in status["problem"]


def test_stop_takes_the_engine_down_and_a_second_one_says_that_there_is_none(running: ReplaySetup) -> None:
    stop(running.account)
    wait_for(lambda: find_engine(running.account) is None, timeout_s=300)
    again = _control(running, "--stop")
    assert again.returncode == REFUSED
    assert again.stderr.startswith("error: no engine runs for account 'running' on the cluster at")


def test_kill_switch_thrown_without_an_engine_waits_for_the_next_one(running: ReplaySetup) -> None:
    nobody = running.model_copy(update={"account": "nobody"})
    thrown = _control(nobody, "--kill-switch", "halted")
    assert thrown.returncode == 0, thrown.stderr
    assert "it counts as soon as the engine looks into the database: no engine runs for account 'nobody'" in thrown.stdout
    engine = start_engine(nobody.model_copy(update={"broker_file": running.broker_file.with_name("nobody.db")}))
    try:
        _wait_until_running("nobody")
        # It runs as soon as its parts are open, and looks into the database a moment later.
        wait_for(lambda: _status("nobody")["kill_switch"] == "halted", timeout_s=300)
    finally:
        ray.kill(engine, no_restart=True)


def test_kill_switch_that_reaches_neither_database_nor_engine_says_that_it_was_not_thrown(running: ReplaySetup) -> None:
    nowhere = running.model_copy(update={"account": "absent", "database_url": "sqlite:////nowhere/ledger.db"})
    thrown = _control(nowhere, "--kill-switch", "halted")
    assert thrown.returncode == FAILED
    assert thrown.stderr.startswith("error: the kill switch of account 'absent' was NOT thrown: ")
