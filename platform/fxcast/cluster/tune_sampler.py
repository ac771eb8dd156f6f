"""Samplers by name, seeded for each trial of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from fxcast.cluster.tune_setup import Searcher

_RANDOM_TRIALS = 10  # before TPE or GP has enough to learn from; Optuna's own default
_POPULATION = 20  # of NSGA-II; Optuna's 50 would leave a search of a hundred trials two generations


class SeededSampler(BaseSampler):
    """A sampler whose every draw follows from the seed, the trial's number and the finished trials alone.

    A sampler that lives as long as the search has a random state that no database holds: resumed, it would draw anew. Here each
    trial has a fresh one, and so has each parameter that is drawn by itself: asked again after a kill in the middle of
    asking, a trial gets what it would have got.

    Args:
        searcher: tpe (Bergstra et al. 2011, multivariate: Falkner et al. 2018, arXiv:1807.01774), gp (Gaussian process with
            expected improvement), nsga2 (Deb et al. 2002) or random.
    """

    def __init__(self, searcher: Searcher, seed: int) -> None:
        self._searcher: Searcher = searcher
        self._seed = seed
        self._current: tuple[int, BaseSampler] | None = None

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Begin a trial."""
        self._of(trial.number).before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return which parameters are drawn together."""
        self._current = None
        return self._of(trial.number).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Draw parameters together."""
        return self._of(trial.number).sample_relative(study, trial, search_space)

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:  # noqa: ANN401  # Optuna's own signature
        """Draw a parameter by itself."""
        fresh = self._fresh(trial.number, crc32(param_name.encode()))
        return fresh.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """End a trial."""
        self._of(trial.number).after_trial(study, trial, state, values)

    def _of(self, number: int) -> BaseSampler:
        if self._current is None or self._current[0] != number:
            self._current = (number, self._fresh(number))
        return self._current[1]

    def _fresh(self, *entropy: int) -> BaseSampler:
        seed = int(np.random.SeedSequence((self._seed, *entropy)).generate_state(1)[0])
        if self._searcher == "tpe":
            return TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=_RANDOM_TRIALS)
        if self._searcher == "gp":
            return GPSampler(seed=seed, n_startup_trials=_RANDOM_TRIALS)
        if self._searcher == "nsga2":
            return NSGAIISampler(seed=seed, population_size=_POPULATION)
        return RandomSampler(seed=seed)
