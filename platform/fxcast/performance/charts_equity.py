"""Equity of a run and its benchmarks, drawdown, and how much was at work; and returns by month."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray

from fxcast.backtest.result import EquityCurve
from fxcast.domain.candle import FloatArray, TimeArray, to_datetime64
from fxcast.performance.daily import fx_days
from fxcast.performance.measures import Findings
from fxcast.performance.pictures import (
    BLUE,
    DASHES,
    GREY,
    INK,
    OTHERS,
    VERMILLION,
    Picture,
    date_axis,
    new_figure,
    save,
    style,
    thinned,
)
from fxcast.performance.wording import count, money, number, percent

_DECADES_FROM = 30.0  # the same, from where 1, 2, 5, 10 are ticks enough
_PALE = 0.005  # a best or worst month below it is not drawn as a strong one
_LOG_FROM = 3.0  # highest over lowest equity, from where equal steps up should be equal shares
_MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_GAINS_AND_LOSSES = LinearSegmentedColormap.from_list("gains and losses", [VERMILLION, "#FFFFFF", BLUE])


def equity(path: Path, findings: Findings) -> Picture:
    """Draw equity with open profit, drawdown and exposure over the same time. There must be a point or more."""
    figure = new_figure(7.2)
    grid = figure.subplots(3, 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": [2.8, 1.1, 0.9]})
    top, middle, bottom = (style(axes) for axes in grid[:, 0])
    result = findings.result
    run, start = result.equity, float(result.starting_balance)
    others = [(each.title, each.equity) for each in findings.benchmarks if len(each.equity)]
    for (title, curve), colour in zip(others, OTHERS * len(others), strict=False):
        draw_line(top, curve.times, curve.equity, color=colour, linewidth=1.0, label=title)
    top.axhline(start, color=INK, linewidth=0.8, linestyle=DASHES, label="start")
    draw_line(top, run.times, run.equity, color=BLUE, linewidth=1.7, label=result.name, zorder=4)
    _equity_axis(top, [run.equity, *(curve.equity for _, curve in others)], result.currency)
    handles, labels = top.get_legend_handles_labels()
    order = [len(labels) - 1, *range(len(labels) - 1)]  # the run first
    handles, labels = [handles[place] for place in order], [labels[place] for place in order]
    top.legend(
        handles, labels, fontsize=8.5, frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2
    )
    for (_, curve), colour in zip(others, OTHERS * len(others), strict=False):
        draw_line(middle, curve.times, drawdown(curve, start), color=colour, linewidth=0.8)
    fall = drawdown(run, start)
    places = thinned(fall)
    middle.fill_between(run.times[places], fall[places], 0.0, color=BLUE, alpha=0.25, linewidth=0)
    middle.plot(run.times[places], fall[places], color=BLUE, linewidth=1.2)
    middle.set_ylim(top=0.0)
    middle.yaxis.set_major_formatter(PercentFormatter(1.0))
    middle.set_ylabel("drawdown", fontsize=9)
    at_work = run.exposure / np.maximum(run.equity, 1e-9)
    places = thinned(at_work)
    bottom.fill_between(run.times[places], at_work[places], 0.0, color=GREY, linewidth=0.5, step="post")
    bottom.set_ylim(bottom=0.0)
    bottom.yaxis.set_major_locator(MaxNLocator(4))
    bottom.yaxis.set_major_formatter(StrMethodFormatter("{x:g} ×"))
    bottom.set_ylabel("open positions,\n× equity", fontsize=9)
    date_axis(bottom)
    figure.align_ylabels()
    save(figure, path)
    last = float(run.equity[-1])
    return Picture(
        path=path,
        title="Equity",
        note="Open profit included. Below: how far each was below its own peak, and what the run held, in its equities.",
        alt=f"Equity of {result.name} from {money(start)} to {money(last, result.currency)}, "
        f"deepest drawdown {percent(-float(fall.min()))}",
    )


def months(path: Path, findings: Findings) -> Picture:
    """Draw the return of every month and year, with the count of trades closed in it. There must be a point or more."""
    curve = findings.result.equity
    ends, returns = monthly_returns(curve, float(findings.result.starting_balance))
    closed = trading_months(np.array([to_datetime64(trade.closed_at) for trade in findings.trades], dtype="datetime64[s]"))
    trades = np.array([np.count_nonzero(closed == month) for month in ends])
    years = ends.astype("datetime64[Y]")
    shown = np.unique(years)
    cells = np.full((len(shown), 13), np.nan)  # the last column is the year's
    counts = np.zeros((len(shown), 13), dtype=np.int64)
    rows, positions = np.searchsorted(shown, years), (ends - years).astype(np.int64)
    cells[rows, positions], counts[rows, positions] = returns, trades
    cells[:, 12] = np.nanprod(1.0 + cells[:, :12], axis=1) - 1.0
    counts[:, 12] = counts[:, :12].sum(axis=1)
    figure = new_figure(1.0 + 0.52 * len(shown))
    axes = style(figure.subplots(), grid=False)
    limit = max(float(np.nanmax(np.abs(cells[:, :12]))), _PALE)
    axes.imshow(np.clip(cells / limit, -1.25, 1.25), cmap=_GAINS_AND_LOSSES, vmin=-1.25, vmax=1.25, aspect="auto")
    for row, position in zip(*np.nonzero(np.isfinite(cells)), strict=True):
        _cell(axes, int(row), int(position), float(cells[row, position]), int(counts[row, position]), limit)
    axes.set_xticks(range(13), [*_MONTH_NAMES, "year"])
    axes.set_yticks(range(len(shown)), [str(year) for year in shown])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(14) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(shown) + 1) - 0.5, minor=True)
    axes.grid(visible=True, which="minor", color="white", linewidth=2.0)
    axes.tick_params(which="minor", length=0)
    axes.axvline(11.5, color=INK, linewidth=1.0)
    save(figure, path)
    best, worst = int(returns.argmax()), int(returns.argmin())
    return Picture(
        path=path,
        title="Returns by month",
        note="In per cent, and the trades closed. Months end at 17:00 New York on their last trading day.",
        alt=f"Returns of {count(len(ends), 'month')}: best {ends[best]} with {percent(returns[best], signed=True)}, "
        f"worst {ends[worst]} with {percent(returns[worst], signed=True)}",
    )


def trading_months(moments: TimeArray) -> NDArray[np.datetime64]:
    """Return the months of the FX days in which moments (UTC, (n,)) lie, (n,) datetime64[M]."""
    return fx_days(moments).astype("datetime64[M]")


def monthly_returns(curve: EquityCurve, starting_balance: float) -> tuple[NDArray[np.datetime64], FloatArray]:
    """Return the months of a curve, (n,), and the return of each, (n,), as a share of the equity at its beginning."""
    ends_at = trading_months(curve.times)
    last = np.append(np.flatnonzero(ends_at[1:] != ends_at[:-1]), len(ends_at) - 1)
    ends = curve.equity[last]
    return ends_at[last], ends / np.concatenate([[starting_balance], ends[:-1]]) - 1.0


def draw_line(axes: Axes, times: TimeArray, values: FloatArray, **look: Any) -> None:
    """Draw a curve, (n,), thinned where it is long."""
    places = thinned(values)
    axes.plot(times[places], values[places], **look)


def drawdown(curve: EquityCurve, starting_balance: float) -> FloatArray:
    """Return how far the equity is below its own peak, (n,), as a share of the peak, zero or less."""
    peaks = np.maximum.accumulate(np.maximum(curve.equity, starting_balance))
    return curve.equity / peaks - 1.0


def _equity_axis(axes: Axes, curves: list[FloatArray], currency: str) -> None:
    low, high = min(float(curve.min()) for curve in curves), max(float(curve.max()) for curve in curves)
    if low > 0 and high / low >= _LOG_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)) if high / low >= _DECADES_FROM else MaxNLocator(6))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylabel(f"equity, {currency}", fontsize=9)


def _cell(axes: Axes, row: int, position: int, value: float, trades: int, limit: float) -> None:
    strong = abs(value) / limit > 0.8
    colour = "white" if strong else INK
    weight, digits = "bold" if position == 12 else "normal", 1 if limit > _PALE else 2
    told = number(100.0 * value, digits, signed=True)
    axes.text(position, row - 0.13, told, ha="center", va="center", color=colour, weight=weight)
    said = "no trades" if trades == 0 else count(trades, "trade")
    axes.text(position, row + 0.25, said, ha="center", va="center", color=colour if strong else GREY, fontsize=7)
