"""What happens in a long life besides candles: outages that last, an engine that is away, a person, the kill switch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fxcast.trading.state import KillSwitch
from tests.soak.world import World


@dataclass(frozen=True, kw_only=True)
class _Lasting:
    """Something that begins now and then, lasts some moments and ends."""

    hourly: float  # probability
    longest_hours: int
    switch: Callable[[bool], object]


class Life:
    """Lets things happen to a world, at rates by the hour whatever its candles are."""

    def __init__(self, world: World, rng: np.random.Generator, *, bars_an_hour: int) -> None:
        self._world = world
        self._rng = rng
        self._bars_an_hour = bars_an_hour
        self._left: dict[str, int] = {}  # moments until it is over
        self._thrown = False
        self._lasting = {
            "outage of the broker": _Lasting(hourly=0.008, longest_hours=6, switch=self._cut("broker")),
            "outage of the ledger": _Lasting(hourly=0.008, longest_hours=6, switch=self._cut("ledger")),
            "no forecasts": _Lasting(hourly=0.01, longest_hours=12, switch=self._silence),
            "engine away": _Lasting(hourly=0.006, longest_hours=8, switch=self._end),
            "feed silent": _Lasting(hourly=0.008, longest_hours=4, switch=lambda _: None),
        }

    def goes_on(self) -> None:
        """Live one moment: the market moves, things happen, and the engine does what it can."""
        world, share = self._world, 1 / self._bars_an_hour
        world.move_on()
        for what, lasting in self._lasting.items():
            self._pass(what, lasting, share)
        if self._rng.random() < 0.12 * share:
            world.person.act()
        if self._rng.random() < (0.25 if self._thrown else 0.015) * share:
            self._throw()
        if "engine away" in self._left:
            return
        if "feed silent" in self._left:
            world.look()
        else:
            world.follow()

    def _pass(self, what: str, lasting: _Lasting, share: float) -> None:
        if what in self._left:
            self._left[what] -= 1
            if not self._left[what]:
                del self._left[what]
                lasting.switch(False)
        elif self._rng.random() < lasting.hourly * share:
            self._left[what] = int(self._rng.integers(1, lasting.longest_hours * self._bars_an_hour + 1))
            lasting.switch(True)
            self._world.counts[what] += 1

    def _throw(self) -> None:
        switch = KillSwitch.ACTIVE
        if not self._thrown:
            switch = KillSwitch.HALTED if self._rng.random() < 0.5 else KillSwitch.REDUCING
        self._thrown = switch is not KillSwitch.ACTIVE
        self._world.throw(switch, directly=bool(self._rng.random() < 0.3))

    def _cut(self, port: str) -> Callable[[bool], object]:
        down = self._world.line.down
        return lambda begins: down.add(port) if begins else down.discard(port)

    def _silence(self, begins: bool) -> None:
        self._world.forecaster.down = begins

    def _end(self, begins: bool) -> None:
        if begins:
            self._world.kill()
