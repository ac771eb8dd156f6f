"""Progress bars for whatever takes longer than a few seconds."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bar() -> Progress:
    """Return a progress bar with count, time taken and time left; off a terminal it prints its end state once."""
    return Progress(
        TextColumn("{task.description:<32}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
