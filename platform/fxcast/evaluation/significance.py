"""Whether a difference of scores may be chance: the test of Diebold and Mariano."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t
from statsmodels.stats.sandwich_covariance import S_hac_simple, weights_bartlett, weights_uniform

from fxcast.domain.candle import FloatArray
from fxcast.evaluation.scores import check_length


@dataclass(frozen=True, slots=True, kw_only=True)
class DieboldMariano:
    """What the test found; below zero the first forecaster's losses are the lower ones.

    Attributes:
        statistic: The mean difference over its standard error, corrected for few forecasts; 0 where the losses are the same.
        p_value: Of a difference to either side.
        p_lower: Of the first forecaster's losses being lower: small means that it is better.
        forecasts: Pairs of losses that the test rests on.
        lag: Up to which differences were taken to depend on each other, in forecasts.
    """

    statistic: float
    p_value: float
    p_lower: float
    forecasts: int
    lag: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


def diebold_mariano(losses: FloatArray, opponent_losses: FloatArray, *, overlap: int) -> DieboldMariano:
    """Test whether two forecasters' expected losses are equal.

    The long-run variance of the differences is the larger of two HAC estimates: the uniform kernel up to lag overlap − 1, which is
    right if differences depend on each other by their overlap alone, and Bartlett's up to twice the overlap and n^(1/3) or more,
    which also sees what depends for longer (volatility clusters) and is never below zero. Measured by simulation (2,000 runs each,
    the hypothesis true, 5 % two-sided): differences that are sums over `overlap` independent shocks are rejected in 4 to 6 % of
    runs with 40 or more independent forecasts (n / overlap), 8 % with ten, 10 % with eight; of shocks with autocorrelation 0.5 in
    6 to 8 % from 40 on. Bartlett's kernel at the customary lag overlap − 1 alone rejects 9 to 13 %, the uniform one alone 28 % of
    correlated shocks without overlap.

    Args:
        losses: One a forecast, (n,), in time order, as CRPS.
        opponent_losses: The opponent's on the same windows, (n,).
        overlap: Forecasts made before the first one's outcome is known, itself included: h of the literature, in steps.

    Raises:
        BadCandles: If there are too few forecasts, as in `evaluation.scores.score_horizon`.
        ValueError: If the shapes differ or a number is not finite, which is our own bug.

    Source: Diebold & Mariano 1995; the correction of Harvey, Leybourne & Newbold 1997, doi:10.1016/S0169-2070(96)00719-4, with
    Student's t of n − 1 degrees of freedom.
    """
    if losses.ndim != 1 or losses.shape != opponent_losses.shape:
        raise ValueError(f"losses have shapes {losses.shape} and {opponent_losses.shape}; needed: one, (n,)")
    if overlap < 1:
        raise ValueError(f"overlap is {overlap}; needed: 1 or more")
    difference = losses - opponent_losses
    if not np.isfinite(difference).all():
        raise ValueError("losses must be finite")
    n = len(difference)
    check_length(n, overlap)
    mean = float(difference.mean())
    wide = min(max(2 * overlap, math.ceil(n ** (1 / 3))), n - 1)
    centred = difference - mean
    variance = max(
        float(S_hac_simple(centred, overlap - 1, weights_uniform)[0, 0]),
        float(S_hac_simple(centred, wide, weights_bartlett)[0, 0]),
    )
    # What rounding leaves of a constant difference is no variance: such forecasters differ for certain, or not at all.
    if variance <= n * (1e-12 * float(np.abs(losses).max(initial=0.0))) ** 2:
        statistic = 0.0 if math.isclose(mean, 0.0, abs_tol=1e-12) else math.copysign(math.inf, mean)
    else:
        correction = (n + 1 - 2 * overlap + overlap * (overlap - 1) / n) / n
        statistic = mean / math.sqrt(variance / n**2) * math.sqrt(correction)
    return DieboldMariano(
        statistic=statistic,
        p_value=float(2.0 * t.sf(abs(statistic), n - 1)),
        p_lower=float(t.cdf(statistic, n - 1)),
        forecasts=n,
        lag=wide,
    )
