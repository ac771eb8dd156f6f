"""The guard promotes a trial only if every condition holds, and says in plain words which do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from fxcast.performance.measure import measure
from fxcast.performance.measures import Difference, Interval
from fxcast.tuning.findings import Condition, HoldOutRun, Neighbour, Overfitting, Robustness
from fxcast.tuning.robustness import robustness_of
from fxcast.tuning.verdict import GuardConfig, Guarded, conditions, verdict_of
from tests.performance_factories import make_daily_curve, make_result, make_trades

CONFIG = GuardConfig()
TRADES = make_trades([5.0, -4.0] * 20)
RESULT = make_result(TRADES, equity=make_daily_curve(np.random.default_rng(0).normal(0.0002, 0.005, 63)))
MEASURES = measure(RESULT, TRADES, draws=20)


def run(key: str, sharpe: float | None, *, total_return: float = 0.032, lead: Difference | None = None) -> HoldOutRun:
    measures = replace(MEASURES, sharpe=Interval(value=sharpe), total_return=total_return)
    found = () if lead is None else (lead,)
    return HoldOutRun(key=key, title=key, values={}, equity=RESULT.equity, measures=measures, differences=found)


def lead(ours: float | None = 1.2, theirs: float | None = 0.4, low: float | None = 0.1, high: float | None = 1.5) -> Difference:
    value = None if ours is None or theirs is None else ours - theirs
    return Difference(measure="sharpe", ours=ours, theirs=theirs, difference=Interval(value=value, low=low, high=high))


def hold_out(
    *, over_default: Difference | None = None, random: float | None = 0.9, ours: float | None = 1.2, total_return: float = 0.032
) -> tuple[HoldOutRun, ...]:
    default = run("default", 0.4, lead=lead() if over_default is None else over_default)
    return run("winner", ours, total_return=total_return), default, run("random", random)


def overfitting(probability: float = 0.12) -> Overfitting:
    return Overfitting(probability=probability, splits=12_870, blocks=16, trials=60, logits=(), loss_probability=0.2)


def robustness(share: float | None = 0.9) -> Robustness:
    neighbours = tuple(Neighbour(parameter="trading.min_quality", value=0.3, score=1.0, sharpe=1.0) for _ in range(20))
    return Robustness(winner=2.0, default=1.0, neighbours=neighbours, share_better=share, worst=0.5)


GOOD = Guarded(winner=37, hold_out=hold_out(), overfitting=overfitting(), deflated_sharpe=0.973, robustness=robustness(), days=63)


def failed(guarded: Guarded, config: GuardConfig = CONFIG) -> dict[str, str]:
    """Return what each failed condition says, by name; the verdict must agree."""
    found = conditions(guarded, config)
    told, promotes = verdict_of(guarded, config)
    assert promotes == all(each.holds for each in found)
    assert told.startswith("Promote trial" if promotes else "Keep the default: ")
    return {each.name: each.told for each in found if not each.holds}


def test_a_winner_that_shows_everything_is_promoted() -> None:
    told, promotes = verdict_of(GOOD, CONFIG)
    assert promotes
    assert told == (
        "Promote trial 37: all 8 conditions hold; on the hold-out the winner's Sharpe ratio is 1.20 against 0.40 with the default "
        "values (+0.80 [+0.10, +1.50])."
    )


def test_each_condition_says_what_was_found_and_what_is_needed() -> None:
    assert conditions(GOOD, CONFIG) == tuple(
        Condition(name=name, holds=True, told=told)
        for name, told in (
            ("not the default", "The winner is trial 37."),
            (
                "better than the default",
                (
                    "On the hold-out the winner's Sharpe ratio is 1.20 against 0.40 with the default values "
                    "(+0.80 [+0.10, +1.50]), and an interval above zero is needed."
                ),
            ),
            ("gain", "On the hold-out the winner returned +3.2 %, and more than nothing is needed."),
            (
                "no worse than random search",
                "On the hold-out the Sharpe ratio of random search's best is 0.90, the winner's 1.20, and no less is needed.",
            ),
            (
                "overfitting",
                "The probability of overfitting is 12.0 % over 12,870 splits of 60 trials, and at most 30.0 % is allowed.",
            ),
            (
                "deflated Sharpe ratio",
                (
                    "The probability that the winner's true Sharpe ratio is above what the best of all trials shows without skill "
                    "is 97.3 %, and at least 95.0 % is needed."
                ),
            ),
            (
                "robustness",
                "Of the winner's 20 neighbours 90.0 % score above the default values, and at least 80.0 % is needed.",
            ),
            ("hold-out days", "The hold-out has 63 days, and 40 are needed."),
        )
    )


def test_the_verdict_names_all_that_failed() -> None:
    guarded = replace(GOOD, hold_out=hold_out(over_default=lead(low=-0.1)), overfitting=overfitting(0.45))
    told, promotes = verdict_of(guarded, CONFIG)
    assert not promotes
    assert told == "Keep the default: of 8 conditions trial 37 fails 2: better than the default, overfitting."
    failed = [each.told for each in conditions(guarded, CONFIG) if not each.holds]
    assert failed == [
        (
            "On the hold-out the winner's Sharpe ratio is 1.20 against 0.40 with the default values (+0.80 [−0.10, +1.50], can't "
            "be told apart), and an interval above zero is needed."
        ),
        "The probability of overfitting is 45.0 % over 12,870 splits of 60 trials, and at most 30.0 % is allowed.",
    ]


def test_where_no_trial_beat_the_default_values_that_is_all_there_is_to_say() -> None:
    told = verdict_of(replace(GOOD, winner=0, overfitting=None), CONFIG)
    assert told == ("Keep the default: no trial was better than the default values.", False)


def test_a_lead_that_is_told_but_the_wrong_way_round_is_none() -> None:
    assert list(failed(replace(GOOD, hold_out=hold_out(over_default=lead(0.4, 1.2, -1.5, -0.1))))) == ["better than the default"]


@pytest.mark.parametrize("low", [0.0, 0.004, -0.3])
def test_a_lead_whose_interval_reads_as_reaching_zero_is_none(low: float) -> None:
    told = failed(replace(GOOD, hold_out=hold_out(over_default=lead(low=low))))
    assert list(told) == ["better than the default"]
    assert "can't be told apart" in told["better than the default"]


def test_a_lead_without_an_interval_is_none() -> None:
    told = failed(replace(GOOD, hold_out=hold_out(over_default=lead(low=None, high=None))))
    assert told == {
        "better than the default": "On the hold-out the winner's Sharpe ratio is 1.20 against 0.40 with the default values "
        "(+0.80, can't be told apart), and an interval above zero is needed."
    }


@pytest.mark.parametrize(("total_return", "reads"), [(0.0, "0.0 %"), (-0.013, "−1.3 %"), (-0.00004, "−0.004 %")])
def test_a_winner_that_gained_nothing_is_not_promoted_however_bad_the_default_is(total_return: float, reads: str) -> None:
    told = failed(replace(GOOD, hold_out=hold_out(total_return=total_return)))
    assert told == {"gain": f"On the hold-out the winner returned {reads}, and more than nothing is needed."}


def test_a_winner_below_the_best_of_random_search_is_not_promoted_but_one_as_good_is() -> None:
    assert list(failed(replace(GOOD, hold_out=hold_out(random=1.21)))) == ["no worse than random search"]
    assert failed(replace(GOOD, hold_out=hold_out(random=1.2))) == {}


def test_limits_themselves_are_allowed() -> None:
    assert failed(replace(GOOD, overfitting=overfitting(0.3), deflated_sharpe=0.95, robustness=robustness(0.8), days=40)) == {}


def test_what_lies_just_beyond_a_limit_never_reads_as_being_at_it() -> None:
    told = failed(replace(GOOD, overfitting=overfitting(0.30001), deflated_sharpe=0.9496, robustness=robustness(0.79999), days=39))
    assert list(told) == ["overfitting", "deflated Sharpe ratio", "robustness", "hold-out days"]
    assert "is 30.001 % over" in told["overfitting"]
    assert "at most 30.000 % is allowed" in told["overfitting"]
    assert "is 94.96 %, and at least 95.00 % is needed" in told["deflated Sharpe ratio"]
    assert "79.999 % score above" in told["robustness"]
    assert told["hold-out days"] == "The hold-out has 39 days, and 40 are needed."


def test_a_probability_never_reads_as_certain() -> None:
    told = {
        each.name: each.told for each in conditions(replace(GOOD, overfitting=overfitting(0.0), deflated_sharpe=0.99999), CONFIG)
    }
    assert "is < 0.1 % over" in told["overfitting"]
    assert "is > 99.9 %, and" in told["deflated Sharpe ratio"]


def test_what_could_not_be_told_fails_and_says_so() -> None:
    nothing = Guarded(winner=3, hold_out=(), overfitting=None, deflated_sharpe=None, robustness=None, days=0)
    told = failed(nothing)
    assert set(told) == {each.name for each in conditions(GOOD, CONFIG)} - {"not the default"}
    unknown = [each for each in told.values() if "could not be told" in each or "is not known" in each]
    assert len(unknown) == 6
    assert told["hold-out days"] == "The hold-out has 0 days, and 40 are needed."


def test_too_few_days_for_a_sharpe_ratio_tell_nothing() -> None:
    few = hold_out(over_default=lead(None, None, None, None), ours=None, random=None)
    assert failed(replace(GOOD, hold_out=few)) == {
        "better than the default": "Whether the winner beats the default values on the hold-out could not be told.",
        "no worse than random search": "Whether random search finds as good values could not be told.",
    }


def test_without_a_neighbour_nothing_is_known_of_robustness() -> None:
    found = robustness_of(2.0, 1.0, [])
    assert (found.share_better, found.worst, found.neighbours) == (None, None, ())
    assert list(failed(replace(GOOD, robustness=found))) == ["robustness"]


def test_neighbours_count_as_better_only_above_the_default() -> None:
    neighbours = [Neighbour(parameter="trading.min_quality", value=0.3, score=score, sharpe=1.0) for score in (1.5, 1.0, 0.2, 1.1)]
    found = robustness_of(2.0, 1.0, neighbours)
    assert found == Robustness(winner=2.0, default=1.0, neighbours=tuple(neighbours), share_better=0.5, worst=0.2)


@pytest.mark.parametrize(
    "setting", [{"max_overfitting": 1.1}, {"min_deflated_sharpe": -0.1}, {"min_share_better": 80}, {"min_hold_out_days": 0}]
)
def test_a_limit_out_of_range_is_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(setting))):
        GuardConfig.model_validate(setting)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in GuardConfig.model_fields.values())
