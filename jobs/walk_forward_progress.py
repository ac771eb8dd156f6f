"""How far a walk-forward is: a bar a fold with what it is at, one for all, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from rich.progress import Progress, TaskID

from fxcast.backtest.folds import Fold


def seconds_left(done: Sequence[float], running: Sequence[float], waiting: int, at_once: int) -> float | None:
    """Return about how long the folds that are not done will take; None before one is done.

    Args:
        done: How long each finished fold took.
        running: How long each has taken so far that is being done.
        waiting: How many have not begun.
        at_once: How many are done side by side.
    """
    if not done:
        return None
    mean = sum(done) / len(done)
    rest = sum(max(mean - each, 0.0) for each in running) + mean * waiting
    return rest / max(1, min(at_once, len(running) + waiting))


class FoldBars:
    """Shows folds as they are done; its methods may be called from any thread.

    Args:
        progress: Which is running.
        known: How long those took that were done before, by number.
    """

    def __init__(
        self,
        progress: Progress,
        folds: Sequence[Fold],
        *,
        known: Mapping[int, float],
        at_once: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress, self._clock, self._at_once = progress, clock, at_once
        self._folds = len(folds)
        self._done = dict(known)
        self._begun: dict[int, float] = {}
        self._bars: dict[int, TaskID] = {}
        self._stages: dict[int, str] = {}
        self._all = progress.add_task(self._told(), total=len(folds), completed=len(known))

    def begin(self, fold: Fold) -> None:
        """Say that a fold is begun."""
        self._begun[fold.number] = self._clock()
        self._bars[fold.number] = self._progress.add_task(f"fold {fold.number}: starting", total=None)

    def show(self, fold: Fold, stage: str, done: int, total: int) -> None:
        """Say how far a fold's stage is."""
        bar = self._bars[fold.number]
        if self._stages.get(fold.number) != stage:  # the time left is that of the stage
            self._stages[fold.number] = stage
            self._progress.reset(bar, total=total, completed=done, description=f"fold {fold.number}: {stage}")
        self._progress.update(bar, completed=done, total=total)
        self._progress.update(self._all, description=self._told())

    def finish(self, fold: Fold, said: str) -> None:
        """Say that a fold is done, and what came of it in a few words."""
        self._done[fold.number] = self._clock() - self._begun.pop(fold.number)
        self._progress.remove_task(self._bars.pop(fold.number))
        self._progress.update(self._all, completed=len(self._done), description=self._told())
        self._progress.console.print(f"fold {fold.number} of {self._folds}: {said}; {self._told()}", markup=False)

    def _told(self) -> str:
        now = self._clock()
        running = [now - begun for begun in list(self._begun.values())]
        left = seconds_left(list(self._done.values()), running, self._folds - len(self._done) - len(running), self._at_once)
        if len(self._done) == self._folds:
            return "all folds done"
        known = left is not None and left >= 1.0  # a fold that takes longer than the mean says nothing of its end
        return f"{len(self._done)} of {self._folds} folds" + (f", about {in_words(left or 0.0)} left" if known else "")


def in_words(seconds: float) -> str:
    """Return a time in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
