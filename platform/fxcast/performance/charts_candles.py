"""Candles with the trades made on them and the forecasts that were known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import StrMethodFormatter

from fxcast.domain.candle import CandleSeries, FloatArray, TimeArray, to_datetime, to_datetime64
from fxcast.domain.order import FillReason, Side
from fxcast.performance.measures import Fans, Findings
from fxcast.performance.pictures import (
    BLUE,
    DASHES,
    GREEN,
    GREY,
    GRID,
    INK,
    ORANGE,
    SKY,
    VERMILLION,
    Bars,
    Picture,
    draw_bars,
    new_figure,
    save,
    style,
)
from fxcast.performance.trade import Trade
from fxcast.performance.wording import count, money, number

_SYMBOLS = 3
_BARS = 150  # in a picture
_FORECAST_ROOM = 0.4  # a forecast may take so much more than candles and trades do, above and below; the rest is cut off
_LONGEST_TRADE = 0.7  # as a share of a picture; a longer one makes the bars longer
_DAY_MINUTES = 1440
_TICK_MINUTES = (1, 5, 15, 30, 60, 120, 240, 480, _DAY_MINUTES)
_TICKS = 9
_EXITS = {
    FillReason.STOP: ("X", VERMILLION, "stop hit"),
    FillReason.TARGET: ("*", SKY, "target hit"),
    FillReason.MARKET: ("o", "white", "closed at market"),
    FillReason.MARGIN_CLOSEOUT: ("P", VERMILLION, "margin close-out"),
    FillReason.MANUAL: ("D", "white", "closed by hand"),
}


def trades_on_candles(folder: Path, findings: Findings, candles: Mapping[str, CandleSeries]) -> list[Picture]:
    """Draw, of the three symbols traded most, the time around the trade with the median result and around the worst one."""
    pictures: list[Picture] = []
    for symbol in _most_traded(findings.trades):
        series = candles.get(symbol)
        trades = sorted((trade for trade in findings.trades if trade.symbol == symbol), key=lambda trade: trade.net)
        if series is None or not len(series):
            continue
        focuses = {"median": trades[(len(trades) - 1) // 2], "worst": trades[0]}
        if focuses["median"] is focuses["worst"]:
            del focuses["worst"]
        fans = [fan for fan in findings.fans if fan.symbol == symbol]
        for kind, focus in focuses.items():
            path = folder / f"{re.sub('[^A-Za-z0-9]', '-', symbol)}-{kind}-trade.png"
            pictures.append(_picture(path, kind, focus, series, trades, fans, findings.result.currency))
    return pictures


def window_around(series: CandleSeries, trade: Trade) -> Bars:
    """Return about 150 bars with a trade in their middle; several candles in a bar if it was open for longer than they show."""
    first, last = (
        int(np.searchsorted(series.open_times, to_datetime64(at), side="right")) for at in (trade.opened_at, trade.closed_at)
    )
    group = max(1, -(-(last - first + 1) // int(_BARS * _LONGEST_TRADE)))
    size = min(_BARS * group, len(series) // group * group)
    if size == 0:  # fewer candles than one group
        group, size = 1, len(series)
    start = int(np.clip((first + last) // 2 - size // 2, 0, len(series) - size))
    shown = slice(start, start + size)
    values = series.values[shown].reshape(-1, group, 5)
    bars = np.stack([values[:, 0, 0], values[:, :, 1].max(axis=1), values[:, :, 2].min(axis=1), values[:, -1, 3]], axis=1)
    return Bars(
        open_times=series.open_times[shown][::group],
        close_times=series.close_times[shown][group - 1 :: group],
        values=bars,
        first=start,
        group=group,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """Trades as they lie in a window: positions of entries and exits, prices, and the plan's stop and target, each (n,)."""

    trades: Sequence[Trade]
    entered: FloatArray
    left: FloatArray
    entry: FloatArray
    exit: FloatArray
    stop: FloatArray
    target: FloatArray


def _most_traded(trades: Sequence[Trade]) -> list[str]:
    return [symbol for symbol, _ in Counter(sorted(trade.symbol for trade in trades)).most_common(_SYMBOLS)]


def _picture(
    path: Path, kind: str, focus: Trade, series: CandleSeries, trades: Sequence[Trade], fans: Sequence[Fans], currency: str
) -> Picture:
    bars = window_around(series, focus)
    figure = new_figure(5.2)
    axes = style(figure.subplots())
    draw_bars(axes, bars)
    shown = _shown(bars, trades)
    low, high = _limits(bars, shown, focus)
    forecasts = [*_band(axes, bars, series, fans, focus), *_fan_at_entry(axes, bars, series, fans, focus)]
    _draw_trades(axes, shown)
    room = _FORECAST_ROOM * (high - low)
    axes.set_ylim(max(min([low, *forecasts]), low - room), min(max([high, *forecasts]), high + room))
    axes.set_xlim(-1.5, len(bars) + 0.5)
    in_yen = focus.symbol.endswith("JPY")
    digits = 2 if in_yen else 4 if high - low > 0.004 else 5
    axes.yaxis.set_major_formatter(StrMethodFormatter(f"{{x:.{digits}f}}"))
    axes.set_ylabel(f"{focus.symbol[3:]} for one {focus.symbol[:3]}", fontsize=9)
    _label_times(axes, bars.open_times)
    axes.legend(fontsize=8, framealpha=0.9, edgecolor=GRID, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=5)
    save(figure, path)
    candle = series.timeframe.name if bars.group == 1 else f"{bars.group} × {series.timeframe.name}"
    r_multiple = "" if focus.r_multiple is None else f", {number(focus.r_multiple, signed=True)} R"
    result = f"{money(float(focus.net), currency, signed=True)}{r_multiple}"
    did = "Bought" if focus.side is Side.BUY else "Sold"
    said = (
        f"{did} {focus.units:,.0f} at {_at(focus.entry_price, 3 if in_yen else 5, focus.opened_at)}, "
        f"{_EXITS[FillReason(focus.exit_reason)][2]} at {_at(focus.exit_price, 3 if in_yen else 5, focus.closed_at)}: {result}. "
    )
    return Picture(
        path=path,
        title=f"{focus.symbol}: around the {kind} trade",
        note=f"{said}Candles of {candle}; closed markets take no room.",
        alt=f"{said}{count(len(bars), 'candle')} of {candle} with {count(len(shown.trades), 'trade')}.",
    )


def _at(price: Decimal, digits: int, moment: datetime) -> str:
    return f"{price:.{digits}f} on {moment:%a %d %b %Y %H:%M} UTC"


def _shown(bars: Bars, trades: Sequence[Trade]) -> _Shown:
    opened = np.array([to_datetime64(trade.opened_at) for trade in trades], dtype="datetime64[s]")
    closed = np.array([to_datetime64(trade.closed_at) for trade in trades], dtype="datetime64[s]")
    inside = np.flatnonzero((closed >= bars.open_times[0]) & (opened < bars.close_times[-1]))
    kept = [trades[place] for place in inside.tolist()]

    def prices(values: list[float]) -> FloatArray:
        return np.array(values, dtype=np.float64)

    return _Shown(
        trades=kept,
        # What was open before the window begins enters from its edge, and what stays open leaves over the other.
        entered=np.where(opened[inside] < bars.open_times[0], -10.0, bars.holding(opened[inside])),
        left=np.where(closed[inside] > bars.close_times[-1], len(bars) + 10.0, bars.holding(closed[inside])),
        entry=prices([float(trade.entry_price) for trade in kept]),
        exit=prices([float(trade.exit_price) for trade in kept]),
        stop=prices([trade.signal.stop for trade in kept]),
        target=prices([trade.signal.target for trade in kept]),
    )


def _limits(bars: Bars, shown: _Shown, focus: Trade) -> tuple[float, float]:
    """Hold candles, fills and the focus's stop and target; other lines may be cut off."""
    plan = [focus.signal.stop, focus.signal.target]
    inside = (shown.entered >= 0) & (shown.left < len(bars))
    points = np.concatenate([bars.values[:, 1], bars.values[:, 2], shown.entry[inside], shown.exit[inside], plan])
    room = 0.05 * max(float(np.ptp(points)), 1e-9)
    return float(points.min()) - room, float(points.max()) + room


def _band(axes: Axes, bars: Bars, series: CandleSeries, fans: Sequence[Fans], focus: Trade) -> tuple[float, ...]:
    """Draw what was forecast for each moment, of the horizon nearest to the trade's; return the lowest and the highest price.

    A horizon is trading time, as it is in the models: it counts candles.
    """
    if not fans:
        return ()
    fan = min(fans, key=lambda each: abs(each.horizon_minutes - focus.signal.horizon_minutes))
    at = bars.at_close_of(_places(series, fan.made_at) + fan.horizon_minutes / series.timeframe.minutes)
    inside = (at >= 0) & (at <= len(bars) - 1)
    if not inside.any():
        return ()
    at, q05, mean, q95 = (values[inside] for values in (at, fan.q05, fan.mean, fan.q95))
    low, high = float(q05.min()), float(q95.max())
    steps = np.diff(at)
    gaps = np.flatnonzero(steps > max(10.0, 4.0 * float(np.median(steps)))) + 1 if len(steps) else np.zeros(0, dtype=np.int64)
    at, q05, mean, q95 = (np.insert(values, gaps, np.nan) for values in (at, q05, mean, q95))
    label = f"forecast made {_span(fan.horizon_minutes)} before, q05 to q95"
    axes.fill_between(at, q05, q95, color=SKY, alpha=0.22, linewidth=0, label=label, zorder=1)
    axes.plot(at, mean, color=BLUE, linewidth=1.0, alpha=0.8, label="its mean", zorder=2)
    return low, high


def _fan_at_entry(axes: Axes, bars: Bars, series: CandleSeries, fans: Sequence[Fans], focus: Trade) -> tuple[float, ...]:
    """Draw the forecast that a trade was opened on; between the horizons it grows with the root of time."""
    made_at = to_datetime64(focus.signal.made_at)
    known: list[list[float]] = []  # minutes, price, q05, mean, q95
    for fan in sorted(fans, key=lambda fan: fan.horizon_minutes):
        place = int(np.searchsorted(fan.made_at, made_at))
        if place < len(fan.made_at) and fan.made_at[place] == made_at:
            known.append([fan.horizon_minutes, *(float(each[place]) for each in (fan.price, fan.q05, fan.mean, fan.q95))])
    if not known:
        return ()
    candles = np.array([0.0, *(row[0] / series.timeframe.minutes for row in known)])
    quantiles = np.array([[known[0][1]] * 3, *(row[2:] for row in known)])  # (horizons + 1, 3)
    fine = np.linspace(0.0, candles[-1], 120)
    at = bars.at_close_of(_places(series, np.array([made_at])) + fine)
    q05, mean, q95 = (np.interp(np.sqrt(fine), np.sqrt(candles), column) for column in quantiles.T)
    axes.fill_between(at, q05, q95, color=ORANGE, alpha=0.25, linewidth=0, label="forecast at this trade, q05 to q95", zorder=1.5)
    axes.plot(at, mean, color=ORANGE, linewidth=1.6, label="its mean", zorder=5)
    return float(q05.min()), float(q95.max())


def _places(series: CandleSeries, made_at: TimeArray) -> FloatArray:
    """Return the positions of the candles at whose closes forecasts were made, (n,)."""
    return np.searchsorted(series.close_times, made_at).astype(np.float64)


def _draw_trades(axes: Axes, shown: _Shown) -> None:
    for prices, colour, name in ((shown.stop, VERMILLION, "stop"), (shown.target, GREEN, "target")):
        lines = np.stack([shown.entered - 0.4, prices, shown.left + 0.4, prices], axis=1).reshape(-1, 2, 2)
        axes.add_collection(LineCollection(list(lines), colors=colour, linewidths=1.1, linestyles=[DASHES], label=name, zorder=2.5))
    paths = np.stack([shown.entered, shown.entry, shown.left, shown.exit], axis=1).reshape(-1, 2, 2)
    won = [BLUE if trade.net > 0 else VERMILLION for trade in shown.trades]
    axes.add_collection(LineCollection(list(paths), colors=won, linewidths=1.3, zorder=5))
    for side, marker, colour, name in ((Side.BUY, "^", GREEN, "bought"), (Side.SELL, "v", ORANGE, "sold")):
        these = np.array([trade.side is side for trade in shown.trades], dtype=bool)
        _markers(axes, shown.entered[these], shown.entry[these], marker, colour, name)
    for reason, (marker, colour, name) in _EXITS.items():
        these = np.array([trade.exit_reason == reason for trade in shown.trades], dtype=bool)
        _markers(axes, shown.left[these], shown.exit[these], marker, colour, name)


def _markers(axes: Axes, at: FloatArray, prices: FloatArray, marker: str, colour: str, name: str) -> None:
    if len(at):
        size = 120 if marker == "*" else 60
        axes.scatter(at, prices, s=size, marker=marker, color=colour, edgecolors=INK, linewidths=0.8, label=name, zorder=6)


def _label_times(axes: Axes, times: TimeArray) -> None:
    """Name the bars with which days begin, or round hours and minutes where there are few days."""
    seconds = times.astype("datetime64[s]").astype(np.int64)
    minutes, starts = _DAY_MINUTES, np.zeros(0, dtype=np.int64)
    for minutes in _TICK_MINUTES:
        period = seconds // (60 * minutes)
        starts = np.flatnonzero(period[1:] != period[:-1]) + 1
        if len(starts) <= _TICKS:
            break
    starts = starts[:: max(1, -(-len(starts) // _TICKS))]
    starts = starts[np.append(np.diff(starts) >= len(times) / 14, True)] if len(starts) else starts
    form = "%a %d %b" if minutes >= _DAY_MINUTES else "%a %H:%M"
    axes.set_xticks(starts.tolist(), [f"{to_datetime(moment):{form}}" for moment in times[starts]])
    axes.tick_params(axis="x", colors=GREY)


def _span(minutes: int) -> str:
    return f"{minutes // 60} hours" if minutes % 60 == 0 and minutes != 60 else f"{minutes} minutes"
