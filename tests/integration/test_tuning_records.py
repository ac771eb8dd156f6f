"""Searches as rows, on real databases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from sqlalchemy import Engine, inspect, text

from fxcast.adapters.storage.backtests import BacktestRecords
from fxcast.adapters.storage.database import alembic_config, make_engine, migrate, open_database, revision_of
from fxcast.adapters.storage.promotions import Promotions
from fxcast.adapters.storage.tuning import TuningRecords, TuningRun
from fxcast.errors import BadSetup, DatabaseUnavailable
from tests.backtest_record_factories import backtest_record
from tests.databases import DATABASES, new_database
from tests.tuning_record_factories import (
    APRIL,
    JANUARY,
    MAY,
    NOON,
    SYMBOLS,
    at_once,
    promotion_record,
    trial_record,
    tuning_fold,
    tuning_run,
)

TOKYO = timezone(timedelta(hours=9))
SECOND = timedelta(seconds=1)
OUTCOME: Mapping[str, Any] = {
    "at": NOON + timedelta(hours=1),
    "winner": 7,
    "winner_values": {"trading.ldm4ts_horizons": (15, 60), "trading.min_strength": 0.1 + 0.2},
    "promotes": False,
    "verdict": "keep the default: the hold-out is not better",
    "hold_out_sharpe": 0.1,
    "default_hold_out_sharpe": 1 / 3,
    "deflated_sharpe": 0.02,
    "overfitting_probability": None,
    "findings": '{"verdict": "½"}',
    "report_folder": "runs/tune/majors",
}


@pytest.fixture
def records(database: Engine) -> TuningRecords:
    return TuningRecords(database)


@pytest.fixture
def run(records: TuningRecords) -> TuningRun:
    return records.begin(tuning_run())


def outcome(**changed: object) -> dict[str, Any]:
    return {**OUTCOME, **changed}


def count(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608 (names below)


def test_a_database_without_searches_says_so(records: TuningRecords) -> None:
    assert records.runs() == records.trials("none") == ()
    assert records.run("none") is None
    assert records.hold_out_looks(SYMBOLS, "1h", JANUARY, MAY, before_run_id="none") == 0
    assert records.trial_sharpes(SYMBOLS, "1h", JANUARY, MAY, other_than="none") == {}


def test_a_search_comes_back_as_it_began_by_its_name_and_by_its_id(records: TuningRecords) -> None:
    begun = records.begin(tuning_run())

    assert begun == tuning_run() == records.run("majors") == records.run(begun.id)


def test_a_search_that_was_killed_goes_on_with_all_that_is_recorded(
    records: TuningRecords, run: TuningRun, database: Engine
) -> None:
    records.spend(run.id, 12.5)
    records.save_trial(run.id, trial_record())
    moments = {name: getattr(run, name).astimezone(TOKYO) for name in ("start", "stop", "hold_out_start", "hold_out_stop")}
    later = replace(run, begun_at=NOON + SECOND, code_version="0.2.0", command="other", symbols=("USDJPY", "EURUSD"), **moments)

    assert records.begin(later) == replace(run, seconds=12.5) == records.run("majors")
    assert len(records.trials(run.id)) == count(database, "tuning_runs") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"symbols": ("EURUSD",)}, "symbols: found EURUSD, recorded EURUSD,USDJPY"),
        ({"timeframe": "15m"}, "timeframe: found 15m, recorded 1h"),
        ({"level": "model"}, "level: found model, recorded trading"),
        ({"regime": "volatile"}, "regime: found volatile, recorded all"),
        ({"searcher": "gp"}, "searcher: found gp, recorded tpe"),
        ({"seed": 8}, "seed: found 8, recorded 7"),
        ({"trials": 200}, "trials: found 200, recorded 100"),
        ({"data_hash": "other"}, "candles: found other, recorded da7a"),
        (
            {"start": JANUARY + SECOND},
            "search period: found 2024-01-01T00:00:01+00:00 to 2024-04-01T00:00:00+00:00, recorded 2024-01-01T00:00:00+00:00 to",
        ),
        ({"hold_out_stop": MAY + SECOND}, "hold-out: found 2024-04-01T00:00:00+00:00 to 2024-05-01T00:00:01+00:00, recorded"),
        (
            {"settings_hash": "other", "settings": '{"space": {"trading.min_strength": [0.2, 0.6]}, "folds": 3, "patience": null}'},
            (
                "other settings: settings.patience: found null, recorded nothing; "
                "settings.space.trading.min_strength: found [0.2, 0.6], recorded [0.2, 0.5]; settings.words: found nothing, rec"
            ),
        ),
    ],
)
def test_another_search_of_the_same_name_is_refused_by_what_differs(
    records: TuningRecords, run: TuningRun, database: Engine, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadSetup) as refusal:
        records.begin(replace(run, **change))

    assert str(refusal.value).startswith("a search named majors exists with other settings: ")
    assert words in str(refusal.value)
    assert records.runs() == (run,)
    assert count(database, "engine_settings") == 1  # nor are its settings kept


def test_a_refusal_names_the_first_of_many_settings_that_differ_and_counts_the_others(
    records: TuningRecords, run: TuningRun
) -> None:
    many = "{" + ", ".join(f'"key{number}": {number}' for number in range(20)) + "}"

    with pytest.raises(BadSetup, match=r"settings\.folds: .*; settings\.key14: found 14, recorded nothing; 15 settings more; give"):
        records.begin(replace(run, settings_hash="many", settings=many))


def test_the_same_under_another_name_is_a_search_of_its_own_and_shares_the_settings(
    records: TuningRecords, database: Engine
) -> None:
    BacktestRecords(database).save(replace(backtest_record(), settings_hash="5ea7c4", settings=tuning_run().settings), [])

    first, second = records.begin(tuning_run()), records.begin(replace(tuning_run(), name="again"))

    assert first.id != second.id
    assert records.runs() == (second, first)
    assert count(database, "engine_settings") == 1


def test_searches_are_listed_newest_first_and_found_by_exactly_their_symbols_and_timeframe(records: TuningRecords) -> None:
    old = tuning_run()
    new = replace(old, name="new", begun_at=NOON + SECOND)
    euro = replace(old, name="euro", symbols=("EURUSD",), begun_at=NOON - SECOND)
    quarters = replace(old, name="quarters", timeframe="15m", begun_at=NOON + 2 * SECOND)
    for each in (old, quarters, euro, new):
        records.begin(each)

    assert records.runs() == (quarters, new, old, euro)
    assert records.runs(["USDJPY", "EURUSD"]) == (quarters, new, old)
    assert records.runs(["USDJPY", "EURUSD"], "1h") == (new, old)
    assert records.runs(["EURUSD"]) == (euro,)
    assert records.runs(["USDJPY"]) == ()
    assert records.runs(timeframe="15m") == (quarters,)


def test_of_several_that_begin_the_same_search_at_once_all_find_the_same(url: str, records: TuningRecords) -> None:
    begun = at_once(url, 4, lambda engine, number: TuningRecords(engine).begin(replace(tuning_run(), code_version=f"{number}")))

    assert begun == [records.run("majors")] * 4


def test_of_several_that_begin_different_searches_of_one_name_at_once_one_is_recorded(url: str, records: TuningRecords) -> None:
    def begin(engine: Engine, number: int) -> str:
        try:
            return TuningRecords(engine).begin(replace(tuning_run(), seed=number)).id
        except BadSetup as refusal:
            return str(refusal)

    answers = at_once(url, 4, begin)

    (recorded,) = records.runs()
    assert answers.count(recorded.id) == 1
    assert sum("exists with other settings: seed: found" in answer for answer in answers) == 3


def test_the_time_of_all_parts_of_a_search_adds_up_also_when_two_report_at_once(
    url: str, records: TuningRecords, run: TuningRun
) -> None:
    def spend(engine: Engine, _: int) -> None:
        for _ in range(10):
            TuningRecords(engine).spend(run.id, 0.5)

    at_once(url, 4, spend)

    found = records.run(run.id)
    assert found is not None
    assert found.seconds == 20.0


def test_a_finished_search_keeps_what_came_of_it_and_the_last_findings_count(records: TuningRecords, run: TuningRun) -> None:
    records.finish(run.id, **outcome(promotes=True, verdict="promote"))
    records.finish(run.id, **OUTCOME)

    found = records.run(run.id)
    expected: dict[str, Any] = {name: value for name, value in OUTCOME.items() if name != "at"}
    assert found == replace(run, status="finished", finished_at=OUTCOME["at"], **expected)
    assert records.begin(tuning_run()) == found


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_a_bug(records: TuningRecords, run: TuningRun, value: float) -> None:
    with pytest.raises(ValueError, match=f"sharpe is {value}"):
        replace(trial_record(), sharpe=value)
    with pytest.raises(ValueError, match=f"deflated_sharpe is {value}"):
        replace(tuning_run(), deflated_sharpe=value)
    for name in ("returns", "lows", "highs", "falls"):
        with pytest.raises(ValueError, match=f"{name} of fold 1 holds NaN or infinity"):
            replace(tuning_fold(days=2), **{name: np.array([0.0, value])})
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.save_trial(run.id, replace(trial_record(), values={"trading.min_strength": value}))
    with pytest.raises(ValueError, match=f"hold_out_sharpe is {value}"):
        records.finish(run.id, **outcome(hold_out_sharpe=value))
    with pytest.raises(ValueError, match=f"seconds is {value}"):
        records.spend(run.id, value)

    assert records.runs() == (run,)
    assert records.trials(run.id) == ()


def test_a_search_that_is_not_there_is_named(records: TuningRecords, run: TuningRun) -> None:
    with pytest.raises(LookupError, match="there is no search none"):
        records.finish("none", **OUTCOME)
    with pytest.raises(LookupError, match="there is no search none"):
        records.spend("none", 1.0)

    assert records.runs() == (run,)


@pytest.mark.parametrize(
    ("start", "stop", "looks"),
    [
        (JANUARY, APRIL, 0),  # ends where the hold-out begins
        (JANUARY, APRIL + SECOND, 1),
        (MAY, MAY + SECOND, 0),  # begins where it ends
        (MAY - SECOND, MAY + SECOND, 1),
        (APRIL + SECOND, APRIL + 2 * SECOND, 1),
    ],
)
def test_a_look_counts_where_the_hold_outs_overlap(
    records: TuningRecords, run: TuningRun, start: datetime, stop: datetime, looks: int
) -> None:
    records.finish(run.id, **OUTCOME)

    found = records.hold_out_looks(
        ("USDJPY", "EURUSD"), "1h", start.astimezone(TOKYO), stop.astimezone(TOKYO), before_run_id="mine"
    )

    assert found == looks


def test_looks_are_those_of_other_finished_searches_on_the_same_market(records: TuningRecords, run: TuningRun) -> None:
    others: Mapping[str, dict[str, Any]] = {
        "first": {},
        "second": {"regime": "volatile", "level": "model"},
        "euro": {"symbols": ("EURUSD",)},
        "quarters": {"timeframe": "15m"},
    }
    for name, change in others.items():
        records.finish(records.begin(replace(run, name=name, **change)).id, **OUTCOME)
    records.begin(replace(run, name="still running"))
    records.finish(run.id, **OUTCOME)

    assert records.hold_out_looks(SYMBOLS, "1h", APRIL, MAY, before_run_id=run.id) == 2


def test_what_was_tried_is_all_that_was_judged_of_other_searches_on_the_same_market(records: TuningRecords, run: TuningRun) -> None:
    other = records.begin(replace(run, name="other"))
    for name, change in {"euro": {"symbols": ("EURUSD",)}, "quarters": {"timeframe": "15m"}}.items():
        records.save_trial(records.begin(replace(run, name=name, **change)).id, trial_record())
    records.save_trial(run.id, trial_record())
    for number, state in enumerate(("complete", "pruned", "failed", "running")):
        records.save_trial(other.id, replace(trial_record(number), state=state, sharpe=number / 8))
    records.save_trial(other.id, replace(trial_record(4), sharpe=None))
    records.save_trial(other.id, replace(trial_record(5), kind="random", sharpe=2.0))
    records.save_trial(other.id, replace(trial_record(6), kind="neighbour"))

    found = records.trial_sharpes(("USDJPY", "EURUSD"), "1h", JANUARY, APRIL, other_than=run.id)

    assert found == {f"{other.id}/search/0": 0.0, f"{other.id}/search/1": 0.125, f"{other.id}/random/5": 2.0}
    assert records.trial_sharpes(SYMBOLS, "1h", APRIL, MAY, other_than=run.id) == {}
    assert len(records.trial_sharpes(SYMBOLS, "1h", APRIL - SECOND, MAY, other_than=run.id)) == 3
    assert records.trial_sharpes(SYMBOLS, "1h", JANUARY - SECOND, JANUARY, other_than=run.id) == {}


CALLS: tuple[Callable[[TuningRecords], object], ...] = (
    lambda records: records.begin(tuning_run()),
    lambda records: records.run("majors"),
    lambda records: records.runs(),
    lambda records: records.save_trial(tuning_run().id, trial_record()),
    lambda records: records.save_fold(tuning_run().id, "search", 1, tuning_fold()),
    lambda records: records.trials(tuning_run().id),
    lambda records: records.spend(tuning_run().id, 1.0),
    lambda records: records.finish(tuning_run().id, **OUTCOME),
    lambda records: records.hold_out_looks(SYMBOLS, "1h", JANUARY, MAY, before_run_id="none"),
    lambda records: records.trial_sharpes(SYMBOLS, "1h", JANUARY, MAY, other_than="none"),
)


@pytest.mark.parametrize("call", CALLS)
def test_every_call_in_an_outage_says_so(tmp_path: Path, call: Callable[[TuningRecords], object]) -> None:
    url = new_database("sqlite", tmp_path)
    migrate(url)
    engine = open_database(url)
    records = TuningRecords(engine)
    records.begin(tuning_run())
    records.save_trial(tuning_run().id, trial_record(1))
    call(records)
    engine.dispose()
    (tmp_path / "fx.db").write_bytes(b"noise" * 10_000)

    with pytest.raises(DatabaseUnavailable, match=r"the database .* does not answer"):
        call(records)


@pytest.mark.parametrize("kind", DATABASES)
def test_what_was_recorded_before_0006_survives_the_upgrade_and_the_way_back_which_takes_the_searches_away(
    kind: str, tmp_path: Path
) -> None:
    url = new_database(kind, tmp_path)
    engine = make_engine(url)
    engine.connect().close()
    command.upgrade(alembic_config(url), "0005")
    backtests, records, promotions = BacktestRecords(engine), TuningRecords(engine), Promotions(engine)
    backtests.save(backtest_record(), [])

    migrate(url)

    assert backtests.backtests() == (backtest_record(),)
    run = records.begin(replace(tuning_run(), settings_hash=backtest_record().settings_hash, settings=backtest_record().settings))
    records.save_trial(run.id, replace(trial_record(), folds=(tuning_fold(),)))
    promotions.promote([promotion_record(run)])
    promotions.promote([promotion_record(run, trial=4)])
    promotions.roll_back("EURUSD", "1h", None, at=NOON, by="anna", reason="worse")

    command.downgrade(alembic_config(url), "0005")

    assert revision_of(url) == "0005"
    assert backtests.backtests() == (backtest_record(),)
    tables = set(inspect(engine).get_table_names())
    assert not {"tuning_runs", "tuning_trials", "tuning_folds", "promotions"} & tables

    migrate(url)

    assert backtests.backtests() == (backtest_record(),)
    assert records.runs() == records.trials(run.id) == promotions.history() == ()
    assert records.begin(run) == run
    engine.dispose()
