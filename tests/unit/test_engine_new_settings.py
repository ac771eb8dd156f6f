"""Settings that a person sets while an engine runs: taken before its next candle, or refused without harm."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import repeat
from pathlib import Path

import pytest
from sqlalchemy import text

from actors.engine_parts import EngineParts, open_parts
from actors.engine_settings import EngineSettings, ReplaySetup, Setup
from actors.engine_status import EngineStatus
from actors.trading_engine import EngineShell
from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.clock import SystemClock
from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.settings_versions import STARTED, SettingsVersions
from fxcast.domain.order import OrderPurpose
from fxcast.domain.portfolio import Account
from fxcast.errors import BadCredentials, Unavailable
from fxcast.trading.config import TradingConfig
from fxcast.trading.ports import OrderRecord, RiskEventKind
from tests.engine_factories import make_setup
from tests.unit.test_engine_shell import run_to_its_end

HALF = 40  # candles of the replay's 80


@dataclass
class Held:
    """An engine whose broker holds it once, in the middle of the replay.

    Attributes:
        away: So often is the broker away when everything is opened anew.
        locked_out_at: At this question the broker knows the engine no more.
    """

    away: int = 0
    locked_out_at: int = 0
    questions: int = 0
    openings: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    goes_on: threading.Event = field(default_factory=threading.Event)

    def asked(self) -> None:
        """Count the questions after the account: one at the start, and one a candle."""
        self.questions += 1
        if self.questions == self.locked_out_at:
            raise BadCredentials("the broker knows us no more")
        if self.questions == HALF:
            self.reached.set()
            assert self.goes_on.wait(60)

    def open_parts(self, setup: Setup, passed_over: Collection[int]) -> EngineParts:
        def open_broker(setup: EngineSettings) -> PaperBroker:
            broker = _HeldBroker(setup.broker_file, setup.market)
            broker.held = self
            return broker

        self.openings += 1
        if self.openings > 1 and self.away:
            self.away -= 1
            raise Unavailable("the broker is away")
        return open_parts(setup, passed_over, open_broker)


class _HeldBroker(PaperBroker):
    held: Held

    def account(self) -> Account:
        self.held.asked()
        return super().account()


def versions_of(setup: ReplaySetup) -> SettingsVersions:
    return SettingsVersions(open_database(setup.database_url), setup.account)


def set_by(who: str, trading: TradingConfig, setup: ReplaySetup) -> int:
    versions = versions_of(setup)
    after = versions.newest(1)[0].version
    return versions.add(trading, by=who, reason="a test", after=after, now=SystemClock().now())


def run_with(
    setup: ReplaySetup,
    trading: TradingConfig,
    held: Held | None = None,
    pauses: Callable[[], Iterator[float]] = lambda: repeat(0.0),
) -> EngineStatus:
    """Run an engine, and set other settings when it is half through."""
    held = held or Held()
    shell = EngineShell(setup, held.open_parts, pauses)
    assert held.reached.wait(60)
    set_by("anna", trading, setup)
    held.goes_on.set()
    return run_to_its_end(shell)


def ledger_of(setup: ReplaySetup) -> SqlLedger:
    return SqlLedger(open_database(setup.database_url), engine_id=setup.account)


def orders_of(setup: ReplaySetup) -> tuple[OrderRecord, ...]:
    return ledger_of(setup).orders()


def opened_late(setup: ReplaySetup) -> int:
    """Count what was opened in the second half of the replay."""
    half = setup.start + timedelta(hours=HALF)
    return sum(each.intent.purpose is OrderPurpose.OPEN and each.intent.created_at > half for each in orders_of(setup))


@pytest.fixture
def undisturbed(tmp_path: Path) -> ReplaySetup:
    """An engine that has traded the replay with the settings of its start."""
    setup = make_setup(tmp_path)
    assert run_to_its_end(EngineShell(setup))["state"] == "finished"
    assert opened_late(setup)
    return setup


def beside(setup: ReplaySetup, account: str = "other") -> ReplaySetup:
    return setup.model_copy(update={"account": account, "broker_file": setup.broker_file.with_name(f"{account}.db")})


def test_what_a_person_sets_counts_from_the_next_candle(undisturbed: ReplaySetup) -> None:
    setup = beside(undisturbed)

    status = run_with(setup, setup.trading.model_copy(update={"min_quality": 1.0}))

    assert (status["state"], status["candles_done"]) == ("finished", 80)
    assert (status["settings_version"], status["settings_by"]) == (2, "anna")
    assert opened_late(setup) == 0
    ledger = ledger_of(setup)
    assert len({record.settings_hash for record in ledger.decisions()}) == 2
    newest, started = versions_of(setup).newest(5)
    assert (newest.by, newest.reason, newest.problem) == ("anna", "a test", "")
    assert newest.taken_at is not None
    assert started.by == STARTED
    assert started.taken_at is not None


def test_settings_that_say_the_same_change_nothing(undisturbed: ReplaySetup) -> None:
    setup = beside(undisturbed)

    status = run_with(setup, setup.trading)

    assert (status["state"], status["candles_done"], status["settings_version"]) == ("finished", 80, 2)
    assert orders_of(setup) == orders_of(undisturbed)


def test_settings_that_the_engine_can_not_trade_with_are_refused_and_it_goes_on_with_those_before(undisturbed: ReplaySetup) -> None:
    setup = beside(undisturbed)
    gone = {"use_ldm4ts": True, "ldm4ts_checkpoint_path": Path("/nowhere/to/be/found")}

    status = run_with(setup, setup.trading.model_copy(update=gone))

    assert (status["state"], status["candles_done"], status["settings_version"]) == ("finished", 80, 1)
    refused = versions_of(setup).get(2)
    assert "/nowhere/to/be/found" in refused.problem
    assert refused.taken_at is None
    (told,) = [each for each in ledger_of(setup).risk_events() if each.kind is RiskEventKind.SETTINGS]
    assert "version 2 of the settings is not traded with: model folder /nowhere/to/be/found" in told.detail
    assert "version 1 is" in told.detail
    assert orders_of(setup) == orders_of(undisturbed)


def test_an_outage_while_everything_is_opened_anew_is_waited_for(undisturbed: ReplaySetup) -> None:
    setup = beside(undisturbed).model_copy(update={"lease_ttl_s": 0.3})  # shorter than the outage
    held = Held(away=4)

    status = run_with(setup, setup.trading, held, lambda: repeat(0.2))

    assert (status["state"], status["candles_done"], status["settings_version"]) == ("finished", 80, 2)
    assert held.away == 0
    assert orders_of(setup) == orders_of(undisturbed)
    assert [each.kind for each in ledger_of(setup).risk_events()].count(RiskEventKind.DISCONNECT) == 1


def test_what_goes_wrong_after_settings_were_traded_with_is_not_laid_on_them(undisturbed: ReplaySetup) -> None:
    setup = beside(undisturbed)

    failed = run_with(setup, setup.trading.model_copy(update={"min_quality": 0.01}), Held(locked_out_at=60))

    assert (failed["state"], failed["settings_version"]) == ("failed", 2)
    assert versions_of(setup).get(2).problem == ""
    mended = run_to_its_end(EngineShell(setup))
    assert (mended["state"], mended["settings_version"]) == ("finished", 2)


def test_what_is_not_the_settings_fault_is_not_laid_on_them(undisturbed: ReplaySetup) -> None:
    set_by("anna", undisturbed.trading.model_copy(update={"min_quality": 0.2}), undisturbed)
    later = {"start": undisturbed.start + timedelta(days=3000), "stop": undisturbed.stop + timedelta(days=3000)}

    failed = run_to_its_end(EngineShell(undisturbed.model_copy(update=later)))  # there are no candles

    assert (failed["state"], failed["refused"]) == ("failed", True)
    assert versions_of(undisturbed).get(2).problem == ""
    unstable = beside(undisturbed).model_copy(update={"account": "calm"})  # its books are not those of the account
    assert run_to_its_end(EngineShell(unstable))["state"] == "failed"
    assert versions_of(undisturbed).get(2).problem == ""
    assert run_to_its_end(EngineShell(undisturbed))["settings_version"] == 2


def test_settings_that_this_fxcast_does_not_know_are_refused(undisturbed: ReplaySetup) -> None:
    with open_database(undisturbed.database_url).begin() as connection:
        row = "'calm', 2, '{\"min_quality\": 7}', 'anna', '', '2026-01-01 00:00:00.000000', NULL, ''"
        connection.execute(text(f"INSERT INTO settings_versions VALUES ({row})"))  # noqa: S608  # the row above

    status = run_to_its_end(EngineShell(undisturbed))

    assert (status["state"], status["settings_version"]) == ("finished", 1)
    assert "min_quality: found 7" in versions_of(undisturbed).get(2).problem


def test_what_an_engine_is_started_with_counts_if_it_is_not_what_the_start_before_had(undisturbed: ReplaySetup) -> None:
    set_by("anna", undisturbed.trading.model_copy(update={"min_quality": 1.0}), undisturbed)
    changed = undisturbed.model_copy(update={"trading": undisturbed.trading.model_copy(update={"min_quality": 0.2})})

    found = [
        run_to_its_end(EngineShell(setup))["settings_version"]
        for setup in (undisturbed, undisturbed, changed, changed, undisturbed)
    ]

    assert found == [2, 2, 3, 3, 4]
