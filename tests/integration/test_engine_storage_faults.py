"""What an engine does when its database, its forecasts or its feed is gone, and when another engine has taken its account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from actors.trading_engine import ENDED, EngineShell
from fxcast.adapters.clock import SystemClock
from fxcast.adapters.storage.database import writing
from fxcast.adapters.storage.lease import acquire
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.domain.order import OrderPurpose, OrderStatus
from fxcast.domain.signal import Verdict
from fxcast.errors import DatabaseUnavailable, LeaseLost
from tests.brokers.oanda_account import ACCOUNT
from tests.databases import DATABASES
from tests.engine_factories import make_setup
from tests.fault_worlds import ENGINE_ID, HORIZON_BARS, TRADING, OandaWorld, oanda_world, wait_until_done
from tests.integration.test_ledger_outages import out_of_reach
from tests.waiting import wait_for
from tests.webhooks import Webhook, webhook_server

LEASE = f"oanda:{ACCOUNT}"
MINUTE = timedelta(minutes=1)


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OandaWorld]:
    with oanda_world(tmp_path, monkeypatch, database_kind=request.param) as opened:
        yield opened


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OandaWorld]:
    """A world whose database is SQLite: what is tested does not depend on which it is."""
    with oanda_world(tmp_path, monkeypatch) as opened:
        yield opened


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with webhook_server() as webhook:
        yield webhook


# The database is gone.


class Watched:
    """A ledger that says when a method is about to be called for the n-th time from now on."""

    def __init__(self, ledger: SqlLedger) -> None:
        self._ledger = ledger
        self._method, self._nth = "", 0
        self._say: Callable[[], object] = lambda: None

    def before(self, method: str, nth: int, say: Callable[[], object]) -> None:
        self._method, self._nth, self._say = method, nth, say

    def __getattr__(self, name: str) -> Any:
        if name == self._method:
            self._nth -= 1
            if not self._nth:
                self._say()
        return getattr(self._ledger, name)


@pytest.mark.parametrize(
    ("method", "nth", "sent"),
    [
        ("unresolved_orders", 1, 0),
        ("kill_switch_request", 1, 0),
        ("commit", 1, 0),
        ("mark_order", 1, 0),  # committed, and not sent
        ("mark_order", 2, 1),  # sent, and its answer is not saved
    ],
)
def test_what_a_database_that_is_gone_for_five_minutes_did_not_save_is_not_sent_and_each_candle_is_handled_once(
    world: OandaWorld, method: str, nth: int, sent: int
) -> None:
    outage, watched = ExitStack(), Watched(world.ledger)
    world.start(watched)  # pyright: ignore[reportArgumentType]  # it has all that a ledger has
    watched.before(method, nth, lambda: outage.enter_context(out_of_reach(world.database)))
    closed = world.next_closed()
    for _ in range(5):
        with pytest.raises(DatabaseUnavailable):
            world.runner.handle(closed)
        assert world.server.calls("POST orders") == sent
        world.clock.time += MINUTE
    outage.close()
    world.runner.handle(closed)
    world.look()
    if method == "mark_order":  # what was sent is executed once, and what was not is too old to be sent now
        assert [order.status for order in world.ledger.orders()] == [OrderStatus.FILLED if sent else OrderStatus.CANCELLED]
    else:
        assert world.ledger.orders() == ()
        assert world.ledger.signals()[0].reason == "the candle closed 300 s ago, more than 120"
    world.close_candle()
    world.look()
    assert len(world.account.fills) == len(world.ledger.fills()) == 1
    assert world.trade.stop == world.ledger.open_positions()[0].stop
    assert len(world.ledger.equity_curve()) == 2
    assert world.runner.state.candles == {"EURUSD": 2}


def test_a_database_that_another_process_keeps_locked_is_an_outage_too(embedded: OandaWorld) -> None:
    world = embedded
    world.start()
    closed = world.next_closed()
    with writing(world.database).begin(), pytest.raises(DatabaseUnavailable, match="locked"):
        world.runner.handle(closed)
    assert world.server.calls("POST orders") == 0
    world.runner.handle(closed)
    assert world.server.calls("POST orders") == 1
    assert len(world.ledger.equity_curve()) == 1


def test_an_engine_waits_for_its_database_tells_a_person_and_goes_on(embedded: OandaWorld, webhook: Webhook) -> None:
    world, outage = embedded, ExitStack()
    world.webhook_url = webhook.url
    stop = world.open_position().stop

    def go() -> None:
        world.at_candle = lambda: None
        outage.enter_context(out_of_reach(world.database))
        gone_at = world.clock.time
        world.at_pause = lambda now: outage.close() if now >= gone_at + 5 * MINUTE else None

    with world.shell() as shell:
        wait_for(lambda: world.publisher.is_followed)
        world.at_candle = go
        world.publish()
        wait_until_done(shell, 1)
        assert world.trade.stop == stop
        for _ in range(HORIZON_BARS):
            world.publish()
        wait_until_done(shell, 1 + HORIZON_BARS)
        assert len(world.ledger.equity_curve()) == 2 + HORIZON_BARS
        assert world.kinds == ["disconnect"]
    assert any("does not answer" in text for text in webhook.texts("disconnect"))


def test_an_engine_that_starts_before_its_database_waits_for_it(tmp_path: Path) -> None:
    setup = make_setup(tmp_path)
    database = tmp_path / "ledger.db"
    elsewhere = database.rename(tmp_path / "elsewhere")
    problems: list[str] = []

    def pauses() -> Iterator[float]:
        for tries in count():
            if tries == 3:
                elsewhere.rename(database)
            problems.append(shell.status()["problem"] if tries else "")
            yield 0.01

    shell = EngineShell(setup, pauses=pauses)
    wait_for(lambda: shell.status()["state"] in ENDED)
    assert shell.status()["state"] == "finished", shell.status()["problem"]
    assert "there is no such file" in problems[1]


# Forecasts are gone.


def test_without_forecasts_nothing_is_opened_and_what_is_open_leaves_at_its_horizon(embedded: OandaWorld) -> None:
    world = embedded
    world.open_position()
    world.forecasts.down = True
    for _ in range(HORIZON_BARS + 3):
        world.close_candle()
    world.look()
    assert not world.account.open_trades
    assert [order.intent.purpose for order in world.ledger.orders()] == [OrderPurpose.OPEN, OrderPurpose.CLOSE]
    assert world.runner.state.forecasts_missed == HORIZON_BARS + 3
    world.forecasts.down = False
    world.close_candle()
    assert len(world.account.open_trades) == 1, "it trades again with the first forecast"


# The feed is gone.


def test_while_the_feed_is_gone_positions_are_looked_after_and_candles_that_were_missed_open_nothing_when_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, webhook: Webhook
) -> None:
    trading = TRADING.model_copy(update={"ldm4ts_horizons": (HORIZON_BARS,)})
    with oanda_world(tmp_path, monkeypatch, timeframe="1m", trading=trading) as world:
        world.webhook_url = webhook.url
        with world.shell() as shell, capture_logs() as logs:
            wait_for(lambda: world.publisher.is_followed)
            world.publish()
            wait_for(lambda: len(world.ledger.open_positions()) == 1)
            world.publisher.go_away()
            with world.server.lock:
                stop = world.trade.stop
                world.account.set_stop_by_hand(world.trade.id, None)
            wait_for(lambda: world.trade.stop == stop)
            wait_for(lambda: sum(entry["event"] == "feed gone" for entry in logs) > 5)
            world.clock.time += 10 * MINUTE
            world.publish(10)
            world.publisher.come_back()
            wait_until_done(shell, 11)
            wait_for(lambda: len(world.ledger.orders()) == 3)
            entries = [order.intent for order in world.ledger.orders() if order.intent.purpose is OrderPurpose.OPEN]
            assert world.clock.time - entries[1].created_at <= timedelta(seconds=120)
            stale = [each for each in world.ledger.signals() if "the candle closed" in each.reason]
            assert len(stale) == 7, "all but the first, and the three of the last two minutes"
            assert {each.verdict for each in stale} == {Verdict.REJECTED}
            assert len(world.ledger.equity_curve()) == 11
            assert len(webhook.texts("disconnect")) <= 2, "that it ended, and that none is to be had; not at every try"
            assert "[faults] disconnect: no candles: no feed runs" in webhook.texts("disconnect")


# Another engine has the account.


def test_a_second_engine_of_an_account_fails_while_the_first_one_trades(embedded: OandaWorld) -> None:
    world = embedded
    with world.shell(lease_ttl_s=6.0) as first:
        wait_for(lambda: world.publisher.is_followed)
        with world.shell(lease_ttl_s=6.0) as second:
            wait_for(lambda: second.status()["state"] == "failed")
            assert second.status()["refused"]
            assert f"account {LEASE} is traded by engine" in second.status()["problem"]
            world.publish()
            wait_until_done(first, 1)
            assert len(world.account.open_trades) == 1


def test_the_account_of_an_engine_that_was_killed_is_taken_over_when_its_lease_has_run_out(embedded: OandaWorld) -> None:
    world = embedded
    acquire(world.database, LEASE, "an engine that was killed", ttl_s=2.0, now=SystemClock().now())
    with world.shell() as shell:
        wait_for(lambda: shell.status()["state"] == "waiting")
        assert "an engine that was killed" in shell.status()["problem"]
        wait_for(lambda: world.publisher.is_followed)
        world.publish()
        wait_until_done(shell, 1)


def test_an_engine_that_slept_while_another_took_its_account_saves_and_sends_nothing_more(world: OandaWorld) -> None:
    now = SystemClock().now()
    lease = acquire(world.database, LEASE, "asleep", ttl_s=30.0, now=now)
    world.start(SqlLedger(world.database, ENGINE_ID, lease=lease))
    before = world.ledger.load_state()
    acquire(world.database, LEASE, "awake", ttl_s=30.0, now=now + timedelta(seconds=31))
    with pytest.raises(LeaseLost, match="taken over by awake"):
        world.close_candle()
    assert world.server.calls("POST orders") == 0
    assert world.ledger.load_state() == before
    assert world.ledger.orders() == world.ledger.equity_curve() == ()


def test_an_engine_whose_account_was_taken_over_stops_and_tells_a_person(embedded: OandaWorld, webhook: Webhook) -> None:
    world = embedded
    world.webhook_url = webhook.url
    stop = world.open_position().stop
    with world.shell(lease_ttl_s=1.5) as shell:
        wait_for(lambda: world.publisher.is_followed)
        acquire(world.database, LEASE, "another", ttl_s=30.0, now=SystemClock().now() + timedelta(hours=1))
        wait_for(lambda: shell.status()["state"] == "failed")
        assert "taken over by another" in shell.status()["problem"]
        before = len(world.server.seen)
        world.publish()
        wait_for(lambda: len(webhook.texts("halt")) == 1)
        assert len(world.server.seen) == before
    assert world.trade.stop == stop
