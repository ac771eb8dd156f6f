"""Trials of a search as they are asked, judged and kept, without Ray; killed before each write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage

from fxcast.cluster.tune_sampler import SeededSampler
from fxcast.cluster.tune_setup import SearchSetup
from fxcast.cluster.tune_trials import SearchTrials
from fxcast.errors import BadSetup, Unavailable
from fxcast.tuning.pruning import PruningConfig
from fxcast.tuning.trial import Budget, FoldScore, Trial, TrialState
from tests.tuning_factories import make_fold
from tests.tuning_problems import FOLDS, Hill, make_setup, told


class _Killed(BaseException):
    """The process ends here."""


class _Memory:
    """Implements `TrialKeeper`, and dies before a write."""

    def __init__(self, before_write: Callable[[], None]) -> None:
        self.trials: dict[int, Trial] = {}
        self.seconds = 0.0
        self._before_write = before_write

    def known(self) -> tuple[Trial, ...]:
        return tuple(self.trials[number] for number in sorted(self.trials))

    def keep_fold(self, number: int, fold: FoldScore) -> None:
        self._before_write()
        trial = self.trials[number]
        assert fold.fold not in {each.fold for each in trial.folds}, "kept twice"
        self.trials[number] = replace(trial, folds=(*trial.folds, fold))

    def keep(self, trial: Trial) -> None:
        self._before_write()
        folds = self.trials[trial.number].folds if trial.number in self.trials else ()
        self.trials[trial.number] = replace(trial, folds=folds)

    def spent(self) -> float:
        return self.seconds

    def spend(self, seconds: float) -> None:
        self.seconds += seconds


class _Studies(InMemoryStorage):
    """Optuna's storage in memory, which dies before a write."""

    def __init__(self, before_write: Callable[[], None]) -> None:
        super().__init__()
        self._before_write = before_write

    def create_new_trial(self, *arguments: Any, **others: Any) -> int:
        self._before_write()
        return super().create_new_trial(*arguments, **others)

    def set_trial_param(self, *arguments: Any, **others: Any) -> None:
        self._before_write()
        super().set_trial_param(*arguments, **others)

    def set_trial_intermediate_value(self, *arguments: Any, **others: Any) -> None:
        self._before_write()
        super().set_trial_intermediate_value(*arguments, **others)

    def set_trial_state_values(self, *arguments: Any, **others: Any) -> bool:
        self._before_write()
        return super().set_trial_state_values(*arguments, **others)


class _Search:
    """A search that can be killed before its n-th write, and goes on where it was."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.setup: SearchSetup = make_setup(folder, "", **changes)
        self.writes, self.dies_at = 0, 0
        self.keeper, self.storage = _Memory(self._write), _Studies(self._write)
        self.hill = Hill(log=folder / "log")
        self.traded: list[tuple[int, int]] = []

    def _write(self) -> None:
        self.writes += 1
        if self.writes == self.dies_at:
            raise _Killed

    def begin(self, **changes: Any) -> SearchTrials:
        self.setup = replace(self.setup, **changes)
        study = optuna.create_study(
            storage=self.storage,
            sampler=SeededSampler(self.setup.searcher, self.setup.seed),
            study_name="hill",
            direction="maximize",
            load_if_exists=True,
        )
        return SearchTrials(study, self.setup, self.keeper)

    def run(self, *, at_once: int = 1, backwards: bool = False) -> tuple[Trial, ...]:
        """Trade with so many trials at work, one fold of each in turn."""
        trials = self.begin()
        at_work: dict[int, tuple[int, Any]] = {}
        while True:
            while len(at_work) < at_once and (out := trials.next()) is not None:
                at_work[out.number] = (out.first_fold, out.values)
            if not at_work:
                assert trials.has_ended
                return trials.trials
            for number in sorted(at_work, reverse=backwards):
                fold, values = at_work.pop(number)
                self.traded.append((number, fold))
                if trials.fold_done(number, self.hill.evaluate(values, fold, trial=number)) is TrialState.RUNNING:
                    at_work[number] = (fold + 1, values)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


_PRUNED = {"pruning": PruningConfig(rule="median", warm_up_trials=4), "budget": Budget(trials=12)}


def test_how_many_run_at_once_and_in_which_order_changes_no_trial(tmp_path: Path) -> None:
    one, two = (_Search(tmp_path, **_PRUNED) for _ in range(2))
    assert told(one.run()) == told(two.run(at_once=3, backwards=True))
    assert {each.state for each in one.keeper.known()} == {TrialState.COMPLETE, TrialState.PRUNED}


def test_killed_before_any_write_a_search_comes_to_the_same_trials(tmp_path: Path) -> None:
    undisturbed = _Search(tmp_path, **_PRUNED)
    expected = told(undisturbed.run(at_once=2))
    for moment in range(1, undisturbed.writes + 1):
        search = _Search(tmp_path, **_PRUNED)
        search.dies_at = moment
        with pytest.raises(_Killed):
            search.run(at_once=2)
        kept = {(each.number, fold.fold) for each in search.keeper.known() for fold in each.folds}
        search.traded.clear()
        assert told(search.run(at_once=2)) == expected, f"killed before write {moment}"
        assert not kept & set(search.traded)
        assert told(search.keeper.known()) == expected
        states = [each.state.name for each in search.storage.get_all_trials(0)]
        assert states == [each.state.name for each in undisturbed.storage.get_all_trials(0)]


def test_no_generation_is_asked_before_the_last_trial_of_the_one_before_has_finished(tmp_path: Path) -> None:
    trials = _Search(tmp_path).begin()
    numbers = [out.number for _ in range(4) if (out := trials.next()) is not None]
    assert numbers == [0, 1, 2, 3]
    assert trials.next() is None
    assert not trials.has_ended


def test_a_search_goes_on_when_its_budget_grows(tmp_path: Path) -> None:
    search = _Search(tmp_path, budget=Budget(trials=6))
    first = search.run()
    search.setup = replace(search.setup, budget=Budget(trials=9))
    assert told(search.run())[:6] == told(first)
    assert sorted(search.traded) == [(number, fold) for number in range(9) for fold in range(1, FOLDS + 1)]


def test_seconds_of_earlier_parts_count_and_trials_not_begun_wait_for_a_larger_budget(tmp_path: Path) -> None:
    search = _Search(tmp_path, budget=Budget(trials=8, seconds=1000.0))
    trials = search.begin()
    begun = trials.next()
    assert begun is not None
    search.keeper.seconds = 2000.0
    resumed = search.begin()
    assert resumed.next() is None
    assert resumed.has_ended
    assert resumed.why_ended == "the budget of 1000 seconds is used up"
    assert len(search.begin(budget=Budget(trials=8, seconds=3000.0)).trials) == 1
    assert len(search.run()) == 8


def test_a_trial_that_crashes_is_handed_out_again_with_the_folds_it_has(tmp_path: Path) -> None:
    search = _Search(tmp_path, max_failures=1)
    trials = search.begin()
    out = trials.next()
    assert out is not None
    trials.fold_done(out.number, search.hill.evaluate(out.values, 1, trial=out.number))
    trials.crashed(out.number, "OSError: gone", again=True)
    again = trials.next()
    assert again is not None
    assert (again.number, again.values, again.first_fold, again.attempt) == (out.number, out.values, 2, 2)
    trials.crashed(out.number, "OSError: gone again", again=True)
    (failed, *_) = trials.trials
    assert (failed.state, failed.error, len(failed.folds)) == (TrialState.FAILED, "OSError: gone again", 1)


@pytest.mark.parametrize(("again", "kind"), [(True, Unavailable), (False, BadSetup)])
def test_a_search_gives_up_when_more_than_half_of_four_trials_failed(tmp_path: Path, again: bool, kind: type[Exception]) -> None:
    search = _Search(tmp_path, max_failures=0)
    trials = search.begin()
    for _ in range(4):
        out = trials.next()
        assert out is not None
        assert trials.gave_up is None
        trials.crashed(out.number, f"OSError: {out.number}", again=again)
    assert isinstance(trials.gave_up, kind)
    assert str(trials.gave_up) == "4 of 4 trials failed; the last, number 3: OSError: 3"
    assert trials.has_ended
    assert search.begin().gave_up is None  # another call tries the rest


def test_a_score_of_another_fold_fails_the_trial(tmp_path: Path) -> None:
    search = _Search(tmp_path)
    trials = search.begin()
    out = trials.next()
    assert out is not None
    assert trials.fold_done(out.number, make_fold(fold=2)) is TrialState.FAILED
    assert trials.trials[0].error == "fold 1 was to be traded, and the score is of fold 2"


def test_a_study_that_knows_more_than_was_kept_is_refused(tmp_path: Path) -> None:
    search = _Search(tmp_path, budget=Budget(trials=4))
    search.run()
    search.keeper.trials.clear()
    with pytest.raises(BadSetup, match=r"trial 0 is finished, and the search has not kept it"):
        search.begin()
