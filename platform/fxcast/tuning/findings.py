"""What a search and its guard found; all that report, JSON and database are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fxcast.backtest.result import EquityCurve
from fxcast.performance.measures import Difference, Measures
from fxcast.tuning.trial import Trial, Value, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Overfitting:
    """Combinatorially symmetric cross-validation (Bailey, Borwein, López de Prado & Zhu 2015) over the trials' daily returns.

    Attributes:
        probability: Share of splits in which the trial that is best in one half lies below the median in the other (PBO).
        splits: How many there were.
        blocks: That the days were cut into.
        trials: That were compared.
        logits: (splits,) ln(rank / (1 − rank)) of the best one in the other half, ascending.
        loss_probability: Share of splits in which the best one lost money in the other half.
    """

    probability: float
    splits: int
    blocks: int
    trials: int
    logits: tuple[float, ...]
    loss_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """The winner with one parameter a tenth lower or higher (a choice: its neighbours in the list), on the search's folds."""

    parameter: str
    value: Value
    score: float
    sharpe: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """How the winner stands when its parameters move a little.

    Attributes:
        winner: Its score, and that of the default values.
        share_better: Share of neighbours that score above the default values.
        worst: Lowest score of a neighbour.
    """

    winner: float
    default: float
    neighbours: tuple[Neighbour, ...]
    share_better: float | None
    worst: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldOutRun:
    """One set of values on the period that no trial has seen.

    Attributes:
        key: winner, default or random (the best of the random search).
        differences: The winner less this, on the same days, with paired block-bootstrap intervals; empty for the winner itself.
    """

    key: str
    title: str
    values: Values
    equity: EquityCurve
    measures: Measures
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that a promotion needs; `told` says in a sentence what was found and what is needed."""

    name: str
    holds: bool
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningFindings:
    """A finished search.

    Attributes:
        verdict: The report's first line: promote, or keep the default, and why.
        promotes: Whether all conditions hold.
        trials: Of the search, by number.
        random_trials: Of the random search beside it; empty where there was none.
        winner: Number of the best complete trial.
        pareto: Numbers of those that no other beats in all objectives; the winner alone where there is one objective.
        counted_trials: Different settings tried on this market: of both searches and of earlier runs.
        expected_best_sharpe: Annualised, of so many trials without any skill.
        deflated_sharpe: Probability that the winner's true Sharpe ratio is above that.
        hold_out: The winner first.
        importances: By parameter, how much of the score's spread it explains; shares that add up to 1.
        warnings: What a reader must know before the figures.
        facts: What was run on what, by name.
        command: What to run to get the same.
    """

    name: str
    level: str
    symbols: tuple[str, ...]
    timeframe: str
    verdict: str
    promotes: bool
    conditions: tuple[Condition, ...]
    trials: tuple[Trial, ...]
    random_trials: tuple[Trial, ...]
    winner: int
    pareto: tuple[int, ...]
    overfitting: Overfitting | None
    counted_trials: int
    expected_best_sharpe: float | None
    deflated_sharpe: float | None
    robustness: Robustness | None
    hold_out: tuple[HoldOutRun, ...]
    importances: Mapping[str, float]
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    command: str = ""
