"""Processes to be killed: a process without threads that has imported everything forks one after the other.

The tests' own process can't fork them, as it may have threads (Ray's, a server's); and to start Python each time would take most
of the time of a test.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from traceback import format_exc
from types import TracebackType
from typing import Any, BinaryIO, Self

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What a process is to do; the function is a module's, and what it raises is written to `problem_file`."""

    function: Callable[[Any], None]
    argument: Any
    problem_file: Path


class Child:
    """A process that runs."""

    def __init__(self, pid: int, nursery: Nursery) -> None:
        self.pid = pid
        self._nursery = nursery

    def kill(self) -> None:
        """Kill it from outside; it must still run."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Return its exit status once it has ended, below zero for the signal that ended it."""
        return os.waitstatus_to_exitcode(self._nursery.answer())


class Nursery:
    """A context manager; one process at a time."""

    def __enter__(self) -> Self:
        with ExitStack() as started:
            self._process = started.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.crash.nursery"],
                    cwd=_ROOT,
                    env={**os.environ, "PYTHONPATH": f"{_ROOT / 'platform'}{os.pathsep}{_ROOT}"},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            self._started = started.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it ends
        self._started.close()

    def bear(self, birth: Birth) -> Child:
        """Begin a process; it must have ended before the next one begins."""
        assert self._process.stdin is not None
        pickle.dump(birth, self._process.stdin)
        self._process.stdin.flush()
        return Child(self.answer(), self)

    def answer(self) -> int:
        assert self._process.stdout is not None
        return pickle.load(self._process.stdout)  # noqa: S301  # from our own child


def _serve() -> None:
    """Fork a process for each birth that is read, and say its pid, then how it ended."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is logged must not come between the answers
    with tempfile.TemporaryDirectory() as folder:
        from tests.crash.world import prepare  # only here: who asks for processes need not know what they run

        prepare(Path(folder))
    gc.freeze()  # a child that collected what it shares would copy it
    while True:
        try:
            birth: Birth = pickle.load(sys.stdin.buffer)  # noqa: S301  # from our own parent
        except EOFError:
            return
        pid = os.fork()
        if pid == 0:
            _run(birth)
        _say(answers, pid)
        _say(answers, os.waitpid(pid, 0)[1])


def _say(answers: BinaryIO, number: int) -> None:
    pickle.dump(number, answers)
    answers.flush()


def _run(birth: Birth) -> None:
    try:
        birth.function(birth.argument)
    except BaseException:  # noqa: BLE001  # whatever it is, the process that asked for this one has to see it
        birth.problem_file.write_text(format_exc())
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _serve()
