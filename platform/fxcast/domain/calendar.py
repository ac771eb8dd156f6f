"""The FX week (17:00 New York, Sunday to Friday, daylight saving included) and its sessions."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

NEW_YORK = ZoneInfo("America/New_York")
_WEEK_TURN = time(17)

_HOUR_S = 3600

# Local office hours of the four centres (start, end), the usual definition of the FX sessions.
_SESSIONS: dict[str, tuple[ZoneInfo, time, time]] = {
    "Sydney": (ZoneInfo("Australia/Sydney"), time(8), time(17)),
    "Tokyo": (ZoneInfo("Asia/Tokyo"), time(9), time(18)),
    "London": (ZoneInfo("Europe/London"), time(8), time(17)),
    "New York": (NEW_YORK, time(8), time(17)),
}


def is_open(moment: datetime) -> bool:
    """Tell whether the FX market is open at an aware time (Christmas and New Year's Day are closed)."""
    local = moment.astimezone(NEW_YORK)
    if (local.month, local.day) in {(12, 25), (1, 1)} and local.time() < _WEEK_TURN:
        return False
    if (local.month, local.day) in {(12, 24), (12, 31)} and local.time() >= _WEEK_TURN:
        return False
    match local.weekday():
        case 4:
            return local.time() < _WEEK_TURN
        case 5:
            return False
        case 6:
            return local.time() >= _WEEK_TURN
        case _:
            return True


def week_close(moment: datetime) -> datetime:
    """Return the next Friday 17:00 New York at or after an aware time, in that time's zone."""
    local = moment.astimezone(NEW_YORK)
    days = (4 - local.weekday()) % 7
    close = datetime.combine(local.date() + timedelta(days=days), _WEEK_TURN, tzinfo=NEW_YORK)
    if close < local:
        close = datetime.combine(close.date() + timedelta(days=7), _WEEK_TURN, tzinfo=NEW_YORK)
    return close.astimezone(moment.tzinfo)


def next_open(moment: datetime) -> datetime:
    """Return the first moment at or after an aware time at which the market is open, in that time's zone."""
    if is_open(moment):
        return moment
    local = moment.astimezone(NEW_YORK)
    opening = datetime.combine(local.date(), _WEEK_TURN, tzinfo=NEW_YORK)
    while opening < local or not is_open(opening):
        opening = datetime.combine(opening.date() + timedelta(days=1), _WEEK_TURN, tzinfo=NEW_YORK)
    return opening.astimezone(moment.tzinfo)


def open_sessions(moment: datetime) -> tuple[str, ...]:
    """Return the names of the sessions open at an aware time, east to west; none at the weekend."""
    if not is_open(moment):
        return ()
    return tuple(name for name, (zone, start, end) in _SESSIONS.items() if start <= moment.astimezone(zone).time() < end)


def open_mask(moments: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    """Tell for each moment (UTC, (n,)) whether the market is open, (n,)."""
    # The market opens and closes on full hours of UTC, so one look at the calendar serves a whole hour.
    hours, hour_of = _hours(moments)
    return np.array([is_open(hour) for hour in hours], dtype=bool)[hour_of]


def session_masks(moments: NDArray[np.datetime64]) -> dict[str, NDArray[np.bool_]]:
    """Tell for each session and each moment (UTC, (n,)) whether it is open, (n,) by name; office hours are full hours too."""
    hours, hour_of = _hours(moments)
    opened = [open_sessions(hour) for hour in hours]
    return {name: np.array([name in names for names in opened], dtype=bool)[hour_of] for name in _SESSIONS}


def new_york_offset(moments: NDArray[np.datetime64]) -> NDArray[np.timedelta64]:
    """Return what New York's clock adds to UTC at each moment (UTC, (n,)): (n,) timedelta64[s], below zero."""
    hours, hour_of = _hours(moments)
    offsets = [hour.astimezone(NEW_YORK).utcoffset() or timedelta(0) for hour in hours]
    return np.array([offset.total_seconds() for offset in offsets], dtype=np.int64)[hour_of].astype("timedelta64[s]")


def _hours(moments: NDArray[np.datetime64]) -> tuple[list[datetime], NDArray[np.int64]]:
    """Return the distinct hours, and for each moment the position of its own."""
    numbers = moments.astype("datetime64[s]").astype(np.int64) // _HOUR_S
    first = int(numbers.min()) if len(numbers) else 0
    present = np.zeros(int(numbers.max()) - first + 1 if len(numbers) else 0, dtype=bool)
    if len(present) > 10 * len(numbers) + 100_000:  # a stray date centuries away
        distinct, hour_of = np.unique(numbers, return_inverse=True)
    else:
        present[numbers - first] = True
        distinct = np.flatnonzero(present) + first
        hour_of = (np.cumsum(present) - 1)[numbers - first]
    return [datetime.fromtimestamp(int(number) * _HOUR_S, tz=UTC) for number in distinct], hour_of.astype(np.int64)
