"""Scores against numbers worked out by hand, and against simulated forecasts whose worth is known."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import binomtest, lognorm

from fxcast.domain.candle import FloatArray
from fxcast.domain.forecast import summarize
from fxcast.errors import BadCandles
from fxcast.evaluation.scores import (
    MIN_FORECASTS,
    HorizonScores,
    block_bootstrap_means,
    ensemble_crps,
    overlapping_share,
    pit_index,
    random_walk_crps,
    randomised_pit,
    score_horizon,
    skill,
)

PIP = 0.0001
WIDTH = 0.002  # standard deviation of the simulated log moves: 22 pips at 1.10


@dataclass(frozen=True, kw_only=True)
class Simulated:
    samples: FloatArray
    actual: FloatArray
    price: FloatArray

    def score(self, *, horizon_bars: int = 1, spread_pips: float = 1.0, seed: int = 0) -> HorizonScores:
        return score_horizon(
            self.samples,
            self.actual,
            self.price,
            random_walk_std=np.full(len(self.price), WIDTH),
            pip=PIP,
            spread_pips=spread_pips,
            horizon_bars=horizon_bars,
            seed=seed,
        )


def simulate(n: int = 2000, *, members: int = 50, width: float = 1.0, known: float = 0.0, seed: int = 0) -> Simulated:
    """Independent moves, and forecasts whose samples are `width` times as wide and know a share of the variance."""
    draws = np.random.default_rng(seed)
    price = draws.uniform(1.0, 1.2, n)
    signal = draws.normal(0.0, 1.0, n) * known**0.5
    noise = WIDTH * (1.0 - known) ** 0.5
    moves = signal * WIDTH + draws.normal(0.0, noise, n)
    sampled = signal[:, None] * WIDTH + draws.normal(0.0, noise * width, (n, members))
    return Simulated(samples=price[:, None] * np.exp(sampled), actual=price * np.exp(moves), price=price)


def test_crps_of_three_samples_is_what_the_definition_says() -> None:
    # In pips: samples 0, 2, 7 and outcome 3. E|X − y| = (3 + 1 + 4)/3; pairs differ by 2, 7, 5, fair mean 14/3.
    samples, price = 1.1 + np.array([[7.0, 0.0, 2.0]]) * PIP, np.array([1.1])
    crps = ensemble_crps(np.sort(samples, axis=1), price + 3 * PIP, price, pip=PIP)
    assert crps == pytest.approx([8 / 3 - 14 / 6])


def test_random_walk_crps_agrees_with_its_integral() -> None:
    price, actual = 1.1, 1.1035
    grid = np.linspace(1.08, 1.12, 400_001)
    distribution = lognorm(s=WIDTH, scale=price).cdf(grid)
    integral = float((((distribution - (grid >= actual)) ** 2).sum()) * (grid[1] - grid[0]))
    crps = random_walk_crps(np.array([actual]), np.array([price]), np.array([WIDTH]), pip=PIP)
    assert crps == pytest.approx([integral / PIP], rel=1e-4)


def test_fair_crps_does_not_depend_on_how_many_samples_stand_for_the_law() -> None:
    few, many = simulate(20_000, members=4), simulate(20_000, members=100)
    closed_form = random_walk_crps(few.actual, few.price, np.full(20_000, WIDTH), pip=PIP).mean()
    for simulated in (few, many):
        samples = np.sort(simulated.samples, axis=1)
        crps = ensemble_crps(samples, simulated.actual, simulated.price, pip=PIP).mean()
        assert crps == pytest.approx(closed_form, rel=0.02)


def test_a_calibrated_forecast_is_seen_to_be_calibrated() -> None:
    scores = simulate().score()
    assert scores.coverage_90.value == pytest.approx(0.90, abs=0.02)
    assert scores.coverage_90.low < 0.90 < scores.coverage_90.high
    assert scores.pit_index > 0.95
    assert scores.crps_skill.low < 0.0 < scores.crps_skill.high
    assert scores.crps.value == pytest.approx(scores.crps_random_walk.value, rel=0.03)


def test_a_forecast_that_is_too_narrow_is_seen_to_be_too_narrow() -> None:
    scores = simulate(width=0.5).score()
    assert scores.coverage_90.high < 0.75
    assert scores.pit_index < 0.8
    assert scores.crps_skill.high < 0.0


def test_a_forecast_that_is_too_wide_is_seen_to_be_too_wide() -> None:
    scores = simulate(width=2.0).score()
    assert scores.coverage_90.low > 0.98
    assert scores.pit_index < 0.8
    assert scores.crps_skill.high < 0.0


def test_a_forecast_that_knows_something_beats_the_random_walk_in_every_score() -> None:
    scores = simulate(known=0.3).score()
    assert scores.crps_skill.low > 0.0
    assert scores.mse_ratio == pytest.approx(0.7, abs=0.06)
    assert scores.mae_ratio < 0.9
    assert scores.direction_right is not None
    assert scores.direction_right.low > 0.6


def test_the_last_price_as_forecast_has_the_errors_of_the_random_walk() -> None:
    simulated = simulate(200)
    offsets = np.linspace(-30.0, 30.0, 51) * PIP  # symmetrical: mean and median are the last price
    scores = Simulated(samples=simulated.price[:, None] + offsets, actual=simulated.actual, price=simulated.price).score()
    assert scores.mse_ratio == pytest.approx(1.0)
    assert scores.mae_ratio == pytest.approx(1.0)
    assert scores.direction_windows == 0
    assert scores.direction_right is None


def test_direction_leaves_out_what_lies_inside_the_spread_and_markets_that_did_not_move() -> None:
    price = np.full(30, 1.1)
    actual = price + np.array([10.0, 10.0, 0.0] * 10) * PIP
    means = price + np.array([3.0, 1.0, 3.0] * 10) * PIP
    samples = means[:, None] + np.array([-5.0, 0.0, 5.0]) * PIP
    scores = Simulated(samples=samples, actual=actual, price=price).score(spread_pips=2.0)
    assert scores.direction_windows == 10
    assert scores.direction_right is not None
    assert scores.direction_right.value == 1.0
    assert scores.direction_right.low == pytest.approx(binomtest(10, 10).proportion_ci(0.95, "exact").low)


@pytest.mark.parametrize("hits", [0, 7, 23, 40])
def test_a_share_without_overlap_has_the_interval_of_the_binomial_test(hits: int) -> None:
    verdicts = np.arange(40) < hits
    exact = binomtest(hits, 40).proportion_ci(0.95, "exact")
    estimate = overlapping_share(verdicts, 1)
    assert (estimate.low, estimate.high) == pytest.approx((exact.low, exact.high))


def test_overlap_widens_every_interval() -> None:
    verdicts = np.arange(200) % 2 == 0
    alone, overlapping = overlapping_share(verdicts, 1), overlapping_share(verdicts, 16)
    assert overlapping.high - overlapping.low > 3 * (alone.high - alone.low)


def test_a_forecast_has_no_skill_against_itself() -> None:
    crps = np.random.default_rng(0).gamma(2.0, 5.0, 300)
    estimate = skill(crps, crps, overlap=16)
    assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)


def test_pairing_sees_a_small_gain_that_two_intervals_would_hide() -> None:
    crps = np.random.default_rng(0).gamma(2.0, 5.0, 300)
    estimate = skill(0.98 * crps, crps, overlap=4)
    assert estimate.value == pytest.approx(0.02)
    assert estimate.low == pytest.approx(0.02)


@pytest.mark.parametrize(("n", "overlap"), [(1000, 1), (1000, 16), (200, 4), (200, 64)])
def test_the_interval_holds_the_truth_for_most_simulated_series(n: int, overlap: int) -> None:
    # The scores of overlapping forecasts of a random walk; skill against a constant has the truth 1 − E|move|/1.
    truth, held = 1.0 - (2.0 / np.pi) ** 0.5, 0
    for seed in range(60):
        walk = np.cumsum(np.random.default_rng(seed).standard_normal(n + overlap + 1))
        moves = np.abs(walk[overlap : overlap + n] - walk[:n]) / overlap**0.5
        estimate = skill(moves, np.ones(n), overlap=overlap, seed=seed)
        held += estimate.low <= truth <= estimate.high
    assert held >= 50  # of 60; 95 % would be 57


def test_resampled_means_scatter_as_means_do() -> None:
    values = np.random.default_rng(0).standard_normal((400, 1))
    means = block_bootstrap_means(values, block=1, seed=0)
    assert means.shape == (2000, 1)
    assert means.std() == pytest.approx(1 / 20, rel=0.1)


def test_pit_of_equal_samples_is_spread_over_them() -> None:
    # A market that stands still, and a forecast that says so: the rank is anywhere among the ties.
    pit = randomised_pit(np.ones((2000, 9)), np.ones(2000), seed=0)
    assert pit_index(pit) > 0.95


def test_pit_index_is_a_tenth_when_everything_falls_into_one_bin() -> None:
    assert pit_index(np.full(50, 0.42)) == pytest.approx(0.1)


def test_quantiles_are_those_of_the_forecast_unless_it_gave_out_others() -> None:
    simulated = simulate(200)
    forecasts = [summarize(samples) for samples in simulated.samples]
    given = np.array([[forecast.q05, forecast.q95] for forecast in forecasts])
    scores = simulated.score()
    inside = (given[:, 0] <= simulated.actual) & (simulated.actual <= given[:, 1])
    assert scores.coverage_90.value == inside.mean()
    widened = score_horizon(
        simulated.samples,
        simulated.actual,
        simulated.price,
        random_walk_std=np.full(200, WIDTH),
        pip=PIP,
        spread_pips=1.0,
        horizon_bars=1,
        interval=(given[:, 0] - 1.0, given[:, 1] + 1.0),
    )
    assert widened.coverage_90.value == 1.0
    assert 0.9 < widened.coverage_90.low < 1.0
    assert widened.crps == scores.crps


def test_the_same_seed_gives_the_same_scores() -> None:
    simulated = simulate(100)
    assert simulated.score(seed=3) == simulated.score(seed=3)
    assert simulated.score(seed=3).crps != simulated.score(seed=4).crps


def test_scores_become_json_with_the_names_of_the_summary() -> None:
    content = simulate(100).score(horizon_bars=4).to_dict()
    assert json.loads(json.dumps(content)) == content
    assert {"crps", "crps_random_walk", "coverage_90", "pit_index"} <= content.keys()
    assert content["independent"] == 25.0
    low, high = content["crps_interval"]
    assert low < content["crps"] < high


@pytest.mark.parametrize(("n", "horizon_bars"), [(MIN_FORECASTS - 1, 1), (0, 1), (100, 64)])
def test_too_few_forecasts_are_refused_with_what_is_needed(n: int, horizon_bars: int) -> None:
    with pytest.raises(BadCandles, match=f"forecasts: found {n} with an outcome; allowed: "):
        simulate(n).score(horizon_bars=horizon_bars)


def test_a_price_that_never_moved_is_refused() -> None:
    price = np.full(30, 1.1)
    with pytest.raises(BadCandles, match="never moved"):
        Simulated(samples=np.full((30, 5), 1.1), actual=price, price=price).score()


def test_arrays_that_do_not_fit_are_our_own_bug() -> None:
    simulated = simulate(30)
    with pytest.raises(ValueError, match="shape"):
        Simulated(samples=simulated.samples[:-1], actual=simulated.actual, price=simulated.price).score()
    with pytest.raises(ValueError, match="shape"):
        Simulated(samples=simulated.samples[:, :1], actual=simulated.actual, price=simulated.price).score()
    with pytest.raises(ValueError, match="finite"):
        Simulated(samples=simulated.samples * np.nan, actual=simulated.actual, price=simulated.price).score()
