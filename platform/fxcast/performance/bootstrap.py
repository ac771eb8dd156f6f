"""How far a figure may be chance: the stationary block bootstrap, for many draws at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from arch.bootstrap import StationaryBootstrap, optimal_block_length
from numpy.typing import NDArray

from fxcast.domain.candle import FloatArray
from fxcast.performance.measures import Interval

DRAWS = 1000
LEAST_DAYS = 20  # about a month: below it nothing is said of a year
LEAST_TRADES = 10  # below it a figure has no interval
_LONGEST_BLOCK = 0.25  # of the series
_LEVELS = (0.025, 0.975)
_LEAST_KNOWN = 0.95  # share of draws that must have the figure
_NO_SPREAD = 1e-12
_AT_ONCE = 1_000_000  # numbers in one array of draws: what is held at a time stays in the megabytes

Order = NDArray[np.int64]


def block_length(*series: FloatArray) -> int:
    """Return the mean block that the most dependent of some series, (n,) each, and of their squares needs.

    The squares count as well, because volatility comes in clusters where returns do not.

    Source: Politis & White 2004, corrected by Patton, Politis & White 2009, as `arch` has it.
    """
    longest = 1.0
    for values in series:
        for each in (values, values**2):
            if np.ptp(each) > _NO_SPREAD:
                # Where nearly all numbers are the same its autocovariances vanish: then there is nothing to keep together.
                with np.errstate(divide="ignore", invalid="ignore"):
                    longest = np.fmax(longest, float(optimal_block_length(each)["stationary"].iloc[0]))
    return int(np.ceil(min(longest, max(1.0, _LONGEST_BLOCK * len(series[0])))))


def draw_orders(n: int, block: int, *, seed: int, draws: int) -> Order:
    """Draw positions of a series of n, in blocks of random length that wrap around its end, (n, draws).

    Source: Politis & Romano 1994.
    """
    sampler = StationaryBootstrap(block, np.arange(n), seed=seed)
    drawn = np.empty((n, draws), dtype=np.int64)
    for draw, (data, _) in enumerate(sampler.bootstrap(draws)):
        drawn[:, draw] = data[0]
    return drawn


def in_parts(order: Order, statistic: Callable[[Order], FloatArray]) -> FloatArray:
    """Return a statistic (..., draws) of orders (n, draws), worked out some draws at a time."""
    n, draws = order.shape
    width = max(1, _AT_ONCE // max(1, n))
    return np.concatenate([statistic(order[:, start : start + width]) for start in range(0, draws, width)], axis=-1)


def interval(value: float, drawn: FloatArray) -> Interval:
    """Return a figure with the 95 % percentile interval of its draws, (draws,).

    NaN says that a draw has no such figure, infinity that it is beyond all bounds. There is no interval where the figure itself is
    not known, where more than one draw in twenty lacks it, and where all draws are the same; an infinite bound is None.
    """
    if not np.isfinite(value):
        return Interval(value=None)
    known = drawn[~np.isnan(drawn)]
    if len(known) < _LEAST_KNOWN * len(drawn) or not len(known):
        return Interval(value=float(value))
    low, high = np.quantile(known, _LEVELS, method="inverted_cdf")  # which does not reckon with infinities
    if high - low <= _NO_SPREAD:
        return Interval(value=float(value))
    return Interval(value=float(value), low=_bound(low), high=_bound(high))


def intervals(values: Sequence[float], drawn: FloatArray) -> tuple[Interval, ...]:
    """Return `interval` of each figure and its draws, (figures, draws)."""
    return tuple(interval(value, each) for value, each in zip(values, drawn, strict=True))


def _bound(bound: float) -> float | None:
    return float(bound) if np.isfinite(bound) else None
