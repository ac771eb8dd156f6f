"""Folds of chosen values, beside the search: what pruned trials left out, the winner's neighbours, a trial run again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ray

from fxcast.tuning.trial import FoldEvaluator, FoldScore, Resources, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedFold:
    """One fold of some values.

    Attributes:
        trial: Number that names what the evaluation keeps on disk.
    """

    values: Values
    fold: int
    trial: int


def evaluate_folds(
    evaluator: FoldEvaluator,
    wanted: Sequence[WantedFold],
    resources: Resources,
    *,
    at_once: int,
    keep: Callable[[int, FoldScore], None] | None = None,
    show: Callable[[int, int], None] | None = None,
) -> list[FoldScore]:
    """Evaluate folds side by side on the connected cluster; return their scores in the order in which they were asked for.

    Args:
        at_once: No more than so many; where their work is tasks of their own, nothing else keeps them from starting all.
        keep: Called with the position of one that was asked for and its score, as soon as it is done: what is done then outlives
            this process.
        show: Called with how many are done, and all.
    """
    shared = ray.put(evaluator)
    scores: dict[int, FoldScore] = {}
    running: dict[ray.ObjectRef[FoldScore], int] = {}
    waiting = list(enumerate(wanted))[::-1]
    task = _evaluate_task.options(num_cpus=resources.cpus, num_gpus=resources.gpus)
    while waiting or running:
        while waiting and len(running) < at_once:
            position, one = waiting.pop()
            running[task.remote(shared, dict(one.values), one.fold, one.trial)] = position
        done, _ = ray.wait(list(running))
        for each in done:
            position = running.pop(each)
            scores[position] = ray.get(each)
            if keep is not None:
                keep(position, scores[position])
        if show is not None:
            show(len(scores), len(wanted))
    return [scores[position] for position in range(len(wanted))]


@ray.remote(max_retries=2)
def _evaluate_task(evaluator: FoldEvaluator, values: Values, fold: int, trial: int) -> FoldScore:
    return evaluator.evaluate(values, fold, trial=trial)
