"""What holds of every search, whatever its trials did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fxcast.tuning.objective import OBJECTIVES, ObjectiveConfig, best_of, measures_of, objective_names, pareto_of
from fxcast.tuning.overfitting import probability_of_overfitting
from fxcast.tuning.pruning import PruningConfig, is_behind
from fxcast.tuning.stopping import ended
from fxcast.tuning.trial import Budget, FoldScore, Trial, TrialMeasures, TrialState
from tests.tuning_factories import make_fold, make_horizon, make_trial

CONFIG, PARETO = ObjectiveConfig(), ObjectiveConfig(kind="pareto")
RETURNS = st.lists(st.floats(-0.05, 0.05), min_size=2, max_size=12)
SCORES = st.floats(-10.0, 10.0)
SEEDS = st.integers(0, 10_000)
RULES = st.builds(
    PruningConfig,
    rule=st.sampled_from(["none", "median", "asha"]),
    warm_up_folds=st.integers(1, 3),
    warm_up_trials=st.integers(1, 5),
    reduction=st.integers(2, 4),
)


@st.composite
def folds(draw: st.DrawFn) -> tuple[FoldScore, ...]:
    return tuple(
        make_fold(
            draw(RETURNS),
            fold=fold,
            trades=draw(st.integers(0, 20)),
            horizons=[
                make_horizon(minutes, crps=draw(st.floats(0.1, 2.0)), inside=draw(st.integers(0, 100))) for minutes in (15, 60)
            ],
        )
        for fold in range(1, draw(st.integers(1, 3)) + 1)
    )


@st.composite
def measured(draw: st.DrawFn) -> tuple[Trial, ...]:
    """Draw trials from a few levels of each measure, so that ties are common."""
    level = st.sampled_from([0.0, 0.25, 0.5, 1.0])
    state = st.sampled_from([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED])
    return tuple(
        replace(
            make_trial(number),
            state=draw(state),
            measures=TrialMeasures(
                folds=1,
                sharpe=draw(level),
                max_drawdown=draw(level),
                total_return=0.0,
                trades=10,
                crps_skill=draw(level),
                coverage=0.9,
                coverage_error=draw(level),
                score=draw(level),
            ),
        )
        for number in range(draw(st.integers(1, 12)))
    )


@given(some=folds(), deeper=st.floats(0.001, 0.5))
def test_a_deeper_drawdown_scores_lower_all_else_equal(some: tuple[FoldScore, ...], deeper: float) -> None:
    before = measures_of(some, CONFIG)
    curve = some[0].curve
    fallen = replace(
        curve, falls=np.minimum(before.max_drawdown + deeper, 1.0) * np.ones(len(curve))
    )  # within the days, and made up
    after = measures_of([replace(some[0], curve=fallen), *some[1:]], CONFIG)
    assert after.sharpe == before.sharpe
    assert after.max_drawdown > before.max_drawdown
    assert after.score < before.score


@given(some=folds(), more=st.integers(1, 30))
def test_more_trades_never_score_lower_all_else_equal(some: tuple[FoldScore, ...], more: int) -> None:
    busier = [replace(some[0], trades=some[0].trades + more), *some[1:]]
    assert measures_of(busier, CONFIG).score >= measures_of(some, CONFIG).score


@given(some=folds(), factor=st.floats(0.1, 0.99))
def test_a_lower_crps_scores_higher_all_else_equal(some: tuple[FoldScore, ...], factor: float) -> None:
    sharper = [replace(each, horizons=tuple(replace(one, crps=factor * one.crps) for one in each.horizons)) for each in some]
    before, after = measures_of(some, CONFIG), measures_of(sharper, CONFIG)
    assert before.crps_skill is not None
    assert after.crps_skill is not None
    assert after.crps_skill > before.crps_skill
    assert after.score > before.score


@given(some=folds())
def test_a_higher_mean_of_the_same_spread_scores_higher(some: tuple[FoldScore, ...]) -> None:
    assume(np.ptp(np.concatenate([each.curve.returns for each in some])) > 1e-4)
    raised = [replace(each, curve=replace(each.curve, returns=each.curve.returns + 0.001)) for each in some]
    assert measures_of(raised, CONFIG).sharpe > measures_of(some, CONFIG).sharpe
    assert measures_of(raised, CONFIG).score > measures_of(some, CONFIG).score


@given(some=folds())
def test_folds_add_up_in_any_order(some: tuple[FoldScore, ...]) -> None:
    assert measures_of(some[::-1], CONFIG).score == pytest.approx(measures_of(some, CONFIG).score)


@given(trials=measured())
def test_nothing_in_the_pareto_set_is_dominated_and_all_outside_is(trials: tuple[Trial, ...]) -> None:
    complete = {each.number: each.measures for each in trials if each.state is TrialState.COMPLETE}
    inside = pareto_of(trials, PARETO)
    assert set(inside) <= set(complete)

    def dominates(one: TrialMeasures | None, other: TrialMeasures | None) -> bool:
        pairs = [
            (getattr(one, name), getattr(other, name))
            if OBJECTIVES[name] == "maximize"
            else (getattr(other, name), getattr(one, name))
            for name in objective_names(PARETO, forecasts=True)
        ]
        return all(ours >= theirs for ours, theirs in pairs) and any(ours > theirs for ours, theirs in pairs)

    for number, measures in complete.items():
        assert (number in inside) == (not any(dominates(other, measures) for other in complete.values()))


@given(trials=measured())
def test_the_pareto_set_holds_the_best_of_each_objective(trials: tuple[Trial, ...]) -> None:
    complete = [each for each in trials if each.state is TrialState.COMPLETE]
    assume(complete)
    inside = pareto_of(trials, PARETO)
    for name in objective_names(PARETO, forecasts=True):
        best = max if OBJECTIVES[name] == "maximize" else min
        values = {each.number: getattr(each.measures, name) for each in complete}
        assert best(values[number] for number in inside) == best(values.values())


@given(trials=measured(), seed=SEEDS)
def test_the_best_trial_does_not_depend_on_the_order_that_trials_ended_in(trials: tuple[Trial, ...], seed: int) -> None:
    shuffled = [trials[at] for at in np.random.default_rng(seed).permutation(len(trials))]
    for config in (CONFIG, PARETO):
        best = best_of(trials, config)
        assert best_of(shuffled, config) is best
        assert pareto_of(shuffled, config) == pareto_of(trials, config)
        assert best is None or best.number in pareto_of(trials, config)


@given(earlier=st.lists(SCORES, max_size=20), above=st.floats(0.0, 1.0), fold=st.integers(1, 9), config=RULES)
def test_the_best_trial_is_never_stopped(earlier: list[float], above: float, fold: int, config: PruningConfig) -> None:
    assert not is_behind(max(earlier, default=0.0) + above, fold, earlier, config)


@given(earlier=st.lists(SCORES, max_size=20), scores=st.tuples(SCORES, SCORES), fold=st.integers(1, 9), config=RULES, seed=SEEDS)
def test_a_better_trial_is_stopped_only_where_a_worse_one_is_too(
    earlier: list[float], scores: tuple[float, float], fold: int, config: PruningConfig, seed: int
) -> None:
    low, high = sorted(scores)
    assert is_behind(low, fold, earlier, config) >= is_behind(high, fold, earlier, config)
    shuffled = list(np.random.default_rng(seed).permutation(earlier))
    assert is_behind(low, fold, shuffled, config) == is_behind(low, fold, earlier, config)


@given(scores=st.lists(SCORES, min_size=6, max_size=40, unique=True), reduction=st.integers(2, 5))
def test_asha_lets_one_of_so_many_trials_go_on(scores: list[float], reduction: int) -> None:
    config = PruningConfig(rule="asha", warm_up_trials=5, reduction=reduction)
    on = [score for at, score in enumerate(scores) if not is_behind(score, 1, scores[:at] + scores[at + 1 :], config)]
    assert sorted(on) == sorted(scores)[-max(1, len(scores) // reduction) :]


@given(scores=st.lists(st.none() | SCORES, max_size=30), patience=st.integers(1, 10))
def test_a_search_that_has_just_found_better_goes_on(scores: list[float | None], patience: int) -> None:
    known = [each for each in scores if each is not None]
    found = [*scores, max(known, default=0.0) + 1.0]
    assert ended(Budget(trials=100, patience=patience), asked=len(found), scores=found, seconds=0.0) == ""
    assert ended(Budget(trials=100, patience=patience), asked=31, scores=[*found, *[None] * patience], seconds=0.0) != ""


@given(seed=SEEDS, days=st.integers(8, 40), trials=st.integers(2, 9), equal=st.integers(1, 4))
def test_overfitting_does_not_depend_on_the_order_or_the_size_of_trades(seed: int, days: int, trials: int, equal: int) -> None:
    random = np.random.default_rng(seed)
    returns = random.normal(0.0, 0.01, (days, trials))
    returns[:, :equal] = returns[:, :1]
    found = probability_of_overfitting(returns, blocks=6)
    assert found is not None
    assert 0.0 <= found.probability <= 1.0
    assert found.probability == np.mean(np.array(found.logits) <= 0)
    assert probability_of_overfitting(returns[:, random.permutation(trials)], blocks=6) == found
    assert probability_of_overfitting(0.5 * returns, blocks=6) == found  # half is exact, so even the last digit is the same
