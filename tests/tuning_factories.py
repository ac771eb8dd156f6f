"""Small trials built by hand: days, folds and what a search keeps of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fxcast.domain.candle import FloatArray
from fxcast.performance.daily import DailyCurve
from fxcast.tuning.objective import ObjectiveConfig, measures_of
from fxcast.tuning.trial import FoldScore, HorizonScore, Trial, TrialState, Values

# A Monday; each fold begins so many days after the one before.
FIRST_DAY = np.datetime64("2017-03-06", "D")
FOLD_DAYS = 1_000


def make_daily(returns: Sequence[float] | FloatArray, *, first_day: np.datetime64 = FIRST_DAY) -> DailyCurve:
    """Build days with one candle each: its close is the day's lowest and highest."""
    shares = np.asarray(returns, dtype=np.float64)
    return DailyCurve(
        days=first_day + np.arange(len(shares)),
        returns=shares,
        lows=1.0 + shares,
        highs=np.maximum(1.0 + shares, 1.0),
        falls=np.zeros(len(shares)),
    )


def make_horizon(
    minutes: int = 60, *, windows: int = 100, crps: float = 0.9, walk_crps: float = 1.0, inside: int = 90
) -> HorizonScore:
    """Build the score of forecasts a tenth better than a random walk, whose coverage is as it should be."""
    return HorizonScore(minutes=minutes, windows=windows, crps=crps, walk_crps=walk_crps, inside=inside)


def make_fold(
    returns: Sequence[float] | FloatArray = (0.01, -0.005, 0.002),
    *,
    fold: int = 1,
    trades: int = 10,
    horizons: Sequence[HorizonScore] = (),
) -> FoldScore:
    """Build a fold from its daily returns; it begins `FOLD_DAYS` after the one before."""
    curve = make_daily(returns, first_day=FIRST_DAY + FOLD_DAYS * (fold - 1))
    return FoldScore(fold=fold, curve=curve, trades=trades, horizons=tuple(horizons))


def make_trial(
    number: int = 0,
    folds: Sequence[FoldScore] = (),
    *,
    values: Values | None = None,
    state: TrialState = TrialState.COMPLETE,
    config: ObjectiveConfig | None = None,
) -> Trial:
    """Build a trial with the measures of its folds; without folds it has one, and a failed trial has none."""
    done = tuple(folds) if folds or state is TrialState.FAILED else (make_fold(),)
    return Trial(
        number=number,
        values={"trading.ldm4ts_min_strength": 0.3} if values is None else values,
        state=state,
        folds=done,
        measures=measures_of(done, ObjectiveConfig() if config is None else config) if done else None,
        error="RuntimeError: it broke" if state is TrialState.FAILED else "",
    )
