"""What a search is made of, and who keeps its trials."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from fxcast.errors import BadSetting
from fxcast.tuning.objective import ObjectiveConfig
from fxcast.tuning.pruning import PruningConfig
from fxcast.tuning.space import SearchSpace
from fxcast.tuning.trial import Budget, FoldScore, Resources, Trial, Values

Searcher = Literal["tpe", "gp", "nsga2", "random"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSetup:
    """A search, all but what evaluates its folds.

    Attributes:
        study: Name of the Optuna study.
        database_url: Of the project's database, in which the study lies.
        defaults: Values of trial 0.
        folds: That each trial trades.
        forecasts: Whether forecasts are scored; decides how many objectives mode `pareto` has.
        generation: Trials that are asked at once, when all earlier ones have finished.
        concurrency: Trials at work at once; None: as many as the cluster holds, and no more than a generation.
        resources: Of a trial's actor.
        cpus_a_trial: What a trial needs in all; tells the concurrency where the actor reserves nothing.
        gpus_a_trial: The same.
        storage_path: Of Ray Tune's results and the files of TensorBoard.
        max_failures: A crashed trial is tried again so often.
    """

    study: str
    database_url: str
    space: SearchSpace
    defaults: Values
    searcher: Searcher
    seed: int
    objective: ObjectiveConfig
    pruning: PruningConfig
    budget: Budget
    folds: int
    generation: int
    concurrency: int | None
    resources: Resources
    storage_path: Path
    forecasts: bool = True
    cpus_a_trial: float = 1.0
    gpus_a_trial: float = 0.0
    max_failures: int = 2

    def __post_init__(self) -> None:
        for name in ("folds", "generation"):
            if (found := getattr(self, name)) < 1:
                raise BadSetting(f"{name}: found {found}; allowed: 1 or more")
        if self.concurrency is not None and self.concurrency < 1:
            raise BadSetting(f"concurrency: found {self.concurrency}; allowed: 1 or more, or none for as many as the cluster holds")
        if self.max_failures < 0:
            raise BadSetting(f"max_failures: found {self.max_failures}; allowed: 0 or more")


class TrialKeeper(Protocol):
    """Keeps a search's trials, so that it can be resumed; every call is on disk when it returns."""

    def known(self) -> tuple[Trial, ...]:
        """Return all trials that were begun, each with the folds that are done."""
        ...

    def keep_fold(self, number: int, fold: FoldScore) -> None:
        """Keep a fold of a trial that was begun."""
        ...

    def keep(self, trial: Trial) -> None:
        """Keep a trial that begins, or one that has finished; its folds were kept before."""
        ...

    def spent(self) -> float:
        """Return how many seconds the search took so far, all parts together."""
        ...

    def spend(self, seconds: float) -> None:
        """Add seconds to what the search took."""
        ...
