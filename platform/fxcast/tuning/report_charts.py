"""Pictures of a search: how it went, beside random search, and what it weighed against what.

Optuna draws some of these as well, but through pyplot's global state and style sheets, with long names over each other, without
pruned trials and under numbers of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fxcast.domain.candle import FloatArray
from fxcast.performance.pictures import BLUE, DASHES, GREEN, GREY, ORANGE, SKY, VERMILLION, Picture, new_figure, save, style
from fxcast.performance.wording import count, number
from fxcast.tuning.findings import TuningFindings
from fxcast.tuning.report_guard_charts import legend_above
from fxcast.tuning.report_rows import complete, default_of, states, winner_of
from fxcast.tuning.trial import Trial, TrialMeasures, TrialState

MARKS = {"winner": ("*", 13.0, VERMILLION), "default": ("D", 6.5, ORANGE)}


def mark(axes: Axes, kind: str, across: float, up: float) -> None:
    """Draw the winner's or the default's place."""
    shape, size, colour = MARKS[kind]
    axes.plot([across], [up], shape, color=colour, markeredgecolor="white", markersize=size, zorder=6, label=_MARK_NAMES[kind])


def mark_legend(figure: Figure) -> None:
    """Say what the marks are, above all panels."""
    handles = [
        Line2D([], [], linestyle="none", marker=shape, color=colour, markersize=min(size, 10.0), label=_MARK_NAMES[kind])
        for kind, (shape, size, colour) in MARKS.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, fontsize=8.5, frameon=False)


def history(path: Path, findings: TuningFindings) -> Picture:
    """Draw the score of each trial in its turn, and the best so far. There must be a complete one."""
    figure = new_figure(4.0)
    axes = style(figure.subplots())
    groups: list[tuple[TrialState, dict[str, Any]]] = [
        (TrialState.COMPLETE, {"marker": "o", "color": SKY, "markeredgecolor": BLUE, "markersize": 5}),
        (TrialState.PRUNED, {"marker": "x", "color": GREY, "markersize": 5}),
    ]
    for state, look in groups:
        some = [trial for trial in findings.trials if trial.state is state and trial.measures is not None]
        if some:
            axes.plot([trial.number for trial in some], _scores(some), linestyle="none", label=state.value, **look)
    failed = [trial.number for trial in findings.trials if trial.state is TrialState.FAILED]
    if failed:
        at_foot = axes.get_xaxis_transform()  # heights are shares of the panel
        axes.plot(failed, [0.02] * len(failed), "^", color=VERMILLION, markersize=6, transform=at_foot, label="failed")
    axes.step(*best_so_far(findings.trials), where="post", color=BLUE, linewidth=1.6, label="best so far")
    _default_line(axes, findings)
    winner = winner_of(findings)
    if winner is not None and winner.measures is not None:
        mark(axes, "winner", winner.number, winner.measures.score)
    _trial_axes(axes)
    legend_above(axes)
    save(figure, path)
    best = number(winner.measures.score) if winner is not None and winner.measures is not None else "unknown"
    return Picture(
        path=path,
        title="How the search went",
        note="The score of each trial in its turn, higher is better (a pruned one's is of the folds that it did): a line that "
        "still climbs at the right end says that more trials would help.",
        alt=f"Scores of {states(findings.trials)}; the best is {best} at trial {findings.winner}",
    )


def beside_random(path: Path, findings: TuningFindings) -> Picture:
    """Draw the best score so far of the search and of the random search. Both must have a complete trial."""
    figure = new_figure(3.4)
    axes = style(figure.subplots())
    ends: list[str] = []
    for name, trials, colour in (("search", findings.trials, BLUE), ("random search", findings.random_trials, GREEN)):
        numbers, best = best_so_far(trials)
        axes.step(numbers, best, where="post", color=colour, linewidth=1.7, label=f"{name} {number(float(best[-1]))}")
        ends.append(f"{name} {number(float(best[-1]))} after {count(len(trials), 'trial')}")
    _default_line(axes, findings)
    _trial_axes(axes, "best score so far")
    legend_above(axes)
    save(figure, path)
    return Picture(
        path=path,
        title="Beside random search",
        note="The best score so far after as many trials: the search earned its keep where its line is higher, and higher earlier.",
        alt=f"Best score so far: {', '.join(ends)}",
    )


def pareto(path: Path, findings: TuningFindings) -> Picture:
    """Draw the complete trials by two objectives at a time. There must be one."""
    trials = complete(findings.trials)
    others: list[tuple[str, Callable[[TrialMeasures], float | None]]] = [("max drawdown", lambda each: each.max_drawdown)]
    if any(trial.measures is not None and trial.measures.crps_skill is not None for trial in trials):
        others.append(("CRPS skill against a random walk", lambda each: each.crps_skill))
    figure = new_figure(4.2)
    grid = figure.subplots(1, len(others), squeeze=False)
    for axes, (name, other) in zip(grid[0], others, strict=True):
        _pareto(style(axes), findings, trials, other)
        axes.set_ylabel(name, fontsize=9)
        axes.set_xlabel("Sharpe ratio", fontsize=9)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    grid[0][0].invert_yaxis()  # a shallow drawdown is better, and better is up
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, fontsize=8.5, frameon=False)
    save(figure, path)
    return Picture(
        path=path,
        title="What was weighed against what",
        note=f"Complete trials by two measures at a time, better to the right and up: {_front(findings)}.",
        alt=f"{count(len(trials), 'trial')} by Sharpe ratio and {' and '.join(name for name, _ in others)}; "
        f"{len(findings.pareto)} on the Pareto front",
    )


def best_so_far(trials: Sequence[Trial]) -> tuple[FloatArray, FloatArray]:
    """Return trial numbers from the first complete one on, and the best score of complete trials up to each, both (n,)."""
    done = complete(trials)
    numbers = np.array([trial.number for trial in done], dtype=np.float64)
    best = np.maximum.accumulate(_scores(done))
    last = max(trial.number for trial in trials)  # the line goes on to the end, also where the last trials were pruned
    return np.append(numbers, last), np.append(best, best[-1])


def _pareto(axes: Axes, findings: TuningFindings, trials: Sequence[Trial], other: Callable[[TrialMeasures], float | None]) -> None:
    told = {
        trial.number: (trial.measures.sharpe, second)
        for trial in trials
        if trial.measures is not None and (second := other(trial.measures)) is not None
    }
    looks = {"beaten by another": ("none", GREY), "Pareto front": (BLUE, BLUE)}
    for name, (face, edge) in looks.items():
        some = [place for each, place in told.items() if (each in findings.pareto) is (name == "Pareto front")]
        axes.plot(*np.array(some).reshape(-1, 2).T, "o", color=face, markeredgecolor=edge, markersize=5.5, label=name)
    for kind, trial in (("default", default_of(findings)), ("winner", winner_of(findings))):
        if trial is not None and trial.number in told:
            mark(axes, kind, *told[trial.number])


def _front(findings: TuningFindings) -> str:
    if len(findings.pareto) < 2:
        return "the winner beats all others in the objective of the search, and may lag behind some in one of these"
    return "none beats a filled one in all objectives of the search at once, so that to choose among these is a matter of taste"


def _default_line(axes: Axes, findings: TuningFindings) -> None:
    default = default_of(findings)
    if default is not None and default.state is TrialState.COMPLETE and default.measures is not None:
        score = default.measures.score
        axes.axhline(score, color=ORANGE, linewidth=1.3, linestyle=DASHES, label=f"default values {number(score)}")


def _trial_axes(axes: Axes, up: str = "score") -> None:
    axes.set_xlabel("trial", fontsize=9)
    axes.set_ylabel(up, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _scores(trials: Sequence[Trial]) -> FloatArray:
    return np.array([trial.measures.score for trial in trials if trial.measures is not None], dtype=np.float64)


_MARK_NAMES = {"winner": "winner", "default": "default values"}
