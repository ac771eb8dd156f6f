"""A trial: values of some parameters, traded over the folds of a walk-forward, and what that was worth."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from fxcast.domain.candle import FloatArray
from fxcast.performance.daily import DailyCurve
from fxcast.trading.parameters import Value, Values

__all__ = [
    "Budget",
    "FoldEvaluator",
    "FoldScore",
    "HorizonScore",
    "Resources",
    "Trial",
    "TrialMeasures",
    "TrialState",
    "Value",
    "Values",
]

NOMINAL_COVERAGE = 0.9  # of [q05, q95]


class TrialState(StrEnum):
    """What became of a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"  # it was behind after some folds, and stopped
    FAILED = "failed"  # it crashed more often than is tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonScore:
    """What forecasts of one horizon were worth in one fold, over all symbols; sums, so that folds can be added up.

    Attributes:
        windows: Forecasts with an outcome.
        crps: Their fair CRPS added up, in shares of the price.
        walk_crps: The same of a driftless random walk with EWMA width.
        inside: How many outcomes lay in [q05, q95].
    """

    minutes: int
    windows: int
    crps: float
    walk_crps: float
    inside: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldScore:
    """One fold of a trial.

    Attributes:
        fold: Counts from 1, oldest first.
        curve: The account day by day; each fold begins with a new account.
        trades: Closed.
        horizons: Empty where nothing forecasts.
        seconds: That it took.
    """

    fold: int
    curve: DailyCurve
    trades: int
    horizons: tuple[HorizonScore, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialMeasures:
    """A trial's folds together.

    Attributes:
        sharpe: Annualised, of the folds' days one after the other; 0 where no day gained or lost.
        max_drawdown: Deepest fall below an earlier peak, as a share of the peak, the folds' returns compounded.
        crps_skill: Mean over horizons of 1 − CRPS / the random walk's; None where nothing forecasts.
        coverage: Mean over horizons of the share of outcomes in [q05, q95].
        coverage_error: Mean over horizons of |share − 0.9|.
        score: The objective, higher is better.
    """

    folds: int
    sharpe: float
    max_drawdown: float
    total_return: float
    trades: int
    crps_skill: float | None
    coverage: float | None
    coverage_error: float | None
    score: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """A trial as it is kept.

    Attributes:
        number: Counts from 0; number 0 has the default values.
        folds: Those that were done, by number.
        measures: Of these; None before the first.
        error: Why it failed.
    """

    number: int
    values: Values
    state: TrialState
    folds: tuple[FoldScore, ...] = ()
    measures: TrialMeasures | None = None
    error: str = ""

    @property
    def daily_returns(self) -> FloatArray:
        """Of the folds' days one after the other, (n,)."""
        return np.concatenate([each.curve.returns for each in self.folds]) if self.folds else np.zeros(0)


class FoldEvaluator(Protocol):
    """Trades one fold with some values; travels to the trial's actor, so it pickles.

    The same values, fold and trial give the same score, wherever and whenever.
    """

    def evaluate(self, values: Values, fold: int, *, trial: int) -> FoldScore:
        """Return what a fold is worth with these values.

        Args:
            fold: Counts from 1.
            trial: Its number, which names what a trial keeps on disk.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When a search ends, whichever comes first.

    Attributes:
        trials: So many, the default values' and those that failed among them.
        seconds: After so long no trial is begun; the time of earlier parts of a resumed run counts. None for no limit.
        patience: After so many trials without a better one; None for no limit.
    """

    trials: int
    seconds: float | None = None
    patience: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a trial's actor reserves; 0 CPUs where its work is tasks of their own."""

    cpus: float = 1.0
    gpus: float = 0.0
