"""The engine's shell with a broker that does not always answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path

import pytest

from actors.engine_parts import EngineParts, open_parts
from actors.engine_settings import EngineSettings, Setup
from actors.engine_status import EngineStatus
from actors.trading_engine import ENDED, EngineShell
from fxcast.adapters.backoff import backoff
from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.clock import SystemClock
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.lease import acquire
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime
from fxcast.domain.portfolio import Account
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetup, LeaseLost, Unavailable
from fxcast.trading.ports import LedgerBatch, RiskEventKind
from tests.engine_factories import make_setup
from tests.factories import HOUR


def test_pauses_grow_to_a_minute_and_no_two_engines_keep_step() -> None:
    pauses = [pause for pause, _ in zip(backoff(), range(12), strict=False)]
    assert 0.5 <= pauses[0] <= 1.0
    assert all(30.0 <= pause <= 60.0 for pause in pauses[7:])
    assert len(set(pauses)) == 12


class UnsteadyBroker(PaperBroker):
    """A paper broker whose account does not answer at some of the calls."""

    silent_calls: frozenset[int] = frozenset()
    calls = 0

    def account(self) -> Account:
        self.calls += 1
        if self.calls in self.silent_calls:
            raise Unavailable("the line to the broker is down")
        return super().account()


def opening(silent_calls: Sequence[int]) -> Callable[[Setup, Collection[int]], EngineParts]:
    def open_broker(setup: EngineSettings) -> PaperBroker:
        broker = UnsteadyBroker(setup.broker_file, setup.market)
        broker.silent_calls = frozenset(silent_calls)
        return broker

    return lambda setup, passed_over: open_parts(setup, passed_over, open_broker)


@dataclass
class Waits:
    """Pauses of no length that remember the status at each."""

    shell: EngineShell | None = None
    seen: list[EngineStatus] = field(default_factory=list[EngineStatus])

    def __call__(self) -> Iterator[float]:
        for _ in repeat(None):
            if self.shell is not None:
                self.seen.append(self.shell.status())
            yield 0.0


def run_to_its_end(shell: EngineShell) -> EngineStatus:
    deadline = time.monotonic() + 60
    while (status := shell.status())["state"] not in ENDED:
        assert time.monotonic() < deadline, status
        time.sleep(0.01)  # between looks at the engine's thread
    return status


def test_engine_waits_for_a_broker_that_does_not_answer_and_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    calm = make_setup(tmp_path)
    assert run_to_its_end(EngineShell(calm))["state"] == "finished"
    unsteady = calm.model_copy(update={"account": "unsteady", "broker_file": tmp_path / "unsteady.db"})
    waits = Waits()

    waits.shell = shell = EngineShell(unsteady, opening([1, 2, 10, 11, 12, 60]), waits)
    status = run_to_its_end(shell)

    assert (status["state"], status["problem"], status["candles_done"]) == ("finished", "", 80)
    waiting = [seen for seen in waits.seen if seen["state"] == "waiting"]
    assert waiting
    assert waiting[0]["problem"] == "Unavailable: the line to the broker is down"
    database = open_database(calm.database_url)
    undisturbed, disturbed = (SqlLedger(database, engine_id=name) for name in ("calm", "unsteady"))
    assert undisturbed.orders(), "the replay trades"
    assert disturbed.orders() == undisturbed.orders()
    assert disturbed.fills() == undisturbed.fills()
    assert disturbed.equity_curve() == undisturbed.equity_curve()


def test_engine_that_waits_can_be_stopped_and_takes_no_kill_switch_before_it_started(tmp_path: Path) -> None:
    shell = EngineShell(make_setup(tmp_path), opening(range(10_000)), lambda: repeat(60.0))
    deadline = time.monotonic() + 60
    while shell.status()["state"] != "waiting":
        assert time.monotonic() < deadline
        time.sleep(0.01)  # between looks at the engine's thread
    with pytest.raises(BadSetup, match=r"the engine is waiting \(Unavailable: the line to the broker is down\)"):
        shell.set_kill_switch("halted")
    shell.stop()
    assert shell.status()["state"] == "stopped"


@pytest.mark.parametrize("lost", ["ledger.db", "calm.db"])
def test_ledger_and_broker_file_that_do_not_belong_together_are_named(tmp_path: Path, lost: str) -> None:
    setup = make_setup(tmp_path)
    assert run_to_its_end(EngineShell(setup))["state"] == "finished"
    for file in tmp_path.glob(f"{lost}*"):
        file.unlink()
    migrate(setup.database_url)

    status = run_to_its_end(EngineShell(setup))

    assert status["state"] == "failed"
    for part in (setup.database_url, str(setup.broker_file), "do not belong together", "set engine.broker_file to"):
        assert part in status["problem"]


def test_account_goes_on_only_where_it_stopped(tmp_path: Path) -> None:
    setup = make_setup(tmp_path)  # its last candle is number 479
    closes = CandleStore(setup.store).read("EURUSD", Timeframe("1h")).close_times
    assert run_to_its_end(EngineShell(setup))["state"] == "finished"

    def going_on(first: int) -> EngineStatus:
        period = {"start": to_datetime(closes[first]), "stop": to_datetime(closes[500])}
        return run_to_its_end(EngineShell(setup.model_copy(update=period)))

    refused = going_on(482)  # two candles, and what their prices would have stopped out, left out
    assert (refused["state"], refused["refused"]) == ("failed", True)
    assert "engine.start" in refused["problem"]
    assert "2 candles of EURUSD" in refused["problem"]
    assert going_on(480)["state"] == "finished"
    assert len(SqlLedger(open_database(setup.database_url), engine_id=setup.account).equity_curve()) == 100


def test_second_engine_of_an_account_is_refused_on_whatever_cluster_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = make_setup(tmp_path)
    first = PaperBroker(setup.broker_file, setup.market)
    monkeypatch.setattr("fxcast.adapters.brokers.paper._LOCK_TIMEOUT_S", 0.05)

    refused = run_to_its_end(EngineShell(setup))

    assert (refused["state"], refused["refused"], refused["candles_done"]) == ("failed", True, 0)
    assert "another engine trades the paper account in" in refused["problem"]
    monkeypatch.undo()
    first.close()
    assert run_to_its_end(EngineShell(setup))["state"] == "finished"
    PaperBroker(setup.broker_file, setup.market).close()  # an engine that has ended lets go of it


def test_account_of_an_engine_that_was_killed_is_waited_for_and_that_of_a_live_one_is_refused(tmp_path: Path) -> None:
    setup = make_setup(tmp_path).model_copy(update={"lease_ttl_s": 2.0})
    database = open_database(setup.database_url)
    killed = acquire(database, setup.lease_account, "killed", ttl_s=2.0, now=SystemClock().now())
    assert run_to_its_end(EngineShell(setup))["state"] == "finished", "nobody renews a dead engine's lease"
    with pytest.raises(LeaseLost):
        killed.renew(SystemClock().now())
    alive = acquire(database, setup.lease_account, "alive", ttl_s=60.0, now=SystemClock().now())
    shell = EngineShell(setup)
    while shell.status()["state"] not in ENDED:
        alive.renew(SystemClock().now())
        time.sleep(0.05)  # an engine that lives renews its lease now and then
    status = shell.status()
    assert (status["state"], status["refused"]) == ("failed", True)
    assert "is traded by alive" in status["problem"]


def test_outage_is_told_at_once_and_kept_when_it_is_over(tmp_path: Path) -> None:
    setup = make_setup(tmp_path)
    status = run_to_its_end(EngineShell(setup, opening([3, 4]), lambda: repeat(0.0)))
    assert status["state"] == "finished"
    (event,) = SqlLedger(open_database(setup.database_url), engine_id=setup.account).risk_events()
    assert event.kind is RiskEventKind.DISCONNECT
    assert event.detail == "for 0 s: the line to the broker is down"


def test_engine_that_stops_itself_keeps_why(tmp_path: Path) -> None:
    setup = make_setup(tmp_path)
    assert run_to_its_end(EngineShell(setup))["state"] == "finished"
    book = PaperBroker(setup.broker_file, setup.market)
    state_of = SqlLedger(open_database(setup.database_url), engine_id=setup.account)
    saved = state_of.load_state()
    assert saved is not None
    book.close()
    lost = replace(saved, positions={}, pending={})
    state_of.commit(lost, LedgerBatch())
    later = {"stop": setup.stop + 5 * HOUR}
    status = run_to_its_end(EngineShell(setup.model_copy(update=later)))
    assert status["state"] == "failed", "the broker holds a position or an order that the ledger does not know"
    assert [event.kind for event in state_of.risk_events()][-1] is RiskEventKind.RECONCILIATION
