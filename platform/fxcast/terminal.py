"""What people see: a console, and progress bars for whatever takes longer than a few seconds."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_WIDTH_OFF_TERMINAL = 128  # of a log or a pipe


def new_console() -> Console:
    """Return a console on standard output."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH_OFF_TERMINAL)


def progress_bar() -> Progress:
    """Return a progress bar with count, time taken and time left; off a terminal it prints its end state once."""
    return Progress(
        TextColumn("{task.description:<32}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=new_console(),
    )
