"""What holds for the scores of any forecasts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.domain.candle import FloatArray
from fxcast.evaluation.scores import (
    HorizonScores,
    block_bootstrap_means,
    ensemble_crps,
    overlapping_share,
    pit_index,
    randomised_pit,
    score_horizon,
)

seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(20, 60)
members = st.integers(2, 30)
ONLY_VALUES = settings(max_examples=40, deadline=None)  # how long an example takes says nothing on a busy machine


def forecasts(n: int, m: int, seed: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    draws = np.random.default_rng(seed)
    price = draws.uniform(0.5, 200.0, n)
    return price[:, None] * np.exp(draws.normal(0, 0.01, (n, m))), price * np.exp(draws.normal(0, 0.01, n)), price


def score(samples: FloatArray, actual: FloatArray, price: FloatArray, *, pip: float = 0.0001, overlap: int = 1) -> HorizonScores:
    widths = np.full(len(price), 0.01)
    return score_horizon(samples, actual, price, random_walk_std=widths, pip=pip, spread_pips=1.0, horizon_bars=overlap)


@ONLY_VALUES
@given(n=lengths, m=members, seed=seeds)
def test_the_order_of_the_samples_changes_no_score(n: int, m: int, seed: int) -> None:
    samples, actual, price = forecasts(n, m, seed)
    shuffled = np.random.default_rng(seed).permuted(samples, axis=1)
    assert score(shuffled, actual, price) == score(samples, actual, price)


@ONLY_VALUES
@given(n=lengths, m=members, seed=seeds, overlap=st.integers(1, 10))
def test_every_score_is_in_its_range(n: int, m: int, seed: int, overlap: int) -> None:
    scores = score(*forecasts(n, m, seed), overlap=overlap)
    assert 0.1 <= scores.pit_index <= 1.0
    assert 0.0 <= scores.coverage_90.low <= scores.coverage_90.value <= scores.coverage_90.high <= 1.0
    assert 0.0 <= scores.crps_random_walk.low <= scores.crps_random_walk.value <= scores.crps_random_walk.high
    assert scores.crps_skill.low <= scores.crps_skill.high <= 1.0
    assert all(math.isfinite(ratio) and ratio > 0.0 for ratio in (scores.mse_ratio, scores.mae_ratio))


@ONLY_VALUES
@given(n=lengths, m=members, seed=seeds, factor=st.sampled_from([0.01, 2.0, 100.0]))
def test_scores_are_in_pips_and_ratios_have_no_unit(n: int, m: int, seed: int, factor: float) -> None:
    samples, actual, price = forecasts(n, m, seed)
    scores, scaled = score(samples, actual, price), score(samples, actual, price, pip=0.0001 * factor)
    assert scaled.crps.value == pytest.approx(scores.crps.value / factor)
    assert scaled.crps_random_walk.value == pytest.approx(scores.crps_random_walk.value / factor)
    assert scaled.crps_skill.value == pytest.approx(scores.crps_skill.value)
    assert scaled.mse_ratio == scores.mse_ratio


@ONLY_VALUES
@given(n=st.integers(1, 20), m=members, seed=seeds)
def test_crps_is_the_fair_energy_form(n: int, m: int, seed: int) -> None:
    samples, actual, price = forecasts(n, m, seed)
    crps = ensemble_crps(np.sort(samples, axis=1), actual, price, pip=0.01)
    pairs = np.abs(samples[:, :, None] - samples[:, None, :]).sum(axis=(1, 2)) / (m * (m - 1))
    assert crps == pytest.approx((np.abs(samples - actual[:, None]).mean(axis=1) - pairs / 2) / 0.01, abs=1e-7)


@ONLY_VALUES
@given(n=st.integers(1, 200), m=members, seed=seeds)
def test_pit_lies_in_the_rank_of_the_outcome(n: int, m: int, seed: int) -> None:
    samples, actual, _ = forecasts(n, m, seed)
    pit = randomised_pit(samples, actual, seed=seed)
    rank = (samples < actual[:, None]).sum(axis=1)
    assert ((rank / (m + 1) <= pit) & (pit <= (rank + 1) / (m + 1))).all()
    assert 0.1 - 1e-12 <= pit_index(pit) <= 1.0


@ONLY_VALUES
@given(n=st.integers(2, 60), block=st.integers(1, 60), constant=st.floats(-1e3, 1e3), seed=seeds)
def test_resampling_keeps_rows_together_and_constants_constant(n: int, block: int, constant: float, seed: int) -> None:
    column = np.random.default_rng(seed).normal(size=n)
    means = block_bootstrap_means(
        np.column_stack([column, 2.0 * column, np.full(n, constant)]), block=block, seed=seed, resamples=20
    )
    assert means[:, 1] == pytest.approx(2.0 * means[:, 0])
    assert means[:, 2] == pytest.approx(np.full(20, constant))
    assert (column.min() - 1e-12 <= means[:, 0]).all()
    assert (means[:, 0] <= column.max() + 1e-12).all()


@ONLY_VALUES
@given(hits=st.integers(0, 50), misses=st.integers(0, 50), overlap=st.integers(1, 80))
def test_a_share_lies_in_its_interval(hits: int, misses: int, overlap: int) -> None:
    verdicts = np.array([True] * hits + [False] * misses + [True])
    estimate = overlapping_share(verdicts, overlap)
    assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0
