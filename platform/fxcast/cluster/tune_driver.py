"""Search for the best values on the connected Ray cluster, and go on with a search that was interrupted."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.logger import TBXLoggerCallback

from fxcast.cluster.tune_progress import SearchProgress
from fxcast.cluster.tune_search import FoldFigures, FoldScheduler, GenerationSearch
from fxcast.cluster.tune_setup import SearchSetup, TrialKeeper
from fxcast.cluster.tune_trial import TrialRun, share, tune_resources
from fxcast.errors import BadSetup, FxcastError
from fxcast.tuning.trial import FoldEvaluator, Trial

__all__ = ["SearchProgress", "SearchSetup", "TrialKeeper", "room_for", "run_search", "trials_at_once"]

_SLACK = 1e-9  # three trials of a third of a GPU fit on one

# Tune writes TensorBoard's files through the callback that is passed; its CSV and JSON would say the same again. Its trials report
# a fold, and no metric that Tune could check; what it prints, the search tells by itself.
_TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # its quietest still prints a table; the older output has silence
}


def run_search(
    setup: SearchSetup,
    evaluator: FoldEvaluator,
    keeper: TrialKeeper,
    *,
    show: Callable[[SearchProgress], None] | None = None,
) -> tuple[Trial, ...]:
    """Try values until the budget is used up, and return all trials that were begun, by number.

    The same setup and seed give the same trials, however many run at once, and whether or not the search was killed in between:
    called again with the same study and keeper, it goes on where it was. Only a budget of seconds depends on the machine.

    Args:
        show: Called in this process whenever a trial begins, has done a fold, or ends.

    Raises:
        BadSetup: If the cluster can't hold a trial, the database is not as it must be, or more than half of at least four
            trials failed, the last one with an error that no retry helps against.
        Unavailable: If so many failed for another reason; the same call tries the rest.
        DatabaseUnavailable: If the database does not answer.
        KeyboardInterrupt: On Ctrl-C, when the trials at work are stopped; they go on with the next call.
    """
    at_once = trials_at_once(setup)
    with _quiet(), _own_interrupts():
        search = GenerationSearch(setup, keeper, show)
        try:
            _tuner(setup, evaluator, search, at_once).fit()
        except tune.TuneError as error:
            raise _own(error) or error from error
    search.trials.close()
    if search.trials.gave_up is not None:
        raise search.trials.gave_up
    if not search.trials.has_ended:
        raise KeyboardInterrupt
    return search.trials.trials


def trials_at_once(setup: SearchSetup) -> int:
    """Return how many trials are at work at once on the connected cluster.

    Raises:
        BadSetup: If it has no room for one, and the setup does not say how many.
    """
    if setup.concurrency is not None:
        return setup.concurrency
    needs = setup.resources
    return min(setup.generation, room_for(cpus=max(setup.cpus_a_trial, needs.cpus), gpus=max(setup.gpus_a_trial, needs.gpus)))


def room_for(*, cpus: float, gpus: float) -> int:
    """Return how many trials that need so much the connected cluster holds at once.

    Raises:
        BadSetup: If it has no room for one.
    """
    cluster = ray.cluster_resources()
    fits: list[int] = []
    for name, needed in (("CPU", cpus), ("GPU", gpus)):
        there = cluster.get(name, 0.0)
        if needed:
            # A trial takes no part of one GPU and of another.
            shares = math.floor(1 / needed + _SLACK) * math.floor(there) if name == "GPU" and needed < 1 else there / needed
            fits.append(math.floor(shares + _SLACK))
            if fits[-1] < 1:
                raise BadSetup(
                    f"a trial needs {needed:g} {name}s, and the cluster has {there:g}; add nodes, or set the concurrency"
                )
    return min(fits, default=1)


def _tuner(setup: SearchSetup, evaluator: FoldEvaluator, search: GenerationSearch, at_once: int) -> tune.Tuner:
    trainable: Any = tune.with_resources(
        tune.with_parameters(TrialRun, shared=share(evaluator, setup.resources)), dict(tune_resources(setup.resources))
    )
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=FoldScheduler(search, at_once=at_once),
            num_samples=-1,  # the search says when it ends
            max_concurrent_trials=at_once,
            reuse_actors=True,
            trial_name_creator=_folder,
            trial_dirname_creator=_folder,
        ),
        run_config=tune.RunConfig(
            name=_part(setup),
            storage_path=str(setup.storage_path.absolute()),
            # The search hands a crashed trial out again itself: Tune gives one up whose idle actor died before it began, and
            # would repeat the folds that are done.
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the database has all folds
            callbacks=[FoldFigures(search), TBXLoggerCallback()],
            verbose=0,
        ),
    )


def _folder(trial: TuneTrial) -> str:
    number, attempt = trial.config["number"], trial.config["attempt"]
    return f"trial-{number:04d}" + (f"-attempt-{attempt}" if attempt > 1 else "")


def _part(setup: SearchSetup) -> str:
    """Return a folder of its own for this part of the search."""
    name, part = setup.study.replace("/", "-"), 1
    while (setup.storage_path / f"{name}-part-{part}").exists():
        part += 1
    return f"{name}-part-{part}"


def _own(error: BaseException) -> FxcastError | None:
    """Return the error of ours that Tune has wrapped, if it is one."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, FxcastError):
        seen = seen.__cause__ or seen.__context__
    return seen


@contextmanager
def _quiet() -> Generator[None]:
    """Let neither Tune nor Optuna print."""
    before = {name: os.environ.get(name) for name in _TUNE_SETTINGS}
    tune_log, level, verbosity = logging.getLogger("ray.tune"), logging.getLogger("ray.tune").level, optuna.logging.get_verbosity()
    os.environ.update(_TUNE_SETTINGS)
    tune_log.setLevel(logging.CRITICAL)  # as errors it logs each failed trial, which the search keeps and tells
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
        tune_log.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _own_interrupts() -> Generator[None]:
    """Give Ctrl-C back afterwards: Tune takes it to end a run in order, and keeps it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
