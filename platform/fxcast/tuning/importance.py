"""How much of the spread of the trials' scores each parameter explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from fxcast.tuning.space import SearchSpace
from fxcast.tuning.trial import Trial, TrialState

LEAST_TRIALS = 10  # complete ones; a forest of fewer tells noise
_NO_SPREAD = 1e-12


def importances(trials: Sequence[Trial], space: SearchSpace, seed: int) -> Mapping[str, float]:
    """Return the share of the scores' variance that each parameter explains by itself, largest first; they add up to 1.

    fANOVA, because it answers what is asked: how much of the variance over the whole space is due to a parameter. PED-ANOVA,
    Optuna's default, says what the best tenth have in common, which is six trials of sixty. A trial that was stopped early has a
    score of fewer folds, which is another figure: only complete trials count.

    Returns:
        By path. Empty for fewer than `LEAST_TRIALS` complete trials, and where all scored the same.

    Source: Hutter, Hoos & Leyton-Brown 2014, An efficient approach for assessing hyperparameter importance, as `optuna` has it.
    """
    scores = {trial: trial.measures.score for trial in trials if trial.state is TrialState.COMPLETE and trial.measures is not None}
    if len(scores) < LEAST_TRIALS or np.ptp(list(scores.values())) <= _NO_SPREAD:
        return {}
    distributions = space.distributions()
    study = _quiet_study()
    study.add_trials(
        optuna.create_trial(params=space.encode(trial.values), distributions=distributions, value=score)
        for trial, score in scores.items()
    )
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    return {path: float(share) for path, share in sorted(found.items(), key=lambda each: (-each[1], each[0]))}


def _quiet_study() -> optuna.Study:
    """Return an empty study in memory; that it was made is no news for the terminal."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)
