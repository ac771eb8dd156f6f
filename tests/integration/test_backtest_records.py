"""Backtests as rows, on real databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import IntegrityError

from fxcast.adapters.storage.backtests import BacktestRecords, FoldStatus
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.errors import DatabaseUnavailable
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
from tests.databases import new_database

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
