"""Searches whose best values are known, and whose folds tell when they were traded."""

from __future__ import annotations

import os
import pickle
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from fxcast.cluster.tune_setup import SearchSetup
from fxcast.tuning.objective import ObjectiveConfig, ObjectiveWeights
from fxcast.tuning.pruning import PruningConfig
from fxcast.tuning.ranges import ParameterRange
from fxcast.tuning.space import SearchSpace
from fxcast.tuning.trial import Budget, FoldScore, Resources, Trial, Values
from tests.tuning_factories import make_fold
from tests.waiting import wait_for

BEST = {"trading.x": 0.7, "trading.y": 0.2}
DEFAULTS: Values = {"trading.x": 0.1, "trading.y": 0.9, "trading.horizons": (15, 60)}
SPACE = SearchSpace(
    ranges={
        "trading.x": ParameterRange(low=0.0, high=1.0, type="float"),
        "trading.y": ParameterRange(low=0.0, high=1.0, type="float"),
        "trading.horizons": ParameterRange(choices=((15, 60), (15, 60, 240), (60, 240))),
    }
)
FOLDS = 3

# The score is the Sharpe ratio.
_SHARPE_ALONE = ObjectiveConfig(weights=ObjectiveWeights(drawdown=0, few_trades=0, crps_skill=0, coverage_error=0))
_DAYS = 20
_DEVIATION = 0.01


def sharpe_of(values: Values, fold: int) -> float:
    """Return the daily Sharpe ratio: it falls with the square of the distance from `BEST`, and each fold has its level."""
    distance = sum((float(str(values[path])) - best) ** 2 for path, best in BEST.items())
    return 0.2 - 0.3 * distance + 0.01 * fold


@dataclass(frozen=True, kw_only=True)
class Hill:
    """Implements `FoldEvaluator`.

    Attributes:
        log: Gets a line for each fold that is traded, as in `3 2 1042`: trial, fold and the process that does it.
        stops_at: A trial's fold that is not traded before the file `open` beside the log is there; the file `stopped` says that
            it is waiting.
        dies_once_at: A trial's fold whose process ends the first time.
        fails_at: Numbers of trials that raise an error.
        error: That they raise.
        nan_at: Numbers of trials that score no number.
        in_tasks: Whether a fold is traded by a task that needs a CPU.
    """

    log: Path
    stops_at: tuple[int, int] | None = None
    dies_once_at: tuple[int, int] | None = None
    fails_at: tuple[int, ...] = ()
    error: Exception = field(default_factory=lambda: ValueError("no such luck"))
    nan_at: tuple[int, ...] = ()
    in_tasks: bool = False

    def evaluate(self, values: Values, fold: int, *, trial: int) -> FoldScore:
        """Trade a fold."""
        if self.stops_at == (trial, fold):
            (self.log.parent / "stopped").touch()
            wait_for((self.log.parent / "open").exists)
        if self.dies_once_at == (trial, fold) and not (died := self.log.parent / "died").exists():
            died.touch()
            os._exit(1)
        with self.log.open("a") as log:
            log.write(f"{trial} {fold} {os.getpid()}\n")
        if trial in self.fails_at:
            raise self.error
        if self.in_tasks:
            return ray.get(_hill_task.remote(values, fold))
        return _hill(values, fold, level=np.nan if trial in self.nan_at else 1.0)


def _hill(values: Values, fold: int, level: float = 1.0) -> FoldScore:
    swings = np.where(np.arange(_DAYS) % 2, 1.0, -1.0)
    # Half of the days up and half down by a deviation, about a mean.
    return make_fold(level * _DEVIATION * (swings + sharpe_of(values, fold)), fold=fold)


@ray.remote(num_cpus=1)
def _hill_task(values: Values, fold: int) -> FoldScore:
    return _hill(values, fold)


def evaluations(log: Path) -> list[tuple[int, int]]:
    """Return which folds of which trials were traded, in order."""
    return [(trial, fold) for trial, fold, _ in _lines(log)]


def processes(log: Path) -> set[int]:
    """Return the processes that traded."""
    return {process for _, _, process in _lines(log)}


def _lines(log: Path) -> list[tuple[int, int, int]]:
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(int(trial), int(fold), int(process)) for trial, fold, process in lines]


def _loads(row: bytes) -> Any:
    return pickle.loads(row)  # noqa: S301  # the test wrote it


class SqliteKeeper:
    """Implements `TrialKeeper` in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(self._connect()) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS trials (number INTEGER PRIMARY KEY, trial BLOB)")
            database.execute(
                "CREATE TABLE IF NOT EXISTS folds (number INTEGER, fold INTEGER, score BLOB, PRIMARY KEY (number, fold))"
            )
            database.execute("CREATE TABLE IF NOT EXISTS spent (seconds REAL)")

    def known(self) -> tuple[Trial, ...]:
        """Return all trials with their folds."""
        with closing(self._connect()) as database:
            trials: list[Trial] = [_loads(each) for (each,) in database.execute("SELECT trial FROM trials ORDER BY number")]
            folds: dict[int, list[FoldScore]] = {}
            for number, score in database.execute("SELECT number, score FROM folds ORDER BY number, fold"):
                folds.setdefault(number, []).append(_loads(score))
        return tuple(replace(each, folds=tuple(folds.get(each.number, ()))) for each in trials)

    def keep_fold(self, number: int, fold: FoldScore) -> None:
        """Keep a fold; keeping one twice is an error."""
        self._write("INSERT INTO folds VALUES (?, ?, ?)", number, fold.fold, pickle.dumps(fold))

    def keep(self, trial: Trial) -> None:
        """Keep a trial."""
        self._write("INSERT OR REPLACE INTO trials VALUES (?, ?)", trial.number, pickle.dumps(trial))

    def spent(self) -> float:
        """Return the seconds so far."""
        with closing(self._connect()) as database:
            return float(database.execute("SELECT COALESCE(SUM(seconds), 0) FROM spent").fetchone()[0])

    def spend(self, seconds: float) -> None:
        """Add seconds."""
        self._write("INSERT INTO spent VALUES (?)", seconds)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=10.0)

    def _write(self, statement: str, *values: object) -> None:
        with closing(self._connect()) as database, database:
            database.execute(statement, values)


def make_setup(folder: Path, database_url: str, **changes: Any) -> SearchSetup:
    """Build a search for the top of the hill by TPE, without pruning, one trial at a time."""
    setup = SearchSetup(
        study="hill",
        database_url=database_url,
        space=SPACE,
        defaults=DEFAULTS,
        searcher="tpe",
        seed=7,
        objective=_SHARPE_ALONE,
        pruning=PruningConfig(rule="none"),
        budget=Budget(trials=16),
        folds=FOLDS,
        generation=4,
        concurrency=1,
        resources=Resources(cpus=1.0),
        storage_path=folder / "tune",
        forecasts=False,
    )
    return replace(setup, **changes)


def told(trials: Iterable[Trial]) -> list[tuple[object, ...]]:
    """Return what must be the same of two searches: numbers, values, states and scores."""
    return [
        (each.number, dict(each.values), each.state, len(each.folds), None if each.measures is None else each.measures.score)
        for each in trials
    ]
