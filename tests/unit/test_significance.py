"""The Diebold–Mariano test: its size under a true hypothesis, its power, and its edges, all by simulation with known answers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fxcast.domain.candle import FloatArray
from fxcast.errors import BadCandles
from fxcast.evaluation.significance import diebold_mariano

_RUNS = 1000


def overlapping(n: int, overlap: int, draws: np.random.Generator, *, drift: float = 0.0) -> FloatArray:
    """Differences that share overlap − 1 of their shocks with the next one, as CRPS of overlapping horizons do."""
    running = np.concatenate([[0.0], np.cumsum(draws.normal(drift, 1.0, n + overlap - 1))])
    return running[overlap:] - running[:-overlap]


def rejections(n: int, overlap: int, *, drift: float = 0.0, seed: int = 0) -> float:
    draws = np.random.default_rng(seed)
    zero = np.zeros(n)
    tests = [diebold_mariano(overlapping(n, overlap, draws, drift=drift), zero, overlap=overlap) for _ in range(_RUNS)]
    return float(np.mean([test.p_value < 0.05 for test in tests]))


# 0.7 % is the standard error of such a share: 1,000 runs tell 5 % from 7.5 %.
@pytest.mark.parametrize(("n", "overlap"), [(500, 1), (500, 3), (500, 12), (2000, 48)])
def test_a_true_hypothesis_is_rejected_about_as_often_as_the_level_says(n: int, overlap: int) -> None:
    assert 0.03 <= rejections(n, overlap) <= 0.08


def test_with_ten_independent_forecasts_the_size_is_still_near_the_level() -> None:
    assert rejections(480, 48) <= 0.12


def test_a_difference_of_a_fifth_of_a_deviation_is_found_in_five_hundred_forecasts() -> None:
    assert rejections(500, 1, drift=0.2) > 0.97


def test_overlap_costs_power() -> None:
    # Sums over twelve shocks of drift 0.1: as much evidence as 500 single shocks of drift 0.1, whatever the overlap.
    assert 0.4 < rejections(500, 12, drift=0.1) < 0.8


def test_correlated_shocks_without_overlap_are_not_taken_for_independent_ones() -> None:
    draws, zero, rejected = np.random.default_rng(5), np.zeros(500), 0
    for _ in range(300):
        shocks = draws.normal(size=550)
        for at in range(1, 550):
            shocks[at] += 0.5 * shocks[at - 1]
        rejected += diebold_mariano(shocks[50:], zero, overlap=1).p_value < 0.05
    assert rejected / 300 < 0.13  # the uniform kernel at lag h − 1 = 0 rejects 28 %


def test_without_overlap_it_is_close_to_the_t_test() -> None:
    difference = np.random.default_rng(1).normal(0.05, 1.0, 1000)
    found = diebold_mariano(difference, np.zeros(1000), overlap=1)
    statistic = difference.mean() / (difference.std(ddof=1) / 1000**0.5)
    assert found.statistic == pytest.approx(statistic, rel=0.1)
    assert found.forecasts == 1000
    assert found.lag >= 10  # n^(1/3)


def test_lower_losses_give_a_small_one_sided_p() -> None:
    draws = np.random.default_rng(2)
    better, worse = draws.gamma(2.0, 1.0, 400), draws.gamma(2.0, 1.3, 400)
    found = diebold_mariano(better, worse, overlap=3)
    assert found.statistic < 0
    assert found.p_lower == pytest.approx(found.p_value / 2)
    assert diebold_mariano(worse, better, overlap=3).p_lower == pytest.approx(1.0 - found.p_lower)
    json.dumps(found.to_dict())


def test_a_forecaster_can_not_be_told_from_itself() -> None:
    losses = np.random.default_rng(3).gamma(2.0, 1.0, 100)
    found = diebold_mariano(losses, losses.copy(), overlap=4)
    assert (found.statistic, found.p_value, found.p_lower) == (0.0, 1.0, 0.5)


def test_losses_that_are_lower_by_the_same_each_time_are_lower_for_certain() -> None:
    losses = np.random.default_rng(4).gamma(2.0, 1.0, 100)
    found = diebold_mariano(losses, losses + 0.25, overlap=2)
    assert found.statistic == -math.inf
    assert found.p_lower == 0.0


def test_too_few_forecasts_are_refused() -> None:
    with pytest.raises(BadCandles, match="19 with an outcome"):
        diebold_mariano(np.ones(19), np.zeros(19), overlap=1)
    with pytest.raises(BadCandles, match="99 with an outcome"):
        diebold_mariano(np.ones(99), np.zeros(99), overlap=50)


@pytest.mark.parametrize(
    ("losses", "opponents", "overlap"),
    [
        (np.ones(30), np.ones(31), 1),
        (np.ones((30, 2)), np.ones((30, 2)), 1),
        (np.full(30, np.nan), np.ones(30), 1),
        (np.ones(30), np.ones(30), 0),
    ],
)
def test_what_no_caller_should_pass_is_our_own_bug(losses: FloatArray, opponents: FloatArray, overlap: int) -> None:
    with pytest.raises(ValueError, match=r"needed|finite"):
        diebold_mariano(losses, opponents, overlap=overlap)
