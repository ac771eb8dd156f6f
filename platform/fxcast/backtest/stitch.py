"""Put the accounts of consecutive folds together into the one that would have gone through them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fxcast.backtest.result import EquityCurve


@dataclass(frozen=True, slots=True, kw_only=True)
class Stitched:
    """A curve made of several.

    Attributes:
        equity: In account currency, begun with the starting balance.
        scales: By fold, what one unit of the starting balance had grown to before it: the first is 1.
    """

    equity: EquityCurve
    scales: tuple[float, ...]


def stitch(curves: Sequence[EquityCurve], starting_balance: float) -> Stitched:
    """Compound the returns of accounts that each began with the same balance, one after the other.

    A fold's account begins afresh: it knows nothing of the positions, the peak or the losses of the one before. What was open at a
    fold's end counts as its close marked it, and is not carried over. The curve of fold k is multiplied by what the folds before
    it have grown to, so that its end over the starting balance is the product of the folds' growths. A fold without a candle grows
    by nothing; an account that has lost everything stays at zero.

    Args:
        curves: Oldest first, without overlap.
        starting_balance: Of each.

    Raises:
        ValueError: If there is no curve, or they overlap.
    """
    if not curves:
        raise ValueError("there is no fold to stitch")
    filled = [curve for curve in curves if len(curve)]
    for earlier, later in pairwise(filled):
        if later.times[0] <= earlier.times[-1]:
            raise ValueError(f"a fold begins at {later.times[0]}, when the one before has not ended: {earlier.times[-1]}")
    scales: list[float] = []
    scale = 1.0
    for curve in curves:
        scales.append(scale)
        if len(curve):
            scale *= max(float(curve.equity[-1]) / starting_balance, 0.0)
    scaled = [
        EquityCurve(times=curve.times, balance=curve.balance * by, open_profit=curve.open_profit * by, exposure=curve.exposure * by)
        for curve, by in zip(curves, scales, strict=True)
    ]
    joined = EquityCurve.joined(scaled)
    assert np.all(joined.times[1:] > joined.times[:-1]), "each fold's times ascend"
    return Stitched(equity=joined, scales=tuple(scales))
