"""What an engine decided and did, as marks on the chart of page Market: signals and trades, told apart by shape and filling."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from html import escape

import plotly.graph_objects as go

from fxcast.adapters.storage.signal_marks import COUNTED, SignalMark, SignalMarks
from fxcast.domain.order import Side
from fxcast.domain.signal import Direction, Verdict
from fxcast.domain.timeframe import Timeframe
from fxcast.trading.ports import PositionRecord
from fxcast.web.charts import BLUE, GREY, VERMILLION
from fxcast.web.market_axis import opening_at_close, wall_time
from fxcast.web.times import clock_time

_ORANGE = "#E69F00"  # of Okabe and Ito's, as the others
_FEW_TRADES = 40  # in view; more get smaller marks
_FEW_SIGNALS = 120
_LONGEST_REASON = 160  # characters beside the pointer; page Decisions has all of it
_LOOKS = {Direction.BULL: ("arrow", 0, BLUE), Direction.BEAR: ("arrow", 180, VERMILLION), Direction.NEUTRAL: ("hourglass", 0, GREY)}
_VERDICTS = {Verdict.ACCEPTED: ("accepted", ""), Verdict.REJECTED: ("refused", "-open")}


def draw_signals(figure: go.Figure, signals: SignalMarks, timeframe: Timeframe, zone: tzinfo) -> None:
    """Add signals: arrows in their direction, which point at the price then; filled if accepted, hollow if refused."""
    size = 13 if len(signals.marks) <= _FEW_SIGNALS else 8
    for direction, (symbol, angle, colour) in _LOOKS.items():
        for verdict, (word, filling) in _VERDICTS.items():
            found = [each for each in signals.marks if each.direction is direction and each.verdict is verdict]
            if not found:
                continue
            figure.add_scatter(
                x=[wall_time(opening_at_close(each.made_at, timeframe), zone) for each in found],
                y=[each.price for each in found],
                name=f"{direction.value} {word} ({len(found):,})",
                mode="markers",
                marker={
                    "symbol": f"{symbol}{filling}",
                    "angle": angle,
                    "standoff": 9,  # beside the candle, where a trade's mark stands
                    "size": size,
                    "color": colour,
                    "line": {"width": 1.5 if filling else 1, "color": colour if filling else "#000000"},
                },
                customdata=[_hover(each, zone) for each in found],
                hovertemplate="%{customdata}<extra></extra>",
            )


def signals_said(signals: SignalMarks, symbol: str, account: str) -> str:
    """Return how many signals there are in view, how they are drawn, and how many are not."""
    if not signals.made:
        return f"The engine of {account} had no signal on {symbol} in view."
    accepted = sum(1 for each in signals.marks if each.verdict is Verdict.ACCEPTED)
    drawn, more = len(signals.marks), signals.made >= COUNTED
    said = (
        f"Arrows are signals of {account}, filled where accepted ({accepted:,}), hollow where refused ({drawn - accepted:,}); "
        "they point up for bull, down for bear, at the price then."
    )
    if drawn < signals.made:
        said += f" Only the newest {drawn:,} are drawn: {'at least ' if more else ''}{signals.made - drawn:,} more in view are not."
    return said


def _hover(mark: SignalMark, zone: tzinfo) -> str:
    reason = mark.reason if len(mark.reason) <= _LONGEST_REASON else f"{mark.reason[: _LONGEST_REASON - 1]}…"
    uncertainty = "no forecast" if mark.uncertainty_pct is None else f"{mark.uncertainty_pct:.3f} % of the price"
    lines = [
        f"{mark.direction.value} signal {_VERDICTS[mark.verdict][0]}, {clock_time(mark.made_at, zone)}",
        *([escape(reason, quote=False)] if reason else []),
        f"quality {mark.quality_total:.3f}, uncertainty {uncertainty}",
        f"size {mark.units:,f} of {mark.base_units:,f} units",
    ]
    return "<br>".join(lines)


def draw_trades(figure: go.Figure, trades: Sequence[PositionRecord], zone: tzinfo) -> None:
    """Add where positions were opened and closed, and a line from one to the other."""
    edge, size = {"width": 1, "color": "#000000"}, 11 if len(trades) <= _FEW_TRADES else 7
    for side, word, symbol in ((Side.BUY, "long", "triangle-up"), (Side.SELL, "short", "triangle-down")):
        opened = [each.position for each in trades if each.position.side is side]
        figure.add_scatter(
            x=[wall_time(each.opened_at, zone) for each in opened],
            y=[float(each.entry_price) for each in opened],
            name=word,
            mode="markers",
            marker={"symbol": symbol, "size": size, "color": _ORANGE, "line": edge},
            customdata=[f"{each.units:,f} units, stop {each.stop}" for each in opened],
            hovertemplate=f"%{{y}} (opened {word}, %{{customdata}})<extra></extra>",
            showlegend=bool(opened),
        )
    closed = [each for each in trades if each.closed_at is not None and each.exit_price is not None]
    figure.add_scatter(
        x=[wall_time(each.closed_at, zone) for each in closed if each.closed_at],
        y=[float(each.exit_price) for each in closed if each.exit_price],
        name="closed",
        mode="markers",
        marker={"symbol": "square", "size": size - 3, "color": _ORANGE, "line": edge},
        customdata=["result unknown" if each.profit is None else f"{each.profit:+,.2f}" for each in closed],
        hovertemplate="%{y} (closed, %{customdata})<extra></extra>",
        showlegend=bool(closed),
    )
    x: list[str | None] = []
    y: list[float | None] = []
    for each in closed:
        if each.closed_at and each.exit_price:
            x += [wall_time(each.position.opened_at, zone), wall_time(each.closed_at, zone), None]
            y += [float(each.position.entry_price), float(each.exit_price), None]
    if x:
        line = {"color": _ORANGE, "width": 1.5, "dash": "dot"}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
