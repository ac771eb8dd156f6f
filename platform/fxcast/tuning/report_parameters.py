"""Pictures of what the parameters did: how much each explains, the score over each of them, and all of them at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.ticker import LogLocator, MaxNLocator

from fxcast.domain.candle import FloatArray
from fxcast.performance.pictures import BLUE, GREY, INK, SKY, VERMILLION, Picture, new_figure, save, style
from fxcast.performance.wording import count, percent
from fxcast.tuning.findings import TuningFindings
from fxcast.tuning.report_charts import mark, mark_legend
from fxcast.tuning.report_rows import complete, default_of, told, winner_of
from fxcast.tuning.space import SearchSpace
from fxcast.tuning.trial import Trial, Value

_PALE_TO_DARK = LinearSegmentedColormap.from_list("pale to dark", ["#D9E8F2", SKY, BLUE, "#00283F"])
_SLICES_A_ROW = 4
_AXES_A_ROW = 8
_NAME_WIDTH = 24  # letters in a line
_GOLDEN = 0.6180339887  # its multiples spread evenly over 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """A parameter's range as a line: numbers as they are or their logarithms, choices one step apart."""

    low: float
    high: float
    log: bool
    choices: tuple[Value, ...] | None

    @classmethod
    def of(cls, space: SearchSpace, path: str) -> _Scale:
        ends, choices, log = space.ranges[path].ends, space.ranges[path].choices, space.ranges[path].log
        if choices is not None:
            return cls(low=0.0, high=len(choices) - 1.0, log=False, choices=choices)
        low, high = (_number(end) for end in ends)
        return cls(low=np.log10(low) if log else low, high=np.log10(high) if log else high, log=log, choices=None)

    def at(self, value: Value) -> float:
        if self.choices is not None:
            return float(self.choices.index(value))
        return float(np.log10(_number(value))) if self.log else _number(value)

    def ticks(self, most: int) -> tuple[FloatArray, list[str]]:
        """Return where labels stand, and the labels."""
        if self.choices is not None:
            return np.arange(len(self.choices), dtype=np.float64), [told(choice) for choice in self.choices]
        if self.log:
            wide = self.high - self.low > 1.5  # decades
            steps = np.asarray(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)).tick_values(10**self.low, 10**self.high))
            places = np.log10(steps)
        else:
            steps = places = np.asarray(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high))
        inside = (places >= self.low - 1e-9) & (places <= self.high + 1e-9)
        return places[inside], [told(float(step)) for step in steps[inside]]


def importances(path: Path, shares: Mapping[str, float]) -> Picture:
    """Draw how much of the scores' spread each parameter explains. There must be a parameter or more."""
    figure = new_figure(0.8 + 0.34 * len(shares))
    axes = style(figure.subplots(), grid=False)
    rows = np.arange(len(shares))
    axes.barh(rows, list(shares.values()), height=0.66, color=BLUE)
    for row, share in zip(rows, shares.values(), strict=True):
        axes.annotate(percent(share), (share, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK)
    axes.set_yticks(rows, list(shares))
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlim(0.0, 1.08 * max(shares.values()))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    save(figure, path)
    first = next(iter(shares))
    return Picture(
        path=path,
        title="What the parameters weigh",
        note="Share of the spread of scores that each parameter explains by itself (fANOVA on the complete trials): what stands "
        "at the bottom may be left alone.",
        alt=f"Importances of {count(len(shares), 'parameter')}; the first is {first} with {percent(shares[first])}",
    )


def slices(path: Path, findings: TuningFindings, space: SearchSpace) -> Picture:
    """Draw the score of each complete trial over each parameter. There must be such a trial."""
    paths = _by_weight(findings, space)
    columns = min(_SLICES_A_ROW, len(paths))
    lines = -(-len(paths) // columns)
    figure = new_figure(0.5 + 2.3 * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    trials = complete(findings.trials)
    scores = np.array([trial.measures.score for trial in trials if trial.measures is not None])
    order = np.array([trial.number for trial in trials], dtype=np.float64)
    for place, axes in enumerate(grid.flat):
        if place >= len(paths):
            axes.set_axis_off()
            continue
        style(axes)
        scale = _Scale.of(space, paths[place])
        at = np.array([scale.at(trial.values[paths[place]]) for trial in trials])
        dots = {"s": 20, "linewidths": 0.4, "edgecolors": "white", "zorder": 3}
        axes.scatter(at + _aside(scale, order, 0.36), scores, c=order, cmap=_PALE_TO_DARK, **dots)
        for kind, trial in (("default", default_of(findings)), ("winner", winner_of(findings))):
            if trial is not None and trial.measures is not None:
                mark(axes, kind, scale.at(trial.values[paths[place]]), trial.measures.score)
        axes.set_xticks(*scale.ticks(4))
        margin = 0.07 * (scale.high - scale.low) if scale.choices is None else 0.4
        axes.set_xlim(scale.low - margin, scale.high + margin)
        axes.set_xlabel(wrapped(paths[place]), fontsize=8.5)
        if place % columns == 0:
            axes.set_ylabel("score", fontsize=9)
    mark_legend(figure)
    save(figure, path)
    return Picture(
        path=path,
        title="Score over each parameter",
        note="A dot is a complete trial, darker the later it came: a slope or a hill says where the parameter works, and dark dots "
        "say where the search ended up looking.",
        alt=f"Scores of {count(len(trials), 'trial')} over {count(len(paths), 'parameter')}: {', '.join(paths)}",
    )


def parallel(path: Path, findings: TuningFindings, space: SearchSpace) -> Picture:
    """Draw each complete trial as a line through its values and its score. There must be such a trial."""
    paths = _by_weight(findings, space)
    trials = sorted(complete(findings.trials), key=_score)  # the best on top
    lines = -(-len(paths) // _AXES_A_ROW)
    in_line = -(-len(paths) // lines)
    figure = new_figure(3.6 * lines)
    grid = figure.subplots(lines, 1, squeeze=False)
    for line, axes in enumerate(grid.flat):
        _parallel(axes, paths[line * in_line : (line + 1) * in_line], trials, findings.winner, space)
    save(figure, path)
    return Picture(
        path=path,
        title="All parameters at once",
        note="Each line is a complete trial, from its values to its score at the right, darker the better it was, and the winner "
        "in red: where dark lines run together, good trials agree on a value.",
        alt=f"Parallel coordinates of {count(len(trials), 'trial')} over {count(len(paths), 'parameter')} and the score",
    )


def wrapped(path: str, width: int = _NAME_WIDTH) -> str:
    """Return a dotted path on several lines, broken after dots and underscores."""
    lines = [""]
    for part in path.replace(".", ".\0").replace("_", "_\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _parallel(axes: Axes, paths: Sequence[str], trials: Sequence[Trial], winner: int, space: SearchSpace) -> None:
    style(axes, grid=False)
    scales = [_Scale.of(space, each) for each in paths]
    scores = np.array([_score(trial) for trial in trials])
    low, high = float(scores.min()), float(scores.max())
    shares = (scores - low) / (high - low) if high > low else np.full(len(scores), 0.5)
    order = np.array([trial.number for trial in trials], dtype=np.float64)
    columns: list[FloatArray] = []
    for each, scale in zip(paths, scales, strict=True):
        at = np.array([scale.at(trial.values[each]) for trial in trials]) + _aside(scale, order, 0.1)
        columns.append((at - scale.low) / (scale.high - scale.low))
    heights = np.stack([*columns, shares], axis=1)  # (trials, parameters and score)
    steps = np.broadcast_to(np.arange(len(paths) + 1), heights.shape)
    segments = np.stack([steps, heights], axis=2)  # (trials, parameters and score, xy)
    # By rank: a few very bad trials would leave all others in one shade.
    ranks = np.arange(len(trials), dtype=np.float64)
    drawn = LineCollection(list(segments), cmap=_PALE_TO_DARK, norm=Normalize(0.0, max(1.0, ranks[-1])), linewidths=0.9, alpha=0.75)
    drawn.set_array(ranks)
    axes.add_collection(drawn)
    for trial, line in zip(trials, segments, strict=True):
        if trial.number == winner:
            axes.plot(line[:, 0], line[:, 1], color=VERMILLION, linewidth=2.2, zorder=5)
    for place, scale in enumerate(scales):
        axes.axvline(place, color=GREY, linewidth=0.8)
        for where, label in zip(*scale.ticks(5), strict=True):
            _label(axes, place, (where - scale.low) / (scale.high - scale.low), label)
    axes.axvline(len(paths), color=INK, linewidth=1.2)
    ticks = np.asarray(MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high)) if high > low else np.array([low])
    for tick in ticks[(ticks >= low) & (ticks <= high)]:
        _label(axes, len(paths), (tick - low) / (high - low) if high > low else 0.5, told(float(tick)))
    axes.set_xticks(range(len(paths) + 1), [*(wrapped(each, 17) for each in paths), "score"], fontsize=7.5)
    axes.tick_params(axis="x", length=0)
    axes.set_yticks([])
    axes.set_xlim(-0.15, len(paths) + 0.35)
    axes.set_ylim(-0.05, 1.05)
    axes.spines[:].set_visible(False)


def _label(axes: Axes, place: float, height: float, label: str) -> None:
    behind = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
    axes.annotate(
        label,
        (place, height),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
        color=INK,
        bbox=behind,
        zorder=6,
    )


def _by_weight(findings: TuningFindings, space: SearchSpace) -> list[str]:
    """Return the parameters' paths, those that weigh most first."""
    return sorted(space.ranges, key=lambda path: -findings.importances.get(path, 0.0))


def _aside(scale: _Scale, order: FloatArray, widest: float) -> FloatArray:
    """Return how far trials of a choice stand beside it, in steps between choices, so that they do not lie on each other."""
    if scale.choices is None:
        return np.zeros(len(order))
    return widest * ((order * _GOLDEN) % 1.0 - 0.5)


def _number(value: Value) -> float:
    assert isinstance(value, int | float)  # of a range without choices
    return float(value)


def _score(trial: Trial) -> float:
    assert trial.measures is not None  # of a complete trial
    return trial.measures.score
