"""How closely the returns of two symbols go together."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from fxcast.domain.candle import CandleSeries, FloatArray

MIN_RETURNS = 20
_NO_VARIATION = 1e-24  # sum of squares that rounding alone leaves in the returns of a price that does not move


def return_correlation(first: CandleSeries, second: CandleSeries, bars: int) -> float | None:
    """Return Pearson's correlation of log returns over the last `bars` candles that both have, in [−1, 1].

    A return goes from one close time that both know to the next; across a gap in either it spans the same time in both.

    Returns:
        None if there are fewer than 20 such returns, or one of the two does not vary.
    """
    before, after = _common_closes(first, second)
    if min(len(before) - 1, bars) < MIN_RETURNS:
        return None
    ours, our_square = _deviations(before[-bars - 1 :].tobytes())
    theirs, their_square = _deviations(after[-bars - 1 :].tobytes())
    if our_square <= _NO_VARIATION or their_square <= _NO_VARIATION:
        return None
    return max(-1.0, min(float(ours @ theirs) / math.sqrt(our_square * their_square), 1.0))


@lru_cache(maxsize=256)  # at each moment every symbol is compared with every one that is held
def _deviations(closes: bytes) -> tuple[FloatArray, float]:
    """Return how the log returns of closes deviate from their mean, (n - 1,), and the sum of the squares."""
    logs = np.log(np.frombuffer(closes, dtype=np.float64))
    returns = logs[1:] - logs[:-1]
    returns -= returns.mean()
    return returns, float(returns @ returns)


def _common_closes(first: CandleSeries, second: CandleSeries) -> tuple[FloatArray, FloatArray]:
    """Return both symbols' closes at the close times that both have, oldest first, each (n,)."""
    if first.timeframe == second.timeframe and np.array_equal(first.open_times, second.open_times):
        return first.closes, second.closes
    _, here, there = np.intersect1d(first.close_times, second.close_times, assume_unique=True, return_indices=True)
    return first.closes[here], second.closes[there]
