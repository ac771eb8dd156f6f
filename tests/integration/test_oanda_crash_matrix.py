"""The same as the crash matrix, against OANDA: the server is in this process, the engine in another that is killed.

OANDA itself executes an order twice that is sent twice, and says nothing of the second time; what it did is read from the server's
own record of transactions and trades.
"""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN
from fxcast.domain.order import ChangeAnswer, Fill, OrderStatus, Transaction
from tests.brokers.oanda_account import ACCOUNT, Json, OandaAccount
from tests.brokers.oanda_server import TOKEN, Fault, OandaServer
from tests.brokers.oanda_trading import broker_of
from tests.crash.hooks import Call, Kill
from tests.crash.nursery import Birth, Child, Nursery
from tests.crash.oanda_world import Market, OandaLife, live
from tests.crash.points import OANDA_CASES, OANDA_CHANGE, OANDA_CLOSE, OANDA_ENTRY, Case, Moment, case_words
from tests.crash.remains import Record, assert_same, read_calls, read_intents, read_ledger
from tests.crash.world import START, new_world
from tests.waiting import wait_for

KILLED = -signal.SIGKILL
_SENDS = {
    "entry": (OANDA_ENTRY, "POST", "orders"),
    "close": (OANDA_CLOSE, "POST", "orders"),
    "change": (OANDA_CHANGE, "PUT", "trades"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """A run that was left alone: its calls, and how it ended."""

    calls: Sequence[Call]
    record: Record
    transactions: Sequence[Json]

    def kill(self, case: Case) -> Kill:
        moment, point = case
        return point.kill(self.calls, moment.find(self.calls))

    def sent_before(self, moment: Moment, method: str) -> int:
        """Count what was sent by one of HTTP's methods before a moment."""
        names = ("broker.modify_order",) if method == "PUT" else ("broker.place_order", "broker.close_position")
        number = moment.find(self.calls)
        return sum(call.moment < number and call.name in names for call in self.calls)


class World:
    """A ledger and an account, and the processes that run on them, one after the other."""

    def __init__(self, folder: Path, nursery: Nursery, server: OandaServer, market: Market) -> None:
        self.folder = folder
        self.server = server
        self.market = market
        self._nursery = nursery
        self._problem = folder / "problem"

    def begin(self, kill: Kill | None = None) -> Child:
        life = OandaLife(folder=self.folder, url=self.server.url, market=self.market.address, kill=kill)
        return self._nursery.bear(Birth(function=live, argument=life, problem_file=self._problem))

    def live(self, kill: Kill | None = None) -> int:
        """Run a process until it ends; return its exit status."""
        status = self.begin(kill).wait()
        assert not self._problem.exists(), self._problem.read_text()
        return status

    def look(self) -> None:
        """What must hold whenever an engine is dead: the account is protected, and did nothing that the ledger did not intend."""
        self.market.look()
        assert not self.market.unprotected
        intended, _ = read_intents(self.folder)
        assert set(self._filled()) <= intended, "no order was sent before it was committed"

    def assert_executed_once(self) -> Record:
        """Fail unless each order was executed once, all stops are there, and ledger and account tell the same."""
        self.market.look()
        assert not self.market.unprotected
        record, filled = read_ledger(self.folder), self._filled()
        assert filled == {each.intent.client_order_id: 1 for each in record.orders if each.status is OrderStatus.FILLED}
        assert {each.status for each in record.orders} == {OrderStatus.FILLED}
        broker = broker_of(self.server)
        # Of the last candle's orders the engine has not seen the fills yet.
        transactions = broker.transactions_since(0)
        assert record.transactions == transactions[: len(record.transactions)]
        unseen = {each.client_order_id for each in transactions[len(record.transactions) :]}
        assert unseen == record.state.pending.keys()
        held = {each.position.client_order_id: each.position.stop for each in record.state.positions.values()}
        stops = {each.client_order_id: each.stop for each in broker.positions() if each.client_order_id not in unseen}
        assert held == stops
        broker.close()
        return record

    def assert_as(self, undisturbed: Undisturbed) -> None:
        """Fail if the ledger or the account ended otherwise than after a run that was left alone."""
        record = self.assert_executed_once()
        assert self.server.account.transactions == undisturbed.transactions
        assert_same(record, undisturbed.record)

    def _filled(self) -> Counter[str]:
        """Count the fills of each order, by the client's id."""
        return Counter(fill["clientOrderID"] for fill in self.server.account.fills if "clientOrderID" in fill)


@pytest.fixture(scope="module")
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack, pytest.MonkeyPatch.context() as environment:
        environment.setenv(OANDA_TOKEN, TOKEN)
        environment.setenv(OANDA_ACCOUNT, ACCOUNT)
        yield stack


@pytest.fixture(scope="module")
def nursery(opened: ExitStack) -> Nursery:
    return opened.enter_context(Nursery())


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    new_world(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(empty: Path, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    with ExitStack() as stack:
        calm = _world(empty, nursery, tmp_path_factory.mktemp("calm"), stack)
        assert calm.live() == 0
        record = calm.assert_executed_once()
        return Undisturbed(calls=read_calls(calm.folder), record=record, transactions=calm.server.account.transactions)


@pytest.fixture
def world(empty: Path, nursery: Nursery, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield _world(empty, nursery, tmp_path, stack)


def _world(empty: Path, nursery: Nursery, folder: Path, stack: ExitStack) -> World:
    shutil.copytree(empty, folder, dirs_exist_ok=True)
    server = stack.enter_context(OandaServer(OandaAccount(clock=lambda: START)))
    return World(folder, nursery, server, stack.enter_context(Market(server, folder / "market")))


def test_the_undisturbed_run_opens_closes_changes_and_stops_out(undisturbed: Undisturbed) -> None:
    reasons = {each["reason"] for each in undisturbed.transactions if each["type"] == "ORDER_FILL"}
    assert reasons >= {"MARKET_ORDER", "STOP_LOSS_ORDER"}
    assert {each.answer for each in undisturbed.record.changes} == {ChangeAnswer(accepted=True)}
    assert len(undisturbed.record.changes) > 3
    assert any(each.intent.client_order_id.endswith("-close") for each in undisturbed.record.orders)


@pytest.mark.parametrize("case", OANDA_CASES, ids=case_words)
def test_a_process_killed(case: Case, world: World, undisturbed: Undisturbed) -> None:
    assert world.live(undisturbed.kill(case)) == KILLED
    world.look()
    assert world.live() == 0
    world.assert_as(undisturbed)


@pytest.mark.parametrize("sent", list(_SENDS))
def test_a_process_killed_after_the_broker_did_it_and_before_the_answer_was_read(
    sent: str, world: World, undisturbed: Undisturbed
) -> None:
    _killed_in_a_request(world, undisturbed, sent, Fault.SILENT_AFTER)
    assert world.live() == 0
    world.assert_as(undisturbed)


@pytest.mark.parametrize("sent", list(_SENDS))
def test_a_process_killed_before_its_request_arrived_which_never_does(sent: str, world: World, undisturbed: Undisturbed) -> None:
    _killed_in_a_request(world, undisturbed, sent, Fault.SILENT_BEFORE)
    assert world.live() == 0
    world.assert_as(undisturbed)


@pytest.mark.parametrize("sent", list(_SENDS))
def test_a_process_killed_before_its_request_arrived_which_does_before_the_next_process_asks(
    sent: str, world: World, undisturbed: Undisturbed
) -> None:
    _killed_in_a_request(world, undisturbed, sent, Fault.LATE)
    world.server.run_late()
    assert world.live() == 0
    world.assert_as(undisturbed)


def test_an_entry_of_a_killed_process_that_arrives_after_the_next_one_sent_it_again_is_executed_once(
    world: World, undisturbed: Undisturbed
) -> None:
    _killed_in_a_request(world, undisturbed, "entry", Fault.LATE)
    world.market.once = world.server.run_late  # the next process has recovered, and reads its first candle
    assert world.live() == 0
    record = world.assert_executed_once()
    refused = [each["reason"] for each in world.server.account.transactions if each["type"] == "ORDER_CANCEL"]
    assert refused.count("CLIENT_TRADE_ID_ALREADY_EXISTS") == 1, "it did arrive"
    assert _unnumbered(record.transactions) == _unnumbered(undisturbed.record.transactions)
    assert record.equity == undisturbed.record.equity
    assert record.positions == undisturbed.record.positions


def _killed_in_a_request(world: World, undisturbed: Undisturbed, sent: str, fault: Fault) -> None:
    """Kill a process while it waits for the answer to the first entry, close or change."""
    moment, method, path = _SENDS[sent]
    before = undisturbed.sent_before(moment, method)
    world.server.fail(fault, path, method, skip=before)
    child = world.begin()
    wait_for(lambda: world.server.calls(f"{method} {path}") > before)
    child.kill()
    assert child.wait() == KILLED
    world.look()


def _unnumbered(transactions: Sequence[Transaction]) -> list[Transaction]:
    """Fills without the broker's count, which goes on with every refused order."""
    return [replace(each, sequence=0) for each in transactions if isinstance(each, Fill)]
