"""What an evaluation says, in words."""

from __future__ import annotations

from fxcast.evaluation.assess import HorizonResult
from fxcast.evaluation.comparison import Comparison
from fxcast.evaluation.scores import Estimate, HorizonScores

NOMINAL = 0.90
SIGNIFICANT = 0.05
_FEW = 10


def beats(comparison: Comparison) -> str:
    """Say whether a model beat an opponent, with the interval of its skill and the p value."""
    skill, test = comparison.skill, comparison.test
    if skill.low > 0 and test.p_lower < SIGNIFICANT:
        outcome = "beat"
    elif skill.high < 0 and 1.0 - test.p_lower < SIGNIFICANT:
        outcome = "lost to"
    else:
        outcome = "can't be told from"
    return (
        f"{outcome} {comparison.opponent} in CRPS: {percent(skill, signed=True)}, "
        f"Diebold–Mariano p {p_text(test.p_lower)} (one-sided)"
    )


def honesty(scores: HorizonScores) -> str:
    """Say whether the 90 % intervals held what they promise."""
    coverage = scores.coverage_90
    wrong = "too narrow" if coverage.value < NOMINAL else "too wide"
    said = "honest" if coverage.low <= NOMINAL <= coverage.high else wrong
    return f"its 90 % intervals were {said}: they held {percent(coverage)} of the outcomes"


def caution(result: HorizonResult) -> str:
    """Say that a score rests on few outcomes, or nothing."""
    independent = result.model.scores.independent
    return "" if independent >= _FEW else f" Only {independent:.0f} independent outcomes: take it as a hint."


def percent(estimate: Estimate, *, signed: bool = False) -> str:
    """Return an estimate with its interval, in per cent."""
    form = "+.1f" if signed else ".1f"
    return f"{100 * estimate.value:{form}} % [{100 * estimate.low:{form}}, {100 * estimate.high:{form}}]"


def p_text(p_value: float) -> str:
    """Return a p value as people read it."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
