"""One fold from its training to its figures, on the connected cluster; what is done of it is not done again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from fxcast.adapters.storage.backtests import BacktestRecords, FoldRecord, FoldStatus, WalkForwardRecord
from fxcast.backtest.folds import Fold
from fxcast.cluster.batch_forecast import code_hash
from fxcast.cluster.train_card import code_version
from fxcast.cluster.train_plan import candles_hash
from fxcast.data.store import CandleStore
from fxcast.errors import BadSetting
from fxcast.performance.measures import Findings
from fxcast.performance.stitched import Account, account_of
from fxcast.performance.trades import trades_of
from jobs.backtest import facts_of
from jobs.backtest_candles import read_market_data
from jobs.backtest_findings import find
from jobs.backtest_models import SHIPPED, Models, find_models
from jobs.backtest_record import Origin, keep
from jobs.backtest_run import STRATEGY, Outcome, run_period
from jobs.walk_forward_files import (
    done_seconds,
    mark_done,
    mark_status,
    read_findings,
    unmark_done,
    write_fold,
)
from jobs.walk_forward_plan import WalkForwardPlan
from jobs.walk_forward_training import train_fold, trained_models

HELD = "buy-and-hold"
Show = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diary:
    """Where it is written down how far each fold is: beside its files, and in the database if there is one."""

    plan: WalkForwardPlan
    record: WalkForwardRecord
    records: BacktestRecords | None

    @classmethod
    def of(cls, plan: WalkForwardPlan, records: BacktestRecords | None) -> Self:
        """Open the diary of a walk-forward."""
        settings = plan.settings
        record = WalkForwardRecord(
            name=settings.name,
            begun_at=datetime.now(UTC),
            symbols=settings.symbols,
            timeframe=settings.timeframe,
            start=plan.start,
            stop=plan.stop,
            scheme=settings.scheme.value,
            data_hash=plan.data_hash,
            settings_hash=plan.settings_hash,
            settings=plan.content,
            code_version=code_version(),
        )
        return cls(plan=plan, record=record, records=records)

    def begin(self) -> None:
        """Record the walk-forward and its folds; of one that was begun before, everything stays as it is.

        Raises:
            BadSetup: If the database has it with other folds.
        """
        if self.records is not None:
            self.records.begin(self.record, [_fold_record(fold) for fold in self.plan.folds])

    def finish(self, findings: str) -> None:
        """Record what came of all folds, as JSON."""
        if self.records is not None:
            folder = str(self.plan.settings.folder.absolute())
            self.records.finish(self.record.id, at=datetime.now(UTC), findings=findings, report_folder=folder)

    def tell(self, fold: Fold, status: FoldStatus, *, reason: str = "", **found: Any) -> None:
        """Say that a fold has come so far; `found` are the columns of `BacktestRecords.set_fold` that are known by then."""
        now = datetime.now(UTC)
        mark_status(self.plan.fold_folder(fold), status.value, now, reason)
        if self.records is not None:
            self.records.set_fold(self.record.id, fold.number, status, at=now, reason=reason, **found)


def seconds_of_done(plan: WalkForwardPlan, fold: Fold) -> float | None:
    """Return how long a fold took that is done; None if some of it is still to be done."""
    models = trained_models(plan, fold)
    return None if models is None else done_seconds(plan.fold_folder(fold), code_hash=code_hash(), models=models)


def run_fold(plan: WalkForwardPlan, fold: Fold, diary: Diary, *, start_from: Path | None, show: Show) -> None:
    """Train, calibrate, forecast and trade one fold, and write it down.

    Args:
        start_from: Model folder that its training begins with.
        show: Called with what is being done, how much of it is done, and all.

    Raises:
        FxcastError: As the trainings, `find_models` and `run_period`.
    """
    began = time.monotonic()
    settings, folder = plan.settings, plan.fold_folder(fold)
    unmark_done(folder)
    diary.tell(fold, FoldStatus.TRAINING)
    trained = train_fold(plan, fold, start_from, show)
    diary.tell(fold, FoldStatus.FORECASTING)
    data = read_market_data(settings, CandleStore(settings.store), *fold.test)
    models = _models(plan, fold)
    origin = Origin(
        models={name: (source.name, source.model_hash) for name, source in models.sources.items()},
        data_hash=candles_hash([data.series[symbol] for symbol in settings.followed]),
        settings=plan.content,
        seen_by_model=bool(plan.seen),
        walk_forward_id=None if diary.records is None else diary.record.id,
    )
    is_trading = False

    def show_stage(name: str, done: int, total: int) -> None:
        nonlocal is_trading
        if not is_trading and not name.startswith("forecasts of "):
            is_trading = True
            diary.tell(fold, FoldStatus.BACKTESTING)
        show(name, done, total)

    outcome = run_period(settings, data, models, *fold.test, show=show_stage)
    findings = find(
        settings,
        outcome,
        forecasts=None,
        other_sharpes=(),
        warnings=plan.warnings,
        facts={**facts_of(origin, data), **periods_of(fold)},
        command="",
    )
    write_fold(folder, findings, _accounts(findings, outcome))
    backtest_id = None if diary.records is None else keep(diary.records, findings, origin, folder)
    mark_done(folder, code_hash=code_hash(), models=trained, seconds=time.monotonic() - began)
    diary.tell(
        fold,
        FoldStatus.DONE,
        model_version=", ".join(version for version, _ in origin.models.values()) or None,
        backtest_id=backtest_id,
        measures=json.dumps(read_findings(folder)["measures"]),
    )


def periods_of(fold: Fold) -> dict[str, str]:
    """Return a fold's periods in words."""
    return {
        name: f"{span[0]:%Y-%m-%d %H:%M} to {span[1]:%Y-%m-%d %H:%M} UTC"
        for name, span in (("training", fold.train), ("validation", fold.validation), ("test", fold.test))
    }


def _models(plan: WalkForwardPlan, fold: Fold) -> Models:
    settings = plan.settings
    models = find_models(
        settings.trading,
        plan.timeframe,
        settings.database_url,
        model=str(plan.model_folder(fold)) if settings.trains else settings.model,
        sssd=str(plan.sssd_folder(fold)) if settings.trains_sssd else settings.sssd or SHIPPED,
        benchmarks=settings.benchmarks,
    )
    late = [name for name, moment in models.seen.items() if moment is not None and moment > fold.test[0]]
    if late and not plan.seen:
        raise BadSetting(
            f"fold {fold.number}: the models of {', '.join(late)} have seen candles of its test; allowed: none that has"
        )
    return models


def _accounts(findings: Findings, outcome: Outcome) -> Mapping[str, Account]:
    accounts = {STRATEGY: account_of(findings.result, findings.trades, findings.measures)}
    for benchmark in findings.benchmarks:
        if benchmark.result is not None:
            accounts[benchmark.key] = account_of(benchmark.result, trades_of(benchmark.result), benchmark.measures)
    if outcome.held is not None:
        accounts[HELD] = Account(equity=outcome.held, counts={})
    return accounts


def _fold_record(fold: Fold) -> FoldRecord:
    return FoldRecord(
        number=fold.number,
        train_start=fold.train[0],
        train_stop=fold.train[1],
        validation_start=fold.validation[0],
        validation_stop=fold.validation[1],
        test_start=fold.test[0],
        test_stop=fold.test[1],
    )
