"""Walk-forwards and their folds as rows, on real databases."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Engine, text

from fxcast.adapters.storage.backtests import BacktestRecord, BacktestRecords, FoldRecord, FoldStatus
from fxcast.adapters.storage.database import open_database
from fxcast.errors import BadSetup
from tests.backtest_record_factories import (
    APRIL,
    FEBRUARY,
    JANUARY,
    MARCH,
    at_once,
    backtest_record,
    fold_record,
    trade_record,
    walk_forward_record,
)

TOKYO = timezone(timedelta(hours=9))
NOON = datetime(2024, 6, 3, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SYMBOLS = ("EURUSD", "USDJPY")
FOLDS = tuple(fold_record(number) for number in (1, 2, 3))


@pytest.fixture
def records(database: Engine) -> BacktestRecords:
    return BacktestRecords(database)


def rows_of(engine: Engine, table: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(f"SELECT * FROM {table}")).all())  # noqa: S608 (names below)


def test_a_walk_forward_begins_with_all_folds_pending_and_comes_back_as_it_was(records: BacktestRecords) -> None:
    record = walk_forward_record()

    begun = records.begin(record, FOLDS[::-1])

    assert begun == records.folds(record.id) == FOLDS
    assert records.walk_forward(record.id) == record
    assert {fold.status for fold in begun} == {FoldStatus.PENDING}


def test_a_walk_forward_that_was_killed_goes_on_where_it_was(records: BacktestRecords, database: Engine) -> None:
    record = walk_forward_record()
    records.begin(record, FOLDS)
    records.set_fold(record.id, 1, FoldStatus.DONE, at=NOON, model_version="tiny-1", measures="{}")
    records.set_fold(record.id, 2, FoldStatus.TRAINING, at=NOON)
    later = replace(record, begun_at=NOON, code_version="0.2.0", symbols=("USDJPY", "EURUSD"))

    went_on = records.begin(later, [in_tokyo(fold) for fold in FOLDS])

    assert [fold.status for fold in went_on] == [FoldStatus.DONE, FoldStatus.TRAINING, FoldStatus.PENDING]
    assert went_on[0].model_version == "tiny-1"
    assert records.walk_forward(record.id) == record
    assert len(rows_of(database, "walk_forwards")) == 1


def in_tokyo(fold: FoldRecord) -> FoldRecord:
    return replace(fold, train_start=fold.train_start.astimezone(TOKYO), test_stop=fold.test_stop.astimezone(TOKYO))


def test_a_walk_forward_that_is_recorded_with_other_folds_is_refused_by_the_first_that_differs(records: BacktestRecords) -> None:
    record = walk_forward_record()
    records.begin(record, FOLDS)
    moved = replace(FOLDS[1], test_stop=FOLDS[1].test_stop + HOUR)

    with pytest.raises(BadSetup) as refusal:
        records.begin(record, [FOLDS[0], moved, FOLDS[2]])

    assert f"walk-forward majors by the month ({record.id}) is already recorded with other folds" in str(refusal.value)
    assert "found fold 2, trained 2024-01-11T00:00:00+00:00 to" in str(refusal.value)
    assert "to 2024-02-02T01:00:00+00:00; recorded fold 2, trained" in str(refusal.value)
    with pytest.raises(BadSetup, match="found 2 folds; recorded 3 folds"):
        records.begin(record, FOLDS[:2])
    assert records.folds(record.id) == FOLDS


@pytest.mark.parametrize("change", [{"scheme": "anchored"}, {"settings_hash": "other"}, {"data_hash": "other"}, {"stop": MARCH}])
def test_other_settings_or_data_are_another_walk_forward(records: BacktestRecords, change: dict[str, Any]) -> None:
    records.begin(walk_forward_record(), FOLDS)
    records.set_fold(walk_forward_record().id, 1, FoldStatus.TRAINING, at=NOON)

    assert records.begin(replace(walk_forward_record(), **change), FOLDS) == FOLDS


def test_of_several_that_begin_the_same_walk_forward_at_once_all_find_the_same_folds(url: str, records: BacktestRecords) -> None:
    found = at_once(url, [0.0] * 4, lambda mine, _: mine.begin(walk_forward_record(), FOLDS))

    assert found == [FOLDS] * 4
    assert records.folds(walk_forward_record().id) == FOLDS


def test_a_fold_keeps_its_start_and_what_was_learned_of_it_until_it_is_done(records: BacktestRecords) -> None:
    walk_forward = walk_forward_record()
    records.begin(walk_forward, FOLDS)
    tested = replace(backtest_record(), walk_forward_id=walk_forward.id)

    records.set_fold(walk_forward.id, 2, FoldStatus.TRAINING, at=NOON)
    records.set_fold(walk_forward.id, 2, FoldStatus.FORECASTING, at=NOON + HOUR, model_version="tiny-2")
    records.set_fold(walk_forward.id, 2, FoldStatus.BACKTESTING, at=NOON + 2 * HOUR)
    records.save(tested, [])
    records.set_fold(walk_forward.id, 2, FoldStatus.DONE, at=NOON + 3 * HOUR, backtest_id=tested.id, measures='{"trades": 0}')

    done = replace(
        FOLDS[1],
        status=FoldStatus.DONE,
        model_version="tiny-2",
        backtest_id=tested.id,
        measures='{"trades": 0}',
        started_at=NOON,
        finished_at=NOON + 3 * HOUR,
    )
    assert records.folds(walk_forward.id) == (FOLDS[0], done, FOLDS[2])


def test_a_fold_that_failed_says_why_and_starts_anew_when_it_is_worked_on_again(records: BacktestRecords) -> None:
    walk_forward = walk_forward_record()
    records.begin(walk_forward, FOLDS)
    records.set_fold(walk_forward.id, 1, FoldStatus.TRAINING, at=NOON)

    records.set_fold(walk_forward.id, 1, FoldStatus.FAILED, at=NOON + HOUR, reason="out of memory")

    failed = records.folds(walk_forward.id)[0]
    assert (failed.status, failed.reason) == (FoldStatus.FAILED, "out of memory")
    assert (failed.started_at, failed.finished_at) == (NOON, NOON + HOUR)

    records.set_fold(walk_forward.id, 1, FoldStatus.FORECASTING, at=NOON + 5 * HOUR)

    again = records.folds(walk_forward.id)[0]
    assert (again.status, again.reason) == (FoldStatus.FORECASTING, "")
    assert (again.started_at, again.finished_at) == (NOON + 5 * HOUR, None)

    records.set_fold(walk_forward.id, 1, FoldStatus.PENDING, at=NOON + 6 * HOUR)

    assert records.folds(walk_forward.id)[0] == FOLDS[0]


def test_a_failure_without_a_reason_or_a_reason_without_a_failure_is_a_bug(records: BacktestRecords) -> None:
    records.begin(walk_forward_record(), FOLDS)

    for status, reason in ((FoldStatus.FAILED, ""), (FoldStatus.DONE, "out of memory")):
        with pytest.raises(ValueError, match=f"a fold is {status.value} with reason"):
            records.set_fold(walk_forward_record().id, 1, status, at=NOON, reason=reason)

    assert records.folds(walk_forward_record().id) == FOLDS


def test_a_fold_or_walk_forward_that_is_not_there_is_named(records: BacktestRecords) -> None:
    records.begin(walk_forward_record(), FOLDS)

    with pytest.raises(LookupError, match=r"walk-forward \w{64} has no fold 4"):
        records.set_fold(walk_forward_record().id, 4, FoldStatus.DONE, at=NOON)
    with pytest.raises(LookupError, match="there is no walk-forward none"):
        records.finish("none", at=NOON, findings="{}", report_folder="")


def test_a_fold_finds_its_backtest_also_after_that_was_run_again(records: BacktestRecords) -> None:
    walk_forward = walk_forward_record()
    records.begin(walk_forward, FOLDS)
    tested = replace(backtest_record(), walk_forward_id=walk_forward.id)
    records.save(tested, [trade_record(1)])
    records.set_fold(walk_forward.id, 1, FoldStatus.DONE, at=NOON, backtest_id=tested.id)

    records.save(replace(tested, net_profit=7.0), [trade_record(2)])
    records.save(backtest_record(), [])  # the same outside the walk-forward is a backtest of its own

    found = records.backtest(records.folds(walk_forward.id)[0].backtest_id or "")
    assert found == replace(tested, net_profit=7.0)
    assert len(records.backtests()) == 2
    assert len(records.trial_sharpes(SYMBOLS, "1h", JANUARY, APRIL)) == 1


def test_a_finished_walk_forward_keeps_its_findings(records: BacktestRecords) -> None:
    record = walk_forward_record()
    records.begin(record, FOLDS)

    records.finish(record.id, at=NOON, findings='{"sharpe": null}', report_folder="runs/walk_forward/demo")

    finished = replace(record, finished_at=NOON, findings='{"sharpe": null}', report_folder="runs/walk_forward/demo")
    assert records.walk_forward(record.id) == finished
    records.begin(record, FOLDS)
    assert records.walk_forward(record.id) == finished


def test_folds_that_several_processes_work_on_at_once_are_all_recorded(url: str, records: BacktestRecords) -> None:
    record = walk_forward_record()
    records.begin(record, FOLDS)

    with ProcessPoolExecutor(len(FOLDS), mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(work_on_fold, [url] * len(FOLDS), [record.id] * len(FOLDS), [fold.number for fold in FOLDS]))

    for fold, number in zip(records.folds(record.id), (1, 2, 3), strict=True):
        assert (fold.number, fold.status, fold.measures) == (number, FoldStatus.DONE, "[9]")
        assert (fold.model_version, fold.backtest_id) == (f"fold-{number}", fold_backtest(record.id, number).id)
        assert (fold.started_at, fold.finished_at) == (NOON, NOON + number * HOUR)
        assert records.trades_of(fold.backtest_id or "") == (trade_record(number),)


def work_on_fold(url: str, walk_forward_id: str, number: int) -> None:
    """Take a fold through all it goes through, again and again."""
    engine = open_database(url)
    records = BacktestRecords(engine)
    tested = fold_backtest(walk_forward_id, number)
    for attempt in range(10):
        records.set_fold(walk_forward_id, number, FoldStatus.PENDING, at=NOON)
        records.set_fold(walk_forward_id, number, FoldStatus.TRAINING, at=NOON)
        records.set_fold(walk_forward_id, number, FoldStatus.BACKTESTING, at=NOON + HOUR, model_version=f"fold-{number}")
        records.save(tested, [trade_record(number)])
        done_at = NOON + number * HOUR
        records.set_fold(walk_forward_id, number, FoldStatus.DONE, at=done_at, backtest_id=tested.id, measures=f"[{attempt}]")
    engine.dispose()


def fold_backtest(walk_forward_id: str, number: int) -> BacktestRecord:
    return replace(backtest_record(), walk_forward_id=walk_forward_id, start=FEBRUARY + number * HOUR)
