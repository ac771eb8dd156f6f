"""A trial that is behind is stopped, a search that goes nowhere ends, and neither depends on who ran when."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fxcast.tuning.pruning import PruningConfig, is_behind
from fxcast.tuning.stopping import ended
from fxcast.tuning.trial import Budget

MEDIAN = PruningConfig(rule="median", warm_up_folds=1, warm_up_trials=4)
ASHA = PruningConfig(rule="asha", warm_up_folds=1, warm_up_trials=4, reduction=3)
EARLIER = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)


def test_the_median_rule_stops_what_lies_below_the_median_of_earlier_trials() -> None:
    assert is_behind(4.4, 1, EARLIER, MEDIAN)
    assert not is_behind(4.5, 1, EARLIER, MEDIAN)  # at it is not below it
    assert not is_behind(4.6, 1, EARLIER, MEDIAN)


def test_asha_lets_only_the_best_third_go_on() -> None:
    # With this one they are nine: three go on.
    assert not is_behind(6.5, 1, EARLIER, ASHA)
    assert not is_behind(6.0, 1, EARLIER, ASHA)  # shares the third place
    assert is_behind(5.9, 1, EARLIER, ASHA)


def test_asha_looks_at_its_rungs_alone() -> None:
    looks = [fold for fold in range(1, 30) if is_behind(0.0, fold, EARLIER, ASHA)]
    assert looks == [1, 3, 9, 27]
    later = PruningConfig(rule="asha", warm_up_folds=2, warm_up_trials=4, reduction=3)
    assert [fold for fold in range(1, 20) if is_behind(0.0, fold, EARLIER, later)] == [2, 6, 18]


def test_the_median_rule_looks_after_each_fold_from_the_last_warm_up_fold_on() -> None:
    config = PruningConfig(rule="median", warm_up_folds=3, warm_up_trials=4)
    assert [fold for fold in range(1, 6) if is_behind(0.0, fold, EARLIER, config)] == [3, 4, 5]


@pytest.mark.parametrize("config", [MEDIAN, ASHA])
def test_nobody_is_stopped_before_enough_earlier_trials_got_as_far(config: PruningConfig) -> None:
    assert not is_behind(0.0, 1, EARLIER[:3], config)
    assert is_behind(0.0, 1, EARLIER[:4], config)
    assert not is_behind(0.0, 1, (), config)


def test_without_a_rule_nobody_is_stopped() -> None:
    assert not is_behind(-100.0, 9, EARLIER, PruningConfig(rule="none"))


@pytest.mark.parametrize("setting", [{"rule": "hyperband"}, {"reduction": 1}, {"warm_up_folds": 0}, {"warm_up_trials": 0}])
def test_a_rule_that_would_stop_everyone_or_that_is_unknown_is_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(setting))):
        PruningConfig.model_validate(setting)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in PruningConfig.model_fields.values())


def test_a_search_ends_when_its_trials_are_used_up_whatever_became_of_them() -> None:
    budget = Budget(trials=3)
    assert ended(budget, asked=2, scores=[1.0, None], seconds=1e9) == ""
    assert ended(budget, asked=3, scores=[1.0, None, None], seconds=0.0) == "the budget of 3 trials is used up"


def test_a_search_ends_when_its_time_is_over() -> None:
    budget = Budget(trials=100, seconds=90.0)
    assert ended(budget, asked=1, scores=[1.0], seconds=89.9) == ""
    assert ended(budget, asked=1, scores=[1.0], seconds=90.0) == "the budget of 90 seconds is used up"


def test_a_search_ends_when_so_many_trials_brought_nothing_better() -> None:
    budget = Budget(trials=100, patience=3)
    assert ended(budget, asked=5, scores=[0.5, 2.0, 1.0, None], seconds=0.0) == ""
    assert ended(budget, asked=5, scores=[0.5, 2.0, 1.0, None, 1.9], seconds=0.0) == "3 trials in a row brought nothing better"
    assert ended(budget, asked=5, scores=[0.5, 2.0, 1.0, None, 2.1], seconds=0.0) == ""


def test_a_score_that_is_only_as_good_is_nothing_better() -> None:
    assert ended(Budget(trials=100, patience=2), asked=3, scores=[2.0, 2.0, 2.0], seconds=0.0) != ""


def test_trials_that_all_failed_are_nothing_better_either() -> None:
    budget = Budget(trials=100, patience=2)
    assert ended(budget, asked=1, scores=[None], seconds=0.0) == ""
    assert ended(budget, asked=2, scores=[None, None], seconds=0.0) == "2 trials in a row brought nothing better"


def test_without_patience_a_search_never_converges() -> None:
    assert ended(Budget(trials=100), asked=50, scores=[1.0, *[0.0] * 49], seconds=0.0) == ""
