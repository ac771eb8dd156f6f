"""How far a search is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fxcast.tuning.objective import ObjectiveConfig, best_of
from fxcast.tuning.trial import Budget, Trial, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchProgress:
    """A look at a search.

    Attributes:
        trials: Wanted at most.
        done: Finished, whatever became of them.
        pruned: Of these, stopped before their last fold.
        failed: Of these, given up.
        running: At work now.
        best: Score of the best complete trial; None while there is none.
        best_number: Its number.
        seconds: That the search has taken, earlier parts of a resumed one too.
        left_s: Seconds that the rest may take at most, at the pace of this part; None before its first trial has finished.
    """

    trials: int
    done: int
    pruned: int
    failed: int
    running: int
    best: float | None
    best_number: int | None
    seconds: float
    left_s: float | None


def search_progress(
    trials: Sequence[Trial],
    *,
    running: int,
    budget: Budget,
    objective: ObjectiveConfig,
    done_now: int,
    seconds_now: float,
    seconds: float,
) -> SearchProgress:
    """Return how far a search is.

    Args:
        trials: All that were begun.
        done_now: Finished in this part of the search.
        seconds_now: That this part has taken.
        seconds: The same with all earlier parts.
    """
    finished = [each for each in trials if each.state is not TrialState.RUNNING]
    best = best_of(finished, objective)
    return SearchProgress(
        trials=budget.trials,
        done=len(finished),
        pruned=sum(each.state is TrialState.PRUNED for each in finished),
        failed=sum(each.state is TrialState.FAILED for each in finished),
        running=running,
        best=None if best is None or best.measures is None else best.measures.score,
        best_number=None if best is None else best.number,
        seconds=seconds,
        left_s=_left(budget, done=len(finished), done_now=done_now, seconds_now=seconds_now, seconds=seconds),
    )


def _left(budget: Budget, *, done: int, done_now: int, seconds_now: float, seconds: float) -> float | None:
    if not done_now:
        return None
    left = max(0, budget.trials - done) * seconds_now / done_now
    return left if budget.seconds is None else min(left, max(0.0, budget.seconds - seconds))
