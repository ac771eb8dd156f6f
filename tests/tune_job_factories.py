"""Short searches of the tuning job, on forecasts of a random walk alone, and what is told of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.tuning import TrialRecord, TuningRecords
from fxcast.cluster.local import REPOSITORY
from fxcast.tuning.findings import TuningFindings
from jobs.tune import tune
from jobs.tune_market import Shared, share
from jobs.tune_plan import TunePlan, plan_tune
from jobs.tune_record import Record, open_record
from jobs.tune_settings import TuneJob
from tests.state import job_database

COMMAND = "python -m jobs.tune"

# Nothing but forecasts is traded on, and quiet candles are passed over. A random walk's mean is off by chance, which is enough.
TRADING: dict[str, Any] = {
    "ldm4ts_horizons": [240, 960],
    "ldm4ts_num_samples": 20,
    "ldm4ts_min_strength": 0.3,
    "ldm4ts_uncertainty_threshold": 3.0,
    "forecast_interval_bars": 12,
    "min_quality": 0.2,
    "use_trend": False,
    "use_mean_reversion": False,
}
SPACE: dict[str, Any] = {
    "trading.ldm4ts_min_strength": {"low": 0.05, "high": 0.4},
    "trading.ldm4ts_num_samples": {"choices": [10, 20]},
    "trading.management.stop_multiple": {"low": 0.5, "high": 2.0},
    "trading.sizing.risk_per_trade_pct": {"low": 0.1, "high": 1.0, "log": True},
}


def configured(store: str, folder: Path, **changes: Any) -> Path:
    """Write a configuration of three short folds and a hold-out that keeps everything below a folder; return its file."""
    content: dict[str, Any] = {
        "name": "short",
        "store": store,
        "timeframe": "1h",
        "model": "random-walk",
        "start": "2017-03-06T00:00:00Z",
        "stop": "2017-05-01T00:00:00Z",
        "test_days": 14,
        "trials": 8,
        "random_trials": 2,
        "generation": 2,
        "concurrency": 2,
        "pruning": {"rule": "median", "warm_up_trials": 2, "warm_up_folds": 1},
        "space": SPACE,
        "trading": TRADING,
        "market": {"candle_side": "ask"},
        "draws": 100,
        "actors": 1,
        "forecasts": str(folder / "forecasts"),
        "tunes": str(folder / "tune"),
        "database_url": job_database(folder),
    }
    path = folder / "tune.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def make_settings(store: str, folder: Path, *options: str, **changes: Any) -> TuneJob:
    """Build the settings of such a search."""
    return TuneJob.parse(["--config", str(configured(store, folder, **changes)), *options])


@dataclass(frozen=True, kw_only=True)
class Done:
    """A search with its record, and what it shared where the test asked for it."""

    plan: TunePlan
    record: Record
    findings: TuningFindings
    shared: Shared


def searched(settings: TuneJob) -> Done:
    """Search and guard on the connected cluster, in this process."""
    plan = plan_tune(settings)
    record = open_record(plan, COMMAND)
    findings = tune(plan, record, command=COMMAND, show=unseen, show_search=unseen)
    return Done(plan=plan, record=record, findings=findings, shared=share(plan, show=unseen))


def unseen(*_: object) -> None:
    """Show nothing."""


def kept(settings: TuneJob, kind: str | None = None) -> tuple[TrialRecord, ...]:
    """Return what the database holds of a search's trials; nothing where there is none yet."""
    database = open_database(settings.database_url)
    try:
        records = TuningRecords(database)
        run = records.run(settings.name)
        return () if run is None else records.trials(run.id, kind)
    finally:
        database.dispose()


def folds_kept(settings: TuneJob, kind: str) -> dict[tuple[int, int], float]:
    """Return by trial and fold how long the fold took, which no second evaluation would repeat."""
    return {(each.number, fold.fold): fold.seconds for each in kept(settings, kind) for fold in each.folds}


def told(trials: Iterable[TrialRecord]) -> list[tuple[object, ...]]:
    """Return all that must be the same of two searches, to the last bit."""
    return [
        (
            each.kind,
            each.number,
            each.state,
            dict(each.values),
            *(each.score, each.sharpe, each.max_drawdown, each.total_return, each.trades, each.crps_skill, each.coverage),
            [(fold.fold, fold.trades, fold.returns.tolist(), fold.lows.tolist(), fold.horizons) for fold in each.folds],
        )
        for each in trials
    ]


def run_job(config: Path, log: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start the job as a user does, with a cluster of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY / "platform"), str(REPOSITORY)])
    with log.open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.tune", "--config", str(config), *options],
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=config.parent,
        )
