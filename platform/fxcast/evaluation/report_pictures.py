"""The pictures of an evaluation's report, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fxcast.domain.candle import to_datetime
from fxcast.domain.forecast import LDM4TSPrediction, summarize
from fxcast.evaluation.assess import NOMINAL_LEVELS, SymbolResult, crps_by_hour
from fxcast.evaluation.pictures import forecast_fan
from fxcast.evaluation.scores import PIT_BINS
from fxcast.evaluation.strata import StratumScores

_DPI = 110
_WIDTH_IN = 11.0
# Okabe & Ito's palette: told apart with any colour vision, and in grey.
_BLUE, _ORANGE, _VERMILLION = "#0072B2", "#E69F00", "#D55E00"
_OTHERS = ("#777777", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
_MARKERS = ("s", "^", "D", "v", "P")
_INK, _GREY, _GRID = "#333333", "#777777", "#E6E6E6"


def reliability(path: Path, result: SymbolResult) -> None:
    """Draw the share of outcomes inside central intervals against what they promise, a panel a horizon, opponents too."""
    figure, panels = _figure(len(result.horizons), height=4.3, share_y=True)
    nominal = np.array(NOMINAL_LEVELS)
    for position, (axes, horizon) in enumerate(zip(panels, result.horizons, strict=True)):
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.9, linestyle=(0, (4, 3)), label="honest")
        for number, opponent in enumerate(horizon.opponents):
            style: dict[str, Any] = {"color": _OTHERS[number % len(_OTHERS)], "marker": _MARKERS[number % len(_MARKERS)]}
            axes.plot(nominal, opponent.observed, markersize=3, linewidth=1.0, label=opponent.name, **style)
        axes.plot(nominal, horizon.model.observed, color=_BLUE, marker="o", markersize=4, linewidth=1.6, label=horizon.model.name)
        axes.set_title(f"{horizon.minutes} minutes", fontsize=10, color=_INK)
        axes.set_xlabel("promised", fontsize=9)
        axes.set_box_aspect(1)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        if position == 0:
            axes.set_ylabel("outcomes inside", fontsize=9)
            axes.legend(fontsize=8, loc="upper left", framealpha=0.9, edgecolor=_GRID)
    _save(figure, path)


def pit_histograms(path: Path, result: SymbolResult) -> None:
    """Draw where outcomes fell in the forecast law, by tenth, a panel a horizon; flat is honest."""
    figure, panels = _figure(len(result.horizons), height=3.0, share_y=True)
    for position, (axes, horizon) in enumerate(zip(panels, result.horizons, strict=True)):
        scores = horizon.model
        shares = np.array(scores.pit_counts) / sum(scores.pit_counts)
        axes.bar((np.arange(PIT_BINS) + 0.5) / PIT_BINS, shares, width=0.92 / PIT_BINS, color=_BLUE)
        axes.axhline(1.0 / PIT_BINS, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)))
        # What chance does to a flat histogram of so many independent outcomes.
        chance = 1.96 * np.sqrt(0.1 * 0.9 / scores.scores.independent)
        axes.axhspan(max(0.1 - chance, 0.0), 0.1 + chance, color=_GREY, alpha=0.18, linewidth=0)
        axes.set_title(f"{horizon.minutes} minutes: PIT index {scores.scores.pit_index:.3f}", fontsize=10, color=_INK)
        axes.set_xlabel("place in the forecast law", fontsize=9)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlim(0.0, 1.0)
        if position == 0:
            axes.set_ylabel("outcomes", fontsize=9)
    _save(figure, path)


def crps_of_hours(path: Path, result: SymbolResult) -> None:
    """Draw CRPS by hour of New York, the random walk's behind it, a panel a horizon, and below it the skill with its interval."""
    count = len(result.horizons)
    figure = _new(5.2)
    grid = figure.subplots(2, count, squeeze=False, sharex=True, gridspec_kw={"height_ratios": [1.5, 1.0]})
    for position, horizon in enumerate(result.horizons):
        hours = crps_by_hour(horizon)
        at = np.array(sorted(hours))
        top, bottom = _style(grid[0, position]), _style(grid[1, position])
        top.plot(at, [hours[h].crps_random_walk for h in at], color=_ORANGE, marker="s", markersize=4, label="random walk")
        top.plot(at, [hours[h].crps for h in at], color=_BLUE, marker="o", markersize=4, label=horizon.model.name)
        top.set_ylim(bottom=0.0)
        top.set_title(f"{horizon.minutes} minutes", fontsize=10, color=_INK)
        skills = [hours[h].crps_skill for h in at]
        _intervals(bottom, at, skills)
        bottom.axhline(0.0, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)))
        bottom.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        bottom.set_xlabel("hour of New York", fontsize=9)
        bottom.set_xticks(range(0, 24, 4))
        if position == 0:
            top.set_ylabel("CRPS, pips", fontsize=9)
            bottom.set_ylabel("skill", fontsize=9)
            top.legend(fontsize=8, loc="lower left", framealpha=0.9, edgecolor=_GRID)
    _same_skill_axis(list(grid[1, :]))
    _save(figure, path)


def coverage_of_strata(path: Path, result: SymbolResult) -> None:
    """Draw what the 90 % intervals held by session, regime and month, with intervals, a panel a horizon."""
    kept = [[one for one in horizon.strata if one.kind != "hour"] for horizon in result.horizons]
    names = list(dict.fromkeys(_label(one) for group in kept for one in sorted(group, key=_order)))
    lowest = max(min([one.coverage_90.low for group in kept for one in group], default=0.8) - 0.02, 0.5)
    figure, panels = _figure(len(result.horizons), height=1.2 + 0.24 * max(len(names), 3), share_y=True)
    for axes, horizon, group in zip(panels, result.horizons, kept, strict=True):
        rows = np.array([names.index(_label(one)) for one in group])
        axes.axvspan(0.88, 0.92, color=_GREY, alpha=0.18, linewidth=0)
        axes.axvline(0.90, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)))
        _intervals(axes, rows, [one.coverage_90 for one in group], horizontal=True)
        axes.set_title(f"{horizon.minutes} minutes", fontsize=10, color=_INK)
        axes.set_xlim(lowest, 1.005)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("outcomes inside", fontsize=9)
        axes.set_yticks(range(len(names)), names, fontsize=8)
    if panels and names:
        panels[0].set_ylim(len(names) - 0.5, -0.5)
    _save(figure, path)


def fans(folder: Path, result: SymbolResult) -> dict[str, Path]:
    """Draw the forecasts with the best, the median and the worst CRPS of the longest horizon.

    CRPS is counted in units of the random walk's width there: in pips the best forecast would be the one of the calmest hour.

    Returns:
        The pictures by `best`, `median` and `worst`.
    """
    horizon = result.horizons[-1]
    price = result.windows.series.closes[result.windows.ends[horizon.positions]]
    order = np.argsort(horizon.model.crps / (horizon.random_walk_std * price), kind="stable")
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    paths: dict[str, Path] = {}
    for name, row in chosen.items():
        path = folder / f"{result.symbol}-fan-{name}.png"
        _fan(path, result, int(horizon.positions[row]))
        paths[name] = path
    return paths


def _fan(path: Path, result: SymbolResult, window: int) -> None:
    series, end = result.windows.series, int(result.windows.ends[window])
    price = float(series.closes[end])
    prices = price * np.exp(result.model_samples.moves[window].astype(np.float64))  # (num_samples, horizons)
    longest = max(series.timeframe.bars(minutes) for minutes in result.windows.horizons_minutes)
    prediction = LDM4TSPrediction(
        symbol=series.symbol,
        timeframe=series.timeframe,
        made_at=to_datetime(series.close_times[end]),
        price=price,
        horizons={minutes: summarize(prices[:, column]) for column, minutes in enumerate(result.windows.horizons_minutes)},
        inference_time_ms=0.0,
        num_samples=len(prices),
        model_version=result.model_samples.name,
    )
    outcome = series.slice(end + 1, min(end + 1 + longest, len(series)))
    forecast_fan(path, series.slice(end - 99, end + 1), prediction, outcome=outcome)


def _intervals(axes: Axes, at: Any, estimates: Sequence[Any], *, horizontal: bool = False) -> None:  # noqa: ANN401  # arrays of any number
    values = np.array([estimate.value for estimate in estimates])
    low, high = (np.array([getattr(estimate, end) for estimate in estimates]) for end in ("low", "high"))
    errors = np.maximum(np.stack([values - low, high - values]), 0.0) if len(values) else None
    style: dict[str, Any] = {"fmt": "o", "color": _BLUE, "ecolor": _GREY, "elinewidth": 1.0, "markersize": 4}
    if horizontal:
        axes.errorbar(values, at, xerr=errors, **style)
    else:
        axes.errorbar(at, values, yerr=errors, **style)


def _same_skill_axis(panels: Sequence[Axes]) -> None:
    """Show skills on one scale, and keep the wide interval of a thin hour from flattening all others."""
    limits = np.array([axes.get_ylim() for axes in panels])
    for axes in panels:
        axes.set_ylim(max(float(limits[:, 0].min()), -0.3), min(float(limits[:, 1].max()), 0.3))


def _label(stratum: StratumScores) -> str:
    return stratum.name if stratum.kind != "regime" else f"{stratum.name} market"


def _order(stratum: StratumScores) -> int:
    return ("session", "regime", "month").index(stratum.kind) if stratum.kind != "hour" else -1


def _new(height: float) -> Figure:
    return Figure(figsize=(_WIDTH_IN, height), dpi=_DPI, layout="constrained", facecolor="white")


def _figure(panels: int, *, height: float, share_y: bool) -> tuple[Figure, list[Axes]]:
    figure = _new(height)
    grid = figure.subplots(1, panels, squeeze=False, sharey=share_y)
    return figure, [_style(axes) for axes in grid[0]]


def _style(axes: Axes) -> Axes:
    axes.grid(visible=True, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.tick_params(colors=_INK, labelsize=8.5)
    return axes


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", dpi=_DPI)
