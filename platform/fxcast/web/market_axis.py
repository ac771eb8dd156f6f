"""Where a moment stands on the chart of page Market.

Whatever is known at a candle's close (a forecast, its outcome, a signal) stands at that candle, as its close does: nothing falls
into a weekend, when the market is closed and for which the chart has no room.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any

import numpy as np

from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import TimeArray, to_datetime, to_datetime64
from fxcast.domain.timeframe import Timeframe

_WITHOUT_BREAKS = timedelta(days=400)  # beyond, a weekend is as wide as a hair, and there are too many
_GRID_POINTS = 200_000
_HOUR, _SECOND = np.timedelta64(3600, "s"), np.timedelta64(1, "s")


def opening_at_close(moment: datetime, timeframe: Timeframe) -> datetime:
    """Return where what is known at a close is drawn: at the opening of the candle that it belongs to.

    That is the candle that closes then; on a longer timeframe than it was made on, the one that was not over yet.
    """
    return to_datetime(timeframe.opening(np.array([to_datetime64(moment)]) - _SECOND)[0])


def due_openings(made_at: Sequence[datetime], horizon_minutes: int, timeframe: Timeframe) -> TimeArray:
    """Return the opening of the candle at whose close each forecast is due, as far as the calendar tells, (n,)."""
    made = np.array([to_datetime64(moment) for moment in made_at], dtype="datetime64[s]")
    if not len(made):
        return made
    span = np.timedelta64(horizon_minutes * 60, "s")
    last = made.max() + span + span // 2 + np.timedelta64(5, "D").astype("timedelta64[s]")
    if (last - made.min()) // timeframe.step > _GRID_POINTS:
        return (made + span - timeframe.step).astype("datetime64[s]")
    grid = np.unique(timeframe.opening(np.arange(made.min(), last, timeframe.step)))  # days begin in New York, whose clock jumps
    opens = grid[open_mask(grid)]
    places = np.searchsorted(opens, made) + max(1, horizon_minutes // timeframe.minutes) - 1
    return opens[np.minimum(places, len(opens) - 1)]


def closed_times(start: datetime, stop: datetime, candles: TimeArray, zone: tzinfo) -> list[list[str]]:
    """Return when the market is closed and no candle stands: the chart leaves those times out.

    Args:
        start, stop: What is in view; as much beside it on either side is looked at too.
        candles: When those that are drawn open, (n,).
        zone: The reader's.
    """
    width = stop - start
    if width > _WITHOUT_BREAKS:
        return []
    first, last = to_datetime64(start - width), to_datetime64(stop + width)
    grid = np.arange(first - (first.astype(np.int64) % 3600).astype("timedelta64[s]"), last, _HOUR)
    bars = np.searchsorted(candles, np.append(grid, last))  # those before each hour
    closed = ~open_mask(grid) & (bars[1:] == bars[:-1])
    runs = [(grid[start], grid[stop - 1] + _HOUR) for start, stop in runs_of(closed)]
    return [[wall_time(to_datetime(begin), zone), wall_time(to_datetime(end), zone)] for begin, end in runs]


def runs_of(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> list[tuple[int, int]]:
    """Return where a mask is true without a hole, as (first, one after the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def wall_time(moment: datetime, zone: tzinfo) -> str:
    """Return a time by the reader's clock: Plotly knows no zones."""
    return moment.astimezone(zone).replace(tzinfo=None).isoformat()


def wall_times(moments: TimeArray, zone: tzinfo) -> list[str]:
    return [wall_time(to_datetime(moment), zone) for moment in moments]
