"""What the pictures of a backtest have in common: figures, colours, candles, and curves thinned without losing an extreme.

Each picture is a figure of its own: matplotlib's global state stays untouched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fxcast.domain.candle import FloatArray, TimeArray

DPI = 110
WIDTH_IN = 11.0
# Okabe & Ito's palette: told apart with any colour vision, and in grey.
BLUE, SKY, ORANGE, VERMILLION, GREEN, PINK = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#CC79A7"
INK, GREY, GRID = "#333333", "#777777", "#E6E6E6"
OTHERS = (ORANGE, GREEN, PINK, GREY, SKY)
DASHES = (0, (4, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture of the report: its head, what to read in it, and what it shows for those who don't see it."""

    path: Path
    title: str
    note: str
    alt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Candles as they are drawn, several of the series' in one where they would be too many.

    Attributes:
        open_times, close_times: (n,) datetime64[s], UTC.
        values: (n, 4): open, high, low, close.
        first: Position in the series of the first candle.
        group: Candles in a bar.
    """

    open_times: TimeArray
    close_times: TimeArray
    values: FloatArray
    first: int
    group: int

    def __len__(self) -> int:
        return len(self.open_times)

    def holding(self, moments: TimeArray) -> NDArray[np.int64]:
        """Return the positions of the bars in which moments lie, −1 for those before the first."""
        return np.searchsorted(self.open_times, moments, side="right") - 1

    def at_close_of(self, places: FloatArray) -> FloatArray:
        """Return where the closes of the series' candles at some positions lie among the bars, (n,); parts between two of them."""
        return (places - self.first + 1.0) / self.group - 1.0


def new_figure(height: float) -> Figure:
    """Return an empty white figure of the report's width."""
    return Figure(figsize=(WIDTH_IN, height), dpi=DPI, layout="constrained", facecolor="white")


def style(axes: Axes, *, grid: bool = True) -> Axes:
    """Give a panel the look of all panels."""
    if grid:
        axes.grid(visible=True, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=8.5)
    return axes


def date_axis(axes: Axes) -> None:
    """Label an axis of times with as few words as say it."""
    locator = AutoDateLocator(minticks=4, maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", dpi=DPI)


def thinned(values: FloatArray, buckets: int = 1500) -> NDArray[np.int64]:
    """Return the positions to draw of a long curve, ascending: of each of so many stretches the lowest and the highest."""
    if len(values) <= 2 * buckets:
        return np.arange(len(values))
    size = -(-len(values) // buckets)
    whole = len(values) // size * size
    stretches = values[:whole].reshape(-1, size)  # (stretches, size)
    first = np.arange(len(stretches)) * size
    rest = np.arange(whole, len(values))  # shorter than a stretch
    ends = np.array([0, len(values) - 1])
    return np.unique(np.concatenate([first + stretches.argmin(axis=1), first + stretches.argmax(axis=1), rest, ends]))


def draw_bars(axes: Axes, bars: Bars) -> None:
    """Draw hollow candles for rises and filled ones for falls, one step apart: no colour needed."""
    steps = np.arange(len(bars), dtype=np.float64)
    open_, high, low, close = bars.values.T
    bottom, top = np.minimum(open_, close), np.maximum(open_, close)
    wicks = np.concatenate([_segments(steps, low, bottom), _segments(steps, top, high)])
    axes.add_collection(LineCollection(list(wicks), colors=INK, linewidths=0.7, zorder=3))
    left, right = steps - 0.33, steps + 0.33
    bodies = np.stack([left, bottom, right, bottom, right, top, left, top], axis=1).reshape(-1, 4, 2)  # (n, corners, xy)
    faces = np.where(close >= open_, "white", INK)
    axes.add_collection(PolyCollection(list(bodies), facecolors=faces.tolist(), edgecolors=INK, linewidths=0.7, zorder=4))


def _segments(steps: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    return np.stack([steps, low, steps, high], axis=1).reshape(-1, 2, 2)  # (n, ends, xy)
