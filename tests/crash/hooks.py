"""Ports wrapped so that the process kills itself before or after the n-th call of one of their methods; the engine has no hook."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from sqlalchemy import Engine, event


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """When a process kills itself: before or after the `nth` call, from 1, of a method (`broker.place_order`)."""

    call: str
    nth: int
    after: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that was made.

    Attributes:
        name: Of the port and the method, as in `broker.place_order`; a candle is read by `feed.read`.
        moment: Of the candles that it was made for, from 1; 0 before the first one was read.
        told: What was answered, as far as that tells one candle from another.
    """

    name: str
    moment: int
    told: str = ""


class Hooks:
    """Counts the calls of wrapped ports, and ends the process at one of them.

    Args:
        kill: When; None: never.
        look: Is called after every call, to look at what a bystander could see.
    """

    def __init__(self, kill: Kill | None, look: Callable[[], None]) -> None:
        self.calls: list[Call] = []
        self._kill = kill
        self._look = look
        self._counts: dict[str, int] = {}
        self._moment = 0
        self._inside = ""

    def wrapped(self, name: str, port: Any) -> Any:
        """Return a port all of whose methods are counted."""
        return _Wrapped(name, port, self)

    @contextmanager
    def watching_statements(self, database: Engine) -> Generator[None]:
        """Count each statement of the ledger's commits, inside the transaction, as a call of `commit.statement`."""

        def executed(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            del connection, cursor, rest
            if self._inside == "ledger.commit" and statement.startswith(("INSERT", "UPDATE")):
                self.call("commit.statement", lambda: None)

        event.listen(database, "after_cursor_execute", executed)
        try:
            yield
        finally:
            event.remove(database, "after_cursor_execute", executed)

    def call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make a call, unless the process ends before it."""
        if name == "feed.read":
            self._moment += 1
        count = self._counts[name] = self._counts.get(name, 0) + 1
        struck = self._kill is not None and (self._kill.call, self._kill.nth) == (name, count)
        if struck and self._kill is not None and not self._kill.after:
            die()
        outside, self._inside = self._inside, name
        answer = method(*args, **kwargs)
        self._inside = outside
        self.calls.append(Call(name=name, moment=self._moment, told=_told(answer)))
        if struck:
            die()
        self._look()
        return answer


class _Wrapped:
    def __init__(self, name: str, port: Any, hooks: Hooks) -> None:
        self._name = name
        self._port = port
        self._hooks = hooks

    def __getattr__(self, method_name: str) -> Any:
        method: Any = getattr(self._port, method_name)
        if method_name == "symbols":  # a feed's, which is no method
            return method

        def called(*args: Any, **kwargs: Any) -> Any:
            return self._hooks.call(f"{self._name}.{method_name}", method, *args, **kwargs)

        def each(*args: Any, **kwargs: Any) -> Iterator[Any]:
            candles = iter(method(*args, **kwargs))
            while True:
                closed = self._hooks.call(f"{self._name}.read", next, candles, None)
                if closed is None:
                    return
                yield closed

        return each if method_name == "closed_candles" else called


def die() -> NoReturn:
    """End this process as `kill -9` does: nothing is flushed, closed or told."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process outlived SIGKILL")


def _told(answer: Any) -> str:
    """Say what tells one answer from another: a status, a refusal, a kill switch, how many transactions or orders there are."""
    if isinstance(answer, tuple):
        return str(len(answer))  # pyright: ignore[reportUnknownArgumentType]  # of whatever
    if hasattr(answer, "status"):
        return answer.status.value
    if hasattr(answer, "accepted"):
        return "accepted" if answer.accepted else "refused"
    if hasattr(answer, "kill_switch"):
        return answer.kill_switch
    return "none" if answer is None else ""
