"""The searcher and the scheduler that Ray Tune runs a search with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import structlog
from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Callback
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from fxcast.adapters.storage.studies import open_studies
from fxcast.cluster.tune_progress import SearchProgress
from fxcast.cluster.tune_sampler import SeededSampler
from fxcast.cluster.tune_setup import SearchSetup, TrialKeeper
from fxcast.cluster.tune_trial import FOLD_SCORE
from fxcast.cluster.tune_trials import SearchTrials
from fxcast.errors import Refused
from fxcast.tuning.objective import OBJECTIVES, objective_names
from fxcast.tuning.trial import TrialState

log = structlog.get_logger(__name__)

_MODES = {"maximize": "max", "minimize": "min"}  # Optuna's word, and Tune's


class GenerationSearch(OptunaSearch):
    """Ray's search with Optuna, except that trials are asked in generations.

    Ray's own asks whenever a place is free, so that what it asks depends on which trials happen to have finished.

    It is not restored by Tune: `Tuner.restore` unpickles a searcher that was written every ten seconds or so, trials that have
    finished since are done again, and the sampler's random state goes on from elsewhere. All state is in the database, and a
    resumed search is a new run of Tune that reads it.
    """

    def __init__(self, setup: SearchSetup, keeper: TrialKeeper, show: Callable[[SearchProgress], None] | None) -> None:
        names = objective_names(setup.objective, forecasts=setup.forecasts)
        modes = [_MODES[OBJECTIVES[name]] for name in names]
        one = len(names) == 1
        super().__init__(
            space=setup.space.distributions(),
            metric=names[0] if one else list(names),
            mode=modes[0] if one else modes,
            sampler=SeededSampler(setup.searcher, setup.seed),
            study_name=setup.study,
            storage=open_studies(setup.database_url),
        )
        study = self._ot_study
        assert isinstance(study, optuna.Study), "OptunaSearch makes it where it knows the space"
        self.trials = SearchTrials(study, setup, keeper, show)
        self._numbers: dict[str, int] = {}

    def number_of(self, trial_id: str) -> int:
        """Return the number of the trial that Tune knows by an id; after a crash it knows it by another."""
        return self._numbers[trial_id]

    # Ray's own annotation leaves out that a searcher says FINISHED when nothing more comes.
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Hand out a trial, none for now, or none any more."""
        trial = self.trials.next()
        if trial is None:
            return self.FINISHED if self.trials.has_ended else None
        self._numbers[trial_id] = trial.number
        return {
            "number": trial.number,
            "values": dict(trial.values),
            "first_fold": trial.first_fold,
            "attempt": trial.attempt,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the scheduler has it first, and tells Optuna."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the scheduler has ended the trial."""

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles a search to restore it, and this one is resumed from the database."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: all state is in the database."""

    def restore(self, checkpoint_path: str) -> None:
        """Refuse: a search is resumed from the database."""
        raise NotImplementedError(f"{checkpoint_path}: run the search again")  # Tune may ask for it: never begin anew unsaid


class FoldScheduler(FIFOScheduler):
    """Passes every fold on to the search, and stops trials as it says."""

    # What follows a stop must not be traded.
    _supports_buffered_results = False

    def __init__(self, search: GenerationSearch, *, at_once: int) -> None:
        super().__init__()
        self._search = search
        self._at_once = at_once
        self._keeps_actors = False

    def on_trial_result(self, tune_controller: TuneController, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Keep a fold's score, and decide whether the trial goes on."""
        del tune_controller
        state = self._search.trials.fold_done(self._search.number_of(trial.trial_id), result[FOLD_SCORE])
        return TrialScheduler.CONTINUE if state is TrialState.RUNNING else TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: TuneController, trial: TuneTrial, result: dict[str, Any]) -> None:
        """Keep the trial's actor for the next generation, and end the search if too many have failed."""
        del result
        if not self._keeps_actors:
            # Where no trial waits, Tune keeps one actor and ends the others; at the end of a generation none waits, and to start
            # a process takes seconds. Tune has no setting for it.
            tune_controller._actor_cache.increase_max(  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
                trial.placement_group_factory, self._at_once
            )
            self._keeps_actors = True
        self._stop_if_given_up(tune_controller)

    def on_trial_error(self, tune_controller: TuneController, trial: TuneTrial) -> None:
        """Have a trial that crashed done again, or given up."""
        error, again = _error_of(trial)
        number = self._search.number_of(trial.trial_id)
        if self._search.trials.is_running(number):
            self._search.trials.crashed(number, error, again=again)
        else:
            log.warning("a trial has ended, and Ray Tune failed to end it too", trial=number, error=error)
        self._stop_if_given_up(tune_controller)

    def _stop_if_given_up(self, tune_controller: TuneController) -> None:
        if self._search.trials.gave_up is not None:
            tune_controller.request_stop_experiment()


class FoldFigures(Callback):
    """Puts a trial's figures in the place of its fold's score, for TensorBoard and Tune's own files; comes before these."""

    def __init__(self, search: GenerationSearch) -> None:
        self._search = search

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: object
    ) -> None:
        """Change a result in place."""
        del iteration, trials, info
        del result[FOLD_SCORE]
        number = self._search.number_of(trial.trial_id)
        measures = self._search.trials.measures(number)
        if measures is None:
            return  # its first fold scored no number
        figures = {name: getattr(measures, name) for name in (*OBJECTIVES, "total_return", "trades")}
        result.update({name: value for name, value in figures.items() if value is not None})


def _error_of(trial: TuneTrial) -> tuple[str, bool]:
    """Return what a trial crashed with in words, and whether trying again may help."""
    # Tune hands no exception over; it leaves it in the driver's folder of the trial.
    path = trial.pickled_error_file
    error: Any = cloudpickle.loads(Path(path).read_bytes()) if path else trial.get_error()
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    told = str(error)
    if isinstance(error, RayActorError):
        told = told.strip().partition("\n")[0]  # what follows is Ray's advice
    return f"{type(error).__name__}: {told}", not isinstance(error, Refused)
