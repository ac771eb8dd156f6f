"""When a search ends."""

from __future__ import annotations

from collections.abc import Sequence

from fxcast.performance.wording import count, number
from fxcast.tuning.trial import Budget


def ended(budget: Budget, *, asked: int, scores: Sequence[float | None], seconds: float) -> str:
    """Say why no further trial is begun; empty if one is.

    Only the time depends on the machine: a search that it ended may end elsewhere after a machine of another speed.

    Args:
        asked: Trials so far, whatever became of them.
        scores: By number; None for a trial that was stopped or failed.
        seconds: That the search has taken, with the earlier parts of a resumed one.
    """
    if asked >= budget.trials:
        return f"the budget of {count(budget.trials, 'trial')} is used up"
    if budget.seconds is not None and seconds >= budget.seconds:
        return f"the budget of {number(budget.seconds, 0)} seconds is used up"
    since = _since_best(scores)
    if budget.patience is not None and since >= budget.patience:
        return f"{count(since, 'trial')} in a row brought nothing better"
    return ""


def _since_best(scores: Sequence[float | None]) -> int:
    """Return how many trials came after the first one that has the best score; all, if none has one."""
    best, since = None, 0
    for score in scores:
        since += 1
        if score is not None and (best is None or score > best):
            best, since = score, 0
    return since
