"""The chart of page Market, out of candles and forecasts, with what was decided and traded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
from statsmodels.stats.proportion import proportion_confint

from fxcast.adapters.storage.fans import PastForecast, PastForecasts
from fxcast.adapters.storage.signal_marks import SignalMarks
from fxcast.domain.calendar import session_masks
from fxcast.domain.candle import to_datetime, to_datetime64
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.timeframe import Timeframe
from fxcast.trading.ports import PositionRecord
from fxcast.web.charts import BLUE, GREEN, GREY, VERMILLION, dressed
from fxcast.web.market_axis import closed_times, due_openings, opening_at_close, runs_of, wall_time, wall_times
from fxcast.web.market_marks import draw_signals, draw_trades
from fxcast.web.thinning import Bars
from fxcast.web.times import clock_time

_PURPLE, _RISING_IN_THE_DARK = "#CC79A7", "#56B4E9"  # of Okabe and Ito's, as the others
_FAN, _INNER, _PAST = "rgba(204,121,167,0.22)", "rgba(204,121,167,0.38)", "rgba(128,136,144,0.22)"
_SESSION_COLOURS = {"Sydney": _PURPLE, "Tokyo": VERMILLION, "London": BLUE, "New York": GREEN}
_HEIGHT = 560
_WITH_SESSIONS = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a chart shows.

    Attributes:
        start, stop: What is in view, UTC.
        bars: Of the view, and some beside it.
        fan: The newest forecast, if there is one.
        with_paths: Whether lines through its samples are drawn.
        past: Earlier forecasts of one horizon.
        trades: Of an account, in view.
        signals: Of the same account, in view; None where they are not wanted.
        revision: Differs when the view was set by the page and not by hand.
    """

    symbol: str
    timeframe: Timeframe
    start: datetime
    stop: datetime
    bars: Bars
    fan: LDM4TSPrediction | None
    with_paths: bool
    past: PastForecasts | None
    horizon_minutes: int | None
    trades: Sequence[PositionRecord]
    signals: SignalMarks | None
    revision: str


def market_figure(shown: Shown, zone: tzinfo, theme: str | None) -> go.Figure:
    """Return candles with volume, forecasts, trades, signals and sessions."""
    figure = go.Figure()
    with_sessions = shown.stop - shown.start <= _WITH_SESSIONS
    prices = _candles(figure, shown, zone, _RISING_IN_THE_DARK if theme == "dark" else BLUE)
    if shown.past is not None and shown.horizon_minutes is not None:
        prices += _past(figure, shown, shown.past.forecasts, shown.horizon_minutes, zone)
    if shown.fan is not None:
        prices += _fan(figure, shown, shown.fan, zone)
    draw_trades(figure, shown.trades, zone)
    if shown.signals is not None:
        draw_signals(figure, shown.signals, shown.timeframe, zone)
    digits = 5 if shown.bars.values[:, 3].max(initial=0.0) < 20 else 3
    floor = 0.14 if with_sessions else 0.0
    figure.update_layout(
        dragmode="pan",
        xaxis={
            "type": "date",
            "range": [wall_time(shown.start, zone), wall_time(shown.stop, zone)],
            "autorange": False,
            "rangeslider": {"visible": False},
            "rangebreaks": [{"bounds": bounds} for bounds in closed_times(shown.start, shown.stop, shown.bars.open_times, zone)],
            "anchor": "y3" if with_sessions else "y2",
            "tickangle": 0,
        },
        yaxis={"domain": [floor + 0.2, 1.0], "fixedrange": True, "tickformat": f".{digits}f", "hoverformat": f".{digits}f"},
        yaxis2={"domain": [floor, floor + 0.16], "fixedrange": True, "anchor": "x", "rangemode": "tozero", "nticks": 3},
    )
    if prices:
        low, high = min(prices), max(prices)
        room = 0.05 * (high - low) or 0.001 * high
        figure.update_layout(yaxis={"range": [low - room, high + room]})
    if with_sessions:
        _sessions(figure, shown, zone)
    dressed(figure, theme, height=_HEIGHT)
    figure.update_layout(uirevision=shown.revision, legend={"font": {"size": 11}})
    return figure


def hit_sentence(past: PastForecasts, horizon_minutes: int) -> str:
    """Return how many forecasts ended inside their 90 % interval, and what that says."""
    if not past.made:
        return f"No forecast at {horizon_minutes:,} minutes was made in view."
    if not past.resolved:
        return f"{past.made:,} forecasts at {horizon_minutes:,} minutes were made in view; the outcome of none is known yet."
    low, high = 100 * np.array(proportion_confint(past.inside, past.resolved, alpha=0.05, method="wilson"), dtype=np.float64)
    said = (
        f"Of {past.resolved:,} resolved forecasts at {horizon_minutes:,} minutes in view, {past.inside:,} "
        f"({100 * past.inside / past.resolved:.0f} %; 95 % interval {low:.0f} to {high:.0f} %) ended inside the 90 % interval."
    )
    if _overlap(past, horizon_minutes):
        said += " They overlap in time, so they tell less than as many separate ones: the true interval is wider."
    if past.made > past.resolved:
        said += f" {past.made - past.resolved:,} more have no outcome yet."
    if len(past.forecasts) < past.made:
        said += f" {len(past.forecasts):,} of them are drawn, evenly chosen."
    return said


def bar_sentence(bars: Bars, timeframe: Timeframe) -> str:
    """Return what a bar is: a candle, or several."""
    if not bars.length:
        return f"Each bar: 1 candle of {timeframe}."
    counts = np.sort(bars.counts)
    return f"Each bar: {counts[len(counts) // 2]:,} candles of {timeframe} ({bars.length})."


def candles_since(fan: LDM4TSPrediction, bars: Bars, until: datetime) -> int:
    """Return how many candles closed after a forecast was made, up to a moment; by the clock where they are not loaded."""
    made, end = to_datetime64(fan.made_at), to_datetime64(until)
    if len(bars) and not bars.length and made >= bars.open_times[0]:
        return int(np.count_nonzero((bars.open_times >= made) & (bars.open_times + fan.timeframe.step <= end)))
    return max(0, int((end - made) // fan.timeframe.step))


def _candles(figure: go.Figure, shown: Shown, zone: tzinfo, rising: str) -> list[float]:
    bars = shown.bars
    at = wall_times(bars.open_times, zone)
    open_, high, low, close, volume = bars.values.T  # each (bars,)
    figure.add_candlestick(
        x=at,
        open=open_,
        high=high,
        low=low,
        close=close,
        name="candles",
        text=[f"{count:,} candles" for count in bars.counts.tolist()] if bars.length else None,
        increasing={"line": {"color": rising, "width": 1}, "fillcolor": "rgba(0,0,0,0)"},  # hollow: told without colour
        decreasing={"line": {"color": VERMILLION, "width": 1}, "fillcolor": VERMILLION},
    )
    figure.add_bar(x=at, y=volume, name="volume", yaxis="y2", marker={"color": GREY, "line": {"width": 0}}, showlegend=False)
    inside = (bars.open_times >= to_datetime64(shown.start)) & (bars.open_times <= to_datetime64(shown.stop))
    return [float(low[inside].min()), float(high[inside].max())] if inside.any() else []


def _fan(figure: go.Figure, shown: Shown, fan: LDM4TSPrediction, zone: tzinfo) -> list[float]:
    start = opening_at_close(fan.made_at, shown.timeframe)
    ends = [to_datetime(due_openings([fan.made_at], minutes, shown.timeframe)[0]) for minutes in fan.horizons]
    at = [wall_time(moment, zone) for moment in (start, *ends)]
    made = list(fan.horizons.values())
    quartiles = [np.quantile(each.samples, (0.25, 0.75)) for each in made if each.samples]
    bands = [("forecast 90 %", [each.q05 for each in made], [each.q95 for each in made], _FAN)]
    if len(quartiles) == len(made):
        bands.append(("forecast 50 %", [float(each[0]) for each in quartiles], [float(each[1]) for each in quartiles], _INNER))
    for name, low, high, colour in bands:
        around = {"x": [*at, *at[::-1]], "y": [fan.price, *high, *low[::-1], fan.price]}
        figure.add_scatter(**around, name=name, mode="lines", fill="toself", fillcolor=colour, line={"width": 0}, hoverinfo="skip")
    if shown.with_paths:
        _paths(figure, fan, at)
    said = [f"made {clock_time(fan.made_at, zone)}"]
    said += [f"{minutes:,} minutes ahead: 5 % {each.q05:.5g}, 95 % {each.q95:.5g}" for minutes, each in fan.horizons.items()]
    figure.add_scatter(
        x=at,
        y=[fan.price, *(each.mean for each in made)],
        name="mean",
        mode="lines+markers",
        line={"color": _PURPLE, "width": 2, "dash": "dash"},
        marker={"size": 7, "symbol": "diamond"},
        customdata=said,
        hovertemplate="%{y} (%{customdata})<extra>mean of the forecast</extra>",
    )
    visible = [each for each, end in zip(made, ends, strict=True) if start <= shown.stop and end >= shown.start]
    return [price for each in visible for price in (each.q05, each.q95)]


def _paths(figure: go.Figure, fan: LDM4TSPrediction, at: Sequence[str]) -> None:
    samples = [each.samples for each in fan.horizons.values()]
    x: list[str | None] = []
    y: list[float | None] = []
    for values in zip(*samples, strict=False):
        x += [*at, None]
        y += [fan.price, *values, None]
    figure.add_scatter(x=x, y=y, name="samples", mode="lines", line={"color": _PURPLE, "width": 0.5}, hoverinfo="skip")


def _past(figure: go.Figure, shown: Shown, forecasts: Sequence[PastForecast], horizon_minutes: int, zone: tzinfo) -> list[float]:
    placed = _placed(forecasts, horizon_minutes, shown.timeframe)
    x: list[str | None] = []
    y: list[float | None] = []
    for piece in _pieces(placed):
        times = [wall_time(moment, zone) for moment, _ in piece]
        x += [*times, *times[::-1], None]
        y += [*(each.q95 for _, each in piece), *(each.q05 for _, each in piece[::-1]), None]
    if x:
        figure.add_scatter(
            x=x,
            y=y,
            name="past 90 %",
            mode="lines",
            fill="toself",
            fillcolor=_PAST,
            line={"width": 1, "color": GREY},
            hoverinfo="skip",
        )
    for hit, name, symbol, colour in ((True, "inside", "circle", GREEN), (False, "missed", "x", VERMILLION)):
        ended = [(moment, each) for moment, each in placed if each.inside_90 is hit]
        figure.add_scatter(
            x=[wall_time(moment, zone) for moment, _ in ended],
            y=[each.actual_price for _, each in ended],
            name=f"{name} ({len(ended):,})",
            mode="markers",
            marker={"symbol": symbol, "size": 7 if hit else 9, "color": colour, "line": {"width": 1, "color": "#ffffff"}},
            customdata=[
                f"{each.q05:.5g} to {each.q95:.5g}, said {wall_time(each.made_at, zone)[:16].replace('T', ' ')}"
                for _, each in ended
            ],
            hovertemplate=f"%{{y}} ({name}: %{{customdata}})<extra></extra>",
        )
    visible = [each for moment, each in placed if shown.start <= moment <= shown.stop]
    return [price for each in visible for price in (each.q05, each.q95)]


def _placed(forecasts: Sequence[PastForecast], horizon_minutes: int, timeframe: Timeframe) -> list[tuple[datetime, PastForecast]]:
    """Return forecasts with where they are drawn, oldest first."""
    waiting = [each for each in forecasts if each.target_at is None]
    due = map(to_datetime, due_openings([each.made_at for each in waiting], horizon_minutes, timeframe))
    placed = list(zip(due, waiting, strict=True))
    placed += [(opening_at_close(each.target_at, timeframe), each) for each in forecasts if each.target_at is not None]
    return sorted(placed, key=lambda each: each[0])


def _pieces(placed: Sequence[tuple[datetime, PastForecast]]) -> list[list[tuple[datetime, PastForecast]]]:
    """Part forecasts where there are none for long, so that no band is drawn over times that nobody forecast."""
    steps = sorted(later[0] - earlier[0] for earlier, later in pairwise(placed))
    longest = max(4 * steps[len(steps) // 2], timedelta(days=3)) if steps else timedelta(0)
    pieces: list[list[tuple[datetime, PastForecast]]] = []
    for each in placed:
        if pieces and each[0] - pieces[-1][-1][0] <= longest:
            pieces[-1].append(each)
        else:
            pieces.append([each])
    return pieces


def _overlap(past: PastForecasts, horizon_minutes: int) -> bool:
    first, last = past.forecasts[0].made_at, past.forecasts[-1].made_at
    return past.made > 1 and (last - first) / (past.made - 1) < timedelta(minutes=horizon_minutes)


def _sessions(figure: go.Figure, shown: Shown, zone: tzinfo) -> None:
    width = shown.stop - shown.start
    step = np.timedelta64(900, "s")
    first = to_datetime64(shown.start - width / 2)
    grid = np.arange(first - (first.astype(np.int64) % 900).astype("timedelta64[s]"), to_datetime64(shown.stop + width / 2), step)
    shapes: list[dict[str, Any]] = []
    for row, (name, mask) in enumerate(reversed(session_masks(grid).items())):
        for start, stop in runs_of(mask):
            x0, x1 = (wall_time(to_datetime(moment), zone) for moment in (grid[start], grid[stop - 1] + step))
            look = {"type": "rect", "x0": x0, "x1": x1, "line": {"width": 0}, "fillcolor": _SESSION_COLOURS[name], "layer": "below"}
            shapes.append({**look, "yref": "y3", "y0": row - 0.4, "y1": row + 0.4, "opacity": 0.7})
            shapes.append({**look, "yref": "y domain", "y0": 0, "y1": 1, "opacity": 0.06})
    names = list(reversed(_SESSION_COLOURS))
    rows = {"tickvals": list(range(len(names))), "ticktext": names, "range": [-0.6, len(names) - 0.4], "tickfont": {"size": 10}}
    figure.update_layout(
        shapes=shapes, yaxis3={"domain": [0.0, 0.11], "anchor": "x", "fixedrange": True, "showgrid": False, **rows}
    )
    figure.update_layout(yaxis3={"automargin": True, "zeroline": False})
    figure.add_scatter(x=[None], y=[None], yaxis="y3", showlegend=False, hoverinfo="skip")  # an axis without a trace is not drawn
