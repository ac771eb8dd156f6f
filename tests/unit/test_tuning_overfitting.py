"""The probability of overfitting tells a find from an accident of the search."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import rankdata

from fxcast.domain.candle import FloatArray
from fxcast.tuning.overfitting import probability_of_overfitting, returns_of
from fxcast.tuning.trial import TrialState
from tests.tuning_factories import make_fold, make_trial


def noise(days: int, trials: int, seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(0.0, 0.01, (days, trials))


def probability(returns: FloatArray, *, blocks: int = 16) -> float:
    found = probability_of_overfitting(returns, blocks=blocks)
    assert found is not None
    return found.probability


def by_loops(returns: FloatArray, blocks: int) -> list[float]:
    """Work out the logits split by split, trial by trial, ascending."""
    parts = np.array_split(np.arange(len(returns)), blocks)
    logits: list[float] = []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[block] for block in chosen])
        outside = np.concatenate([parts[block] for block in range(blocks) if block not in chosen])
        before, after = (
            [0.0 if np.ptp(each) == 0 else float(each.mean() / each.std(ddof=1)) for each in returns[days].T]
            for days in (inside, outside)
        )
        relative = rankdata(after)[int(np.argmax(before))] / (len(before) + 1)
        logits.append(math.log(relative / (1.0 - relative)))
    return sorted(logits)


def test_a_case_worked_by_hand() -> None:
    # Each trial is the best in one half and the worst in the other: ranks 1 of 2, ln((1/3) / (2/3)).
    steady, jumpy = (0.01, 0.02, -0.02, 0.01), (0.01, 0.03, 0.03, 0.01)  # Sharpe 2.12 then −0.24, and 1.41 then 1.41
    found = probability_of_overfitting(np.array([steady, jumpy]).T, blocks=2)
    assert found is not None
    assert found.logits == pytest.approx((math.log(0.5), math.log(0.5)))
    assert (found.probability, found.splits, found.blocks, found.trials) == (1.0, 2, 2, 2)
    assert found.loss_probability == 0.5  # the steady one lost in the second half, the jumpy one did not in the first


@pytest.mark.parametrize(("days", "trials", "blocks"), [(40, 7, 4), (61, 6, 8), (53, 12, 10), (25, 2, 12)])
def test_block_sums_give_what_going_through_every_split_gives(days: int, trials: int, blocks: int) -> None:
    returns = noise(days, trials, seed=days)
    returns[:, 0] = 0.0  # a trial that never traded
    found = probability_of_overfitting(returns, blocks=blocks)
    assert found is not None
    assert found.splits == math.comb(blocks, blocks // 2)
    assert found.logits == pytest.approx(by_loops(returns, blocks))


def test_the_best_of_trials_without_skill_is_as_often_below_the_median_as_above() -> None:
    # Each half is independent of the other, so the mean over markets is exactly one half for an even number of trials.
    found = [probability(noise(160, 20, seed), blocks=8) for seed in range(60)]
    error = np.std(found, ddof=1) / math.sqrt(len(found))
    assert error < 0.05
    assert abs(np.mean(found) - 0.5) < 3.5 * error


def test_a_trial_that_is_truly_better_is_no_accident() -> None:
    returns = noise(500, 50, seed=1)
    returns[:, 17] += 0.004  # a Sharpe ratio of 6 a year
    assert probability(returns) < 0.01


def test_trials_that_only_moved_their_luck_from_one_half_to_the_other_are_overfitted() -> None:
    returns = noise(320, 30, seed=2)
    returns -= returns.mean(axis=0)  # what a trial gains in one half it loses in the other
    found = probability_of_overfitting(returns)
    assert found is not None
    assert found.probability > 0.99
    assert found.loss_probability > 0.99


def test_sixteen_blocks_make_12870_splits() -> None:
    found = probability_of_overfitting(noise(64, 10, seed=3))
    assert found is not None
    assert (found.splits, len(found.logits), found.blocks, found.trials) == (12_870, 12_870, 16, 10)
    assert list(found.logits) == sorted(found.logits)


def test_the_order_of_the_trials_does_not_matter_even_where_they_are_equal() -> None:
    returns = noise(45, 9, seed=4)
    returns[:, 3] = returns[:, 7]
    returns[:20, 5] = returns[:20, 7]  # equal at first
    returns[:, [1, 2]] = 0.0
    returns[25:, 2] = returns[25:, 0]  # began to trade late
    found = probability_of_overfitting(returns, blocks=8)
    for seed in range(5):
        assert probability_of_overfitting(returns[:, np.random.default_rng(seed).permutation(9)], blocks=8) == found


@pytest.mark.parametrize("trials", [3, 37, 61, 94, 155, 211])
def test_trials_that_did_the_same_have_the_same_rank_to_the_last_digit(trials: int) -> None:
    same = np.repeat(noise(100, 1, seed=5), trials, axis=1)
    found = probability_of_overfitting(same, blocks=12)
    assert found is not None
    assert set(found.logits) == {0.0}  # in the middle, always
    assert found.probability == 1.0


def test_a_trial_that_never_traded_is_better_than_those_that_lost() -> None:
    returns = -np.abs(noise(80, 3, seed=6))
    returns[:, 1] = 0.0
    found = probability_of_overfitting(returns, blocks=4)
    assert found is not None
    assert (found.probability, found.loss_probability) == (0.0, 0.0)


@pytest.mark.parametrize("gain", [0.0123, 0.001, 0.0007, 0.0031, 0.1])
def test_a_trial_that_gained_the_same_every_day_counts_as_one_without_spread(gain: float) -> None:
    returns = np.abs(noise(85, 3, seed=6))
    returns[:, 1] = gain
    flat = returns.copy()
    flat[:, 1] = 0.0
    assert probability_of_overfitting(returns, blocks=4) == probability_of_overfitting(flat, blocks=4)


def test_where_several_are_best_what_they_did_in_the_other_half_is_averaged() -> None:
    # The first half: 0, 0 and a loss. The second: 2.12, −2.12 and 1.18, ranks 3, 1 and 2.
    returns = np.array([(0.0, 0.0, 0.01, 0.02), (0.0, 0.0, -0.01, -0.02), (-0.01, -0.02, 0.005, 0.02)]).T
    found = probability_of_overfitting(returns, blocks=2)
    assert found is not None
    # Chosen on the first half: rank (3 + 1) / 2 of 3, one of two lost. On the second: rank (2 + 3) / 2, which it shares.
    assert found.logits == pytest.approx((0.0, math.log(2.5 / 1.5)))
    assert (found.probability, found.loss_probability) == (0.5, 0.25)


@pytest.mark.parametrize(("days", "blocks"), [(32, 16), (31, 12), (24, 12), (23, 8), (15, 6), (11, 4), (8, 4)])
def test_few_days_are_cut_into_fewer_blocks(days: int, blocks: int) -> None:
    found = probability_of_overfitting(noise(days, 5, seed=7))
    assert found is not None
    assert found.blocks == blocks


def test_too_few_days_or_one_trial_tell_nothing() -> None:
    assert probability_of_overfitting(noise(7, 5, seed=8)) is None
    assert probability_of_overfitting(noise(100, 1, seed=8)) is None
    assert probability_of_overfitting(np.zeros((0, 0))) is None


@pytest.mark.parametrize("blocks", [0, 1, 7, 22])
def test_blocks_that_do_not_make_two_halves_or_too_many_splits_are_refused(blocks: int) -> None:
    with pytest.raises(ValueError, match=f"blocks: found {blocks}; allowed: even, from 2 to 20"):
        probability_of_overfitting(noise(100, 5, seed=9), blocks=blocks)


def test_the_days_of_complete_trials_stand_side_by_side() -> None:
    trials = [
        make_trial(0, [make_fold((0.1, 0.2), fold=1), make_fold((0.3,), fold=2)]),
        make_trial(1, [make_fold((0.9,), fold=1)], state=TrialState.PRUNED),
        make_trial(2, [make_fold((0.6,), fold=2), make_fold((0.4, 0.5), fold=1)]),
    ]
    assert returns_of(trials).tolist() == [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]]


def test_on_a_day_that_a_trial_lacks_it_earned_nothing() -> None:
    trials = [make_trial(0, [make_fold((0.1, 0.2, 0.3))]), make_trial(1, [make_fold((0.4,))])]
    assert returns_of(trials).tolist() == [[0.1, 0.4], [0.2, 0.0], [0.3, 0.0]]


def test_complete_trials_with_different_folds_cannot_be_compared() -> None:
    trials = [make_trial(0, [make_fold(fold=1), make_fold(fold=2)]), make_trial(1, [make_fold(fold=1)])]
    with pytest.raises(ValueError, match=r"found the folds \[1\] and \[1, 2\]; needed: the same"):
        returns_of(trials)


def test_no_complete_trial_has_no_days() -> None:
    assert returns_of([make_trial(0, state=TrialState.PRUNED)]).shape == (0, 0)
