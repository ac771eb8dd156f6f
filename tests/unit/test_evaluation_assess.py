"""Scores by symbol and horizon of forecasts whose worth is known, comparisons, and what they say in words."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from fxcast.errors import BadCandles
from fxcast.evaluation.assess import SymbolResult, assess, averages
from fxcast.evaluation.comparison import Cell, compare, compare_on_average
from fxcast.evaluation.rolling import rolling_ends
from fxcast.evaluation.scores import Estimate
from fxcast.evaluation.significance import DieboldMariano
from fxcast.evaluation.verdict import beats, honesty
from tests.evaluation_factories import HORIZONS, RANDOM_WALK, START, STOP, make_samples, make_windows
from tests.factories import make_series


@pytest.fixture(scope="module")
def result() -> SymbolResult:
    windows = make_windows()
    opponents = [make_samples(windows, RANDOM_WALK, seed=1), make_samples(windows, "narrow", width=0.5, seed=2)]
    return assess(windows, make_samples(windows, "truth"), opponents, spread_pips=1.0)


def test_the_true_law_beats_a_narrow_one_and_its_intervals_are_honest(result: SymbolResult) -> None:
    for horizon in result.horizons:
        narrow = horizon.comparisons[1]
        assert narrow.skill.low > 0.0
        assert narrow.test.p_lower < 0.01
        coverage = horizon.model.scores.coverage_90
        assert coverage.low <= 0.9 <= coverage.high
        assert horizon.opponents[1].scores.coverage_90.high < 0.8
        assert beats(narrow).startswith("beat narrow in CRPS: +")
        assert "honest" in honesty(horizon.model.scores)
        assert "too narrow" in honesty(horizon.opponents[1].scores)


def test_against_the_random_walk_there_is_one_skill_and_not_two(result: SymbolResult) -> None:
    for horizon in result.horizons:
        assert horizon.comparisons[0].skill == horizon.model.scores.crps_skill


def test_each_horizon_counts_only_windows_whose_outcome_is_there() -> None:
    windows = make_windows(bars=1500)
    result = assess(windows, make_samples(windows, "truth"), [], spread_pips=1.0)
    for minutes, horizon in zip(HORIZONS, result.horizons, strict=True):
        last = int(windows.ends[horizon.positions[-1]]) + minutes // 60
        assert last < 1500 <= last + windows.step_bars


def test_reliability_and_pit_are_those_of_the_law(result: SymbolResult) -> None:
    truth, narrow = result.horizons[0].model, result.horizons[0].opponents[1]
    assert truth.observed[9] == pytest.approx(0.5, abs=0.05)
    assert narrow.observed[9] < 0.35
    assert sum(truth.pit_counts) == truth.scores.forecasts
    assert narrow.pit_counts[0] > 2 * narrow.pit_counts[5]


def test_strata_have_all_kinds_and_add_up(result: SymbolResult) -> None:
    strata = result.horizons[0].strata
    assert {stratum.kind for stratum in strata} == {"hour", "session", "regime", "month"}
    months = [stratum for stratum in strata if stratum.kind == "month"]
    assert sum(stratum.forecasts for stratum in months) == result.horizons[0].model.scores.forecasts


def test_all_scores_are_json(result: SymbolResult) -> None:
    for horizon in result.horizons:
        content = json.loads(json.dumps(horizon.to_dict()))
        assert set(content["opponents"]) == {RANDOM_WALK, "narrow"}


def test_forecasts_of_other_windows_are_our_own_bug() -> None:
    windows = make_windows(bars=1500)
    short = make_samples(make_windows(bars=1400), "short")
    with pytest.raises(ValueError, match="short: forecasts have shape"):
        assess(windows, short, [], spread_pips=1.0)


def test_averages_count_every_cell_the_same(result: SymbolResult) -> None:
    average = averages([result])
    assert list(average) == [*map(str, HORIZONS), "all"]
    narrow = [horizon.comparisons[1].skill.value for horizon in result.horizons]
    assert average["all"][1].skill.value == pytest.approx(float(np.mean(narrow)))
    assert average["all"][1].skill.low > 0
    assert average["240"][1].skill.value == narrow[0]


def test_the_average_of_a_cell_with_itself_is_no_more_certain_than_the_cell() -> None:
    draws = np.random.default_rng(4)
    crps, other, at = draws.gamma(2.0, 1.0, 600), draws.gamma(2.0, 1.05, 600), np.arange(600, dtype=np.int64)
    once = compare("other", crps, other, overlap=4)
    twice = compare_on_average("other", [Cell(at, crps, other)] * 2, overlap=4)
    assert twice.skill.value == pytest.approx(once.skill.value)
    assert twice.skill.high - twice.skill.low == pytest.approx(once.skill.high - once.skill.low, rel=0.1)
    assert twice.test.statistic == pytest.approx(once.test.statistic)


def test_cells_of_different_moments_are_put_side_by_side_by_time() -> None:
    draws = np.random.default_rng(5)
    cells = [
        Cell(np.arange(start, start + 300, dtype=np.int64), draws.gamma(2.0, 1.0, 300), draws.gamma(2.0, 1.2, 300))
        for start in (0, 150)
    ]
    found = compare_on_average("other", cells, overlap=2)
    assert found.test.forecasts == 450
    assert found.skill.low <= found.skill.value <= found.skill.high


@pytest.mark.parametrize(
    ("skill", "p_lower", "words"),
    [
        (Estimate(value=0.02, low=0.01, high=0.03), 0.001, "beat "),
        (Estimate(value=0.02, low=0.001, high=0.04), 0.08, "can't be told from"),
        (Estimate(value=0.02, low=-0.01, high=0.05), 0.04, "can't be told from"),
        (Estimate(value=-0.05, low=-0.08, high=-0.02), 0.999, "lost to"),
    ],
)
def test_a_win_takes_both_the_interval_and_the_test(skill: Estimate, p_lower: float, words: str) -> None:
    test = DieboldMariano(statistic=0.0, p_value=min(2 * p_lower, 1.0), p_lower=p_lower, forecasts=100, lag=5)
    comparison = compare("rival", np.ones(30), np.ones(30), overlap=1)
    assert beats(type(comparison)(opponent="rival", crps_opponent=1.0, skill=skill, test=test)).startswith(words)


def test_windows_lie_on_a_grid_of_the_clock_whatever_the_period() -> None:
    series = make_series(bars=2000)
    whole = rolling_ends(series, START, STOP, step_bars=5)
    later = rolling_ends(series, datetime(2017, 4, 11, 3, tzinfo=UTC), STOP, step_bars=5)
    assert set(later.tolist()) < set(whole.tolist())
    assert set(np.diff(whole).tolist()) == {5}


def test_a_missing_candle_moves_no_other_window() -> None:
    series = make_series(bars=2000)
    whole = rolling_ends(series, START, STOP, step_bars=5)
    keep = np.delete(np.arange(2000), whole[10])
    holed = type(series)(
        symbol=series.symbol, timeframe=series.timeframe, open_times=series.open_times[keep], values=series.values[keep]
    )
    moments = series.close_times[whole].tolist()
    assert holed.close_times[rolling_ends(holed, START, STOP, step_bars=5)].tolist() == moments[:10] + moments[11:]


def test_a_period_without_candles_is_refused() -> None:
    with pytest.raises(BadCandles, match="no window of 100 candles of EURUSD 1h"):
        rolling_ends(make_series(bars=99), datetime(2017, 3, 1, tzinfo=UTC), STOP, step_bars=1)
