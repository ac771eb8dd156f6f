"""A search by Ray Tune on a real cluster, over a hill whose top is known."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fxcast.adapters.storage.database import migrate
from fxcast.adapters.storage.studies import open_studies
from fxcast.cluster.tune_driver import SearchProgress, run_search, trials_at_once
from fxcast.errors import BadSetting, BadSetup, Unavailable
from fxcast.tuning.objective import ObjectiveConfig, best_of, pareto_of
from fxcast.tuning.pruning import PruningConfig
from fxcast.tuning.trial import Budget, Resources, Trial, TrialState
from tests.state import job_database
from tests.tuning_problems import BEST, DEFAULTS, FOLDS, Hill, SqliteKeeper, evaluations, make_setup, processes, told

pytestmark = pytest.mark.usefixtures("dashboard_url")


@dataclass(frozen=True, kw_only=True)
class Search:
    """What came of one."""

    trials: tuple[Trial, ...]
    folder: Path
    progress: list[SearchProgress]

    @property
    def traded(self) -> list[tuple[int, int]]:
        return evaluations(self.folder / "log")


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., Search]:
    """Search in a database of its own."""
    count = iter(range(100))

    def run(evaluator: dict[str, Any] | None = None, **changes: Any) -> Search:
        folder = tmp_path / f"search-{next(count)}"
        folder.mkdir()
        url = job_database(folder, "fx")
        migrate(url)
        progress: list[SearchProgress] = []
        keeper = SqliteKeeper(folder / "trials.db")
        hill = Hill(log=folder / "log", **(evaluator or {}))
        trials = run_search(make_setup(folder, url, **changes), hill, keeper, show=progress.append)
        assert told(keeper.known()) == told(trials)
        return Search(trials=trials, folder=folder, progress=progress)

    return run


def test_a_seed_gives_the_same_trials_however_many_run_at_once(search: Callable[..., Search]) -> None:
    pruning = PruningConfig(rule="median", warm_up_trials=4)
    one = search(concurrency=1, pruning=pruning, budget=Budget(trials=13))
    two = search(concurrency=2, pruning=pruning, budget=Budget(trials=13))
    other_seed = search(seed=8, budget=Budget(trials=2))
    assert told(one.trials) == told(two.trials)
    assert one.trials[1].values != other_seed.trials[1].values
    states = {each.state for each in one.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    assert len(two.traded) == sum(len(each.folds) for each in one.trials) < len(one.trials) * FOLDS
    assert len(processes(two.folder / "log")) <= 2  # one for each place, for all generations


def test_trial_0_has_the_default_values_and_the_best_comes_near_the_top(search: Callable[..., Search]) -> None:
    found = search(budget=Budget(trials=24), concurrency=2)
    assert dict(found.trials[0].values) == DEFAULTS
    best = best_of(found.trials, ObjectiveConfig())
    assert best is not None
    assert sum(abs(float(str(best.values[path])) - top) for path, top in BEST.items()) < 0.3
    assert [each.fold for each in best.folds] == [1, 2, 3]
    assert sorted(found.traded) == [(trial, fold) for trial in range(24) for fold in range(1, FOLDS + 1)]


def test_progress_is_told_and_tensorboard_has_files(search: Callable[..., Search]) -> None:
    found = search(budget=Budget(trials=6), concurrency=2)
    first, last = found.progress[0], found.progress[-1]
    assert (first.done, first.running, first.best, first.left_s) == (0, 1, None, None)
    assert (last.trials, last.done, last.running, last.pruned, last.failed, last.left_s) == (6, 6, 0, 0, 0, 0.0)
    best = best_of(found.trials, ObjectiveConfig())
    assert best is not None
    assert best.measures is not None
    assert (last.best, last.best_number) == (best.measures.score, best.number)
    assert [each.done for each in found.progress] == sorted(each.done for each in found.progress)
    events = {each.parent.name for each in (found.folder / "tune").rglob("events.out.tfevents.*")}
    assert events == {f"trial-{number:04d}" for number in range(6)}


def test_nothing_but_our_own_is_printed(search: Callable[..., Search], capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    search(budget=Budget(trials=4), evaluator={"fails_at": (1,)}, max_failures=0)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "trial" not in printed.err.lower()
    assert logging.getLogger("ray.tune").level != logging.CRITICAL


def test_a_trial_whose_process_dies_is_tried_again_from_its_last_fold(search: Callable[..., Search]) -> None:
    undisturbed = search(budget=Budget(trials=5))
    found = search({"dies_once_at": (2, 2)}, budget=Budget(trials=5))
    assert told(found.trials) == told(undisturbed.trials)
    assert sorted(found.traded) == sorted(undisturbed.traded)


def test_a_trial_that_always_fails_is_given_up_with_its_error_and_the_others_go_on(search: Callable[..., Search]) -> None:
    found = search({"fails_at": (1,)}, budget=Budget(trials=8), max_failures=1, concurrency=2)
    (failed,) = (each for each in found.trials if each.state is TrialState.FAILED)
    assert (failed.number, failed.error) == (1, "ValueError: no such luck")
    assert found.traded.count((1, 1)) == 2
    assert [each.state for each in found.trials if each.number != 1] == [TrialState.COMPLETE] * 7
    assert found.progress[-1].failed == 1
    study = open_studies(job_database(found.folder, "fx"))
    trials = study.get_all_trials(study.get_study_id_from_name("hill"))  # in no order on PostgreSQL
    assert {each.number: each.state.name for each in trials} == {
        number: "FAIL" if number == 1 else "COMPLETE" for number in range(8)
    }


def test_what_is_refused_is_not_tried_again_and_nor_is_a_score_that_is_no_number(search: Callable[..., Search]) -> None:
    found = search({"fails_at": (1,), "error": BadSetting("x: found 3; allowed: 2"), "nan_at": (2,)}, budget=Budget(trials=6))
    assert found.trials[1].error == "BadSetting: x: found 3; allowed: 2"
    assert found.trials[2].error.startswith("found a score of nan after fold 1")
    assert [found.traded.count((number, 1)) for number in (1, 2)] == [1, 1]


def test_a_search_whose_trials_mostly_fail_ends_with_the_last_error(search: Callable[..., Search]) -> None:
    with pytest.raises(Unavailable, match=r"3 of 4 trials failed; the last, number 3: ValueError: no such luck"):
        search({"fails_at": (1, 2, 3, 4, 5)}, budget=Budget(trials=16), max_failures=0)


def test_several_objectives_have_a_pareto_set_and_stop_no_trial(search: Callable[..., Search]) -> None:
    objective = ObjectiveConfig(kind="pareto")
    pruning = PruningConfig(rule="median", warm_up_trials=1)
    found = search(searcher="nsga2", objective=objective, pruning=pruning, budget=Budget(trials=24), generation=8, concurrency=2)
    assert {each.state for each in found.trials} == {TrialState.COMPLETE}
    assert pareto_of(found.trials, objective)
    assert len({tuple(each.values.values()) for each in found.trials}) > 20


@pytest.mark.parametrize("searcher", ["gp", "random"])
def test_other_searchers_are_as_reproducible(search: Callable[..., Search], searcher: str) -> None:
    budget = Budget(trials=13)
    one, two = (search(searcher=searcher, budget=budget, concurrency=at_once) for at_once in (1, 2))
    assert told(one.trials) == told(two.trials)


def test_patience_and_seconds_end_a_search(search: Callable[..., Search]) -> None:
    impatient = search(budget=Budget(trials=100, patience=1), searcher="random", generation=2)
    assert len(impatient.trials) < 100
    assert len(impatient.trials) % 2 == 0
    in_a_hurry = search(budget=Budget(trials=100, seconds=1e-9))
    assert in_a_hurry.trials == ()


def test_a_trial_without_a_cpu_of_its_own_starts_tasks_that_need_one(search: Callable[..., Search]) -> None:
    found = search({"in_tasks": True}, budget=Budget(trials=2), resources=Resources(cpus=0.0), concurrency=2)
    assert [each.state for each in found.trials] == [TrialState.COMPLETE] * 2


def test_as_many_trials_run_at_once_as_the_cluster_holds(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, "sqlite://", concurrency=None, generation=8)
    assert trials_at_once(setup) == 4  # CPUs of the tests' cluster
    at_most = make_setup(tmp_path, "sqlite://", concurrency=None, generation=2)
    assert trials_at_once(at_most) == 2
    tasks = make_setup(tmp_path, "sqlite://", concurrency=None, generation=8, resources=Resources(cpus=0.0), cpus_a_trial=2.0)
    assert trials_at_once(tasks) == 2
    with pytest.raises(BadSetup, match=r"a trial needs 1 GPUs, and the cluster has 0"):
        trials_at_once(make_setup(tmp_path, "sqlite://", concurrency=None, gpus_a_trial=1.0))
