"""What the model sees, as figures and in words, out of an answer of the forecast service."""

from __future__ import annotations

import io
from base64 import b64decode
from collections.abc import Sequence
from datetime import tzinfo
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image

from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.serving.seen import RhythmBody
from fxcast.web.asked_forecasts import Look
from fxcast.web.charts import GREY, dressed
from fxcast.web.times import clock_time

_PURPLE, _BAND = "#CC79A7", "rgba(204,121,167,0.22)"
_PICTURE_HEIGHT, _PRICES_HEIGHT = 320, 380
_BARS_BEFORE = 32  # of the past, beside the futures
_PERIODS = CONTEXT_BARS // 2  # that a window's spectrum tells apart

# Shares of the strongest of so many periods of noise: the mean, and what one window in twenty exceeds.
# Source: Fisher 1929, doi:10.1098/rspa.1929.0151.
_NOISE_MEAN = sum(1.0 / place for place in range(1, _PERIODS + 1)) / _PERIODS
_NOISE_HIGH = 1.0 - (0.05 / _PERIODS) ** (1.0 / (_PERIODS - 1))

TITLES = {"seg": "SEG: the window, folded", "gaf": "GAF: how two moments stand together", "rp": "RP: where the price returns"}


def channel_figure(look: Look, channel: str, zone: tzinfo, theme: str | None) -> go.Figure:
    """Return one channel as a heat map; each pixel tells which candles it is made of."""
    values = _decoded(look.pictures[channel]).astype(np.float64) / 127.5 - 1.0  # (S, S) in [−1, 1]
    if channel == "seg":
        candles = [_candle_words(look.window, place, place, zone) for place in range(len(look.window))]
        said = [[candles[place] for place in row] for row in look.seen.pixels.seg]
        axes = {}
        template = "%{customdata}<br>brightness %{z:.2f}<extra></extra>"
    else:
        # Along the sides, not in each pixel: S texts in place of S². Numbered, or equal ones would fall together.
        said = None
        sides = [f"{place + 1}: {words}" for place, words in enumerate(_side_words(look, zone))]
        axes = {"x": sides, "y": sides}
        template = "row %{y}<br>column %{x}<br>brightness %{z:.2f}<extra></extra>"
    figure = go.Figure(
        go.Heatmap(
            z=values.round(3),
            customdata=said,
            hovertemplate=template,
            zmin=-1.0,
            zmax=1.0,
            colorscale="Cividis",
            colorbar={"thickness": 10, "tickvals": [-1, 0, 1], "outlinewidth": 0},
            **axes,
        )
    )
    return _square(figure, theme, ("time within a row →", "row after row ↓") if channel == "seg" else ("time →", "time ↓"))


def colour_figure(look: Look, zone: tzinfo, theme: str | None) -> go.Figure:
    """Return the three channels as the one picture that the model gets."""
    red, green, blue = (_decoded(look.pictures[channel]) for channel in ("seg", "gaf", "rp"))
    opened = [clock_time(to_datetime(moment), zone) for moment in look.window.open_times]
    ends = [_times(look.window, first, last, zone) for first, last in look.seen.pixels.side]
    said = [
        [f"red: {opened[moment]}<br>green, blue: {ends[row]}<br>with {end}" for moment, end in zip(moments, ends, strict=True)]
        for row, moments in enumerate(look.seen.pixels.seg)
    ]
    picture = go.Image(
        z=np.stack([red, green, blue], axis=2), customdata=said, hovertemplate="%{customdata}<br>colour %{z}<extra></extra>"
    )
    return _square(go.Figure(picture), theme, ("", ""))


def picture_words(look: Look, channel: str) -> str:
    """Return what a channel is and how to read it."""
    match channel:
        case "seg":
            return (
                "Each pixel is a close: 1 the highest of the window, −1 its lowest. Read it as a page, oldest at the top left, "
                f"{bars_a_row(look)} candles a row: the strongest period found. What repeats with it stands in columns."
            )
        case "gaf":
            return (
                "Down and across run the same times, oldest at the top left. A pixel is 1 where the closes of its row and its "
                "column stand at the same end of the window's range, −1 where at opposite ends or both in the middle "
                "(cos(φi + φj))."
            )
        case _:
            return (
                "Down and across run the same times. A pixel is 1 where the price of its row and its column is the same, −1 where "
                "they lie as far apart as the window knows (1 − |xi − xj|). Squares on the diagonal are calm, patches off it are "
                "returns to an earlier price."
            )


def bars_a_row(look: Look) -> int:
    """Return how many candles a row of SEG holds."""
    last = look.seen.pixels.seg[-1]
    return last[-1] - last[0] + 1


def rhythm_words(rhythms: Sequence[RhythmBody], minutes: int) -> str:
    """Return the strongest periods of a series, and whether noise has as strong ones.

    Args:
        minutes: Of a candle.
    """
    if not rhythms:
        return "none, it does not move"
    listed = ", ".join(f"{each.bars:.3g} candles ({_span(each.bars * minutes)}) {_percent(each.share)}" for each in rhythms)
    if rhythms[0].share > _NOISE_HIGH:
        return f"{listed}. The strongest is more than noise shows in 95 of 100 windows."
    return f"{listed}. Noise often has as strong ones."


def noise_words() -> str:
    """Return how strong a period has to be to mean something."""
    return (
        f"Shares are of the variance. Of {_PERIODS} periods of pure noise the strongest has {_percent(_NOISE_MEAN)} on average, "
        f"and more than {_percent(_NOISE_HIGH)} in one window of twenty."
    )


def prices_figure(look: Look, theme: str | None) -> go.Figure:
    """Return the sampled futures as prices, beside the mean and the 90 % interval of all samples."""
    figure = go.Figure()
    forecast, minutes = look.forecast, look.window.timeframe.minutes
    horizons = sorted((int(each), horizon) for each, horizon in forecast.horizons.items())
    at = [0.0, *(each / minutes for each, _ in horizons)]
    low, high = [each.q05 for _, each in horizons], [each.q95 for _, each in horizons]
    figure.add_scatter(
        x=[*at, *at[::-1]],
        y=[forecast.price, *high, *low[::-1], forecast.price],
        name="q05 to q95",
        mode="lines",
        fill="toself",
        fillcolor=_BAND,
        line={"width": 0},
        hoverinfo="skip",
    )
    points = [0.0, *(each / minutes for each in look.seen.future_minutes)]
    for number, future in enumerate(look.seen.futures, start=1):
        figure.add_scatter(
            x=points,
            y=[forecast.price, *future.prices],
            name="sampled futures",
            legendgroup="futures",
            showlegend=number == 1,
            mode="lines",
            line={"color": _PURPLE, "width": 1},
            hovertemplate=f"future {number}: %{{y}}, %{{x:.3g}} candles ahead<extra></extra>",
        )
    closes = look.window.closes[-_BARS_BEFORE:]
    figure.add_scatter(
        x=list(range(1 - len(closes), 1)),
        y=closes,
        name="last closes",
        mode="lines",
        line={"color": GREY, "width": 2},
        hovertemplate="close %{y}<extra></extra>",
    )
    figure.add_scatter(
        x=at,
        y=[forecast.price, *(each.mean for _, each in horizons)],
        name="mean",
        mode="lines+markers",
        line={"color": _PURPLE, "width": 2, "dash": "dash"},
        marker={"size": 8, "symbol": "diamond"},
        customdata=["now", *(f"5 % {each.q05:.5g}, 95 % {each.q95:.5g}, {ahead:,} minutes" for ahead, each in horizons)],
        hovertemplate="mean %{y} (%{customdata})<extra></extra>",
    )
    digits = _digits(look.window)
    figure.update_layout(
        xaxis={"title": {"text": "candles ahead"}, "fixedrange": True},
        yaxis={"tickformat": f".{digits}f", "hoverformat": f".{digits}f", "fixedrange": True},
    )
    return dressed(figure, theme, height=_PRICES_HEIGHT).update_layout(hovermode="closest", dragmode=False)


def future_words(look: Look) -> list[str]:
    """Return what each sampled future comes to."""
    digits, price = _digits(look.window), look.forecast.price
    return [
        f"{number}: ends at {each.prices[-1]:.{digits}f} ({100 * (each.prices[-1] / price - 1):+.2f} %)"
        for number, each in enumerate(look.seen.futures, start=1)
    ]


def _square(figure: go.Figure, theme: str | None, titles: tuple[str, str]) -> go.Figure:
    axis: dict[str, Any] = {"showticklabels": False, "ticks": "", "showgrid": False, "fixedrange": True, "constrain": "domain"}
    dressed(figure, theme, height=_PICTURE_HEIGHT)
    figure.update_layout(hovermode="closest", dragmode=False, hoverlabel={"font": {"size": 11}, "align": "left"})
    figure.update_xaxes(**axis, title={"text": titles[0], "standoff": 4})
    figure.update_yaxes(**axis, title={"text": titles[1], "standoff": 4}, autorange="reversed", scaleanchor="x")
    return figure


def _decoded(picture: str) -> NDArray[np.uint8]:
    """Return a grey picture's pixels, (S, S)."""
    return np.asarray(Image.open(io.BytesIO(b64decode(picture))), dtype=np.uint8)


def _side_words(look: Look, zone: tzinfo) -> list[str]:
    return [_candle_words(look.window, first, last, zone) for first, last in look.seen.pixels.side]


def _candle_words(window: CandleSeries, first: int, last: int, zone: tzinfo) -> str:
    """Return when one candle or several were, and their prices as one candle's."""
    candles, digits = window.values[first : last + 1], _digits(window)
    prices = (candles[0, 0], candles[:, 1].max(), candles[:, 2].min(), candles[-1, 3])
    open_, high, low, close = (f"{price:.{digits}f}" for price in prices)
    return f"{_times(window, first, last, zone)}<br>open {open_} high {high}<br>low {low} close {close}"


def _times(window: CandleSeries, first: int, last: int, zone: tzinfo) -> str:
    """Return when candles opened, as short as can be: a label must fit beside its pixel on a phone too."""
    started, ended = (clock_time(to_datetime(window.open_times[place]), zone) for place in (first, last))
    if first == last:
        return started
    return f"{started} to {ended[-5:] if started[:10] == ended[:10] else ended[5:]}"


def _digits(window: CandleSeries) -> int:
    return 5 if window.closes.max() < 20 else 3


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _span(minutes: float) -> str:
    """Return a length of time in words: 3 h 20 min."""
    whole = round(minutes)
    parts = ((whole // 1440, "d"), (whole // 60 % 24, "h"), (whole % 60, "min"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "under a minute"
