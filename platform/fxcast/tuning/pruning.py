"""Whether a trial is so far behind after some folds that the others are not worth the time."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal

from pydantic import Field

from fxcast.config import Settings


class PruningConfig(Settings):
    """When a trial is stopped before its last fold."""

    rule: Literal["none", "median", "asha"] = Field(
        default="median",
        description="none: never; median: below the median of earlier trials; asha: not among the best 1/reduction of them, "
        "looked at after warm_up_folds × 1, × reduction, × reduction² … folds",
    )
    warm_up_folds: int = Field(default=1, ge=1, description="every trial does so many folds; the first look is after them")
    warm_up_trials: int = Field(
        default=8, ge=1, description="no trial is stopped until so many earlier ones have done as many folds as it has"
    )
    reduction: int = Field(default=3, ge=2, description="asha: one of so many trials goes on")


def is_behind(score: float, fold: int, earlier: Sequence[float], config: PruningConfig) -> bool:
    """Decide whether to stop a trial after a fold.

    Ray's `ASHAScheduler` and `MedianStoppingRule` are not used: they compare a trial with whichever have reported by then, so that
    which trial is stopped depends on how fast each one ran and on how many ran at once, and a search that was killed and resumed
    would find another best. Here a trial is compared with earlier generations alone, which are all known before it begins.

    A trial that does not score below the best of the earlier ones is never stopped; ties go on. One that is stopped does not come
    back, unlike one that ASHA pauses.

    Args:
        score: Of all its folds up to this one.
        fold: How many it has done. The last one needs no look: nothing is left to save.
        earlier: Scores over as many folds of the trials of earlier generations that got so far, those stopped here or later too.

    Source: the median rule of Golovin et al. 2017, Google Vizier, doi:10.1145/3097983.3098043, on scores instead of
    running averages; Li et al. 2020, A system for massively parallel hyperparameter tuning, arXiv:1810.05934, in which whoever is
    not among the best |rung| / reduction of its rung stops.
    """
    if config.rule == "none" or fold < config.warm_up_folds or len(earlier) < config.warm_up_trials:
        return False
    if config.rule == "median":
        return score < median(earlier)
    if not _is_rung(fold, config):
        return False
    go_on = max(1, (len(earlier) + 1) // config.reduction)
    return sum(each > score for each in earlier) >= go_on


def _is_rung(fold: int, config: PruningConfig) -> bool:
    rung = config.warm_up_folds
    while rung < fold:
        rung *= config.reduction
    return rung == fold
