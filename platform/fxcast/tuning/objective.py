"""What a trial is worth: one figure with stated weights, or several objectives and the trials that no other dominates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from fxcast.config import Settings
from fxcast.domain.candle import FloatArray
from fxcast.performance.daily import DailyCurve, deepest_fall
from fxcast.performance.ratios import sharpe, total_return
from fxcast.tuning.trial import NOMINAL_COVERAGE, FoldScore, HorizonScore, Trial, TrialMeasures, TrialState

Direction = Literal["maximize", "minimize"]  # as Optuna spells them

# What a search can look for. The score alone in mode `score`, the others in mode `pareto`.
OBJECTIVES: Mapping[str, Direction] = {
    "score": "maximize",
    "sharpe": "maximize",
    "max_drawdown": "minimize",
    "crps_skill": "maximize",
    "coverage_error": "minimize",
}
_OF_TRADING, _OF_FORECASTS = ("sharpe", "max_drawdown"), ("crps_skill", "coverage_error")


class ObjectiveWeights(Settings):
    """What each measure counts in the score; 0 leaves it out."""

    sharpe: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="score for each 1.00 of annualised Sharpe ratio")
    drawdown: float = Field(
        default=5.0,
        ge=0,
        allow_inf_nan=False,
        description="off the score for a max drawdown of 100 %; one of 10 % costs a tenth of it",
    )
    crps_skill: float = Field(
        default=5.0, ge=0, allow_inf_nan=False, description="score for forecasts without error; a random walk's bring nothing"
    )
    coverage_error: float = Field(
        default=5.0, ge=0, allow_inf_nan=False, description="off the score for each 1.00 that the coverage of [q05, q95] is off 0.9"
    )
    few_trades: float = Field(
        default=2.0,
        ge=0,
        allow_inf_nan=False,
        description="off the score without any trade; its share where some of the least number are missing",
    )


class ObjectiveConfig(Settings):
    """What a search looks for."""

    kind: Literal["score", "pareto"] = Field(
        default="score",
        description="score: one weighted figure; pareto: Sharpe ratio, drawdown, CRPS skill and coverage error side by side, "
        "the score picks among those that no other trial beats in all",
    )
    weights: ObjectiveWeights = Field(default_factory=ObjectiveWeights, description="of the score")
    min_trades_per_fold: int = Field(
        default=10, ge=0, description="fewer closed trades a fold, on average, cost score; 0 for never"
    )


def measures_of(folds: Sequence[FoldScore], config: ObjectiveConfig) -> TrialMeasures:
    """Measure a trial over the folds that it has done.

    The score is sharpe · weight − max_drawdown · weight + crps_skill · weight − coverage_error · weight − missing · weight, where
    missing is the share of the least number of trades that was not made, max(0, 1 − trades / (min_trades_per_fold · folds)). What
    is not known for want of forecasts adds nothing.

    Args:
        folds: One or more, in any order.

    Raises:
        ValueError: If there is none.
    """
    if not folds:
        raise ValueError("found no fold; needed: 1 or more")
    curve = _joined([each.curve for each in sorted(folds, key=lambda each: each.fold)])
    ratio, fall = _sharpe(curve.returns), float(deepest_fall(curve, np.arange(len(curve))[:, np.newaxis])[0])
    trades, least = sum(each.trades for each in folds), config.min_trades_per_fold * len(folds)
    missing = max(0.0, 1.0 - trades / least) if least else 0.0
    horizons = _horizons(folds)
    shares = [each.inside / each.windows for each in horizons]
    skill = _mean([1.0 - each.crps / each.walk_crps for each in horizons if each.walk_crps > 0])
    error = _mean([abs(share - NOMINAL_COVERAGE) for share in shares])
    weights = config.weights
    score = weights.sharpe * ratio - weights.drawdown * fall - weights.few_trades * missing
    score += weights.crps_skill * (skill or 0.0) - weights.coverage_error * (error or 0.0)
    return TrialMeasures(
        folds=len(folds),
        sharpe=ratio,
        max_drawdown=fall,
        total_return=float(total_return(curve.returns)),
        trades=trades,
        crps_skill=skill,
        coverage=_mean(shares),
        coverage_error=error,
        score=score,
    )


def objective_names(config: ObjectiveConfig, *, forecasts: bool) -> tuple[str, ...]:
    """Return what is looked for, in the order of `objectives_of`; their directions are in `OBJECTIVES`.

    Args:
        forecasts: Whether the strategy has a forecast that can be scored.
    """
    if config.kind == "score":
        return ("score",)
    return (*_OF_TRADING, *_OF_FORECASTS) if forecasts else _OF_TRADING


def objectives_of(measures: TrialMeasures, config: ObjectiveConfig) -> tuple[float, ...]:
    """Return the values of a trial's objectives; those of forecasts are left out where none was scored."""
    forecasts = measures.crps_skill is not None and measures.coverage_error is not None
    return tuple(float(getattr(measures, name)) for name in objective_names(config, forecasts=forecasts))


def best_of(trials: Sequence[Trial], config: ObjectiveConfig) -> Trial | None:
    """Return the winner: the complete trial with the highest score, in mode `pareto` among the Pareto set only.

    The lower number wins a tie, so that nothing replaces the default values without being better. None if no trial is complete.
    """
    complete = _complete(trials)
    if config.kind == "pareto":
        among = set(_undominated(complete, config))
        complete = {number: each for number, each in complete.items() if number in among}
    best = max(complete, key=lambda number: (complete[number].score, -number), default=None)
    return None if best is None else next(trial for trial in trials if trial.number == best)


def pareto_of(trials: Sequence[Trial], config: ObjectiveConfig) -> tuple[int, ...]:
    """Return the numbers, ascending, of complete trials that no other dominates; the winner alone where there is one objective.

    A trial dominates another if it is no worse in every objective, and better in one. Where a trial has no forecasts to score,
    all are compared in Sharpe ratio and drawdown alone.
    """
    if config.kind == "score":
        best = best_of(trials, config)
        return () if best is None else (best.number,)
    return _undominated(_complete(trials), config)


def _complete(trials: Sequence[Trial]) -> dict[int, TrialMeasures]:
    return {each.number: each.measures for each in trials if each.state is TrialState.COMPLETE and each.measures is not None}


def _undominated(measures: Mapping[int, TrialMeasures], config: ObjectiveConfig) -> tuple[int, ...]:
    values = {number: objectives_of(each, config) for number, each in sorted(measures.items())}
    shared = min((len(each) for each in values.values()), default=0)  # those of forecasts come last
    signs = np.array([1.0 if OBJECTIVES[name] == "maximize" else -1.0 for name in objective_names(config, forecasts=True)[:shared]])
    worth = {number: signs * each[:shared] for number, each in values.items()}
    return tuple(number for number, each in worth.items() if not any(_dominates(other, each) for other in worth.values()))


def _dominates(one: FloatArray, other: FloatArray) -> bool:
    return bool(np.all(one >= other) and np.any(one > other))


def _joined(curves: Sequence[DailyCurve]) -> DailyCurve:
    return DailyCurve(
        days=np.concatenate([each.days for each in curves]),
        returns=np.concatenate([each.returns for each in curves]),
        lows=np.concatenate([each.lows for each in curves]),
        highs=np.concatenate([each.highs for each in curves]),
        falls=np.concatenate([each.falls for each in curves]),
    )


def _sharpe(returns: FloatArray) -> float:
    ratio = float(sharpe(returns)) if len(returns) else np.nan
    return ratio if np.isfinite(ratio) else 0.0  # no trade is no skill, and no failure either


def _horizons(folds: Sequence[FoldScore]) -> list[HorizonScore]:
    """Add up the folds' scores by horizon; one without an outcome is left out."""
    scores = [score for each in folds for score in each.horizons]
    by_minutes = {
        minutes: [each for each in scores if each.minutes == minutes] for minutes in sorted({each.minutes for each in scores})
    }
    added = (
        HorizonScore(
            minutes=minutes,
            windows=sum(each.windows for each in some),
            crps=sum(each.crps for each in some),
            walk_crps=sum(each.walk_crps for each in some),
            inside=sum(each.inside for each in some),
        )
        for minutes, some in by_minutes.items()
    )
    return [each for each in added if each.windows]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
