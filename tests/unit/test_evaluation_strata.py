"""Strata: who belongs to which, that regimes are decided before the period, and that their intervals cover."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from fxcast.evaluation.scores import MIN_FORECASTS, skill
from fxcast.evaluation.strata import Terciles, score_strata, strata_masks, volatility_terciles
from tests.factories import make_series


def seconds(*moments: datetime) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([int(moment.timestamp()) for moment in moments], dtype=np.int64)


def test_hours_are_new_yorks_in_summer_and_in_winter() -> None:
    closed_at = seconds(datetime(2017, 1, 10, 14, tzinfo=UTC), datetime(2017, 7, 11, 13, 30, tzinfo=UTC))
    masks = strata_masks(closed_at, np.ones(2), None)
    assert masks["hour"]["09"].tolist() == [True, True]
    assert sum(int(mask.sum()) for mask in masks["hour"].values()) == 2


def test_sessions_overlap_and_what_lies_outside_of_all_has_a_name() -> None:
    # Tuesday 13:00 UTC in January: London and New York. 21:00 UTC in winter is 17:00 in New York and 8:00 in Sydney's summer; in
    # July it is 17:00 New York, 7:00 in Sydney: nobody is at work.
    closed_at = seconds(datetime(2017, 1, 10, 13, tzinfo=UTC), datetime(2017, 7, 11, 21, tzinfo=UTC))
    masks = strata_masks(closed_at, np.ones(2), None)["session"]
    assert [name for name, mask in masks.items() if mask[0]] == ["London", "New York"]
    assert [name for name, mask in masks.items() if mask[1]] == ["no session"]


def test_months_and_regimes_part_the_windows() -> None:
    closed_at = seconds(datetime(2017, 1, 31, 23, tzinfo=UTC), datetime(2017, 2, 1, tzinfo=UTC), datetime(2017, 2, 2, tzinfo=UTC))
    masks = strata_masks(closed_at, np.array([0.5, 1.5, 2.5]), Terciles(low=1.0, high=2.0, windows=1000))
    assert {name: mask.tolist() for name, mask in masks["month"].items()} == {
        "2017-01": [True, False, False],
        "2017-02": [False, True, True],
    }
    assert [name for row in range(3) for name, mask in masks["regime"].items() if mask[row]] == ["calm", "normal", "volatile"]


def test_terciles_part_the_windows_before_the_period_into_thirds() -> None:
    draws = np.random.default_rng(0)
    sizes = np.exp(np.cumsum(draws.normal(0.0, 0.03, 5000)))
    closes = 1.1 * np.exp(np.cumsum(draws.normal(0.0, 1.0, 5000) * sizes * 1e-4))
    terciles = volatility_terciles(closes)
    assert terciles is not None
    assert 0 < terciles.low < terciles.high
    assert terciles.windows == 4901


def test_too_few_candles_before_the_period_give_no_regimes() -> None:
    assert volatility_terciles(make_series(bars=398).closes) is None
    assert volatility_terciles(make_series(bars=399).closes) is not None
    assert volatility_terciles(np.empty(0)) is None
    masks = strata_masks(seconds(datetime(2017, 1, 10, tzinfo=UTC)), np.ones(1), None)
    assert "regime" not in masks


def test_a_stratum_of_everything_has_the_skill_of_the_whole() -> None:
    draws = np.random.default_rng(1)
    crps, walk = draws.gamma(2.0, 1.0, 400), draws.gamma(2.0, 1.1, 400)
    (scored,) = score_strata(
        {"month": {"2017-01": np.ones(400, dtype=bool)}},
        crps=crps,
        crps_random_walk=walk,
        inside=draws.random(400) < 0.9,
        pit=draws.random(400),
        overlap=3,
    )
    whole = skill(crps, walk, overlap=3)
    assert scored.crps_skill.value == whole.value
    assert scored.crps_skill.low == pytest.approx(whole.low, abs=0.01)
    assert scored.crps_skill.high == pytest.approx(whole.high, abs=0.01)


def test_thin_strata_are_left_out() -> None:
    mask = np.zeros(400, dtype=bool)
    mask[:: 400 // (MIN_FORECASTS - 1)] = True
    thin = mask.copy()
    thin[np.flatnonzero(mask)[MIN_FORECASTS - 1 :]] = False
    one_block = np.zeros(400, dtype=bool)
    one_block[:25] = True
    scored = score_strata(
        {"hour": {"03": thin, "04": one_block}, "session": {"London": ~mask}},
        crps=np.ones(400),
        crps_random_walk=np.ones(400),
        inside=np.ones(400, dtype=bool),
        pit=np.linspace(0, 1, 400),
        overlap=30,
    )
    assert [(one.kind, one.name) for one in scored] == [("session", "London")]


def test_intervals_of_a_stratum_hold_its_true_coverage_about_as_often_as_they_say() -> None:
    # An hour of each day: 250 forecasts of 6,000 that overlap eightfold, each inside with probability 0.9.
    held, runs = 0, 200
    mask = np.arange(6000) % 24 == 7
    for seed in range(runs):
        shocks = np.random.default_rng(seed).normal(size=6007)
        running = np.concatenate([[0.0], np.cumsum(shocks)])
        inside = np.abs(running[8:] - running[:-8]) < 1.6449 * 8**0.5
        (scored,) = score_strata(
            {"hour": {"07": mask}},
            crps=np.ones(6000),
            crps_random_walk=np.ones(6000),
            inside=inside,
            pit=np.linspace(0, 1, 6000),
            overlap=8,
            seed=seed,
        )
        held += scored.coverage_90.low <= 0.9 <= scored.coverage_90.high
    assert 0.88 <= held / runs <= 0.99
