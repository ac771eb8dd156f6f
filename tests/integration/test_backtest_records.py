"""Backtests and walk-forwards as rows, on real databases."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import IntegrityError

from fxcast.adapters.storage.backtests import BacktestRecord, BacktestRecords, FoldRecord, FoldStatus
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.errors import BadSetup, DatabaseUnavailable
from tests.backtest_record_factories import (
    APRIL,
    FEBRUARY,
    JANUARY,
    MARCH,
    backtest_record,
    fold_record,
    trade_record,
    walk_forward_record,
)
from tests.databases import DATABASES, new_database

NOON = datetime(2024, 6, 3, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SYMBOLS = ("EURUSD", "USDJPY")
FOLDS = tuple(fold_record(number) for number in (1, 2, 3))


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url = new_database(request.param, tmp_path)
    migrate(url)
    return url


@pytest.fixture
def database(url: str) -> Generator[Engine]:
    engine = open_database(url)
    yield engine
    engine.dispose()


@pytest.fixture
def records(database: Engine) -> BacktestRecords:
    return BacktestRecords(database)


def rows_of(engine: Engine, table: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(f"SELECT * FROM {table}")).all())  # noqa: S608 (names below)


def test_a_database_without_backtests_says_so(records: BacktestRecords) -> None:
    assert records.backtests() == records.trades_of("none") == records.folds("none") == ()
    assert records.backtest("none") is records.walk_forward("none") is None
    assert records.trial_sharpes(SYMBOLS, "1h", JANUARY, APRIL) == {}


def test_a_backtest_comes_back_as_it_was_with_its_trades_after_opening_the_database_again(
    records: BacktestRecords, url: str
) -> None:
    record, trades = backtest_record(), (trade_record(2), trade_record(1))

    records.save(record, trades)

    engine = open_database(url)
    again = BacktestRecords(engine)
    assert again.backtests() == (record,)
    assert again.backtest(record.id) == record
    assert again.trades_of(record.id) == trades
    engine.dispose()


def test_money_and_prices_keep_every_digit(records: BacktestRecords) -> None:
    records.save(backtest_record(), [trade_record()])

    (trade,) = records.trades_of(backtest_record().id)
    assert str(trade.entry_price) == "1.084650000000000000001"
    assert str(trade.exit_price) == "1.08010"
    assert str(records.backtests()[0].starting_balance) == "10000.00"


def test_one_that_no_model_forecast_and_that_never_traded_is_kept_too(records: BacktestRecords) -> None:
    idle = replace(backtest_record(), model_version=None, model_hash=None, trades=0, sharpe=None, daily_sharpe=None, win_rate=None)

    records.save(idle, [])

    assert records.backtests() == (idle,)
    assert records.trades_of(idle.id) == ()


def test_the_same_settings_on_the_same_data_again_replace_their_own_row_and_trades(
    records: BacktestRecords, database: Engine
) -> None:
    first = backtest_record()
    again = replace(first, made_at=NOON, code_version="0.2.0", net_profit=12.5, daily_sharpe=0.04, findings="{}", trades=1)
    records.save(first, [trade_record(1), trade_record(2)])
    records.save(replace(first, data_hash="other"), [trade_record(3)])

    records.save(again, [trade_record(2)])

    assert records.backtest(first.id) == again
    assert records.trades_of(first.id) == (trade_record(2),)
    assert records.trades_of(replace(first, data_hash="other").id) == (trade_record(3),)
    assert len(rows_of(database, "backtests")) == 2


TOKYO = timezone(timedelta(hours=9))


@pytest.mark.parametrize(
    "change",
    [
        {"made_at": NOON},
        {"name": "other words"},
        {"code_version": "0.2.0"},
        {"symbols": ("USDJPY", "EURUSD")},
        {"start": FEBRUARY.astimezone(TOKYO), "stop": MARCH.astimezone(TOKYO)},
        {"report_folder": "elsewhere"},
    ],
)
def test_what_cannot_change_the_outcome_leaves_the_backtest_the_same(records: BacktestRecords, change: dict[str, Any]) -> None:
    records.save(backtest_record(), [])

    records.save(replace(backtest_record(), **change), [])

    assert len(records.backtests()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"variant": "random-walk"},
        {"symbols": ("EURUSD",)},
        {"timeframe": "15m"},
        {"start": JANUARY},
        {"stop": APRIL},
        {"model_hash": "other"},
        {"data_hash": "other"},
        {"settings_hash": "other"},
    ],
)
def test_what_can_change_the_outcome_makes_another_backtest(records: BacktestRecords, change: dict[str, Any]) -> None:
    records.save(backtest_record(), [])

    records.save(replace(backtest_record(), **change), [])

    assert len(records.backtests()) == 2


def test_settings_are_kept_once_and_shared_with_engines(records: BacktestRecords, database: Engine) -> None:
    SqlLedger(database, "demo").keep_settings("c0ffee", backtest_record().settings)
    records.save(backtest_record(), [])
    records.save(replace(backtest_record(), stop=APRIL), [])

    assert rows_of(database, "engine_settings") == [("c0ffee", backtest_record().settings)]


STATEMENTS = ("INSERT INTO engine_settings", "INSERT INTO backtests", "DELETE FROM backtest_trades", "INSERT INTO backtest_trades")


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_save_that_is_cut_off_leaves_what_was_there(records: BacktestRecords, database: Engine, statement: str) -> None:
    before = backtest_record()
    records.save(before, [trade_record(1)])

    def cut(_connection: object, _cursor: object, found: str, *_rest: object) -> None:
        if found.startswith(statement):
            raise RuntimeError("killed")

    event.listen(database, "after_cursor_execute", cut)
    for record in (replace(before, made_at=NOON, net_profit=1.0), replace(before, settings_hash="new", settings="{}")):
        with pytest.raises(RuntimeError, match="killed"):
            records.save(record, [trade_record(2), trade_record(3)])
    event.remove(database, "after_cursor_execute", cut)

    assert records.backtests() == (before,)
    assert records.trades_of(before.id) == (trade_record(1),)
    assert len(rows_of(database, "backtest_trades")) == 1
    assert len(rows_of(database, "engine_settings")) == 1


def test_of_two_that_save_the_same_backtest_at_once_one_stays_whole(url: str, records: BacktestRecords) -> None:
    record = backtest_record()
    runs = {float(number): tuple(trade_record(each) for each in range(number, number + 20)) for number in (100, 200, 300, 400)}

    def save(mine: BacktestRecords, profit: float) -> None:
        mine.save(replace(record, net_profit=profit), runs[profit])

    at_once(url, list(runs), save)

    (stored,) = records.backtests()
    assert records.trades_of(record.id) == runs[stored.net_profit]


def test_backtests_are_listed_newest_first_and_found_by_exactly_their_symbols_and_timeframe(records: BacktestRecords) -> None:
    old = backtest_record()
    new = replace(old, settings_hash="new", made_at=old.made_at + HOUR)
    euro = replace(old, symbols=("EURUSD",), made_at=old.made_at - HOUR)
    quarters = replace(old, timeframe="15m", made_at=old.made_at + 2 * HOUR)
    for record in (old, quarters, euro, new):
        records.save(record, [])

    assert records.backtests() == (quarters, new, old, euro)
    assert records.backtests(["USDJPY", "EURUSD"]) == (quarters, new, old)
    assert records.backtests(["USDJPY", "EURUSD"], "1h") == (new, old)
    assert records.backtests(["EURUSD"]) == (euro,)
    assert records.backtests(["USDJPY"]) == ()
    assert records.backtests(timeframe="15m") == (quarters,)


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("start", "stop", "counts"),
    [
        (JANUARY, FEBRUARY, False),  # ends where the backtest begins
        (JANUARY, FEBRUARY + SECOND, True),
        (MARCH, APRIL, False),  # begins where it ends
        (MARCH - SECOND, APRIL, True),
        (JANUARY, APRIL, True),
        (FEBRUARY + HOUR, FEBRUARY + 2 * HOUR, True),
        (FEBRUARY, MARCH, True),
    ],
)
def test_a_trial_counts_where_its_period_overlaps(records: BacktestRecords, start: datetime, stop: datetime, counts: bool) -> None:
    records.save(backtest_record(), [])

    trials = records.trial_sharpes(SYMBOLS, "1h", start.astimezone(TOKYO), stop.astimezone(TOKYO))

    assert trials == ({"c0ffee": -0.0378} if counts else {})


def test_trials_are_all_different_settings_of_the_same_market_whatever_the_order_of_its_symbols(records: BacktestRecords) -> None:
    for number, start in enumerate((JANUARY, FEBRUARY)):
        records.save(replace(backtest_record(), settings_hash=f"{number}", start=start, daily_sharpe=number / 8), [])
    records.save(replace(backtest_record(), settings_hash="another market", symbols=("EURUSD",)), [])
    records.save(replace(backtest_record(), settings_hash="another timeframe", timeframe="15m"), [])

    assert records.trial_sharpes(("USDJPY", "EURUSD"), "1h", JANUARY, APRIL) == {"0": 0.0, "1": 0.125}


def test_benchmarks_and_runs_without_a_sharpe_ratio_are_no_trials(records: BacktestRecords) -> None:
    records.save(replace(backtest_record(), variant="random-walk", settings_hash="benchmark", is_benchmark=True), [])
    records.save(replace(backtest_record(), settings_hash="never traded", daily_sharpe=None), [])

    assert records.trial_sharpes(SYMBOLS, "1h", JANUARY, APRIL) == {}


def test_settings_that_were_run_often_are_one_trial_by_most_common_time_then_by_the_newest(records: BacktestRecords) -> None:
    month = backtest_record()
    day = replace(month, stop=FEBRUARY + timedelta(days=1), made_at=month.made_at + 2 * HOUR, daily_sharpe=0.9)
    other_candles = replace(month, data_hash="other", made_at=month.made_at + HOUR, daily_sharpe=0.3)
    for record in (other_candles, day, month):
        records.save(record, [])

    assert records.trial_sharpes(SYMBOLS, "1h", JANUARY, APRIL) == {"c0ffee": 0.3}
    # Of this one day all three share the same.
    assert records.trial_sharpes(SYMBOLS, "1h", FEBRUARY, FEBRUARY + timedelta(days=1)) == {"c0ffee": 0.9}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_measure_that_is_no_number_is_a_bug(value: float) -> None:
    with pytest.raises(ValueError, match=f"sortino is {value}; a measure that can't be told is None"):
        replace(backtest_record(), sortino=value)


def test_a_backtest_of_a_walk_forward_that_never_began_is_a_bug_and_not_saved(records: BacktestRecords) -> None:
    with pytest.raises(IntegrityError):
        records.save(replace(backtest_record(), walk_forward_id="none"), [trade_record()])

    assert records.backtests() == ()


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


CALLS: tuple[Callable[[BacktestRecords], object], ...] = (
    lambda records: records.save(backtest_record(), [trade_record()]),
    lambda records: records.backtests(),
    lambda records: records.backtest("none"),
    lambda records: records.trades_of("none"),
    lambda records: records.trial_sharpes(SYMBOLS, "1h", JANUARY, APRIL),
    lambda records: records.begin(walk_forward_record(), FOLDS),
    lambda records: records.walk_forward("none"),
    lambda records: records.folds("none"),
    lambda records: records.set_fold(walk_forward_record().id, 1, FoldStatus.DONE, at=NOON),
    lambda records: records.finish(walk_forward_record().id, at=NOON, findings="{}", report_folder=""),
)


@pytest.mark.parametrize("call", CALLS)
def test_every_call_in_an_outage_says_so(tmp_path: Path, call: Callable[[BacktestRecords], object]) -> None:
    url = new_database("sqlite", tmp_path)
    migrate(url)
    engine = open_database(url)
    BacktestRecords(engine).begin(walk_forward_record(), FOLDS)
    call(BacktestRecords(engine))
    engine.dispose()
    (tmp_path / "fx.db").write_bytes(b"noise" * 10_000)

    with pytest.raises(DatabaseUnavailable, match=r"the database .* does not answer"):
        call(BacktestRecords(engine))


def at_once(url: str, arguments: list[float], call: Callable[[BacktestRecords, float], object]) -> list[object]:
    """Call from threads with an engine of their own, all at the same moment."""
    start = threading.Barrier(len(arguments))

    def one(argument: float) -> object:
        engine = open_database(url)
        start.wait()
        try:
            return call(BacktestRecords(engine), argument)
        finally:
            engine.dispose()

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(one, arguments))
