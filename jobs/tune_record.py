"""A search in the database: its trials as they are done, from which a killed one goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from fxcast.adapters.storage.backtests import BacktestRecords
from fxcast.adapters.storage.database import migrate, open_database, revision_of
from fxcast.adapters.storage.tuning import TrialRecord, TuningFoldRecord, TuningRecords, TuningRun
from fxcast.cluster.train_card import code_version
from fxcast.errors import BadSetting
from fxcast.performance.daily import DAYS_A_YEAR, DailyCurve
from fxcast.tuning.export import to_dict
from fxcast.tuning.findings import TuningFindings
from fxcast.tuning.objective import measures_of
from fxcast.tuning.trial import FoldScore, HorizonScore, Trial, TrialState
from fxcast.tuning.verdict import DEFAULT, WINNER
from jobs.tune_plan import TunePlan

SEARCH, RANDOM, NEIGHBOUR = "search", "random", "neighbour"  # kinds of trials
_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An open search."""

    run: TuningRun
    records: TuningRecords
    backtests: BacktestRecords
    database_url: str


def open_record(plan: TunePlan, command: str) -> Record:
    """Begin a search in the database, or go on with it; a SQLite file that is not there is made.

    Raises:
        BadSetting: If it was begun before and is not resumed, or the other way round, or is finished.
        BadSetup: If another search has the name, or the database can't be reached.
    """
    settings, url = plan.settings, plan.settings.database_url
    file = url.removeprefix(_SQLITE)
    if file != url and not Path(file).exists():
        migrate(url)
    if revision_of(url) is None:
        migrate(url)
    database = open_database(url)
    records = TuningRecords(database)
    known = records.run(settings.name)
    if settings.rerun is None:
        _check_known(known, settings.name, resume=settings.resume)
    elif known is None:
        raise BadSetting(f"name: found {settings.name}, and there is no search of it; allowed: a search that was run")
    run = records.begin(
        TuningRun(
            name=settings.name,
            begun_at=datetime.now(UTC),
            symbols=settings.symbols,
            timeframe=settings.timeframe,
            level=settings.level.value,
            regime=None if settings.regime is None else settings.regime.value,
            searcher=settings.searcher,
            seed=settings.seed,
            start=plan.start,
            stop=plan.stop,
            hold_out_start=plan.hold_out[0],
            hold_out_stop=plan.hold_out[1],
            trials=settings.trials,
            data_hash=plan.data_hash,
            settings_hash=plan.settings_hash,
            settings=plan.content,
            code_version=code_version(),
            study=settings.name,
            command=command,
        )
    )
    return Record(run=run, records=records, backtests=BacktestRecords(database), database_url=url)


def _check_known(known: TuningRun | None, name: str, *, resume: bool) -> None:
    if known is None and resume:
        raise BadSetting(f"resume: there is no search named {name} to go on with; allowed: the name of one that was stopped")
    if known is not None and known.status == "finished":
        raise BadSetting(f"name: the search {name} is finished; its report is in {known.report_folder}. Choose another name")
    if known is not None and not resume:
        raise BadSetting(f"name: a search named {name} was begun {known.begun_at:%Y-%m-%d %H:%M} UTC; go on with it by --resume")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseKeeper:
    """Implements `cluster.tune_driver.TrialKeeper`: what is told is committed before it returns.

    Attributes:
        began: When trials that this process knows began.
    """

    record: Record
    kind: str
    plan: TunePlan
    began: dict[int, datetime] = field(default_factory=dict[int, datetime])

    def known(self) -> tuple[Trial, ...]:
        """Return the trials that were begun, with the folds that were done."""
        found = self.record.records.trials(self.record.run.id, self.kind)
        self.began.update({each.number: each.began_at for each in found})
        return tuple(_trial(each, self.plan) for each in found)

    def keep_fold(self, number: int, fold: FoldScore) -> None:
        """Keep a fold of a trial."""
        self.record.records.save_fold(self.record.run.id, self.kind, number, _fold_record(fold))

    def keep(self, trial: Trial) -> None:
        """Keep a trial's state and measures; its folds are kept one by one."""
        began_at = self.began.setdefault(trial.number, datetime.now(UTC))
        self.record.records.save_trial(self.record.run.id, _trial_record(trial, self.kind, began_at))

    def scored(self, number: int) -> float | None:
        """Return the score that was written down for a trial, beside its folds; None where it was stopped before its end."""
        found = self.record.records.trials(self.record.run.id, self.kind)
        return next(each.score for each in found if each.number == number)

    def spent(self) -> float:
        """Return the seconds that earlier parts have taken."""
        run = self.record.records.run(self.record.run.id)
        assert run is not None, "it was begun"
        return run.seconds

    def spend(self, seconds: float) -> None:
        """Add to them."""
        self.record.records.spend(self.record.run.id, seconds)


def other_sharpes(record: Record) -> list[float]:
    """Return the annualised Sharpe ratios of all else that was tried on this market and time, by backtests and searches."""
    run = record.run
    searched = record.records.trial_sharpes(run.symbols, run.timeframe, run.start, run.stop, other_than=run.id)
    traded = record.backtests.trial_sharpes(run.symbols, run.timeframe, run.start, run.stop)
    return [*searched.values(), *(daily * DAYS_A_YEAR**0.5 for daily in traded.values())]


def finish(record: Record, findings: TuningFindings, folder: Path) -> None:
    """Write down what came of a search."""
    sharpes = {run.key: run.measures.sharpe.value for run in findings.hold_out}
    winner = next(each for each in findings.trials if each.number == findings.winner)
    record.records.finish(
        record.run.id,
        at=datetime.now(UTC),
        winner=findings.winner,
        winner_values=winner.values,
        promotes=findings.promotes,
        verdict=findings.verdict,
        hold_out_sharpe=sharpes.get(WINNER),
        default_hold_out_sharpe=sharpes.get(DEFAULT),
        deflated_sharpe=findings.deflated_sharpe,
        overfitting_probability=None if findings.overfitting is None else findings.overfitting.probability,
        findings=json.dumps(to_dict(findings), sort_keys=True),
        report_folder=str(folder.absolute()),
    )


def _trial(record: TrialRecord, plan: TunePlan) -> Trial:
    folds = tuple(_fold(each) for each in record.folds)
    return Trial(
        number=record.number,
        values=record.values,
        state=TrialState(record.state),
        folds=folds,
        measures=measures_of(folds, plan.settings.objective) if folds else None,
        error=record.error,
    )


def _trial_record(trial: Trial, kind: str, began_at: datetime) -> TrialRecord:
    measures = trial.measures
    return TrialRecord(
        kind=kind,
        number=trial.number,
        state=trial.state.value,
        values=trial.values,
        began_at=began_at,
        finished_at=None if trial.state is TrialState.RUNNING else datetime.now(UTC),
        error=trial.error,
        score=None if measures is None else measures.score,
        sharpe=None if measures is None else measures.sharpe,
        max_drawdown=None if measures is None else measures.max_drawdown,
        total_return=None if measures is None else measures.total_return,
        trades=None if measures is None else measures.trades,
        crps_skill=None if measures is None else measures.crps_skill,
        coverage=None if measures is None else measures.coverage,
        coverage_error=None if measures is None else measures.coverage_error,
    )


def _fold(record: TuningFoldRecord) -> FoldScore:
    return FoldScore(
        fold=record.fold,
        curve=DailyCurve(
            days=record.days.astype("datetime64[D]"),
            returns=record.returns,
            lows=record.lows,
            highs=record.highs,
            falls=record.falls,
        ),
        trades=record.trades,
        horizons=tuple(
            HorizonScore(
                minutes=int(each["minutes"]),
                windows=int(each["windows"]),
                crps=float(each["crps"]),
                walk_crps=float(each["walk_crps"]),
                inside=int(each["inside"]),
            )
            for each in record.horizons
        ),
        seconds=record.seconds,
    )


def _fold_record(fold: FoldScore) -> TuningFoldRecord:
    curve = fold.curve
    return TuningFoldRecord(
        fold=fold.fold,
        trades=fold.trades,
        seconds=fold.seconds,
        horizons=tuple(
            {
                "minutes": each.minutes,
                "windows": each.windows,
                "crps": each.crps,
                "walk_crps": each.walk_crps,
                "inside": each.inside,
            }
            for each in fold.horizons
        ),
        days=curve.days.astype("datetime64[D]").astype(np.int64),
        returns=curve.returns,
        lows=curve.lows,
        highs=curve.highs,
        falls=curve.falls,
    )
