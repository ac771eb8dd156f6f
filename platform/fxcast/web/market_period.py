"""Which period of the market a reader looks at: what was asked for by hand or with a button, and what of it there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.timeframe import Timeframe
from fxcast.web.market_axis import due_openings
from fxcast.web.times import zone_of

Period = tuple[datetime, datetime]

_MOST_STEPS = 20  # that are taken at once: more are pressed by no hand while one answer is on its way


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a reader wants to see: a period, or, without one, the newest candles, also when new ones come.

    The browser writes down at once what is asked for, by hand or with a button (assets/fxcast.js): so Dash drops the answer to an
    earlier wish, however late it comes.

    Attributes:
        timeframe: For which the period was asked; another one begins with its newest candles.
        start, stop: ISO times; without a zone, by the clock of `zone`.
        steps: Buttons pressed since, which have not been answered yet.
        turn: Counts the times that the page itself has moved the chart.
    """

    timeframe: str = ""
    start: str = ""
    stop: str = ""
    zone: str = ""
    steps: tuple[str, ...] = ()
    turn: int = 0

    @property
    def period(self) -> Period | None:
        """The period, None for the newest candles."""
        return period_of(self.start, self.stop, zone_of(self.zone))


def period_of(start: str, stop: str, zone: tzinfo) -> Period | None:
    """Return a period out of two texts, UTC; None where they name none. Times without a zone are by the reader's clock."""
    try:
        times = [datetime.fromisoformat(text) for text in (start, stop)]
        first, last = (time.replace(tzinfo=time.tzinfo or zone).astimezone(UTC) for time in times)
    except (ValueError, OverflowError):
        return None
    return (first, last) if first < last else None


def view_of(kept: Any) -> View:  # noqa: ANN401  # what the browser has kept
    """Return the view out of what the browser kept; the newest candles where it is none."""
    if not isinstance(kept, Mapping):
        return View()
    turn, steps = kept.get("turn"), kept.get("steps")
    texts = {name: str(kept.get(name, "")) for name in ("timeframe", "start", "stop", "zone")}
    pressed = tuple(map(str, steps[:_MOST_STEPS])) if isinstance(steps, list | tuple) else ()
    return View(**texts, steps=pressed, turn=turn if isinstance(turn, int) else 0)


def within(period: Period, span: Period, step: timedelta) -> Period:
    """Return a period that is neither shorter than a few candles nor much longer than what is stored, and beside none of it."""
    first, last = span
    width = min(max(period[1] - period[0], 8 * step), (last - first) * 1.2 + 100 * step)
    start = min(max(period[0], first - width / 2), last - width / 8)
    return start, start + width


def newest_period(newest: CandleSeries, fan: LDM4TSPrediction | None) -> Period:
    """Return the period of the newest candles, with room for the forecast made at the last one."""
    start, last = to_datetime(newest.open_times[0]), to_datetime(newest.close_times[-1])
    room = last + (last - start) * 0.04
    if fan is not None and fan.horizons:
        due = to_datetime(due_openings([fan.made_at], max(fan.horizons), newest.timeframe)[0]) + 2 * newest.timeframe.duration
        room = max(room, min(due, last + (last - start) / 2))
    return start - newest.timeframe.duration, room


def moved(
    view: View,
    to: str,
    period: Period,
    home: Period,
    span: Period,
    newest: LDM4TSPrediction | None,
    timeframe: Timeframe,
) -> View:
    """Return the view after a button.

    Args:
        to: Which one: newest, forecast, all, earlier, later, closer or wider; another one changes nothing.
        period: What is in view.
        home: Where the newest candles are.
        span: What is stored.
        newest: The newest forecast, if there is one.
    """
    turn, (start, stop) = view.turn + 1, period
    width = stop - start
    if to == "newest" or (to == "forecast" and newest is None):
        return View(turn=turn)
    if to == "forecast" and newest is not None:
        width = home[1] - home[0]
        start, stop = newest.made_at - 0.6 * width, newest.made_at + 0.4 * width
    elif to == "all":
        start, stop = span[0] - (span[1] - span[0]) * 0.01, span[1] + (span[1] - span[0]) * 0.03
    elif to in ("earlier", "later"):
        by = width / 2 if to == "later" else -width / 2
        start, stop = start + by, stop + by
    elif to in ("closer", "wider"):
        by = width / 4 if to == "closer" else -width / 2
        start, stop = start + by, stop - by
    start, stop = within((start, stop), span, timeframe.duration)
    return View(timeframe=timeframe.name, start=start.isoformat(), stop=stop.isoformat(), turn=turn)
