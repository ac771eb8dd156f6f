"""How likely it is that the best trial is the best by chance: combinatorially symmetric cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from fxcast.domain.candle import FloatArray
from fxcast.tuning.findings import Overfitting
from fxcast.tuning.trial import Trial, TrialState

_FEWER = (12, 8, 6, 4)  # blocks, where there are too few days for more
_MOST_BLOCKS = 20  # 184,756 splits; 22 have four times as many
_NO_SPREAD = 1e-12  # share of the sum of squares that rounding alone may leave
_AT_ONCE = 100_000  # numbers in one array: what is worked on at a time stays in the processor's cache


def returns_of(trials: Sequence[Trial]) -> FloatArray:
    """Return the daily returns of the complete trials side by side, (days, complete trials).

    On a day that only some of them have, the others earned nothing.

    Raises:
        ValueError: If they have done different folds.
    """
    complete = [each for each in trials if each.state is TrialState.COMPLETE]
    if not complete:
        return np.zeros((0, 0))
    folds = {tuple(sorted(score.fold for score in each.folds)) for each in complete}
    if len(folds) > 1:
        raise ValueError(
            f"complete trials: found the folds {' and '.join(str(list(each)) for each in sorted(folds))}; needed: the same"
        )
    parts: list[FloatArray] = []
    for fold in folds.pop():
        curves = [next(score.curve for score in each.folds if score.fold == fold) for each in complete]
        days = np.unique(np.concatenate([each.days for each in curves]))
        parts.append(np.stack([each.on_days(days).returns for each in curves], axis=1))  # (days, trials)
    return np.concatenate(parts) if parts else np.zeros((0, len(complete)))


def probability_of_overfitting(returns: FloatArray, *, blocks: int = 16) -> Overfitting | None:
    """Estimate how often the trial that is best on some days lies below the median of all trials on the others.

    The days are cut into contiguous blocks of nearly equal length, and each half of the blocks is once what the best trial is
    chosen on, by its Sharpe ratio, and once what it is judged on. Trials without a spread of returns have the Sharpe ratio 0. Equal
    trials share the mean of their ranks, and where several are best their ranks are averaged, so that the order of the trials does
    not matter.

    Args:
        returns: (days, trials), oldest first.
        blocks: Even; fewer are tried (12, 8, 6, 4) while there are not two days for each.

    Returns:
        None for fewer than two trials or fewer than eight days.

    Raises:
        ValueError: If the number of blocks is odd, below 2 or above 20.

    Source: Bailey, Borwein, López de Prado & Zhu 2015, The probability of backtest overfitting, doi:10.21314/JCF.2016.322.
    """
    if blocks % 2 or not 2 <= blocks <= _MOST_BLOCKS:
        raise ValueError(f"blocks: found {blocks}; allowed: even, from 2 to {_MOST_BLOCKS}")
    days, trials = returns.shape
    fit = next((each for each in (blocks, *_FEWER) if each <= blocks and days >= 2 * each), None)
    if trials < 2 or fit is None:
        return None
    starts = np.cumsum([0, *(len(each) for each in np.array_split(np.arange(days), fit)[:-1])])
    lengths = np.diff([*starts, days]).astype(np.float64)  # (blocks,)
    sums, squares = (np.add.reduceat(each, starts, axis=0) for each in (returns, returns**2))  # (blocks, trials) each
    halves = _halves(fit)
    ranks, losses = np.empty((2, len(halves))), np.empty((2, len(halves)))
    width = max(1, _AT_ONCE // trials)
    for start in range(0, len(halves), width):
        part = slice(start, start + width)
        one = _sharpes(halves[part], lengths, sums, squares)  # (splits, trials)
        other = _sharpes(1.0 - halves[part], lengths, sums, squares)  # (splits, trials)
        ranks[0, part], losses[0, part] = _judged(one, other)
        ranks[1, part], losses[1, part] = _judged(other, one)
    relative = np.sort(ranks, axis=None) / (trials + 1)
    logits = np.log(relative / (1.0 - relative))
    return Overfitting(
        probability=float((logits <= 0).mean()),
        splits=len(logits),
        blocks=fit,
        trials=trials,
        logits=tuple(logits.tolist()),
        loss_probability=float(losses.mean()),
    )


def _halves(blocks: int) -> FloatArray:
    """Return the halves that hold the first block, 1 where a block is chosen, (splits / 2, blocks); the others complement them."""
    chosen = np.array([(0, *others) for others in combinations(range(1, blocks), blocks // 2 - 1)])
    halves = np.zeros((len(chosen), blocks))
    np.put_along_axis(halves, chosen, 1.0, axis=1)
    return halves


def _sharpes(chosen: FloatArray, lengths: FloatArray, sums: FloatArray, squares: FloatArray) -> FloatArray:
    """Return Sharpe ratios of a day over the chosen blocks, (splits, trials)."""
    days = (chosen @ lengths)[:, np.newaxis]  # (splits, 1)
    total, square = _added(chosen, sums), _added(chosen, squares)  # (splits, trials) each
    spread = square - total**2 / days
    has_spread = spread > _NO_SPREAD * square
    deviation = np.sqrt(np.where(has_spread, spread, 1.0) / (days - 1.0))
    return np.where(has_spread, total / days / deviation, 0.0)


def _added(chosen: FloatArray, values: FloatArray) -> FloatArray:
    """Add up the chosen blocks' values, (splits, trials).

    A matrix product rounds equal columns differently, by where they stand: trials that did the same would no longer be equal.
    """
    added = np.zeros((len(chosen), values.shape[1]))
    for block, each in enumerate(values):
        added += chosen[:, block, np.newaxis] * each
    return added


def _judged(chosen_on: FloatArray, judged_on: FloatArray) -> tuple[FloatArray, NDArray[np.float64]]:
    """Return the rank from below of each split's best one in the other half, and whether it lost there, (splits,) each."""
    best = chosen_on == chosen_on.max(axis=1, keepdims=True)  # (splits, trials)
    how_many = best.sum(axis=1)
    ranks = rankdata(judged_on, axis=1)
    return np.where(best, ranks, 0.0).sum(axis=1) / how_many, (best & (judged_on < 0)).sum(axis=1) / how_many
