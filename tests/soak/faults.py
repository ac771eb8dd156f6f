"""What goes wrong between the engine and its ports: lost answers, lost calls, outages, kills, and a person in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol

import numpy as np

from fxcast.errors import DatabaseUnavailable, Disconnected, FxcastError, OutcomeUnknown, RateLimited
from tests.fakes import Crash


class Fault(StrEnum):
    """What happens to one call."""

    LOST_ANSWER = "answer lost after execution"
    LOST_CALL = "call lost before execution"
    DISCONNECTED = "broker disconnected"
    RATE_LIMITED = "rate limited"
    DATABASE_GONE = "database gone before commit"
    COMMIT_UNTOLD = "committed, but the database was gone before it could say so"
    KILLED_BEFORE = "killed before a call"
    KILLED_AFTER = "killed after a call"
    HAND_BETWEEN = "a person acts between two calls"


_KILLS = (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
_READS = (Fault.DISCONNECTED, Fault.RATE_LIMITED, Fault.HAND_BETWEEN, *_KILLS)
_SENDS = (Fault.LOST_ANSWER, Fault.LOST_CALL, *_READS)
_SENDING = frozenset({"broker.place_order", "broker.close_position", "broker.modify_order"})


def possible(call: str) -> tuple[Fault, ...]:
    """Return what may happen to a call, named by port and method."""
    port = call.partition(".")[0]
    if call in _SENDING:
        return _SENDS
    return {"broker": _READS, "ledger": (Fault.DATABASE_GONE, Fault.COMMIT_UNTOLD, *_KILLS)}.get(port, _KILLS)


class Faults(Protocol):
    """Decides what happens to each call."""

    def strike(self, call: str) -> Fault | None: ...


class RandomFaults:
    """Strikes each call with a probability; sends more often, since they are few and matter most, candles less, as they are many.

    Args:
        rate: Of a read or of a commit.
        send_rate: Of a send.
    """

    def __init__(self, rng: np.random.Generator, *, rate: float, send_rate: float) -> None:
        self.enabled = True
        self._rng = rng
        self._rate = rate
        self._send_rate = send_rate

    def strike(self, call: str) -> Fault | None:
        rate = self._send_rate if call in _SENDING else self._rate
        if call.startswith("market."):  # eight candles a moment
            rate /= 8
        if not self.enabled or self._rng.random() >= rate:
            return None
        kinds = possible(call)
        return kinds[int(self._rng.integers(len(kinds)))]


class ArmedFaults:
    """Strikes the calls that it was told to."""

    def __init__(self) -> None:
        self._armed: list[tuple[Fault, int]] = []
        self._sends: list[Fault] = []

    def arm(self, fault: Fault, *, nth: int) -> None:
        """Let a fault happen to the n-th call that it can happen to, from 1."""
        self._armed.append((fault, nth))

    def arm_send(self, fault: Fault) -> None:
        """Let a fault happen to the next order or change that is sent."""
        self._sends.append(fault)

    def clear(self) -> None:
        """Forget what was armed."""
        self._armed = []
        self._sends = []

    def strike(self, call: str) -> Fault | None:
        if call in _SENDING and self._sends:
            return self._sends.pop(0)
        kinds = possible(call)
        self._armed = [(fault, nth - 1 if fault in kinds else nth) for fault, nth in self._armed]
        struck = [fault for fault, nth in self._armed if nth == 0]
        self._armed = [(fault, nth) for fault, nth in self._armed if nth > 0]
        return struck[0] if struck else None


class Line:
    """Carries the engine's calls to its ports, or not.

    Args:
        calling: Sees each call before it is made, with what it carries.
        hand: Lets a person act.

    Attributes:
        down: Ports that do not answer at all.
        counts: Faults that happened, by kind.
    """

    def __init__(self, faults: Faults, *, calling: Callable[[str, tuple[Any, ...]], None], hand: Callable[[], None]) -> None:
        self.down: set[str] = set()
        self.counts: Counter[str] = Counter()
        self._faults = faults
        self._calling = calling
        self._hand = hand

    def wired(self, name: str, port: Any) -> Any:
        """Return a port whose methods are called over this line."""
        return _Wired(name, port, self)

    def call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make a call, or do to it what is due."""
        self._calling(name, args)
        port = name.partition(".")[0]
        if port in self.down:
            self.counts[f"call during an outage of the {port}"] += 1
            raise _gone(port)
        fault = self._faults.strike(name)
        if fault is not None:
            self.counts[fault.value] += 1
        match fault:
            case Fault.LOST_CALL:
                raise OutcomeUnknown(f"{name}: no answer")
            case Fault.DISCONNECTED | Fault.DATABASE_GONE:
                raise _gone(port)
            case Fault.RATE_LIMITED:
                raise RateLimited("the soak", 1.0)
            case Fault.KILLED_BEFORE:
                raise Crash
            case Fault.HAND_BETWEEN:
                self._hand()
            case _:
                pass
        answer = method(*args, **kwargs)
        if fault is Fault.LOST_ANSWER:
            raise OutcomeUnknown(f"{name}: no answer")
        if fault is Fault.COMMIT_UNTOLD:
            raise _gone(port)
        if fault is Fault.KILLED_AFTER:
            raise Crash
        return answer


class _Wired:
    def __init__(self, name: str, port: Any, line: Line) -> None:
        self._name = name
        self._port = port
        self._line = line

    def __getattr__(self, method_name: str) -> Any:
        method = getattr(self._port, method_name)

        def called(*args: Any, **kwargs: Any) -> Any:
            return self._line.call(f"{self._name}.{method_name}", method, *args, **kwargs)

        return called


def _gone(port: str) -> FxcastError:
    return DatabaseUnavailable("the database does not answer") if port == "ledger" else Disconnected(f"the {port} is silent")
