"""The engine in a world of bad luck: hypothesis decides what happens next, and tests/soak/invariants.py what must hold after it.

`make soak` does the same at random for weeks.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import cache

import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fxcast.trading.state import KillSwitch
from tests.soak.faults import ArmedFaults, Fault
from tests.soak.market import Market, make_market
from tests.soak.records import KeptInMemory
from tests.soak.world import Setup, World, soak_market, soak_trading

# Four pairs that need each other for conversion: a quarter of the time of eight, and the same code.
_PAIRS = ("EURUSD", "USDJPY", "EURJPY", "GBPUSD", "EURGBP")
_STARTS = (
    datetime(2017, 2, 7, 8, tzinfo=UTC),  # a Tuesday, London's morning
    datetime(2017, 2, 10, 15, tzinfo=UTC),  # a Friday: the weekend comes
    datetime(2017, 3, 10, 18, tzinfo=UTC),  # the weekend on which New York's clocks change
)


@cache
def market(start: datetime) -> Market:
    return make_market("1h", start=start, weeks=1, seed=start.day, pairs=_PAIRS)


class EngineInBadLuck(RuleBasedStateMachine):
    """One engine, from its first start to a quiet end."""

    @initialize(start=st.sampled_from(_STARTS), seed=st.integers(1, 99), bold=st.booleans())
    def begins(self, start: datetime, seed: int, bold: bool) -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        self.faults = ArmedFaults()
        self.world = World(
            Setup(
                market=market(start),
                trading=soak_trading((240, 480), bold=bold),
                kept=KeptInMemory(soak_market(seed)),
                seed=seed,
            ),
            self.faults,
        )
        self.candles(6)

    @rule(count=st.integers(1, 6))
    def candles(self, count: int) -> None:
        """Candles close, and the engine follows."""
        for _ in range(count):
            if not self.world.is_over:
                self.world.move_on()
                self.world.follow()

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
    max_examples=600, stateful_step_count=40, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow]
)
TestEngineInBadLuck = EngineInBadLuck.TestCase
