"""A trial is worth what its folds are worth together, and a search finds the best of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from fxcast.tuning.objective import (
    OBJECTIVES,
    ObjectiveConfig,
    ObjectiveWeights,
    best_of,
    measures_of,
    objective_names,
    objectives_of,
    pareto_of,
)
from fxcast.tuning.trial import TrialState
from tests.tuning_factories import make_fold, make_horizon, make_trial

CONFIG, PARETO = ObjectiveConfig(), ObjectiveConfig(kind="pareto")
GOOD, FAIR, POOR = (0.01, 0.01, 0.012), (0.01, -0.01, 0.012), (-0.01, -0.01, -0.012)


def test_folds_are_measured_as_one_account_that_went_through_all_their_days() -> None:
    measures = measures_of([make_fold((0.1, -0.1), fold=1, trades=7), make_fold((-0.1, 0.2), fold=2, trades=5)], CONFIG)
    days = np.array([0.1, -0.1, -0.1, 0.2])
    assert measures.sharpe == pytest.approx(days.mean() / days.std(ddof=1) * math.sqrt(260))
    assert measures.max_drawdown == pytest.approx(0.19)  # twice a tenth, the second fold from where the first ended
    assert measures.total_return == pytest.approx(1.1 * 0.9 * 0.9 * 1.2 - 1)
    assert (measures.folds, measures.trades) == (2, 12)


def test_folds_may_come_in_any_order() -> None:
    folds = [make_fold((0.1, -0.1), fold=1), make_fold((-0.1, 0.2), fold=2), make_fold((0.3, -0.2), fold=3)]
    assert measures_of(folds[::-1], CONFIG) == measures_of(folds, CONFIG)


@pytest.mark.parametrize("returns", [(), (0.01,), (0.0, 0.0, 0.0), (0.01, 0.01)])
def test_days_without_a_spread_have_the_sharpe_ratio_zero(returns: tuple[float, ...]) -> None:
    measures = measures_of([make_fold(returns)], CONFIG)
    assert (measures.sharpe, measures.max_drawdown) == (0.0, 0.0)
    assert measures.total_return == pytest.approx(math.prod(1 + each for each in returns) - 1)


def test_there_is_nothing_to_measure_without_a_fold() -> None:
    with pytest.raises(ValueError, match="found no fold"):
        measures_of([], CONFIG)


def test_forecasts_are_added_up_over_folds_and_averaged_over_horizons() -> None:
    first = make_horizon(15, windows=100, crps=0.9, walk_crps=1.0, inside=90), make_horizon(60, crps=2.0, walk_crps=2.0, inside=80)
    second = (make_horizon(15, windows=300, crps=2.3, walk_crps=3.0, inside=250),)
    measures = measures_of([make_fold(horizons=first), make_fold(fold=2, horizons=second)], CONFIG)
    assert measures.crps_skill == pytest.approx((1 - 3.2 / 4.0 + 0.0) / 2)
    assert measures.coverage == pytest.approx((340 / 400 + 80 / 100) / 2)
    assert measures.coverage_error == pytest.approx((0.05 + 0.1) / 2)


def test_a_coverage_error_has_no_sign_so_that_two_horizons_do_not_make_up_for_each_other() -> None:
    measures = measures_of([make_fold(horizons=[make_horizon(15, inside=80), make_horizon(60, inside=100)])], CONFIG)
    assert measures.coverage == pytest.approx(0.9)
    assert measures.coverage_error == pytest.approx(0.1)


def test_a_horizon_without_an_outcome_is_left_out() -> None:
    nothing = make_horizon(240, windows=0, crps=0.0, walk_crps=0.0, inside=0)
    assert measures_of([make_fold(horizons=[make_horizon(60), nothing])], CONFIG) == measures_of(
        [make_fold(horizons=[make_horizon(60)])], CONFIG
    )
    alone = measures_of([make_fold(horizons=[nothing])], CONFIG)
    assert (alone.crps_skill, alone.coverage, alone.coverage_error) == (None, None, None)


def test_the_score_is_the_weighted_sum_of_the_measures() -> None:
    weights = ObjectiveWeights(sharpe=2.0, drawdown=3.0, crps_skill=7.0, coverage_error=11.0, few_trades=4.0)
    config = ObjectiveConfig(weights=weights, min_trades_per_fold=20)
    folds = [make_fold(FAIR, trades=25, horizons=[make_horizon(inside=85)]), make_fold(FAIR, fold=2, trades=5)]
    found = measures_of(folds, config)
    assert found.score == pytest.approx(
        2 * found.sharpe - 3 * found.max_drawdown + 7 * 0.1 - 11 * 0.05 - 4 * (1 - 30 / 40)  # trades of all folds together
    )


def test_no_trade_costs_the_whole_weight_and_enough_trades_cost_nothing() -> None:
    assert measures_of([make_fold((0.0, 0.0), trades=0)], CONFIG).score == pytest.approx(-2.0)
    assert measures_of([make_fold((0.0, 0.0), trades=10)], CONFIG).score == 0.0
    assert measures_of([make_fold((0.0, 0.0), trades=500)], CONFIG).score == 0.0
    assert measures_of([make_fold((0.0, 0.0), trades=0)], ObjectiveConfig(min_trades_per_fold=0)).score == 0.0


def test_the_objectives_are_one_score_or_those_that_apply() -> None:
    forecasting = measures_of([make_fold(FAIR, horizons=[make_horizon(inside=85)])], CONFIG)
    trading = measures_of([make_fold(FAIR)], CONFIG)
    assert objectives_of(forecasting, CONFIG) == (forecasting.score,)
    assert objectives_of(forecasting, PARETO) == pytest.approx((forecasting.sharpe, forecasting.max_drawdown, 0.1, 0.05))
    assert objectives_of(trading, PARETO) == (trading.sharpe, trading.max_drawdown)
    assert objective_names(CONFIG, forecasts=True) == objective_names(CONFIG, forecasts=False) == ("score",)
    assert objective_names(PARETO, forecasts=False) == ("sharpe", "max_drawdown")
    directions = [OBJECTIVES[name] for name in objective_names(PARETO, forecasts=True)]
    assert directions == ["maximize", "minimize", "maximize", "minimize"]


def test_the_best_trial_is_the_complete_one_with_the_highest_score() -> None:
    trials = [
        make_trial(0, [make_fold(FAIR)]),
        make_trial(1, [make_fold(GOOD)], state=TrialState.PRUNED),
        make_trial(2, state=TrialState.FAILED),
        make_trial(3, [make_fold(POOR)]),
        make_trial(4, [make_fold(GOOD)], state=TrialState.RUNNING),
        make_trial(5, [make_fold((*FAIR, 0.02))]),
    ]
    best = best_of(trials, CONFIG)
    assert best is trials[5]
    assert pareto_of(trials, CONFIG) == (5,)


def test_of_equally_good_trials_the_earlier_one_wins() -> None:
    trials = [make_trial(2, [make_fold(GOOD)]), make_trial(0, [make_fold(POOR)]), make_trial(1, [make_fold(GOOD)])]
    for config in (CONFIG, PARETO):
        best = best_of(trials, config)
        assert best is trials[2]


@pytest.mark.parametrize("config", [CONFIG, PARETO])
def test_without_a_complete_trial_there_is_no_best_one(config: ObjectiveConfig) -> None:
    trials = [make_trial(0, state=TrialState.PRUNED), make_trial(1, state=TrialState.FAILED)]
    assert best_of(trials, config) is None
    assert pareto_of(trials, config) == ()


def test_the_pareto_set_holds_what_no_other_trial_beats_in_all_objectives() -> None:
    trials = [
        make_trial(0, [make_fold((0.02, -0.01, 0.02), horizons=[make_horizon(crps=0.9)])]),
        make_trial(1, [make_fold((0.02, -0.02, 0.01), horizons=[make_horizon(crps=0.8)])]),  # better forecasts, worse trades
        make_trial(2, [make_fold((0.02, -0.02, 0.01), horizons=[make_horizon(crps=0.95)])]),  # worse than 1 in one, better in none
        make_trial(3, [make_fold((0.02, -0.01, 0.02), horizons=[make_horizon(crps=0.9)])]),  # the same as 0: neither dominates
        make_trial(4, [make_fold((0.02, -0.005, 0.02), horizons=[make_horizon(crps=0.5)])], state=TrialState.PRUNED),
    ]
    assert pareto_of(trials, PARETO) == (0, 1, 3)


def test_one_trial_without_forecasts_is_compared_in_what_it_has() -> None:
    forecasting = make_trial(0, [make_fold((0.02, -0.02, 0.01), horizons=[make_horizon(crps=0.1)])])
    trading = make_trial(1, [make_fold((0.02, -0.01, 0.02))])
    assert pareto_of([forecasting, trading], PARETO) == (1,)


def test_the_winner_of_several_objectives_is_the_one_of_their_pareto_set_that_scores_highest() -> None:
    # Drawdown counts nothing in this score, and missing trades, which are no objective, count a lot.
    config = ObjectiveConfig(kind="pareto", weights=ObjectiveWeights(drawdown=0.0, few_trades=1_000.0))
    few = make_trial(0, [make_fold((0.02, -0.01, 0.02), trades=1)], config=config)
    dominated = make_trial(1, [make_fold((0.02, -0.02, 0.01), trades=9)], config=config)
    assert few.measures is not None
    assert dominated.measures is not None
    assert dominated.measures.score > few.measures.score
    assert best_of([few, dominated], config) is few
    assert best_of([few, dominated], ObjectiveConfig(weights=config.weights)) is dominated


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_a_weight_that_would_turn_an_objective_round_is_refused(weight: float) -> None:
    with pytest.raises(ValidationError, match="drawdown"):
        ObjectiveWeights(drawdown=weight)


def test_every_setting_is_described() -> None:
    for settings in (ObjectiveConfig, ObjectiveWeights):
        assert all(field.description for field in settings.model_fields.values())
