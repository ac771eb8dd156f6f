"""What the report of a search says in tables, in words: for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from fxcast.performance.measure_table import measure_cells, rows_of_differences
from fxcast.performance.wording import UNTOLD, count, number, percent, probability
from fxcast.tuning.findings import Overfitting, Robustness, TuningFindings
from fxcast.tuning.ranges import text_of
from fxcast.tuning.space import SearchSpace
from fxcast.tuning.trial import Trial, TrialState, Value, Values

_HOLD_OUT = ("return", "Sharpe ratio", "max drawdown", "trades", "win rate", "profit factor")
TRIAL_HEAD = ("trial", "score", "Sharpe ratio", "max drawdown", "return", "trades", "CRPS skill", "coverage error")

Marked = list[list[tuple[str, bool]]]  # a row of cells, each with whether it is marked


def told(value: Value) -> str:
    """Return a parameter's value with four digits that count: `0.4231`, `[15, 60]`, `true`."""
    if isinstance(value, str):
        return value
    return f"{value:.4g}".replace("-", "−") if isinstance(value, float) else text_of(value)


def complete(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that went through all folds."""
    return [trial for trial in trials if trial.state is TrialState.COMPLETE and trial.measures is not None]


def best_trials(trials: Sequence[Trial], most: int) -> list[Trial]:
    """Return the complete trials with the highest scores, the best first; of equals the earlier."""
    return sorted(complete(trials), key=lambda trial: (-_score(trial), trial.number))[:most]


def winner_of(findings: TuningFindings) -> Trial | None:
    """Return the winner's trial; None where no trial has its number."""
    return next((trial for trial in findings.trials if trial.number == findings.winner), None)


def default_of(findings: TuningFindings) -> Trial | None:
    """Return the trial that had the default values."""
    return next((trial for trial in findings.trials if trial.number == 0), None)


def hold_out_head(findings: TuningFindings) -> list[str]:
    """Return the heads of `hold_out_rows`."""
    return ["", *(run.title for run in findings.hold_out)]


def hold_out_rows(findings: TuningFindings) -> list[list[str]]:
    """Return a row a measure of the runs on the hold-out, an interval on a line of its own."""
    cells = measure_cells("")  # none of these is money
    return [[name, *(cells[name](run.measures) for run in findings.hold_out)] for name in _HOLD_OUT]


def difference_head(findings: TuningFindings) -> list[str]:
    """Return the heads of `difference_rows`."""
    return ["", *(f"less {run.title}" for run in findings.hold_out if run.differences)]


def difference_rows(findings: TuningFindings) -> Marked:
    """Return a row a measure: the winner less each of the others; marked where the interval leaves zero out."""
    return rows_of_differences([run.differences for run in findings.hold_out if run.differences])


def values_head(findings: TuningFindings) -> list[str]:
    """Return the heads of `values_rows`."""
    return ["", "default", f"winner (trial {findings.winner})", *(title for title, _ in _beside(findings)), "range"]


def values_rows(findings: TuningFindings, space: SearchSpace) -> Marked:
    """Return a row a parameter: the default, the winner's value, others', the range; marked where other than the default."""
    winner, default = winner_of(findings), default_of(findings)
    standard: Values = default.values if default is not None else {}
    sets = [winner.values if winner is not None else {}, *(values for _, values in _beside(findings))]
    return [
        [
            (path, False),
            (_value(standard, path), False),
            *((_value(values, path), path in values and values[path] != standard.get(path)) for values in sets),
            (described, False),
        ]
        for path, described in space.describe()
    ]


def trial_rows(trials: Sequence[Trial], most: int) -> list[list[str]]:
    """Return a row for each of the best complete trials."""
    return [_trial_row(trial) for trial in best_trials(trials, most)]


def overfitting_rows(overfitting: Overfitting) -> list[tuple[str, str]]:
    """Return what cross-validation over the trials' days found."""
    return [
        ("Probability of overfitting: the best of one half is below the median in the other", percent(overfitting.probability)),
        ("Probability that the best of one half loses money in the other", percent(overfitting.loss_probability)),
        ("Trials compared", f"{overfitting.trials:,}"),
        ("Splits", f"{overfitting.splits:,}, of {overfitting.blocks:,} blocks of days"),
    ]


def luck_rows(findings: TuningFindings) -> list[tuple[str, str]]:
    """Return how the winner stands against the best of so many trials without skill."""
    return [
        ("Different settings tried on this market, in both searches and earlier runs", f"{findings.counted_trials:,}"),
        ("Sharpe ratio that the best of so many would have without any skill", number(findings.expected_best_sharpe)),
        ("Probability that the winner's true one is above that (deflated Sharpe ratio)", probability(findings.deflated_sharpe)),
    ]


def robustness_rows(robustness: Robustness) -> list[tuple[str, str]]:
    """Return how the winner's neighbours stand against it and the default values, by score."""
    return [
        ("Score of the winner", number(robustness.winner)),
        ("Score of the default values", number(robustness.default)),
        ("Lowest score of a neighbour", number(robustness.worst)),
        ("Neighbours that score above the default values", percent(robustness.share_better, 0)),
        ("Neighbours tried", f"{len(robustness.neighbours):,}"),
    ]


def failures(trials: Sequence[Trial]) -> list[tuple[str, list[int]]]:
    """Return why trials failed, each reason once with the numbers of its trials."""
    by_reason: dict[str, list[int]] = {}
    for trial in trials:
        if trial.state is TrialState.FAILED:
            by_reason.setdefault(trial.error or "no reason was kept", []).append(trial.number)
    return list(by_reason.items())


def states(trials: Sequence[Trial]) -> str:
    """Return how many trials ended how: `60 trials (50 complete, 8 pruned, 2 failed)`."""
    counts = {state: sum(trial.state is state for trial in trials) for state in TrialState}
    told_counts = ", ".join(f"{amount:,} {state.value}" for state, amount in counts.items() if amount)
    return count(len(trials), "trial") + (f" ({told_counts})" if told_counts else "")


def _beside(findings: TuningFindings) -> list[tuple[str, Values]]:
    return [(run.title, run.values) for run in findings.hold_out if run.key not in {"winner", "default"}]


def _value(values: Values, path: str) -> str:
    return told(values[path]) if path in values else UNTOLD


def _trial_row(trial: Trial) -> list[str]:
    measures = trial.measures
    assert measures is not None  # of a complete trial
    return [
        str(trial.number),
        number(measures.score),
        number(measures.sharpe),
        percent(measures.max_drawdown),
        percent(measures.total_return, signed=True),
        f"{measures.trades:,}",
        percent(measures.crps_skill, signed=True),
        percent(measures.coverage_error),
    ]


def _score(trial: Trial) -> float:
    assert trial.measures is not None  # of a complete trial
    return trial.measures.score
