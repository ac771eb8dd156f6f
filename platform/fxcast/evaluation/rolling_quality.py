"""What the last forecasts of a served model were worth, one model, series and horizon at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fxcast.domain.candle import FloatArray
from fxcast.evaluation.scores import ensemble_crps

_LEVELS = (0.05, 0.5, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingQuality:
    """Scores of the last forecasts, as given out; the names mean what they mean in `scores.HorizonScores`.

    Attributes:
        forecasts: How many were scored.
        coverage_90: Share of outcomes inside [q05, q95].
        crps_pips: Fair ensemble CRPS, pips; None if a forecast has fewer than two samples stored.
        pinball_pips: Mean pinball loss of q05, q50 and q95, pips: a score that needs no samples.
        mae_ratio: Absolute error of the median over that of the last price; None if the price never moved.
        direction_windows: Forecasts that took a side of a market that moved.
        direction_right: Share of those whose side was right; None if there were none.
    """

    forecasts: int
    coverage_90: float
    crps_pips: float | None
    pinball_pips: float
    mae_ratio: float | None
    direction_windows: int
    direction_right: float | None


def rolling_quality(
    quantiles: FloatArray,
    actual: FloatArray,
    price: FloatArray,
    *,
    samples: Sequence[Sequence[float]],
    directions_right: Sequence[bool | None],
    pip: float,
) -> RollingQuality:
    """Score forecasts; no interval is given, as the window is a rolling one: `jobs.evaluate` gives them.

    Args:
        quantiles: q05, q50 and q95 as given out, prices, (n, 3), n of one or more.
        actual: What the price became, (n,).
        price: The last close when the forecast was made, (n,).
        samples: Monte-Carlo prices of each forecast, empty where none were stored, (n) of any lengths.
        directions_right: Of each forecast whether its side was right, None where it took none or the market did not move, (n).
        pip: Size of a pip in price.
    """
    missed = actual[:, None] - quantiles  # (n, 3)
    levels = np.array(_LEVELS)
    pinball = np.maximum(levels * missed, (levels - 1.0) * missed)
    moved = np.abs(actual - price).mean()
    taken = [right for right in directions_right if right is not None]
    return RollingQuality(
        forecasts=len(actual),
        coverage_90=float(((missed[:, 0] >= 0) & (missed[:, 2] <= 0)).mean()),
        crps_pips=_crps(samples, actual, price, pip),
        pinball_pips=float(pinball.mean()) / pip,
        mae_ratio=float(np.abs(missed[:, 1]).mean() / moved) if moved > 0 else None,
        direction_windows=len(taken),
        direction_right=sum(taken) / len(taken) if taken else None,
    )


def _crps(samples: Sequence[Sequence[float]], actual: FloatArray, price: FloatArray, pip: float) -> float | None:
    counts = np.array([len(each) for each in samples])
    if (counts < 2).any():
        return None
    total = 0.0
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        ensembles = np.array([samples[int(row)] for row in rows])
        total += float(ensemble_crps(ensembles, actual[rows], price[rows], pip=pip).sum())
    return total / len(actual)
