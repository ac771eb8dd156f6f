"""What resolved forecasts of one horizon were worth, against the random walk.

Forecasts made a bar apart share most of their future, so n of them say far less than n independent ones would. Every
interval here takes that into account: means and ratios by a block bootstrap, shares of directions by a smaller sample size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scoringrules
from numpy.typing import NDArray
from scipy.stats import beta, norm, t

from fxcast.domain.candle import FloatArray
from fxcast.errors import BadCandles

LEVEL = 0.95  # of every interval
MIN_FORECASTS = 20  # fewer give a number, but no score
PIT_BINS = 10
_RESAMPLES = 2000  # the ends of a 95 % interval then rest on 50 resamples each


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A score and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonScores:
    """Scores of one horizon.

    Attributes:
        forecasts: How many were scored.
        independent: How many of them do not overlap; below about ten, an interval is a rough guess.
        crps: Fair ensemble CRPS, pips.
        crps_random_walk: CRPS of the driftless random walk with EWMA width, pips.
        crps_skill: 1 − crps / crps_random_walk, paired.
        coverage_90: Share of outcomes inside [q05, q95].
        pit_index: 1 − ½·Σ|f_i − 0.1| over ten bins. Chance keeps it below 1: n independent forecasts of the true law come to
            about 1 − 1.2/√n, overlapping ones to less.
        mse_ratio: Squared error of the mean over that of the last price.
        mae_ratio: Absolute error of the median over that of the last price.
        direction_windows: Forecasts that said more than the spread, of a market that moved.
        direction_right: Share of those whose side was right; None if there were none.
    """

    forecasts: int
    independent: float
    crps: Estimate
    crps_random_walk: Estimate
    crps_skill: Estimate
    coverage_90: Estimate
    pit_index: float
    mse_ratio: float
    mae_ratio: float
    direction_windows: int
    direction_right: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: each estimate as its value, and its ends as `<name>_interval`."""
        content: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, Estimate):
                content[name], content[f"{name}_interval"] = value.value, [value.low, value.high]
            else:
                content[name] = value
        return content


def score_horizon(
    samples: FloatArray,
    actual: FloatArray,
    price: FloatArray,
    *,
    random_walk_std: FloatArray,
    pip: float,
    spread_pips: float,
    horizon_bars: int,
    step_bars: int = 1,
    interval: tuple[FloatArray, FloatArray] | None = None,
    seed: int = 0,
) -> HorizonScores:
    """Score the forecasts of one symbol and horizon.

    Args:
        samples: Monte-Carlo prices, (n, m), m of two or more, in time order; their order within a forecast does not matter.
        actual: What the price became, (n,).
        price: The last close when the forecast was made, (n,).
        random_walk_std: Standard deviation of the log price over the horizon, known when the forecast was made, (n,).
        pip: Size of a pip in price.
        spread_pips: A mean nearer to the price than this says no direction.
        horizon_bars: Candles from a forecast to its outcome.
        step_bars: Candles from one forecast to the next.
        interval: q05 and q95 as they were given out, (n,) each; by default the Weibull quantiles of the samples, as in
            `domain.forecast.summarize`.
        seed: Of the bootstrap and of the randomised PIT; the same seed gives the same scores.

    Raises:
        BadCandles: If there are fewer than `MIN_FORECASTS` forecasts or than fill two horizons, or if the price never moved:
            the stretch of candles behind them is too short to score, which the caller's user can mend.
        ValueError: If shapes differ, a number is not finite or a width not positive, which is our own bug.
    """
    _check_shapes(samples, actual, price, random_walk_std, *(interval or ()))
    if not (random_walk_std > 0).all():
        raise ValueError(f"random_walk_std must be above zero, found {random_walk_std.min()}")
    overlap = -(-horizon_bars // step_bars)
    check_length(len(actual), overlap)
    ordered = np.sort(samples, axis=1)
    q05, median, q95 = np.quantile(ordered, (0.05, 0.5, 0.95), axis=1, method="weibull")
    if interval is not None:
        q05, q95 = interval
    mean, moved = ordered.mean(axis=1), actual - price
    if not moved.any():
        raise BadCandles("candles", "a price that never moved", "prices that move")
    crps = ensemble_crps(ordered, actual, price, pip=pip)
    crps_walk = random_walk_crps(actual, price, random_walk_std, pip=pip)
    inside = ((q05 <= actual) & (actual <= q95)).astype(np.float64)
    block = block_length(len(actual), overlap)
    resampled = block_bootstrap_means(np.column_stack([crps, crps_walk, inside]), block=block, seed=seed)
    blocks = len(actual) / block
    said = (np.abs(mean - price) > spread_pips * pip) & (moved != 0)
    return HorizonScores(
        forecasts=len(actual),
        independent=len(actual) / overlap,
        crps=estimate(float(crps.mean()), resampled[:, 0], blocks, least=0.0),
        crps_random_walk=estimate(float(crps_walk.mean()), resampled[:, 1], blocks, least=0.0),
        crps_skill=_skill(crps, crps_walk, resampled, blocks),
        coverage_90=_coverage(inside, resampled[:, 2], blocks, overlap),
        pit_index=pit_index(randomised_pit(ordered, actual, seed=seed)),
        mse_ratio=float(((actual - mean) ** 2).mean() / (moved**2).mean()),
        mae_ratio=float(np.abs(actual - median).mean() / np.abs(moved).mean()),
        direction_windows=int(said.sum()),
        direction_right=overlapping_share(((mean - price)[said] > 0) == (moved[said] > 0), overlap) if said.any() else None,
    )


def ensemble_crps(samples: FloatArray, actual: FloatArray, price: FloatArray, *, pip: float) -> FloatArray:
    """Return the fair CRPS of ensembles in pips, (n,).

    Fair: its expectation does not depend on how many samples stand for the law, so that 50 samples and a closed form compare.

    Args:
        samples: Prices, (n, m), m of two or more.
        actual: (n,).
        price: A price near both, (n,); it changes nothing but rounding.

    Source: Ferro 2014, doi:10.1002/qj.2270, as probability-weighted moments (Zamo & Naveau 2018, doi:10.1007/s11004-017-9709-7):
    the same number in m·log m steps and no (n, m, m) array.
    """
    pips = (samples - price[:, None]) / pip
    return np.asarray(scoringrules.crps_ensemble((actual - price) / pip, pips, estimator="pwm"))


def random_walk_crps(actual: FloatArray, price: FloatArray, random_walk_std: FloatArray, *, pip: float) -> FloatArray:
    """Return the closed-form CRPS of the driftless Gaussian random walk in pips, (n,).

    The log price is what walks, as in `models.baselines.random_walk`: the law of the price is log-normal with the last
    price as its median.

    Args:
        random_walk_std: Standard deviation of the log price over the horizon, (n,).

    Source: Baran & Lerch 2015, doi:10.1002/qj.2521.
    """
    relative = scoringrules.crps_lognormal(actual / price, np.zeros_like(price), random_walk_std)
    return np.asarray(relative) * price / pip


def skill(crps: FloatArray, opponent_crps: FloatArray, *, overlap: int, seed: int = 0) -> Estimate:
    """Return 1 − CRPS / CRPS of an opponent, its interval from a paired block bootstrap.

    Args:
        crps: Of each forecast, (n,), in time order.
        opponent_crps: Of the opponent on the same windows, (n,).
        overlap: Forecasts made before the first one's outcome is known.

    Raises:
        BadCandles: If there are too few forecasts, as in `score_horizon`.
    """
    check_length(len(crps), overlap)
    block = block_length(len(crps), overlap)
    resampled = block_bootstrap_means(np.column_stack([crps, opponent_crps]), block=block, seed=seed)
    return _skill(crps, opponent_crps, resampled, len(crps) / block)


def block_bootstrap_means(values: FloatArray, *, block: int, seed: int, resamples: int = _RESAMPLES) -> FloatArray:
    """Return means of resampled rows, (resamples, columns); the columns of a row stay together.

    Blocks of consecutive rows are drawn, and the last row is followed by the first, so that every row is drawn equally often.

    Args:
        values: (n, columns), in time order.
        block: Rows a block, at least as many as depend on each other.

    Source: the circular block bootstrap, Politis & Romano 1992.
    """
    n, columns = values.shape
    length = min(block, n)
    draws = np.random.default_rng(seed)
    parts = [(rows, draws.integers(0, n, (resamples, drawn))) for drawn, rows in ((n // length, length), (1, n % length))]
    total = np.zeros((resamples, columns))
    for column in range(columns):  # one at a time: few megabytes, however many columns there are
        running = np.concatenate([[0.0], np.cumsum(np.tile(values[:, column], 2))])  # (2n + 1,)
        for rows, starts in parts:  # whole blocks, and one cut short so that n rows are drawn
            block_sums = running[rows : rows + n] - running[:n]
            total[:, column] += block_sums[starts].sum(axis=1)
    return total / n


def randomised_pit(samples: FloatArray, actual: FloatArray, *, seed: int) -> FloatArray:
    """Return where each outcome falls in its ensemble, (n,), in [0, 1]; uniform if outcome and samples follow one law.

    Args:
        samples: (n, m).
        actual: (n,).

    Source: Czado, Gneiting & Held 2009, doi:10.1111/j.1541-0420.2009.01191.x; the outcome's rank among m + 1 values.
    """
    below = (samples < actual[:, None]).sum(axis=1)
    equal = (samples == actual[:, None]).sum(axis=1)
    return (below + np.random.default_rng(seed).random(len(actual)) * (equal + 1)) / (samples.shape[1] + 1)


def pit_index(pit: FloatArray) -> float:
    """Return 1 − ½·Σ|f_i − 0.1| over ten bins: 1 is flat, 0.1 is everything in one bin."""
    shares = np.histogram(pit, bins=PIT_BINS, range=(0.0, 1.0))[0] / len(pit)
    return 1.0 - 0.5 * float(np.abs(shares - 1.0 / PIT_BINS).sum())


def overlapping_share(verdicts: NDArray[np.bool_], overlap: int) -> Estimate:
    """Return a share and its exact binomial interval.

    Args:
        verdicts: One or more, (n,).
        overlap: As in `skill`; n overlapping verdicts count as n / overlap, never less than one.

    Source: Clopper & Pearson 1934 with the effective sample size of Korn & Graubard 1998; without overlap it is what
    `scipy.stats.binomtest` gives.
    """
    share = float(verdicts.mean())
    count = max(len(verdicts) / overlap, 1.0)
    hits, misses, tail = share * count, (1.0 - share) * count, (1.0 - LEVEL) / 2
    low = float(beta.ppf(tail, hits, misses + 1.0)) if hits > 0 else 0.0
    high = float(beta.ppf(1.0 - tail, hits + 1.0, misses)) if misses > 0 else 1.0
    return Estimate(value=share, low=low, high=high)


def block_length(n: int, overlap: int) -> int:
    """Return how many consecutive forecasts a block of the bootstrap holds, of n that overlap as in `skill`."""
    # Twice the overlap where there are eight such blocks: the mean's standard error then comes out 9 % short instead of 18 %.
    # Never below n^(1/3), the rate at which blocks must grow (volatility clusters over longer than a horizon).
    return max(overlap, min(2 * overlap, n // 8), round(n ** (1 / 3)))


def _skill(crps: FloatArray, opponent_crps: FloatArray, resampled: FloatArray, blocks: float) -> Estimate:
    value = 1.0 - float(crps.mean() / opponent_crps.mean())
    return estimate(value, 1.0 - resampled[:, 0] / resampled[:, 1], blocks, most=1.0)


def estimate(value: float, resampled: FloatArray, blocks: float, *, least: float = -math.inf, most: float = math.inf) -> Estimate:
    """Return a score and its interval.

    Args:
        value: The score.
        resampled: What it was on resamples, (resamples,).
        blocks: How many blocks a resample consists of, more than one.
        least: The score can't be lower.
        most: Nor higher.
    """
    # Percentiles of few blocks are too narrow: Student's t for the normal law and k / (k − 1) for the variance. Measured on
    # overlapping moves of a random walk, 95 % then means 89 to 96 % with 3 to 100 blocks; without it, 65 to 95 %.
    low, high = np.quantile(resampled, ((1.0 - LEVEL) / 2, (1.0 + LEVEL) / 2))
    few = float(t.ppf((1.0 + LEVEL) / 2, blocks - 1.0) / norm.ppf((1.0 + LEVEL) / 2)) * (blocks / (blocks - 1.0)) ** 0.5
    low, high = value + (float(low) - value) * few, value + (float(high) - value) * few
    return Estimate(value=value, low=max(low, least), high=min(high, most))


def _coverage(inside: FloatArray, resampled: FloatArray, blocks: float, overlap: int) -> Estimate:
    if inside.min() == inside.max():  # all or none inside: resampling can't imagine another outcome, the binomial law can
        return overlapping_share(inside > 0, overlap)
    return estimate(float(inside.mean()), resampled, blocks, least=0.0, most=1.0)


def check_length(n: int, overlap: int) -> None:
    """Raise BadCandles if there are too few forecasts to score, as `score_horizon` says."""
    least = max(MIN_FORECASTS, 2 * overlap)
    if n < least:
        raise BadCandles("forecasts", f"{n} with an outcome", f"{least} or more: {MIN_FORECASTS} at least, and two horizons long")


def _check_shapes(samples: FloatArray, actual: FloatArray, *others: FloatArray) -> None:
    if samples.ndim != 2 or samples.shape[1] < 2 or samples.shape[0] != len(actual):
        raise ValueError(f"samples have shape {samples.shape}; needed: ({len(actual)}, two or more)")
    for values in (actual, *others):
        if values.shape != (len(samples),):
            raise ValueError(f"an array has shape {values.shape}; needed: ({len(samples)},)")
    if not all(np.isfinite(values).all() for values in (samples, actual, *others)):
        raise ValueError("samples, prices and outcomes must be finite")
