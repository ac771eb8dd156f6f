"""Pictures of the guard: the hold-out day by day, the logits of cross-validation, and the winner's neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from fxcast.performance.charts_equity import draw_line, drawdown
from fxcast.performance.pictures import (
    BLUE,
    DASHES,
    GREEN,
    GREY,
    INK,
    ORANGE,
    OTHERS,
    VERMILLION,
    Picture,
    date_axis,
    new_figure,
    save,
    style,
)
from fxcast.performance.wording import count, number, percent
from fxcast.tuning.findings import HoldOutRun, Neighbour, Overfitting, Robustness
from fxcast.tuning.report_rows import told

_BINS = 30
_LOOKS = {"winner": (BLUE, 1.7, "solid"), "default": (ORANGE, 1.2, "solid"), "random": (GREEN, 1.2, "solid")}


def hold_out(path: Path, runs: tuple[HoldOutRun, ...]) -> Picture:
    """Draw what each run had gained at every moment of the hold-out, and its drawdown. A run must have a point or more."""
    figure = new_figure(5.6)
    grid = figure.subplots(2, 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": [2.4, 1.0]})
    top, bottom = (style(axes) for axes in grid[:, 0])
    for place, run in reversed(list(enumerate(runs))):  # the winner last, on top
        colour, width, dashes = _LOOKS.get(run.key, (OTHERS[place % len(OTHERS)], 1.2, "solid"))
        start = float(run.equity.equity[-1]) - run.measures.net_profit
        look = {"color": colour, "linewidth": width, "linestyle": dashes}
        draw_line(top, run.equity.times, run.equity.equity / start - 1.0, label=run.title, **look)
        draw_line(bottom, run.equity.times, drawdown(run.equity, start), **look)
    top.axhline(0.0, color=INK, linewidth=0.8, linestyle=DASHES)
    top.yaxis.set_major_formatter(PercentFormatter(1.0))
    top.set_ylabel("gained since the start", fontsize=9)
    legend_above(top, backwards=True)
    bottom.set_ylim(top=0.0)
    bottom.yaxis.set_major_formatter(PercentFormatter(1.0))
    bottom.set_ylabel("drawdown", fontsize=9)
    date_axis(bottom)
    figure.align_ylabels()
    save(figure, path)
    gains = ", ".join(f"{run.title} {percent(run.measures.total_return, signed=True)}" for run in runs)
    return Picture(
        path=path,
        title="Equity on the hold-out",
        note="What each had gained or lost since the hold-out began, open profit included; below, how far it was under its peak.",
        alt=f"Equity on the hold-out; at the end: {gains}",
    )


def logits(path: Path, overfitting: Overfitting) -> Picture:
    """Draw how the best trial of one half ranked in the other, over all splits. There must be a split or more."""
    values = np.array(overfitting.logits)
    figure = new_figure(3.4)
    axes = style(figure.subplots())
    widest = max(float(np.abs(values).max()), 1.0)
    # An edge at zero: no bar holds splits of both kinds.
    edges = np.linspace(-widest, widest, 2 * (_BINS // 2) + 1)
    amounts, _ = np.histogram(values, edges)
    middles = (edges[:-1] + edges[1:]) / 2.0
    below = middles < 0
    width = 0.92 * (edges[1] - edges[0])
    axes.bar(middles[below], amounts[below], width, color=VERMILLION, label=f"below the median: {percent(overfitting.probability)}")
    axes.bar(middles[~below], amounts[~below], width, color=BLUE, label="at the median or above")
    axes.axvline(0.0, color=INK, linewidth=1.0)
    axes.set_xlabel("logit of the rank in the other half: 0 is the median, to the right is better", fontsize=9)
    axes.set_ylabel("splits", fontsize=9)
    legend_above(axes)
    save(figure, path)
    return Picture(
        path=path,
        title="Where the best of one half ranks in the other",
        note="Each split halves the days and takes the best trial of one half: bars left of 0 are splits in which it fell below "
        "the median of all trials in the other half, so the more there is on the left, the more the search found noise.",
        alt=f"Histogram of {count(overfitting.splits, 'logit')}; {percent(overfitting.probability)} below zero",
    )


def neighbours(path: Path, robustness: Robustness) -> Picture:
    """Draw the score of each neighbour, a line a parameter, beside the winner's and the default's. There must be one or more."""
    by_parameter: dict[str, list[Neighbour]] = {}
    for neighbour in robustness.neighbours:
        by_parameter.setdefault(neighbour.parameter, []).append(neighbour)
    figure = new_figure(1.3 + 0.42 * len(by_parameter))
    axes = style(figure.subplots())
    axes.axvline(robustness.winner, color=BLUE, linewidth=1.6, label=f"winner {number(robustness.winner)}")
    axes.axvline(
        robustness.default, color=ORANGE, linewidth=1.6, linestyle=DASHES, label=f"default values {number(robustness.default)}"
    )
    for row, beside in enumerate(by_parameter.values()):
        _neighbours(axes, row, sorted(beside, key=lambda each: each.score))
    axes.set_yticks(range(len(by_parameter)), list(by_parameter))
    axes.set_ylim(len(by_parameter) - 0.4, -0.75)
    axes.margins(x=0.08)
    axes.set_xlabel("score; to the right is better", fontsize=9)
    legend_above(axes)
    save(figure, path)
    return Picture(
        path=path,
        title="The winner's neighbours",
        note="Each dot is the winner with one parameter moved to the value beside it: where dots lie close to the winner's line "
        "it stands on a plateau, where they fall to the default's or below it is a lucky peak.",
        alt=f"Scores of {count(len(robustness.neighbours), 'neighbour')} from {number(robustness.worst)}, "
        f"winner {number(robustness.winner)}, default values {number(robustness.default)}",
    )


def legend_above(axes: Axes, *, backwards: bool = False) -> None:
    """Name what a panel shows in a line above it.

    Args:
        backwards: What was drawn last comes first.
    """
    handles, _ = axes.get_legend_handles_labels()  # each knows its label
    handles = handles[::-1] if backwards else handles
    axes.legend(handles=handles, ncols=6, fontsize=8.5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def _neighbours(axes: Axes, row: int, beside: list[Neighbour]) -> None:
    scores = [each.score for each in beside]
    axes.plot([min(scores), max(scores)], [row, row], color=GREY, linewidth=1.0, zorder=2)
    axes.plot(scores, [row] * len(scores), "o", color=GREY, markeredgecolor="white", markersize=7, zorder=3)
    for place, each in enumerate(beside):
        # The lowest is told on its left and the others on their right, so that two close dots keep their values apart.
        left = place == 0 and len(beside) > 1
        axes.annotate(
            told(each.value),
            (each.score, row),
            xytext=(-7 if left else 7, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=8,
            color=INK,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
        )
