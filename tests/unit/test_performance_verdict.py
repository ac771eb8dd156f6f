"""The first lines of a report say what the figures say, and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fxcast.performance.compare import differences
from fxcast.performance.luck import luck_of
from fxcast.performance.measure import measure
from fxcast.performance.measures import Benchmark, Difference, Interval, Luck, Measures
from fxcast.performance.verdict import verdicts
from tests.performance_factories import make_daily_curve, make_result, make_trades

RESULT = make_result(make_trades([5.0, -4.0] * 20), equity=make_daily_curve(np.random.default_rng(0).normal(0.0002, 0.005, 260)))
MEASURES = measure(RESULT, make_trades([5.0, -4.0] * 20), draws=100)
NO_TRADES = measure(make_result(days=40), ())


def luck(*, trials: int = 12, best: float = 1.4, deflated: float = 0.4) -> Luck:
    return Luck(trials=trials, expected_best_sharpe=best, deflated_sharpe=deflated, trade_order=None)


def difference(measure: str, ours: float, theirs: float, low: float, high: float) -> Difference:
    return Difference(measure=measure, ours=ours, theirs=theirs, difference=Interval(value=ours - theirs, low=low, high=high))


CHANCE = (
    difference("sharpe", 0.5, 0.4, -0.3, 0.6),
    difference("max_drawdown", 0.05, 0.06, -0.03, 0.02),
    difference("win_rate", 0.52, 0.51, -0.02, 0.04),
    difference("total_return", 0.02, 0.03, -0.05, 0.02),
)


def beside(key: str, found: tuple[Difference, ...] = CHANCE, measures: Measures = MEASURES) -> Benchmark:
    return Benchmark(key=key, title=key, equity=RESULT.equity, measures=measures, differences=found)


def told(*benchmarks: Benchmark, measures: Measures = MEASURES, of: Luck | None = None) -> tuple[str, ...]:
    return verdicts(measures, luck() if of is None else of, benchmarks)


def test_differences_whose_intervals_hold_zero_are_no_answer() -> None:
    sizing, forecaster, _ = told(beside("no-scaling"), beside("sssd"))
    assert sizing == (
        "Did sizing by uncertainty help? It can't be told apart from chance: "
        "Sharpe ratio 0.50 against 0.40 without it (+0.10 [−0.30, +0.60], can't be told apart); "
        "max drawdown 5.0 % against 6.0 % without it (−1.0 points [−3.0, +2.0], can't be told apart); "
        "win rate 52.0 % against 51.0 % without it (+1.0 points [−2.0, +4.0], can't be told apart)."
        " A drawdown shrinks with the positions by itself; 1.00 times as much was bought and sold."
    )
    assert forecaster.startswith(
        "Did LDM4TS beat SSSD? It can't be told apart from chance: Sharpe ratio 0.50 against 0.40 with SSSD"
    )
    assert "total return 2.0 % against 3.0 % with SSSD (−1.0 points [−5.0, +2.0], can't be told apart)" in forecaster


def test_a_smaller_drawdown_alone_is_no_help_for_smaller_positions_bring_it_by_themselves() -> None:
    smaller = difference("max_drawdown", 0.04, 0.08, -0.06, -0.01)
    larger = replace(MEASURES, turnover=2.0 * MEASURES.turnover)
    sizing = told(beside("no-scaling", (CHANCE[0], smaller, CHANCE[2]), larger))[0]
    assert "It can't be told apart from chance:" in sizing
    assert "(−4.0 points [−6.0, −1.0])" in sizing
    assert sizing.endswith("A drawdown shrinks with the positions by itself; 0.50 times as much was bought and sold.")


def test_a_better_sharpe_ratio_is_a_help() -> None:
    better = difference("sharpe", 0.9, 0.2, 0.1, 1.3)
    assert "Yes, in Sharpe ratio:" in told(beside("no-scaling", (better, *CHANCE[1:])))[0]


def test_what_helps_in_one_and_hurts_in_another_is_said_to_do_both() -> None:
    more, worse = difference("win_rate", 0.55, 0.50, 0.01, 0.09), difference("sharpe", 0.1, 0.6, -0.9, -0.2)
    assert "In part: better in win rate, worse in Sharpe ratio:" in told(beside("no-scaling", (worse, more)))[0]


def test_a_bound_that_reads_as_zero_is_no_lead() -> None:
    barely = difference("sharpe", -16.25, -16.37, 0.004, 0.36)
    forecaster = told(beside("sssd", (barely, *CHANCE[1:])))[1]
    assert "It can't be told apart from chance:" in forecaster
    assert "(+0.12 [0.00, +0.36], can't be told apart)" in forecaster


def test_what_hurts_is_said_to_hurt() -> None:
    worse = difference("sharpe", 0.1, 0.6, -0.9, -0.2)
    sizing, forecaster, _ = told(beside("no-scaling", (worse, *CHANCE[1:])), beside("sssd", (worse, *CHANCE[1:])))
    assert "No, it hurt, in Sharpe ratio:" in sizing
    assert "No, it lost to it, in Sharpe ratio:" in forecaster


def test_what_was_not_run_is_not_known() -> None:
    sizing, forecaster, _ = told(beside("buy-and-hold"))
    assert "Not known: the same run without it was not made" in sizing
    assert "Not known: SSSD was not run. Train one, name it with --sssd" in forecaster


def test_runs_without_trades_are_not_compared() -> None:
    nothing = tuple(replace(each, ours=None, difference=Interval(value=None)) for each in CHANCE)
    sizing, forecaster, chance = told(beside("no-scaling", nothing, NO_TRADES), beside("sssd", nothing), measures=NO_TRADES)
    assert sizing == "Did sizing by uncertainty help? It can't be told: no trade was closed, without it neither."
    assert "It can't be told: no trade was closed, but 40 with SSSD with a total return of" in forecaster
    assert chance == "Is any of it distinguishable from luck? There is nothing to distinguish: no trade was closed."
    assert "It can't be told: without it no trade was closed, here 40 with" in told(beside("no-scaling", nothing, NO_TRADES))[0]


@pytest.mark.parametrize(
    ("sharpe", "probability", "deflated", "answer"),
    [
        (Interval(value=0.5, low=-0.4, high=1.3), 0.80, 0.20, "No, it can't be told apart from luck"),
        (Interval(value=1.5, low=0.4, high=2.6), 0.98, 0.60, "No, not once the trials are counted"),
        (Interval(value=2.5, low=1.4, high=3.6), 0.9999, 0.97, "Yes: the"),
        (Interval(value=-1.5, low=-2.4, high=-0.6), 0.02, 0.0001, "Yes, but it loses: worse than chance"),
    ],
)
def test_luck_is_told_by_interval_probability_and_trials(
    sharpe: Interval, probability: float, deflated: float, answer: str
) -> None:
    measures = replace(MEASURES, sharpe=sharpe, probabilistic_sharpe=probability)
    sentence = told(measures=measures, of=luck(deflated=deflated))[2]
    assert sentence.startswith(f"Is any of it distinguishable from luck? {answer}")
    assert f"{sharpe.value:.2f} [{sharpe.low:.2f}, {sharpe.high:.2f}] a year".replace("-", "−") in sentence
    assert "what the best of 12 trials without skill would show" in sentence


def test_a_probability_never_reads_as_certain() -> None:
    measures = replace(MEASURES, sharpe=Interval(value=9.0, low=8.0, high=10.0), probabilistic_sharpe=1.0)
    assert "with a probability of more than 0.999" in told(measures=measures, of=luck(deflated=0.0))[2]


def test_one_trial_is_said_to_be_one() -> None:
    sentence = told(of=luck(trials=1, best=0.0, deflated=MEASURES.probabilistic_sharpe or 0.0))[2]
    assert "(PSR); this is the one setting that was tried" in sentence


def test_too_few_days_are_not_known() -> None:
    short = replace(MEASURES, sharpe=Interval(value=None), probabilistic_sharpe=None)
    assert "Not known: 40 trades on too few days" in told(measures=short)[2]


def test_sentences_are_made_of_what_is_measured() -> None:
    ours, theirs = make_trades([5.0, -4.0] * 20), make_trades([4.0, -5.0] * 20)
    other = make_result(theirs, equity=make_daily_curve(np.random.default_rng(1).normal(0.0, 0.005, 260)))
    found = differences(RESULT, other, ours, theirs, draws=100)
    benchmarks = (beside("no-scaling", found, measure(other, theirs, draws=100)), beside("sssd", found))
    sentences = verdicts(MEASURES, luck_of(RESULT.equity, 100_000.0, ours, trials=3, draws=100), benchmarks)
    assert len(sentences) == 3
    assert all(each.endswith(".") and "None" not in each and "nan" not in each for each in sentences)
