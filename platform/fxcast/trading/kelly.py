"""The Kelly bet on a forecast: how a trade may end, and which share of equity grows fastest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

from fxcast.domain.candle import FloatArray
from fxcast.domain.forecast import HorizonForecast
from fxcast.domain.order import Side

NORMAL_POINTS = 99
_MOST_TOUCHES = 400  # in a row; only a stop and a target both a hundredth of a deviation away need more


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeOutcomes:
    """How a trade may end, in R: multiples of what is lost at the stop, costs included.

    Attributes:
        profits: (n,) at least −1.
        probabilities: (n,) adding up to 1.
        target_first: Probability that the target is reached, and the stop not before it.
        stop_first: Probability of the reverse.
    """

    profits: FloatArray
    probabilities: FloatArray
    target_first: float
    stop_first: float

    @property
    def expectation(self) -> float:
        """The mean profit, in R."""
        return float(self.probabilities @ self.profits)


def trade_outcomes(
    forecast: HorizonForecast,
    *,
    origin: float,
    price: float,
    side: Side,
    stop_distance: float,
    target_distance: float,
    spread: float,
) -> TradeOutcomes:
    """Return how a trade on a forecast may end: at its stop, at its target, or at the horizon somewhere in between.

    Where the price is at the horizon comes from the forecast's samples, or where only their summary was kept from the normal law
    of its mean and standard deviation, as 99 quantiles of equal weight. What it touched on the way is a Brownian bridge to there.
    To cut the samples at stop and target alone would not do: a price that reached the target and came back has paid, and a fair
    game with a near target and a far stop would look like a sure loss.

    Args:
        origin: The price that the forecast was made at; its moves count from there, whatever the price is now.
        price: Of entry.
        stop_distance: From the entry, above zero, as is `target_distance`.
        spread: In quote currency; each outcome costs it.

    Raises:
        ValueError: If the forecast has no width, or a distance is not above zero.

    Source: the alternating series of reflections of Anderson 1960, doi:10.1214/aoms/1177705996.
    """
    if not (forecast.std > 0 and stop_distance > 0 and target_distance > 0):
        raise ValueError(f"no trade has std {forecast.std}, stop {stop_distance} and target {target_distance} away")
    ends = np.array(forecast.samples) if forecast.samples else forecast.mean + forecast.std * _normal_points()
    moves = side.sign * price * (ends / origin - 1.0)  # (ends,)
    deviation = price * forecast.std / origin
    at_target = _touched_first(target_distance, stop_distance, moves, deviation)
    at_stop = np.minimum(_touched_first(stop_distance, target_distance, -moves, deviation), 1.0 - at_target)
    profits = np.concatenate([[-stop_distance, target_distance], np.clip(moves, -stop_distance, target_distance)])
    shares = np.concatenate([[at_stop.mean(), at_target.mean()], (1.0 - at_target - at_stop) / len(moves)])
    return TradeOutcomes(
        profits=(profits - spread) / (stop_distance + spread),
        probabilities=shares,
        target_first=float(at_target.mean()),
        stop_first=float(at_stop.mean()),
    )


def growth_optimal_share(outcomes: TradeOutcomes) -> float:
    """Return the share f of equity, lost at the stop, that maximises the expected logarithm of 1 + f · profit; 0 without an edge.

    Newton's method on the slope, which only falls, kept inside a bracket that halves where a step would leave it.

    Source: Kelly 1956, doi:10.1002/j.1538-7305.1956.tb03809.x.
    """
    profits, probabilities = outcomes.profits, outcomes.probabilities
    if outcomes.expectation <= 0.0:
        return 0.0
    low, high = 0.0, 1.0 - 1e-9
    share = min(outcomes.expectation / float(probabilities @ profits**2), 0.5)
    while high - low > 1e-9:
        relative = profits / (1.0 + share * profits)
        slope = float(probabilities @ relative)
        low, high = (share, high) if slope > 0.0 else (low, share)
        step = slope / float(probabilities @ relative**2)
        if abs(step) < 1e-9:
            return share
        share = share + step if low < share + step < high else (low + high) / 2
    return share


def _touched_first(near: float, far: float, ends: FloatArray, deviation: float) -> FloatArray:
    """Return the probability, (n,), that a Brownian bridge from 0 to each end touches +near, and not −far before it.

    The paths that touch +near, less those that touch −far and then +near, plus those that do so after +near, and so on: each
    such row of touches, unfolded at every touch, is one straight way whose length has the normal density.
    """
    width = near + far
    rows = min(2 + math.ceil(8.0 * deviation / width), _MOST_TOUCHES)
    touches = np.arange(rows)
    ways = np.where(touches % 2 == 0, near, far) + touches * width  # (rows,) to the last touch of +near
    lengths = ways[:, None] + np.abs(near - ends)  # (rows, n)
    chances = np.exp((ends**2 - lengths**2) / (2.0 * deviation**2))
    signs = np.where(touches % 2 == 0, 1.0, -1.0)
    return np.clip(signs @ chances, 0.0, 1.0)


@cache
def _normal_points() -> FloatArray:
    """Quantiles of the standard normal law in the middle of equal shares, (99,), stretched to a deviation of exactly 1."""
    normal = NormalDist()
    points = np.array([normal.inv_cdf((position + 0.5) / NORMAL_POINTS) for position in range(NORMAL_POINTS)])
    return points / points.std()
