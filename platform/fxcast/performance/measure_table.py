"""The measures of a run beside those of the benchmarks: for the report and for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from fxcast.performance.measures import Benchmark, Difference, Findings, Measures
from fxcast.performance.wording import UNTOLD, duration, money, number, percent, probability, with_interval

MEASURE_NAMES: Mapping[str, str] = {
    "total_return": "return",
    "sharpe": "Sharpe ratio",
    "max_drawdown": "max drawdown",
    "win_rate": "win rate",
}
_SHARES = {"total_return", "max_drawdown", "win_rate"}
_IN_TERMINAL = {
    "net profit",
    "return",
    "return a year (CAGR)",
    "Sharpe ratio",
    "max drawdown",
    "trades",
    "win rate",
    "profit factor",
    "expectancy of a trade",
    "costs paid",
}


def columns(findings: Findings) -> list[str]:
    """Return the heads of `rows`: the run, then each benchmark."""
    return ["", findings.result.name, *(benchmark.title for benchmark in findings.benchmarks)]


def rows(findings: Findings) -> list[list[str]]:
    """Return a row a measure, an interval on a line of its own."""
    runs = (findings.measures, *(benchmark.measures for benchmark in findings.benchmarks))
    return [[label, *map(cell, runs)] for label, cell in measure_cells(findings.result.currency).items()]


def compared_with(findings: Findings) -> list[Benchmark]:
    """Return the benchmarks that the run was compared with day by day."""
    return [benchmark for benchmark in findings.benchmarks if benchmark.differences]


def difference_rows(findings: Findings) -> list[list[tuple[str, bool]]]:
    """Return a row a measure that was compared: the run less each benchmark, and whether the interval leaves zero out."""
    return rows_of_differences([benchmark.differences for benchmark in compared_with(findings)])


def rows_of_differences(runs: Sequence[Sequence[Difference]]) -> list[list[tuple[str, bool]]]:
    """Return a row a measure: what it is called, then a cell a run, and whether its interval leaves zero out."""
    compared = [{each.measure: each for each in differences} for differences in runs]
    named = dict.fromkeys(measure for differences in compared for measure in differences)
    return [
        [(MEASURE_NAMES.get(measure, measure), False), *(_difference(differences.get(measure)) for differences in compared)]
        for measure in sorted(named, key=lambda measure: (*MEASURE_NAMES, measure).index(measure))
    ]


def table(findings: Findings) -> Table:
    """Return the main measures of a run beside the benchmarks', for a terminal."""
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    head, *names = columns(findings)
    drawn.add_column(head, no_wrap=True)
    for name in names:
        drawn.add_column(Text(name), justify="right")
    for label, *cells in rows(findings):
        if label in _IN_TERMINAL:
            drawn.add_row(label, *map(Text, cells))  # Text: brackets are no markup
    return drawn


def _difference(difference: Difference | None) -> tuple[str, bool]:
    if difference is None:
        return UNTOLD, False
    share = difference.measure in _SHARES
    return with_interval(difference.difference, digits=1 if share else 2, share=share, signed=True), (difference.is_told)


def measure_cells(currency: str) -> dict[str, Callable[[Measures], str]]:
    """Return what tells each measure in words, by its name."""
    return {
        "net profit": lambda run: money(run.net_profit, currency, signed=True),
        "return": lambda run: percent(run.total_return, signed=True),
        "return a year (CAGR)": lambda run: with_interval(run.cagr, digits=1, share=True, signed=True),
        "Sharpe ratio": lambda run: with_interval(run.sharpe),
        "Sortino ratio": lambda run: with_interval(run.sortino),
        "Calmar ratio": lambda run: with_interval(run.calmar),
        "max drawdown": lambda run: with_interval(run.max_drawdown, digits=1, share=True),
        "longest drawdown": lambda run: duration(run.max_drawdown_days),
        "trades": lambda run: f"{run.trades:,}" + (f"\n{run.open_positions:,} open at the end" if run.open_positions else ""),
        "win rate": lambda run: with_interval(run.win_rate, digits=1, share=True),
        "profit factor": lambda run: with_interval(run.profit_factor),
        "expectancy of a trade": lambda run: with_interval(run.expectancy, signed=True, unit=currency),
        "average win": lambda run: money(run.average_win, currency, signed=True),
        "average loss": lambda run: money(run.average_loss, currency, signed=True),
        "turnover a year": lambda run: f"{number(run.turnover, 1)} × equity",
        "time in the market": lambda run: percent(run.exposure),
        "costs paid": lambda run: money(run.costs.total, currency),
        "probability of a Sharpe above 0": lambda run: probability(run.probabilistic_sharpe),
    }
