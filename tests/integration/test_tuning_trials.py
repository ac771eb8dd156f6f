"""Trials and their folds as rows, on real databases."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.tuning import TrialRecord, TuningRecords, TuningRun
from tests.tuning_record_factories import (
    NOON,
    told,
    trial_record,
    tuning_fold,
    tuning_run,
)


@pytest.fixture
def records(database: Engine) -> TuningRecords:
    return TuningRecords(database)


@pytest.fixture
def run(records: TuningRecords) -> TuningRun:
    return records.begin(tuning_run())


def count(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608 (names below)


def all_told(trials: tuple[TrialRecord, ...]) -> list[dict[str, object]]:
    return [told(each) for each in trials]


def test_a_trial_comes_back_bit_for_bit_with_its_folds_after_opening_the_database_again(
    records: TuningRecords, run: TuningRun, url: str
) -> None:
    trial, folds = trial_record(), (tuning_fold(1), tuning_fold(2))
    records.save_trial(run.id, trial)
    for fold in folds[::-1]:
        records.save_fold(run.id, "search", 0, fold)

    engine = open_database(url)
    (found,) = TuningRecords(engine).trials(run.id)
    engine.dispose()

    assert told(found) == told(replace(trial, folds=folds))
    assert [type(value) for value in found.values.values()] == [tuple, float, float, int, bool, type(None), str]


def test_awkward_floats_and_days_without_a_candle_keep_every_bit(records: TuningRecords, run: TuningRun) -> None:
    awkward = np.array([-0.0, 5e-324, -1.0, np.nextafter(1.0, 2.0), np.finfo(np.float64).max])
    days = np.array([-1, 0, 19_000, 2**40, 19_001], dtype=np.int64)
    fold = replace(tuning_fold(), days=days, returns=awkward, lows=awkward[::-1], highs=awkward[::-1], falls=awkward, horizons=())
    empty = tuning_fold(2, days=0)
    strided = tuning_fold(3, days=10)
    strided = replace(strided, **{name: getattr(strided, name)[::2] for name in ("days", "returns", "lows", "highs", "falls")})

    records.save_trial(run.id, replace(trial_record(), folds=(fold, empty, strided)))

    (found,) = records.trials(run.id)
    assert [told(each) for each in found.folds] == [told(each) for each in (fold, empty, strided)]


def test_trials_are_found_by_kind_and_number_each_with_its_own_folds(records: TuningRecords, run: TuningRun) -> None:
    trials = [
        replace(trial_record(number), kind=kind, folds=(tuning_fold(seed=10 * number + len(kind)),))
        for kind in ("neighbour", "random", "search")
        for number in (0, 2, 10)
    ]
    other = records.begin(replace(run, name="other"))
    for trial in trials[::-1]:
        records.save_trial(run.id, trial)
    records.save_trial(other.id, replace(trial_record(), error="of another search"))

    assert all_told(records.trials(run.id)) == [told(trial) for trial in trials]
    assert all_told(records.trials(run.id, "random")) == [told(trial) for trial in trials[3:6]]
    assert all_told(records.trials(other.id)) == [told(replace(trial_record(), error="of another search"))]


def test_a_trial_that_is_saved_again_replaces_its_row_and_keeps_its_folds(records: TuningRecords, run: TuningRun) -> None:
    running = TrialRecord(kind="search", number=0, state="running", values={"trading.min_strength": 0.3}, began_at=NOON)
    ended = replace(trial_record(), state="failed", error="out of memory", score=None)
    records.save_trial(run.id, running)
    assert all_told(records.trials(run.id)) == [told(running)]
    records.save_fold(run.id, "search", 0, tuning_fold(1))
    records.save_fold(run.id, "search", 0, tuning_fold(2))
    records.save_fold(run.id, "search", 0, tuning_fold(2, seed=9))

    records.save_trial(run.id, ended)

    assert all_told(records.trials(run.id)) == [told(replace(ended, folds=(tuning_fold(1), tuning_fold(2, seed=9))))]


def test_a_fold_without_its_trial_and_a_trial_without_its_search_are_bugs_and_not_saved(
    records: TuningRecords, run: TuningRun, database: Engine
) -> None:
    with pytest.raises(IntegrityError):
        records.save_fold(run.id, "search", 0, tuning_fold())
    with pytest.raises(IntegrityError):
        records.save_trial("none", replace(trial_record(), folds=(tuning_fold(),)))

    assert count(database, "tuning_folds") == count(database, "tuning_trials") == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "other"}, "kind: found 'other'; allowed: search, random, neighbour"),
        ({"state": "done"}, "state: found 'done'; allowed: running, complete, pruned, failed"),
    ],
)
def test_a_kind_or_state_that_does_not_exist_is_a_bug(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(trial_record(), **change)


def test_a_fold_whose_days_and_returns_do_not_match_is_a_bug() -> None:
    with pytest.raises(ValueError, match=r"falls of fold 1: found shape \(2,\); allowed: \(3,\), as days"):
        replace(tuning_fold(days=3), falls=np.zeros(2))


def test_trials_that_several_processes_save_at_once_are_all_recorded(url: str, records: TuningRecords, run: TuningRun) -> None:
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(work_on_trials, [url] * 3, [run.id] * 3, range(3)))

    found = records.trials(run.id)
    assert [trial.number for trial in found] == list(range(30))
    for trial in found:
        assert told(trial) == told(replace(trial_record(trial.number), folds=(tuning_fold(1, seed=trial.number), tuning_fold(2))))


def work_on_trials(url: str, run_id: str, worker: int) -> None:
    """Take ten trials through all that they go through."""
    engine = open_database(url)
    records = TuningRecords(engine)
    for number in range(worker, 30, 3):
        records.save_trial(run_id, replace(trial_record(number), state="running", score=None, finished_at=None))
        records.save_fold(run_id, "search", number, tuning_fold(1, seed=number))
        records.save_fold(run_id, "search", number, tuning_fold(2))
        records.save_trial(run_id, trial_record(number))
    engine.dispose()
