"""Pictures of a forecast, of charts and of an account, as PNG files.

Each is drawn on a figure of its own: matplotlib's global state (pyplot, backend, rcParams) stays untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray

from fxcast.domain.candle import CandleSeries, FloatArray, TimeArray, to_datetime, to_datetime64
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.order import Fill, FillReason, Side
from fxcast.domain.portfolio import EquityPoint

_DPI = 120
# Okabe & Ito's palette: told apart with any colour vision, and in grey.
_BLUE, _SKY, _ORANGE, _VERMILLION, _GREEN = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73"
_INK, _GREY, _GRID = "#333333", "#777777", "#E6E6E6"
_SHOWN_PATHS = 12
_TICKS = 9


def forecast_fan(
    path: Path,
    window: CandleSeries,
    prediction: LDM4TSPrediction,
    *,
    outcome: CandleSeries | None = None,
    sample_paths: FloatArray | None = None,
) -> None:
    """Draw the candles known, the forecast q05–q50–q95 and what came.

    One step to the right is one candle: weekends and gaps take no room. Between the horizons the fan grows with the square
    root of the time, as a random walk does; the forecast itself speaks where the dots are.

    Args:
        path: The PNG to write, 1320 × 720 pixels; missing folders are made.
        window: The candles known, ending at `prediction.made_at`.
        outcome: The candles after the window; those past the longest horizon are left out.
        sample_paths: Prices of a few sampled futures, evenly up to the longest horizon, (paths, points).
    """
    figure, (axes,) = _new_figure(1)
    bars, last = len(window), len(window) - 1
    future_bars = max(window.timeframe.bars(minutes) for minutes in prediction.horizons)
    following = outcome.slice(0, min(len(outcome), future_bars)) if outcome is not None else None
    _candles(axes, window)
    if sample_paths is not None:
        _sample_paths(axes, sample_paths, last, prediction.price, future_bars)
    _fan(axes, prediction, last)
    if following is not None and len(following):
        closes = np.concatenate([window.closes[-1:], following.closes])
        axes.plot(last + np.arange(len(closes)), closes, color=_VERMILLION, linewidth=1.6, label="what came (close)", zorder=5)
    axes.axvline(last + 0.5, color=_INK, linewidth=0.8)
    times = window.open_times if following is None else np.concatenate([window.open_times, following.open_times])
    _label_times(axes, times)
    axes.set_xlim(-1.5, bars + future_bars + 0.5)
    axes.set_xlabel(f"open time of the {window.timeframe.name} candle, UTC (closed markets take no room)")
    _price_axis(axes, window.symbol)
    _name_horizons(axes, prediction, last)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles, labels, loc=_emptier_corner(axes, window), fontsize=9, framealpha=0.9, edgecolor=_GRID)
    _title(
        figure,
        f"{window.symbol} {window.timeframe.name}: forecast of {prediction.made_at:%A %d %B %Y %H:%M} UTC",
        f"{prediction.model_version}, {prediction.num_samples} samples, {bars} candles known",
        pad=18,  # above the names of the horizons
    )
    _save(figure, path)


def channels(path: Path, window_chart: FloatArray, future_chart: FloatArray, *, window_name: str, future_name: str) -> None:
    """Draw SEG, GAF, RP and all three as RGB, of a window and of a sampled future.

    Args:
        path: The PNG to write, 1320 × 780 pixels; missing folders are made.
        window_chart: (3, S, S), in [−1, 1]; what lies outside is drawn at the end of the scale.
        future_chart: The same for a decoded future.
        window_name: What the first row shows, in words.
        future_name: What the second row shows.
    """
    figure = Figure(figsize=(11, 6.5), dpi=_DPI, layout="constrained", facecolor="white")
    rows = ((window_chart, window_name), (future_chart, future_name))
    for part, (chart, name) in zip(cast("Sequence[SubFigure]", figure.subfigures(2, 1)), rows, strict=True):
        part.suptitle(name, fontsize=11, color=_INK, x=0.01, ha="left", fontweight="bold")
        panels = part.subplots(1, 4)
        drawn = None
        for panel, image, title, (across, down) in zip(panels, chart, _CHANNEL_TITLES, _CHANNEL_AXES, strict=False):
            drawn = panel.imshow(image, cmap="cividis", vmin=-1.0, vmax=1.0, interpolation="nearest")
            _picture_axis(panel, title, across, down)
        rgb = np.clip((np.moveaxis(chart, 0, -1) + 1.0) / 2.0, 0.0, 1.0)  # (S, S, 3)
        panels[3].imshow(rgb, interpolation="nearest")
        _picture_axis(panels[3], "RGB: the three together", "pixels →", "← pixels")
        assert drawn is not None, "a chart has three channels"
        bar = part.colorbar(drawn, ax=panels.tolist(), shrink=0.85, pad=0.01, ticks=[-1, 0, 1])
        bar.ax.tick_params(colors=_INK, labelsize=8, length=2)
        bar.outline.set_visible(False)
    _save(figure, path)


_CHANNEL_TITLES = ("R = SEG: the close, folded", "G = GAF: cos(φᵢ + φⱼ)", "B = RP: 1 − |xᵢ − xⱼ|")
_CHANNEL_AXES = (("time inside a period →", "← period by period"), ("time i →", "← time j"), ("time i →", "← time j"))


def equity_curve(path: Path, equity: Sequence[EquityPoint], fills: Sequence[Fill], *, currency: str) -> None:
    """Draw the account's equity with its fills, and the drawdown below.

    Args:
        path: The PNG to write, 1320 × 780 pixels; missing folders are made.
        equity: One point a candle, oldest first; one step to the right is one point.
        fills: Marked at the first point at or after they happened; those after the last point are left out.
        currency: Of the account.

    Raises:
        ValueError: If there are no points.
    """
    if not equity:
        raise ValueError("an equity curve needs one point or more")
    figure, (top, bottom) = _new_figure(2)
    values = np.array([float(point.equity) for point in equity])
    times = np.array([to_datetime64(point.at) for point in equity], dtype="datetime64[s]")
    peak = np.maximum.accumulate(values)
    drawdown = 100.0 * (values / peak - 1.0)
    steps = np.arange(len(values))
    top.axhline(values[0], color=_GREY, linewidth=0.8, linestyle=(0, (4, 3)), label="start")
    top.plot(steps, values, color=_BLUE, linewidth=1.4, label="equity", zorder=3)
    _mark_fills(top, values, times, fills)
    top.set_ylabel(f"equity, {currency}")
    top.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    top.margins(y=0.12)
    top.legend(loc="upper left", ncols=6, fontsize=9, framealpha=0.9, edgecolor=_GRID)
    top.tick_params(labelbottom=False)
    bottom.fill_between(steps, drawdown, 0.0, color=_VERMILLION, alpha=0.35, linewidth=0)
    bottom.plot(steps, drawdown, color=_VERMILLION, linewidth=1.0)
    bottom.set_ylabel("drawdown, %")
    bottom.set_ylim(min(float(drawdown.min()) * 1.15, -0.1), 0.0)
    bottom.set_xlabel("candle's close, UTC (closed markets take no room)")
    _label_times(bottom, times)
    margin = max(len(values) * 0.01, 0.5)
    top.set_xlim(-margin, len(values) - 1 + margin)
    change = 100.0 * (values[-1] / values[0] - 1.0)
    _title(
        figure,
        f"Equity {values[0]:,.0f} → {values[-1]:,.0f} {currency} ({change:+.2f} %), deepest drawdown {abs(drawdown.min()):.2f} %",
        f"{to_datetime(times[0]):%d %B %Y} to {to_datetime(times[-1]):%d %B %Y}, {len(values):,} candles, {len(fills):,} fills",
        pad=8,
    )
    _save(figure, path)


def _candles(axes: Axes, series: CandleSeries) -> None:
    """Draw hollow candles for rises and filled ones for falls: no colour needed."""
    steps = np.arange(len(series))
    open_, high, low, close = series.values.T[:4]
    body_low, body_high = np.minimum(open_, close), np.maximum(open_, close)
    wicks = [((x, bottom), (x, top)) for x, bottom, top in zip(steps, low, body_low, strict=True)]
    wicks += [((x, bottom), (x, top)) for x, bottom, top in zip(steps, body_high, high, strict=True)]
    axes.add_collection(LineCollection(wicks, colors=_INK, linewidths=0.8, zorder=2))
    bodies = [
        [(x - 0.33, bottom), (x + 0.33, bottom), (x + 0.33, top), (x - 0.33, top)]
        for x, bottom, top in zip(steps, body_low, body_high, strict=True)
    ]
    faces = ["white" if rises else _INK for rises in close >= open_]
    axes.add_collection(PolyCollection(bodies, facecolors=faces, edgecolors=_INK, linewidths=0.8, zorder=3))
    axes.update_datalim(np.column_stack([np.repeat(steps, 2), np.column_stack([low, high]).ravel()]))
    axes.plot(
        [],
        [],
        color=_INK,
        linewidth=0.8,
        marker="s",
        markerfacecolor="white",
        markersize=5,
        label="candle: rise (hollow), fall (filled)",
    )


def _fan(axes: Axes, prediction: LDM4TSPrediction, last: int) -> None:
    horizons = sorted(prediction.horizons)
    at = np.array([0, *(prediction.timeframe.bars(minutes) for minutes in horizons)])
    quantiles = np.array(
        [[prediction.price] * 3, *([h.q05, h.q50, h.q95] for h in (prediction.horizons[minutes] for minutes in horizons))]
    )  # (horizons + 1, 3)
    fine = np.linspace(0.0, at[-1], 200)
    q05, q50, q95 = (np.interp(np.sqrt(fine), np.sqrt(at), column) for column in quantiles.T)
    axes.fill_between(last + fine, q05, q95, color=_SKY, alpha=0.3, linewidth=0, label="forecast q05 to q95", zorder=1)
    for edge in (q05, q95):
        axes.plot(last + fine, edge, color=_BLUE, linewidth=0.8, alpha=0.7, zorder=4)
    axes.plot(last + fine, q50, color=_BLUE, linewidth=1.8, label="forecast median", zorder=4)
    for column in quantiles[1:].T:
        axes.plot(last + at[1:], column, linestyle="none", marker="o", markersize=4.5, color=_BLUE, zorder=6)


def _sample_paths(axes: Axes, paths: FloatArray, last: int, price: float, future_bars: int) -> None:
    shown = paths[:_SHOWN_PATHS]
    steps = last + np.linspace(0.0, future_bars, paths.shape[1] + 1)
    for number, values in enumerate(shown):
        label = f"{len(shown)} sampled paths" if number == 0 else None
        axes.plot(steps, np.concatenate([[price], values]), color=_GREEN, linewidth=0.7, alpha=0.45, label=label, zorder=2)


def _name_horizons(axes: Axes, prediction: LDM4TSPrediction, last: int) -> None:
    for minutes in sorted(prediction.horizons):
        step = last + prediction.timeframe.bars(minutes)
        axes.axvline(step, color=_BLUE, linewidth=0.7, linestyle=(0, (2, 3)), zorder=1)
        name = f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"
        axes.annotate(
            name,
            (step, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=9.5,
            color=_BLUE,
        )


def _emptier_corner(axes: Axes, window: CandleSeries) -> Literal["upper left", "lower left"]:
    """Return on which side of the first candles the legend hides nothing."""
    bottom, top = axes.get_ylim()
    first = window.values[: len(window) // 2]
    return "upper left" if top - first[:, 1].max() >= first[:, 2].min() - bottom else "lower left"


def _mark_fills(axes: Axes, values: FloatArray, times: TimeArray, fills: Sequence[Fill]) -> None:
    groups = (
        ("bought", "^", _GREEN, [fill for fill in fills if fill.reason is FillReason.MARKET and fill.side is Side.BUY]),
        ("sold", "v", _ORANGE, [fill for fill in fills if fill.reason is FillReason.MARKET and fill.side is Side.SELL]),
        ("stop hit", "X", _VERMILLION, [fill for fill in fills if fill.reason is FillReason.STOP]),
        ("target hit", "*", _SKY, [fill for fill in fills if fill.reason is FillReason.TARGET]),
    )
    for name, marker, colour, group in groups:
        steps = np.searchsorted(times, np.array([to_datetime64(fill.filled_at) for fill in group], dtype="datetime64[s]"))
        steps = steps[steps < len(times)]
        if len(steps):
            axes.scatter(
                steps,
                values[steps],
                s=80 if marker == "*" else 36,
                marker=marker,
                color=colour,
                edgecolors=_INK,
                linewidths=0.5,
                label=f"{name} ({len(steps)})",
                zorder=4,
            )


def _new_figure(panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(11, 6.0 if panels == 1 else 6.5), dpi=_DPI, layout="constrained", facecolor="white")
    ratios = [1.0] if panels == 1 else [2.6, 1.0]
    grid = figure.subplots(panels, 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios})
    axes: list[Axes] = list(grid[:, 0])
    for one in axes:
        one.grid(visible=True, color=_GRID, linewidth=0.8)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(_GREY)
        one.tick_params(colors=_INK, labelsize=9)
    return figure, axes


def _title(figure: Figure, title: str, subtitle: str, *, pad: float) -> None:
    figure.suptitle(title, fontsize=13, fontweight="bold", color=_INK, x=0.01, ha="left")
    figure.axes[0].set_title(subtitle, fontsize=9.5, color=_GREY, loc="left", pad=pad)


def _price_axis(axes: Axes, symbol: str) -> None:
    digits = 2 if symbol.endswith("JPY") else 4
    axes.yaxis.set_major_formatter(StrMethodFormatter(f"{{x:.{digits}f}}"))
    axes.set_ylabel(f"{symbol[3:]} for one {symbol[:3]}")
    axes.margins(y=0.06)


def _picture_axis(axes: Axes, title: str, across: str, down: str) -> None:
    axes.set_title(title, fontsize=9.5, color=_INK)
    axes.set_xlabel(across, fontsize=8.5, color=_GREY)
    axes.set_ylabel(down, fontsize=8.5, color=_GREY)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(_GREY)


def _label_times(axes: Axes, times: TimeArray) -> None:
    """Label candles by position: a day where it begins, thinned to what fits; hours if there are too few days."""
    positions, moments = _tick_positions(times), [to_datetime(moment) for moment in times]
    one_day = times[-1] - times[0] < np.timedelta64(2 * 86_400, "s")
    one_year = times[-1] - times[0] < np.timedelta64(300 * 86_400, "s")
    form = "%a %H:%M" if one_day else "%a %d %b" if one_year else "%d %b %Y"
    axes.set_xticks(positions.tolist(), [f"{moments[position]:{form}}" for position in positions])


def _tick_positions(times: TimeArray) -> NDArray[np.int64]:
    days = times.astype("datetime64[D]")
    starts = np.flatnonzero(days[1:] != days[:-1]) + 1
    if len(starts) < 3:
        starts = np.arange(0, len(times), max(1, -(-len(times) // _TICKS)))
    starts = starts[:: max(1, -(-len(starts) // _TICKS))]
    # Sunday's few candles stand too near to Monday's for two labels: the later one stays.
    return starts[np.append(np.diff(starts) >= len(times) / 15, True)]


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", dpi=_DPI)
