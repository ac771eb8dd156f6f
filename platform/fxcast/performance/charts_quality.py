"""Whether what the quality score values shows in what trades bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fxcast.domain.candle import FloatArray
from fxcast.domain.signal import DIMENSIONS
from fxcast.performance.pictures import BLUE, DASHES, GREY, INK, Picture, new_figure, save, style
from fxcast.performance.trade import Trade
from fxcast.performance.wording import count

_Z = 1.96  # of a 95 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The trades of one third of a dimension; intervals are of 95 % (Wilson's of the win rate, the mean's normal one).

    Attributes:
        level: Mean of the dimension.
        mean_r: Of the trades that risked something; NaN without two of them.
    """

    level: float
    trades: int
    win_rate: float
    win_low: float
    win_high: float
    mean_r: float
    r_error: float


def thirds(levels: FloatArray, won: FloatArray, multiples: FloatArray) -> tuple[Part, ...]:
    """Return the low, middle and high third of a dimension; fewer where many trades share a level, so that equals stay together.

    Args:
        levels: Of the dimension, (n,).
        won: 1 for trades that ended above zero, (n,).
        multiples: Net over what was risked, (n,), NaN where nothing was.
    """
    group = np.searchsorted(np.quantile(levels, [1 / 3, 2 / 3]), levels, side="left")
    return tuple(_part(levels[group == each], won[group == each], multiples[group == each]) for each in np.unique(group))


def quality(path: Path, trades: Sequence[Trade]) -> Picture:
    """Draw win rate and mean R by third of each dimension and of the total. There must be a trade or more."""
    won = np.array([float(trade.net > 0) for trade in trades])
    multiples = np.array([np.nan if (multiple := trade.r_multiple) is None else multiple for trade in trades])
    names = (*DIMENSIONS, "total")
    figure = new_figure(4.4)
    grid = figure.subplots(2, len(names), squeeze=False, sharey="row")
    errors: dict[str, Any] = {"fmt": "o-", "color": BLUE, "ecolor": GREY, "elinewidth": 1.0, "markersize": 4.5, "linewidth": 1.0}
    for column, name in enumerate(names):
        parts = thirds(np.array([getattr(trade.signal.quality, name) for trade in trades]), won, multiples)
        at = np.arange(len(parts))
        top, bottom = style(grid[0, column]), style(grid[1, column])
        rates = np.array([(part.win_rate, part.win_low, part.win_high) for part in parts])
        spans = np.maximum([rates[:, 0] - rates[:, 1], rates[:, 2] - rates[:, 0]], 0.0)
        top.errorbar(at, rates[:, 0], yerr=spans, **errors)
        top.axhline(float(won.mean()), color=INK, linewidth=0.9, linestyle=DASHES)
        bottom.errorbar(at, [part.mean_r for part in parts], yerr=[part.r_error for part in parts], **errors)
        bottom.axhline(0.0, color=INK, linewidth=0.9, linestyle=DASHES)
        top.set_title(name.replace("_", " "), fontsize=9.5, color=INK, weight="bold" if name == "total" else "normal")
        top.set_xticks(at, [])
        bottom.set_xticks(at, [f"{part.level:.2f}\nn {part.trades:,}" for part in parts], fontsize=7.5)
        bottom.set_xlim(-0.5, max(len(parts), 3) - 0.5 if len(parts) > 1 else 0.5)
        top.set_xlim(bottom.get_xlim())
    grid[0, 0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    grid[0, 0].set_ylabel("win rate", fontsize=9)
    grid[1, 0].set_ylabel("mean result, R", fontsize=9)
    grid[1, 0].yaxis.set_major_locator(MaxNLocator(5))
    figure.supxlabel("mean level of each third, and its number of trades", fontsize=9, color=INK)
    save(figure, path)
    return Picture(
        path=path,
        title="Quality against outcome",
        note="Trades in thirds by each dimension, low to high, with 95 % intervals: a dimension that is worth something rises. "
        "Dashed: the win rate of all trades, and zero.",
        alt=f"Win rate and mean R multiple of {count(len(trades), 'trade')} by third of each quality dimension and of the total",
    )


def _part(levels: FloatArray, won: FloatArray, multiples: FloatArray) -> Part:
    n, rate = len(won), float(won.mean())
    centre = (rate + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * float(np.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2)))
    known = multiples[np.isfinite(multiples)]
    enough = len(known) >= 2
    return Part(
        level=float(levels.mean()),
        trades=n,
        win_rate=rate,
        win_low=centre - half,
        win_high=centre + half,
        mean_r=float(known.mean()) if enough else float("nan"),
        r_error=float(_Z * known.std(ddof=1) / np.sqrt(len(known))) if enough else float("nan"),
    )
