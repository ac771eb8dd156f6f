"""A trial at work: an actor of Ray Tune that trades one fold after the other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray import ObjectRef, tune
from ray.air.constants import TRAINING_ITERATION

from fxcast.tuning.trial import FoldEvaluator, FoldScore, Resources, Value, Values

FOLD_SCORE = "fold_score"  # in what a step tells Tune, until `tune_pruning` takes it out

# Tune gives each trial a placement group, which can't be empty; one byte of memory, and CPUs stay with the work itself.
_NEXT_TO_NOTHING = {"memory": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedEvaluator:
    """What evaluates folds, once in the object store.

    Attributes:
        in_own_task: Whether a fold is a task outside of the trial's placement group, so that what it starts in turn finds room;
            Tune makes the tasks of a trial's actor share what the actor has reserved.
    """

    evaluator: ObjectRef[FoldEvaluator]
    in_own_task: bool


class TrialRun(tune.Trainable):
    """A trial of Ray Tune: each step is a fold, and what it scored goes to the search, which says whether to go on.

    Of its config it reads `number`, `values` and `first_fold`. An actor takes one trial after the other, and keeps the evaluator.
    """

    def setup(self, config: dict[str, Any], shared: SharedEvaluator | None = None) -> None:
        """Take the first trial."""
        assert shared is not None, "tune.with_parameters passes it"
        self._shared = shared
        self._evaluator = None if shared.in_own_task else ray.get(shared.evaluator)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial."""
        self._number: int = new_config["number"]
        self._values: dict[str, Value] = new_config["values"]
        self._fold: int = new_config["first_fold"]
        # Tune moves the process into the trial's folder; a path must mean the same here as everywhere else.
        os.chdir(os.environ["TUNE_ORIG_WORKING_DIR"])
        return True

    def step(self) -> dict[str, Any]:
        """Trade the next fold."""
        fold = self._fold
        if self._evaluator is None:
            task = _evaluate_task.remote(self._shared.evaluator, self._values, fold, self._number)
            score: FoldScore = ray.get(task)
        else:
            score = self._evaluator.evaluate(self._values, fold, trial=self._number)
        self._fold += 1
        return {FOLD_SCORE: score, TRAINING_ITERATION: fold}


def share(evaluator: FoldEvaluator, resources: Resources) -> SharedEvaluator:
    """Put an evaluator into the object store, for trials with these resources."""
    return SharedEvaluator(evaluator=ray.put(evaluator), in_own_task=not resources.cpus and not resources.gpus)


def tune_resources(resources: Resources) -> Mapping[str, float]:
    """Return what a trial's actor reserves, as Tune spells it."""
    wanted = {"cpu": resources.cpus, "gpu": resources.gpus}
    return {name: amount for name, amount in wanted.items() if amount} or _NEXT_TO_NOTHING


# "DEFAULT" leaves the placement group of the trial; a crash is the trial's, which is tried again as a whole.
@ray.remote(num_cpus=0, max_retries=0, scheduling_strategy="DEFAULT")
def _evaluate_task(evaluator: FoldEvaluator, values: Values, fold: int, trial: int) -> FoldScore:
    return evaluator.evaluate(values, fold, trial=trial)
