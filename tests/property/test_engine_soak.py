"""The engine in a world of bad luck: hypothesis decides what happens next, and tests/soak/invariants.py what must hold after it.

`make soak` does the same at random for weeks.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fxcast.domain.order import OrderStatus
from fxcast.trading.state import KillSwitch
from tests.soak.faults import ArmedFaults, Fault
from tests.soak.market import Market, make_market
from tests.soak.records import KeptInMemory
from tests.soak.world import Setup, World, soak_market, soak_trading

# Those that the others need for conversion, and two crosses.
_PAIRS = ("EURUSD", "USDJPY", "EURJPY", "GBPUSD", "EURGBP")
_STARTS = (
    datetime(2017, 2, 7, 8, tzinfo=UTC),  # a Tuesday, London's morning
    datetime(2017, 2, 10, 15, tzinfo=UTC),  # a Friday: the weekend comes
    datetime(2017, 3, 10, 18, tzinfo=UTC),  # the weekend on which New York's clocks change
)


@cache
def market(start: datetime) -> Market:
    return make_market("1h", start=start, weeks=1, seed=start.day, pairs=_PAIRS)


def new_world(start: datetime, *, seed: int, faults: ArmedFaults, bold: bool = False) -> World:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    kept = KeptInMemory(soak_market(seed))
    return World(Setup(market=market(start), trading=soak_trading((240, 480), bold=bold), kept=kept, seed=seed), faults)


def unsent_order() -> World:
    """A world in which the process was killed between the commit of an order and its sending."""
    faults = ArmedFaults()
    world = new_world(_STARTS[0], seed=1, faults=faults)
    faults.arm_send(Fault.KILLED_BEFORE)
    while not world.counts["crashes"]:
        world.move_on()
        world.follow(tries=1)
    (unsent,) = [each for each in world.setup.kept.ledger.unresolved_orders() if each.status is OrderStatus.SENT]
    assert world.setup.kept.broker.order(unsent.intent.client_order_id) is None
    return world


@pytest.mark.parametrize("kill_switch", [KillSwitch.REDUCING, KillSwitch.HALTED])
def test_entry_that_a_kill_kept_from_being_sent_stays_unsent_when_a_person_has_thrown_the_switch(kill_switch: KillSwitch) -> None:
    world = unsent_order()
    world.throw(kill_switch)
    assert world.follow()
    assert world.watch.violations == []
    assert world.setup.kept.broker.book.orders_taken == 0


def test_entry_that_a_kill_kept_from_being_sent_is_sent_by_the_next_process() -> None:
    world = unsent_order()
    assert world.follow()
    assert world.setup.kept.broker.book.orders_taken > 0


def test_close_that_a_person_was_faster_than_is_found_again_after_a_restart() -> None:
    world = new_world(_STARTS[0], seed=1, faults=ArmedFaults())
    broker = world.setup.kept.broker
    while not any(each.closes for each in broker.book.working.values()):
        world.move_on()
        assert world.follow()
    while broker.positions():
        world.person.close()
    assert world.look()
    world.kill()
    assert world.follow()
    world.move_on()
    world.settles()
    assert world.watch.violations == []


def test_negative_free_margin_is_told_once() -> None:
    world = new_world(_STARTS[0], seed=1, faults=ArmedFaults())
    broker = world.setup.kept.broker
    world.move_on()
    assert world.follow()
    world.person.open(of_equity=Decimal(36))
    assert broker.account().free_margin < 0
    for _ in range(3):
        world.move_on()
        assert world.follow()
        assert broker.account().free_margin < 0
    assert world.setup.kept.newest_margin_event() == world.setup.market.moments[1], "the first candle after it, and none later"
    assert world.watch.violations == []


class EngineInBadLuck(RuleBasedStateMachine):
    """One engine, from its first start to a quiet end."""

    @initialize(start=st.sampled_from(_STARTS), seed=st.integers(1, 99), bold=st.booleans())
    def begins(self, start: datetime, seed: int, bold: bool) -> None:
        self.faults = ArmedFaults()
        self.world = new_world(start, seed=seed, faults=self.faults, bold=bold)
        self.candles(6)

    @rule(count=st.integers(1, 6))
    def candles(self, count: int) -> None:
        """Candles close, and the engine follows."""
        for _ in range(count):
            if not self.world.is_over:
                self.world.move_on()
                self.world.follow()

    @rule()
    def candle_given_up(self) -> None:
        """A candle closes, and the world does not wait until the engine has recovered from what went wrong with it."""
        if not self.world.is_over:
            self.world.move_on()
            self.world.follow(tries=1)

    @rule(count=st.integers(1, 3))
    def candles_unseen(self, count: int) -> None:
        """Candles close while the engine is away, or its feed silent."""
        for _ in range(count):
            if not self.world.is_over:
                self.world.move_on()

    @rule()
    def looks(self) -> None:
        self.world.look()

    @rule(fault=st.sampled_from(Fault), nth=st.integers(1, 30))
    def bad_luck_ahead(self, fault: Fault, nth: int) -> None:
        self.faults.arm(fault, nth=nth)

    @rule(fault=st.sampled_from((Fault.LOST_ANSWER, Fault.LOST_CALL, Fault.DISCONNECTED, Fault.KILLED_BEFORE, Fault.KILLED_AFTER)))
    def next_send_fails(self, fault: Fault) -> None:
        self.faults.arm_send(fault)

    @rule()
    def killed(self) -> None:
        self.world.kill()

    @rule(port=st.sampled_from(("broker", "ledger")))
    def outage(self, port: str) -> None:
        self.world.line.down.symmetric_difference_update({port})

    @rule()
    def forecasts_come_or_go(self) -> None:
        self.world.forecaster.down = not self.world.forecaster.down

    @rule(act=st.sampled_from(("tighten", "loosen", "remove_stop", "move_target", "close", "close_part", "open", "leave")))
    def person_acts(self, act: str) -> None:
        getattr(self.world.person, act)()

    @rule(kill_switch=st.sampled_from(KillSwitch), directly=st.booleans())
    def kill_switch_thrown(self, kill_switch: KillSwitch, directly: bool) -> None:
        self.world.throw(kill_switch, directly=directly)

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def nothing_is_wrong(self) -> None:
        assert not self.world.watch.violations, "\n".join(self.world.watch.violations)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.faults.clear()
            self.world.settles()
            self.nothing_is_wrong()


EngineInBadLuck.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestEngineInBadLuck = EngineInBadLuck.TestCase
