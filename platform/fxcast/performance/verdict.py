"""The first lines of a report: what the figures say, in plain words, and what they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fxcast.performance.measures import Benchmark, Difference, Interval, Luck, Measures
from fxcast.performance.wording import count, number, percent

CONVINCED = 0.95  # probability from which a Sharpe ratio is called above chance

_NO_SCALING, _SSSD = "no-scaling", "sssd"
_NAMES: Mapping[str, str] = {
    "sharpe": "Sharpe ratio",
    "max_drawdown": "max drawdown",
    "win_rate": "win rate",
    "total_return": "total return",
}
_LOWER_IS_BETTER = {"max_drawdown"}
_SIZE_FREE = ("sharpe", "win_rate")  # what trading smaller alone does not change
_SIZING, _FORECASTER = ("sharpe", "max_drawdown", "win_rate"), ("sharpe", "total_return", "max_drawdown", "win_rate")


def verdicts(measures: Measures, luck: Luck, benchmarks: Sequence[Benchmark]) -> tuple[str, ...]:
    """Answer in three sentences: did sizing by uncertainty help, did LDM4TS beat SSSD, can any of it be told from luck?

    A difference counts only if its 95 % interval lies on one side of zero.
    """
    by_key = {each.key: each for each in benchmarks}
    return (
        _sizing(measures, by_key.get(_NO_SCALING)),
        _forecaster(measures, by_key.get(_SSSD)),
        _distinguishable(measures, luck),
    )


def _sizing(measures: Measures, benchmark: Benchmark | None) -> str:
    question = "Did sizing by uncertainty help?"
    if benchmark is None:
        return f"{question} Not known: the same run without it was not made (benchmark {_NO_SCALING})."
    none = _no_trades(measures, benchmark, "without it")
    if none:
        return f"{question} {none}"
    answer = _answer(benchmark.differences, _SIZE_FREE, better="Yes", worse="No, it hurt")
    told = _told(benchmark.differences, _SIZING, "without it")
    return f"{question} {answer}: {told}.{_of_size(measures, benchmark)}"


def _of_size(measures: Measures, benchmark: Benchmark) -> str:
    """Say how much smaller the positions were: whatever makes them smaller makes falls less deep."""
    if not benchmark.measures.turnover:
        return ""
    share = measures.turnover / benchmark.measures.turnover
    return f" A drawdown shrinks with the positions by itself; {number(share)} times as much was bought and sold."


def _forecaster(measures: Measures, benchmark: Benchmark | None) -> str:
    question = "Did LDM4TS beat SSSD?"
    if benchmark is None:
        return f"{question} Not known: SSSD was not run. Train one, name it with --sssd, and keep {_SSSD} among the benchmarks."
    none = _no_trades(measures, benchmark, "with SSSD")
    if none:
        return f"{question} {none}"
    answer = _answer(benchmark.differences, _FORECASTER, better="Yes", worse="No, it lost to it")
    return f"{question} {answer}: {_told(benchmark.differences, _FORECASTER, 'with SSSD')}."


def _distinguishable(measures: Measures, luck: Luck) -> str:
    question = "Is any of it distinguishable from luck?"
    if not measures.trades:
        return f"{question} There is nothing to distinguish: no trade was closed."
    sharpe, probability, deflated = measures.sharpe, measures.probabilistic_sharpe, luck.deflated_sharpe
    if sharpe.value is None or probability is None:
        return f"{question} Not known: {count(measures.trades, 'trade')} on too few days, or without a spread of returns."
    if sharpe.high is not None and sharpe.high < 0:
        answer = "Yes, but it loses: worse than chance"
    elif not sharpe.excludes_zero or probability < CONVINCED:
        answer = "No, it can't be told apart from luck"
    elif deflated is None or deflated < CONVINCED:
        answer = "No, not once the trials are counted"
    else:
        answer = "Yes"
    ratio, chance = _with_interval(sharpe, "sharpe"), _probability(probability)
    return f"{question} {answer}: the Sharpe ratio is {ratio} a year, above zero with a probability of {chance}{_of_trials(luck)}."


def _of_trials(luck: Luck) -> str:
    if luck.expected_best_sharpe is None or luck.deflated_sharpe is None:
        return f"; trials: {luck.trials}"
    if luck.trials == 1:
        return " (PSR); this is the one setting that was tried (DSR the same)"
    return (
        f" (PSR), and above {number(luck.expected_best_sharpe)}, what the best of {luck.trials} trials without skill would show, "
        f"with {_probability(luck.deflated_sharpe)} (DSR)"
    )


def _no_trades(measures: Measures, benchmark: Benchmark, otherwise: str) -> str:
    """Say that one side or both made no trade; empty if both did."""
    ours, theirs = measures.trades, benchmark.measures.trades
    if ours and theirs:
        return ""
    if not ours and not theirs:
        return f"It can't be told: no trade was closed, {otherwise} neither."
    if ours:
        return f"It can't be told: {otherwise} no trade was closed, here {ours} with {_return(measures)}."
    return f"It can't be told: no trade was closed, but {theirs} {otherwise} with {_return(benchmark.measures)}."


def _answer(found: Sequence[Difference], names: Sequence[str], *, better: str, worse: str) -> str:
    told = [each for each in found if each.measure in names and each.is_told]
    good = [each for each in told if _is_better(each)]
    if not told:
        return "It can't be told apart from chance"
    if len(good) == len(told):
        return f"{better}, in {_listed(good)}"
    if not good:
        return f"{worse}, in {_listed(told)}"
    bad = [each for each in told if not _is_better(each)]
    return f"In part: better in {_listed(good)}, worse in {_listed(bad)}"


def _is_better(difference: Difference) -> bool:
    value = difference.difference.value or 0.0
    return value < 0 if difference.measure in _LOWER_IS_BETTER else value > 0


def _listed(found: Sequence[Difference]) -> str:
    return " and ".join(_NAMES[each.measure] for each in found)


def _told(found: Sequence[Difference], names: Sequence[str], otherwise: str) -> str:
    by_name = {each.measure: each for each in found}
    return "; ".join(_compared(by_name[name], otherwise) for name in names if name in by_name)


def _compared(found: Difference, otherwise: str) -> str:
    name = _NAMES[found.measure]
    if found.ours is None or found.theirs is None:
        return f"{name} {_figure(found.ours, found.measure)} against {_figure(found.theirs, found.measure)} {otherwise}"
    apart = "" if found.is_told else ", can't be told apart"
    return (
        f"{name} {_figure(found.ours, found.measure)} against {_figure(found.theirs, found.measure)} {otherwise} "
        f"({_with_interval(found.difference, found.measure, signed=True)}{apart})"
    )


def _with_interval(interval: Interval, measure: str, *, signed: bool = False) -> str:
    """Return a figure with its interval, as +1.2 points [−0.3, +2.7]."""
    scale, digits, unit = (1, 2, "") if measure == "sharpe" else (100, 1, " points" if signed else " %")
    if interval.value is None:
        return "not known"
    value = f"{number(scale * interval.value, digits, signed=signed)}{unit}"
    if interval.low is None or interval.high is None:
        return f"{value}, no interval"
    low, high = (number(scale * end, digits, signed=signed) for end in (interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def _figure(value: float | None, measure: str) -> str:
    if value is None:
        return "not known"
    return number(value) if measure == "sharpe" else percent(value)


def _return(measures: Measures) -> str:
    return f"a total return of {percent(measures.total_return, signed=True)}"


def _probability(probability: float) -> str:
    """Return a probability that never reads as certain."""
    if probability > 0.999:
        return "more than 0.999"
    return "less than 0.001" if probability < 0.001 else f"{probability:.3f}"
