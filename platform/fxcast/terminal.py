"""What people see: a console, and progress bars for whatever takes longer than a few seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_WIDTH_OFF_TERMINAL = 128  # of a log or a pipe
_TOLD_EVERY_S = 30.0


def new_console() -> Console:
    """Return a console on standard output."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH_OFF_TERMINAL)


class _TellingProgress(Progress):
    """A progress that off a terminal, as in a job's log, is also told now and then while it goes on."""

    def __init__(self, *columns: ProgressColumn, every_s: float) -> None:
        super().__init__(*columns, console=new_console())
        self._every_s = every_s
        self._told_s = time.monotonic()

    def update(self, *args: Any, **kwargs: Any) -> None:  # pyright: ignore[reportImplicitOverride]
        super().update(*args, **kwargs)
        self._tell()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:  # pyright: ignore[reportImplicitOverride]
        super().advance(task_id, advance)
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if self.console.is_terminal or now - self._told_s < self._every_s or self.finished:
            return
        self._told_s = now
        self.console.print(self.get_renderable())


def progress_bar(*, every_s: float = _TOLD_EVERY_S) -> Progress:
    """Return a progress bar with count, time taken and time left.

    Args:
        every_s: How often it is printed while it goes on where there is no terminal; its end state always is.
    """
    return _TellingProgress(
        TextColumn("{task.description:<32}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        every_s=every_s,
    )
