"""How the winner stands when its parameters move a little."""

from __future__ import annotations

from collections.abc import Sequence

from fxcast.tuning.findings import Neighbour, Robustness


def robustness_of(winner_score: float, default_score: float, neighbours: Sequence[Neighbour]) -> Robustness:
    """Compare the winner's neighbours with the default values, on the search's folds.

    A peak that only one exact set of values has is a find of the search, not of the market: its neighbours fall back to the rest.
    Without a neighbour neither share nor worst score is known.
    """
    scores = [each.score for each in neighbours]
    return Robustness(
        winner=winner_score,
        default=default_score,
        neighbours=tuple(neighbours),
        share_better=sum(score > default_score for score in scores) / len(scores) if scores else None,
        worst=min(scores, default=None),
    )
