"""What trades brought: how it is spread, and what their order did."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter, StrMethodFormatter

from fxcast.domain.candle import FloatArray
from fxcast.performance.measures import Findings, TradeOrder
from fxcast.performance.pictures import BLUE, DASHES, GREY, GRID, INK, SKY, VERMILLION, Picture, new_figure, save, style
from fxcast.performance.wording import count, money, number, percent

_MANY = 200  # trades, from which on the two extreme half per cents go into the bins at the ends
_HOUR_S = 3600.0
_LOG_BINS = 20


def distribution(path: Path, findings: Findings) -> Picture:
    """Draw how net results, R multiples and holding times are spread. There must be a trade or more."""
    figure = new_figure(3.4)
    panels = [style(axes) for axes in figure.subplots(1, 3, squeeze=False)[0]]
    net = np.array([float(trade.net) for trade in findings.trades])
    multiples = np.array([multiple for trade in findings.trades if (multiple := trade.r_multiple) is not None])
    hours = np.array([(trade.closed_at - trade.opened_at).total_seconds() / _HOUR_S for trade in findings.trades])
    currency = findings.result.currency
    median = money(float(np.median(net)), currency, signed=True)
    _gains_and_losses(panels[0], net, f"net of a trade, {currency}", f"median {median}")
    panels[0].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panels[0].set_ylabel("trades", fontsize=9)
    if len(multiples):
        said = f"median {number(float(np.median(multiples)), signed=True)} R"
        _gains_and_losses(panels[1], multiples, "net over what was risked, R", said)
    else:
        panels[1].set_axis_off()
        panels[1].text(0.5, 0.5, "no trade risked anything", ha="center", va="center", color=GREY)
    _hours(panels[2], hours)
    save(figure, path)
    wins = int(np.count_nonzero(net > 0))
    return Picture(
        path=path,
        title="How trades ended",
        note="Blue won, red lost, after all costs. The dashed line is the median"
        + ("; the bins at the ends hold the extreme half per cent beyond them." if len(net) >= _MANY else "."),
        alt=f"Histograms of {count(len(net), 'trade')}, {wins:,} of them won; median result {median}, "
        f"median holding time {number(float(np.median(hours)), 1)} hours",
    )


def trade_order(path: Path, order: TradeOrder) -> Picture:
    """Draw where the deepest drawdown lies among those of the same trades in random orders."""
    figure = new_figure(1.25)
    axes = style(figure.subplots())
    low, middle, high, actual = (abs(each) for each in (order.drawdown_q05, order.drawdown_q50, order.drawdown_q95, order.actual))
    axes.barh(0, high - low, left=low, height=0.5, color=SKY, alpha=0.5, label="90 % of orders")
    axes.plot([middle, middle], [-0.25, 0.25], color=BLUE, linewidth=2.0, label="median order")
    axes.plot([actual], [0], color=VERMILLION, marker="D", markersize=8, linestyle="none", label="as it happened", zorder=4)
    axes.set_ylim(-0.5, 0.5)
    axes.set_xlim(0.0, 1.08 * max(high, actual, 1e-4))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("max drawdown, looked at after each trade", fontsize=9)
    axes.legend(fontsize=8, framealpha=0.9, edgecolor=GRID, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path)
    said = (
        f"The same trades in {order.orders:,} random orders: the max drawdown is between {percent(low)} and {percent(high)} in "
        f"90 % of them, {percent(middle)} in the median one. As it happened it was {percent(actual)}; "
        f"{percent(order.as_deep_or_deeper)} of the orders were as bad or worse."
    )
    return Picture(path=path, title="The same trades in another order", note=said, alt=said)


def _gains_and_losses(axes: Axes, values: FloatArray, name: str, said: str) -> None:
    """Draw a histogram whose bins meet at zero."""
    ends = np.quantile(values, [0.005, 0.995]) if len(values) >= _MANY else np.array([values.min(), values.max()])
    low, high = min(float(ends[0]), 0.0), max(float(ends[1]), 0.0)
    width = (high - low) / _bins(values) or 1.0  # 1: nothing but zeros
    first, last = min(int(np.floor(low / width)), -1), max(int(np.ceil(high / width)), 1)
    # A trade that won nothing is counted with the losses, as it is in the win rate.
    place = np.clip(np.ceil(values / width) - 1.0, first, last - 1).astype(np.int64)
    counts = np.bincount(place - first, minlength=last - first)
    edges = width * np.arange(first, last)
    colours = [VERMILLION] * -first + [BLUE] * last
    axes.bar(edges, counts, width=width, align="edge", color=colours, edgecolor="white", linewidth=0.5)
    axes.axvline(0.0, color=INK, linewidth=0.9)
    axes.axvline(float(np.median(values)), color=INK, linewidth=1.0, linestyle=DASHES)
    axes.set_title(said, fontsize=9.5, color=INK)
    axes.set_xlabel(name, fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(6))


def _hours(axes: Axes, hours: FloatArray) -> None:
    """Draw holding times on a scale that holds minutes and days alike, where both are there."""
    spread = hours.max() > 20.0 * max(float(np.median(hours)), 1e-3) or hours.max() > 50.0 * max(float(hours.min()), 1e-3)
    values, unit = (hours * 60.0, "minutes") if np.median(hours) < 1.0 else (hours, "hours")
    lowest = max(float(values.min()), 1.0 / 60.0)
    bins = (
        np.geomspace(lowest, max(float(values.max()), 1.01 * lowest), _LOG_BINS + 1)
        if spread
        else np.linspace(0.0, max(float(values.max()), 1e-9), _bins(values) + 1)
    )
    axes.hist(np.maximum(values, lowest), bins=cast("list[float]", bins.tolist()), color=GREY, edgecolor="white", linewidth=0.5)
    if spread:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.axvline(float(np.median(values)), color=INK, linewidth=1.0, linestyle=DASHES)
    axes.set_title(f"median {number(float(np.median(values)), 1)} {unit}", fontsize=9.5, color=INK)
    axes.set_xlabel(f"time held, {unit}{', log scale' if spread else ''}", fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def _bins(values: FloatArray) -> int:
    return min(max(8, int(2.0 * np.sqrt(len(values)))), 40)
