"""The engine's process is killed with SIGKILL at every point between reading a candle and recording its fills, and started again.

The ledger is SQLite and the broker the paper broker's file, both as they are; only the ports between them and the engine are
wrapped, so that the process kills itself at the point (tests/crash). Whatever the point, the ledger and the broker end as after a
run that was left alone.
"""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from fxcast.domain.order import Fill, FillReason, Financing, OrderPurpose, OrderStatus, Transaction
from fxcast.trading.ports import RiskEventKind
from fxcast.trading.simulation.book import Book
from fxcast.trading.state import KillSwitch
from tests.crash.hooks import Call, Kill
from tests.crash.nursery import Birth, Nursery
from tests.crash.points import (
    CASES,
    COMMITTED,
    RECOVERIES,
    SENDS_AN_ORDER,
    Case,
    case_words,
    recovery_words,
)
from tests.crash.remains import Record, assert_same, read_broker, read_calls, read_intents, read_ledger
from tests.crash.world import HOUR, MOMENTS, Life, live, new_world

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as running:
        yield running


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """A run that was left alone: its calls, and how it ended."""

    calls: Sequence[Call]
    record: Record
    book: Book
    transactions: tuple[Transaction, ...]

    def kill(self, case: Case) -> Kill:
        moment, point = case
        return point.kill(self.calls, moment.find(self.calls))


class World:
    """A ledger and a broker, and the processes that run on them, one after the other."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self.folder = folder
        self._nursery = nursery

    def live(self, kill: Kill | None = None, *, pause: timedelta = timedelta(0)) -> int:
        """Run a process until it ends; return its exit status."""
        problem, life = self.folder / "problem", Life(folder=self.folder, kill=kill, pause=pause)
        status = self._nursery.bear(Birth(function=live, argument=life, problem_file=problem)).wait()
        assert not problem.exists(), problem.read_text()
        return status

    def look(self) -> None:
        """What must hold whenever an engine is dead: its broker protects, and did nothing that the ledger did not intend."""
        book, transactions = read_broker(self.folder)
        intended, taken_in = read_intents(self.folder)
        assert all(position.stop is not None for position in book.positions.values())
        assert {*book.working, *book.settled} <= intended, "no order was sent before it was committed"
        assert taken_in == transactions[: len(taken_in)]

    def assert_as(self, undisturbed: Undisturbed) -> None:
        """Fail if the ledger or the broker ended otherwise than after a run that was left alone."""
        book, transactions = read_broker(self.folder)
        record = read_ledger(self.folder)
        assert transactions == undisturbed.transactions
        assert book == undisturbed.book
        assert_same(record, undisturbed.record)
        assert record.transactions == transactions, "the ledger is equal to the broker's"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    new_world(folder)
    return folder


@pytest.fixture
def world(empty: Path, nursery: Nursery, tmp_path: Path) -> World:
    return _copied(empty, nursery, tmp_path)


@pytest.fixture(scope="module")
def undisturbed(empty: Path, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    calm = _copied(empty, nursery, tmp_path_factory.mktemp("calm"))
    assert calm.live() == 0
    book, transactions = read_broker(calm.folder)
    return Undisturbed(calls=read_calls(calm.folder), record=read_ledger(calm.folder), book=book, transactions=transactions)


def _copied(empty: Path, nursery: Nursery, folder: Path) -> World:
    shutil.copytree(empty, folder, dirs_exist_ok=True)
    return World(folder, nursery)


def test_the_undisturbed_run_has_everything_that_may_be_lost(undisturbed: Undisturbed) -> None:
    record = undisturbed.record
    assert record.transactions == undisturbed.transactions
    assert len(record.equity) == MOMENTS
    assert {each.intent.purpose for each in record.orders} == set(OrderPurpose)
    assert {each.status for each in record.orders} >= {OrderStatus.FILLED, OrderStatus.REJECTED, OrderStatus.CANCELLED}
    assert {each.reason for each in record.transactions if isinstance(each, Fill)} >= {FillReason.MARKET, FillReason.STOP}
    assert any(isinstance(each, Financing) for each in record.transactions)
    assert all(change.answer is not None and change.answer.accepted for change in record.changes)
    assert len(record.changes) >= 3
    assert {each.kind for each in record.risk_events} >= {RiskEventKind.KILL_SWITCH, RiskEventKind.REJECTION}
    assert [each.kill_switch for each in record.requests] == [KillSwitch.REDUCING, KillSwitch.ACTIVE]
    assert all(regime.model is not None for regime in record.state.regimes.values())


def test_the_table_of_points_names_every_call_that_a_candle_leads_to(undisturbed: Undisturbed) -> None:
    made = {call.name for call in undisturbed.calls if call.moment > 0}
    assert made == {point.call for _, point in CASES}


@pytest.mark.parametrize("case", CASES, ids=case_words)
def test_a_process_killed(case: Case, world: World, undisturbed: Undisturbed) -> None:
    assert world.live(undisturbed.kill(case)) == KILLED
    world.look()
    assert world.live() == 0
    world.assert_as(undisturbed)


@pytest.mark.parametrize(
    ("case", "second"),
    [(case, kill) for case, _, kill in RECOVERIES],
    ids=[recovery_words(case, words) for case, words, _ in RECOVERIES],
)
def test_a_process_killed_and_the_next_one_as_it_recovers(case: Case, second: Kill, world: World, undisturbed: Undisturbed) -> None:
    for kill in (undisturbed.kill(case), second):
        assert world.live(kill) == KILLED
        world.look()
    assert world.live() == 0
    world.assert_as(undisturbed)


@pytest.mark.parametrize(
    "second",
    [
        None,
        Kill(call="ledger.commit", nth=1, after=True),
        Kill(call="ledger.mark_order", nth=1, after=False),
        Kill(call="ledger.mark_order", nth=1, after=True),
    ],
    ids=["left alone", "killed after the drop was committed", "killed before it was marked", "killed after it was marked"],
)
def test_an_entry_that_was_never_sent_is_dropped_by_a_process_that_starts_too_late(
    second: Kill | None, world: World, undisturbed: Undisturbed
) -> None:
    assert world.live(undisturbed.kill((SENDS_AN_ORDER, COMMITTED))) == KILLED
    (unsent,) = (each for each in read_ledger(world.folder).orders if each.status is OrderStatus.INTENT)
    if second is not None:
        assert world.live(second, pause=2 * HOUR) == KILLED
        world.look()
    assert world.live(pause=2 * HOUR) == 0
    record, (book, transactions) = read_ledger(world.folder), read_broker(world.folder)
    (dropped,) = (each for each in record.orders if each.intent == unsent.intent)
    assert dropped.status is OrderStatus.CANCELLED
    assert dropped.reason == "it never reached the broker and is no longer valid"
    assert unsent.intent.client_order_id not in {*book.working, *book.settled}
    assert unsent.intent.client_order_id not in record.state.pending
    assert len([each for each in record.risk_events if unsent.intent.client_order_id in each.detail]) == 1
    assert record.transactions == transactions
    assert len(record.equity) == MOMENTS
    assert len(transactions) > 5, "the engine goes on"


@pytest.mark.parametrize("seed", [1, 2])
def test_processes_that_are_each_killed_after_a_candle_or_two_get_to_the_end_together(
    seed: int, world: World, undisturbed: Undisturbed
) -> None:
    draw = random.Random(seed)
    names = sorted({call.name for call in undisturbed.calls if call.moment > 0})
    for lives in range(1, 200):
        kill = Kill(call=draw.choice(names), nth=draw.randint(1, 3), after=draw.random() < 0.5)
        if world.live(kill) == 0:
            assert lives > 5
            break
        world.look()
    world.assert_as(undisturbed)
