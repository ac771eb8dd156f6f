"""One engine at a time trades an account; and what people ask of an engine, on real databases."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from fxcast.adapters.storage.controls import kill_switch_requests, request_kill_switch
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.lease import HeldLease, acquire
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.domain.order import ChangeAnswer, OrderIntent, OrderPurpose, OrderStatus, ProtectionChange, Side
from fxcast.domain.portfolio import EquityPoint
from fxcast.errors import AccountTaken, DatabaseUnavailable, LeaseLost
from fxcast.trading.ports import LedgerBatch
from fxcast.trading.state import EngineState, KillSwitch
from tests.databases import new_database

NOON = datetime(2024, 3, 4, 12, 0, tzinfo=UTC)
ACCOUNT = "oanda:101-004-1234567-001"
TTL_S = 30.0
AFTER_TTL = NOON + timedelta(seconds=TTL_S)


def take(engine: Engine, holder: str, now: datetime = NOON, account: str = ACCOUNT) -> HeldLease:
    return acquire(engine, account, holder, ttl_s=TTL_S, now=now)


def batch() -> LedgerBatch:
    intent = OrderIntent(
        client_order_id="EURUSD-open",
        signal_id="EURUSD-20240304T1200",
        symbol="EURUSD",
        side=Side.BUY,
        units=Decimal(15000),
        purpose=OrderPurpose.OPEN,
        stop=Decimal("1.08"),
        target=None,
        created_at=NOON,
    )
    change = ProtectionChange(
        change_id="EURUSD-open-p1",
        client_order_id="EURUSD-open",
        symbol="EURUSD",
        stop=Decimal("1.081"),
        target=None,
        reason="trailing stop",
        created_at=NOON,
    )
    return LedgerBatch(intents=(intent,), changes=(change,))


def at_once(database_url: str, count: int, call: Callable[[Engine, int], object]) -> list[object]:
    """Call from threads with an engine of their own, all at the same moment; an exception is a result."""
    start = threading.Barrier(count)

    def one(number: int) -> object:
        engine = open_database(database_url)
        try:
            start.wait()
            return call(engine, number)
        except Exception as error:  # noqa: BLE001 (what a contender got is what the test looks at)
            return error
        finally:
            engine.dispose()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_a_second_engine_is_refused_by_who_holds_the_account_where_since_and_until_when(database: Engine) -> None:
    take(database, "engine-a")

    with pytest.raises(AccountTaken) as refusal:
        take(database, "engine-b", NOON + timedelta(seconds=29))

    assert str(refusal.value) == (
        f"account {ACCOUNT} is traded by engine-a (host {socket.gethostname()}, pid {os.getpid()}, since 2024-03-04T12:00:00+00:00)"
        "; its lease runs until 2024-03-04T12:00:30+00:00, and longer if that engine is alive: stop it first"
    )


def test_accounts_are_independent(database: Engine) -> None:
    take(database, "engine-a")

    assert take(database, "engine-b", account="ctrader:42").token == 1


def test_of_ten_that_want_a_free_account_at_once_exactly_one_gets_it(url: str) -> None:
    results = at_once(url, 10, lambda engine, number: take(engine, f"engine-{number}"))

    assert sorted(type(each).__name__ for each in results) == ["AccountTaken"] * 9 + ["HeldLease"]


def test_of_ten_that_want_an_account_whose_lease_ran_out_exactly_one_gets_it(database: Engine, url: str) -> None:
    take(database, "engine-a")

    results = at_once(url, 10, lambda engine, number: take(engine, f"engine-{number}", AFTER_TTL))

    assert sorted(type(each).__name__ for each in results) == ["AccountTaken"] * 9 + ["HeldLease"]
    assert [each.token for each in results if isinstance(each, HeldLease)] == [2]


def test_a_restarted_engine_takes_its_own_lease_again_at_once_and_its_predecessor_loses_it(database: Engine) -> None:
    before = take(database, "engine-a")

    again = take(database, "engine-a", NOON + timedelta(seconds=1))

    assert (before.token, again.token) == (1, 2)
    with pytest.raises(LeaseLost):
        before.renew(NOON + timedelta(seconds=2))


def test_a_renewed_lease_keeps_others_out_for_longer(database: Engine) -> None:
    lease = take(database, "engine-a")

    lease.renew(NOON + timedelta(seconds=20))

    with pytest.raises(AccountTaken, match="until 2024-03-04T12:00:50"):
        take(database, "engine-b", AFTER_TTL)


def test_a_lease_that_ran_out_is_renewed_if_nobody_took_it(database: Engine) -> None:
    lease = take(database, "engine-a")

    lease.renew(NOON + timedelta(hours=1))

    with pytest.raises(AccountTaken):
        take(database, "engine-b", NOON + timedelta(hours=1, seconds=29))


def test_a_lease_that_was_taken_over_cannot_be_renewed_and_says_who_has_it(database: Engine) -> None:
    lease = take(database, "engine-a")
    take(database, "engine-b", AFTER_TTL)

    with pytest.raises(LeaseLost, match=f"account {ACCOUNT} was taken over by engine-b .* at 2024-03-04T12:00:30"):
        lease.renew(AFTER_TTL + timedelta(seconds=1))


def test_a_released_account_is_free_at_once_and_its_token_still_grows(database: Engine) -> None:
    lease = take(database, "engine-a")

    lease.release()

    assert take(database, "engine-b", NOON).token == 2
    with pytest.raises(LeaseLost):
        lease.renew(NOON)


def test_releasing_a_lease_that_was_lost_leaves_it_with_its_new_holder(database: Engine) -> None:
    lease = take(database, "engine-a")
    other = take(database, "engine-b", AFTER_TTL)

    lease.release()

    other.renew(AFTER_TTL)


def test_an_engine_that_lost_its_lease_saves_nothing_more(database: Engine) -> None:
    lease = take(database, "engine-a")
    ledger = SqlLedger(database, "demo", lease=lease)
    ledger.commit(EngineState(control_sequence=1), batch())
    take(database, "engine-b", AFTER_TTL)
    equity = EquityPoint(at=NOON, balance=Decimal(1), open_profit=Decimal(0))

    for write in (
        lambda: ledger.commit(EngineState(control_sequence=2), LedgerBatch(equity=equity)),
        lambda: ledger.mark_order("EURUSD-open", OrderStatus.SENT),
        lambda: ledger.mark_change("EURUSD-open-p1", ChangeAnswer(accepted=True)),
    ):
        with pytest.raises(LeaseLost, match="taken over by engine-b"):
            write()

    assert ledger.load_state() == EngineState(control_sequence=1)
    assert ledger.equity_curve() == ()
    assert [order.status for order in ledger.orders()] == [OrderStatus.INTENT]
    assert [record.answer for record in ledger.changes()] == [None]


def test_an_engine_that_gave_its_lease_back_saves_nothing_more(database: Engine) -> None:
    lease = take(database, "engine-a")
    lease.release()

    with pytest.raises(LeaseLost, match="was given back; engine-a may trade it no more"):
        SqlLedger(database, "demo", lease=lease).commit(EngineState(), LedgerBatch())


def test_a_takeover_waits_for_the_commit_that_runs_and_the_next_commit_finds_it(database: Engine, url: str) -> None:
    lease = take(database, "engine-a")
    ledger = SqlLedger(database, "demo", lease=lease)
    other = open_database(url)
    takers: list[threading.Thread] = []
    finished_before_the_commit: list[bool] = []

    def begin_takeover(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("INSERT INTO orders "):  # the commit has checked the lease by now
            taker = threading.Thread(target=take, args=(other, "engine-b", AFTER_TTL))
            taker.start()
            taker.join(0.5)
            finished_before_the_commit.append(not taker.is_alive())
            takers.append(taker)

    event.listen(database, "before_cursor_execute", begin_takeover)
    ledger.commit(EngineState(control_sequence=1), batch())
    takers[0].join()
    other.dispose()

    assert finished_before_the_commit == [False]
    with pytest.raises(LeaseLost):
        ledger.commit(EngineState(control_sequence=2), LedgerBatch())
    assert ledger.load_state() == EngineState(control_sequence=1)


def test_a_lease_in_an_outage_says_so(tmp_path: Path) -> None:
    url = new_database("sqlite", tmp_path)
    migrate(url)
    engine = open_database(url)
    lease = take(engine, "engine-a")
    engine.dispose()
    (tmp_path / "fx.db").write_bytes(b"noise" * 10_000)

    for call in (lambda: lease.renew(NOON), lease.release, lambda: take(engine, "engine-a")):
        with pytest.raises(DatabaseUnavailable):
            call()


def test_a_lease_without_a_holder_is_a_bug(database: Engine) -> None:
    with pytest.raises(ValueError, match="needs a holder"):
        take(database, "")


def test_the_newest_request_of_a_person_is_what_the_engine_finds_also_before_its_first_start(database: Engine) -> None:
    ledger = SqlLedger(database, "demo")
    first = request_kill_switch(database, "demo", KillSwitch.HALTED, "ada", "news", NOON)
    second = request_kill_switch(database, "demo", KillSwitch.ACTIVE, "bob", "", NOON + timedelta(minutes=5))
    request_kill_switch(database, "other", KillSwitch.REDUCING, "ada", "a holiday", NOON)

    assert ledger.load_state() is None
    assert ledger.kill_switch_request() == second
    assert kill_switch_requests(database, "demo") == (first, second)
    assert [first.sequence, second.sequence] == [1, 2]
    assert (second.kill_switch, second.by, second.requested_at) == ("active", "bob", NOON + timedelta(minutes=5))


def test_requests_made_at_once_all_count(url: str, database: Engine) -> None:
    results = at_once(url, 10, lambda engine, number: request_kill_switch(engine, "demo", KillSwitch.HALTED, f"{number}", "", NOON))

    stored = kill_switch_requests(database, "demo")
    assert [request.sequence for request in stored] == list(range(1, 11))
    assert {request.by for request in stored} == {f"{number}" for number in range(10)}
    assert set(results) == set(stored)
