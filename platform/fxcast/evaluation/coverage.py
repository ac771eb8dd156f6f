"""A picture of how complete a series is, day by day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

_DPI = 120
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri")
_WEEKS = 54  # a leap year that begins on a Sunday ends on the Monday of its 54th
_COLORS = LinearSegmentedColormap.from_list("coverage", ["#D55E00", "#F5C710", "#56B4E9", "#0072B2"])  # told apart by anyone
_CLOSED = "#EEEEEE"


def draw_coverage(path: Path, by_day: Mapping[date, tuple[int, int]], *, title: str) -> None:
    """Draw a strip of weeks for each year, a cell for each trading day, coloured by the share of its candles that are there.

    Args:
        path: The PNG to write, 1440 pixels wide; missing folders are made.
        by_day: Present and expected candles by trading day, as in `data.checks.Coverage`; days that expect none stay grey.
    """
    years = sorted({day.year for day in by_day}) or [date.today().year]  # noqa: DTZ011  # an empty picture of any year
    figure = Figure(figsize=(12.0, 1.0 + 1.35 * len(years)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    strips = figure.subplots(len(years), 1, squeeze=False)[:, 0]
    image = None
    for axes, year in zip(strips, years, strict=True):
        cells = np.full((len(_DAYS), _WEEKS), np.nan)
        first_monday = date(year, 1, 1) - timedelta(days=date(year, 1, 1).weekday())
        for day, (present, expected) in by_day.items():
            if day.year == year and day.weekday() < len(_DAYS) and expected:
                cells[day.weekday(), min((day - first_monday).days // 7, _WEEKS - 1)] = 100.0 * present / expected
        image = axes.pcolormesh(cells, cmap=_COLORS, vmin=0, vmax=100, edgecolors="white", linewidth=1.0)
        axes.set_facecolor(_CLOSED)
        axes.invert_yaxis()
        axes.set_yticks(np.arange(len(_DAYS)) + 0.5, _DAYS, fontsize=7)
        months = [date(year, month, 1) for month in range(1, 13)]
        axes.set_xticks([(month - first_monday).days / 7 for month in months], [f"{month:%b}" for month in months], fontsize=8)
        axes.set_ylabel(str(year))
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
    if image is not None:
        bar = figure.colorbar(image, ax=list(strips), pad=0.01, aspect=8 * len(years) + 4)
        bar.set_label("candles there, % of the day's", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
