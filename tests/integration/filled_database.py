"""A database with rows in every table, written by all that writes: for tests of what happens to a whole database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import Connection, Engine, MetaData, Table, func, select

from fxcast.adapters.storage.access_tokens import Scope, create_token, revoke_token, rotate_token
from fxcast.adapters.storage.backtest_rows import FoldStatus
from fxcast.adapters.storage.backtests import BacktestRecords
from fxcast.adapters.storage.controls import request_kill_switch
from fxcast.adapters.storage.lease import acquire
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.predictions import record_inference_minute, record_predictions, resolve_outcomes
from fxcast.adapters.storage.promotions import Promotions
from fxcast.adapters.storage.quality import update_quality
from fxcast.adapters.storage.registry import RegisteredModel, activate, register_model
from fxcast.adapters.storage.settings_versions import SettingsVersions
from fxcast.adapters.storage.studies import open_studies
from fxcast.adapters.storage.tables import Base
from fxcast.adapters.storage.tuning import TuningRecords
from fxcast.domain.candle import to_datetime
from fxcast.domain.order import ChangeAnswer, OrderStatus
from fxcast.domain.timeframe import Timeframe
from fxcast.trading.config import TradingConfig
from fxcast.trading.ports import LedgerBatch
from fxcast.trading.state import EngineState, KillSwitch
from tests.backtest_record_factories import backtest_record, fold_record, trade_record, walk_forward_record
from tests.factories import make_prediction, make_series
from tests.ledger_factories import NOON, closed, decision, fill, full_batch
from tests.tuning_record_factories import promotion_record, trial_record, tuning_fold, tuning_run

Rows = dict[str, list[dict[str, Any]]]


def fill_database(database: Engine, *, models: Path) -> None:
    """Do all that jobs and actors do to the tables, but for Optuna's: add, change, remove."""
    trade(database)
    forecast(database, models)
    let_in(database)
    backtest(database)
    tune(database)


def trade(database: Engine) -> None:
    lease = acquire(database, "paper:demo", "engine", ttl_s=30.0, now=NOON)
    lease.renew(NOON + timedelta(seconds=10))
    ledger = SqlLedger(database, "demo", lease=lease)
    ledger.keep_settings("c0ffee", '{"price": "½"}')
    ledger.commit(EngineState(), full_batch())
    ledger.mark_order("EURUSD-open", OrderStatus.SENT)
    ledger.mark_order("EURUSD-open", OrderStatus.FILLED, broker_order_id="b-7", reason="at market")
    ledger.mark_change("EURUSD-open-p1", ChangeAnswer(accepted=True))
    later = NOON + timedelta(hours=1)
    batch = LedgerBatch(positions=(closed(),), transactions=(fill(7),), decisions=(decision(at=later),))
    ledger.commit(EngineState(cursors={"EURUSD": later}), batch)
    ledger.prune_decisions(NOON + timedelta(minutes=1))
    lease.release()
    request_kill_switch(database, "demo", KillSwitch.REDUCING, "anna", "a holiday", NOON)
    set_settings(database)


def set_settings(database: Engine) -> None:
    versions = SettingsVersions(database, "demo")
    started = versions.in_force(TradingConfig(), NOON)
    versions.mark_taken(started.version, NOON)
    changed = started.trading.model_copy(update={"min_quality": 0.5})
    versions.add(changed, by="anna", reason="fewer trades", after=started.version, now=NOON + timedelta(hours=1))


def forecast(database: Engine, models: Path) -> None:
    model = RegisteredModel(
        version="tiny-2",
        preset="tiny",
        symbol="EURUSD",
        timeframe="1h",
        folder=models / "tiny-2",
        config={"steps": 5},
        data_hash="d0",
        data_start=NOON - timedelta(days=30),
        data_end=NOON,
        metrics={"crps": 0.1 + 0.2},
    )
    register_model(database, model)
    activate(database, "tiny-2")
    series = make_series(bars=60)
    at = to_datetime(series.close_times[20])
    record_predictions(database, [make_prediction(made_at=at + timedelta(hours=hour)) for hour in range(3)])
    resolve_outcomes(database, series, spread=0.0001)
    update_quality(database, "EURUSD", Timeframe("1h"), window=10, pip=0.0001)
    for latencies in ([12.5], [12.5, 1 / 3]):
        record_inference_minute(database, minute=NOON, model_version="tiny-2", latencies_ms=latencies, errors=0)


def let_in(database: Engine) -> None:
    for name in ("engine", "guest"):
        create_token(database, name=name, scopes=[Scope.FORECAST], now=NOON)
    rotate_token(database, name="engine", overlap=timedelta(hours=1), now=NOON)
    revoke_token(database, name="guest", now=NOON)


def backtest(database: Engine) -> None:
    records, walk_forward = BacktestRecords(database), walk_forward_record()
    records.begin(walk_forward, [fold_record()])
    done = replace(backtest_record(), walk_forward_id=walk_forward.id)
    for _ in range(2):  # the second time in place of the first
        records.save(done, [trade_record(1), trade_record(2)])
    records.set_fold(walk_forward.id, 1, FoldStatus.DONE, at=NOON, backtest_id=done.id, measures="{}")
    records.finish(walk_forward.id, at=NOON, findings="{}", report_folder="runs")


def tune(database: Engine) -> None:
    records, promotions = TuningRecords(database), Promotions(database)
    run = records.begin(tuning_run())
    for _ in range(2):
        records.save_trial(run.id, trial_record())
        records.save_fold(run.id, "search", 0, tuning_fold())
    records.spend(run.id, 1 / 3)
    for trial in (3, 4):
        promotions.promote([promotion_record(run, trial=trial)])
    promotions.roll_back("EURUSD", "1h", None, at=NOON + timedelta(hours=9), by="anna", reason="too soon")


def study(url: str) -> None:
    """Run a small study of Optuna's."""
    found = optuna.create_study(storage=open_studies(url), study_name="majors", direction="maximize", load_if_exists=True)
    for _ in range(2):
        trial = found.ask({"threshold": optuna.distributions.FloatDistribution(0.2, 0.5)})
        trial.report(0.25, step=1)
        trial.set_user_attr("seen", [1, 2])
        found.tell(trial, trial.params["threshold"])
    found.set_user_attr("market", "EURUSD")


def rows_of(database: Engine) -> Rows:
    """Every row of our tables, by table, in the order of their keys."""
    with database.connect() as connection:
        return {table.name: _rows(connection, table) for table in Base.metadata.sorted_tables}


def study_rows_of(database: Engine) -> Rows:
    """Every row of the tables that are not ours, but for revisions; enumerations as their names."""
    found = MetaData()
    found.reflect(database, only=lambda name, _: name not in {*Base.metadata.tables, "fxcast_version", "alembic_version"})
    with database.connect() as connection:
        return {table.name: _rows(connection, table) for table in found.sorted_tables}


def counts_of(database: Engine) -> dict[str, int]:
    """How many rows each table of ours has that is there."""
    there = MetaData()
    there.reflect(database, only=lambda name, _: name in Base.metadata.tables)
    with database.connect() as connection:
        return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in there.sorted_tables}


def _rows(connection: Connection, table: Table) -> list[dict[str, Any]]:
    query = select(table).order_by(*table.primary_key.columns)
    return [dict(row) for row in connection.execute(query).mappings()]
