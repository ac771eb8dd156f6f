"""The FX week (17:00 New York, Sunday to Friday, daylight saving included) and its sessions."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

NEW_YORK = ZoneInfo("America/New_York")
_WEEK_TURN = time(17)

_HOUR_S, _DAY_S = 3600, 86_400
_DENSE = 100_000  # days, three centuries: more is a stray date
_THURSDAY = 3  # 1 January 1970, counted from Monday

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
    """Tell for each moment (UTC, (n,)) whether the market is open, (n,); as `is_open`, all at once."""
    local = _seconds(moments) + _offset_s(NEW_YORK, moments)
    time_of_day, weekday = local % _DAY_S, (local // _DAY_S + _THURSDAY) % 7
    before_turn = time_of_day < _WEEK_TURN.hour * _HOUR_S
    opened = (weekday < 4) | ((weekday == 4) & before_turn) | ((weekday == 6) & ~before_turn)
    days = local.astype("datetime64[s]").astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    month, day = months.astype(np.int64) % 12 + 1, (days - months).astype(np.int64) + 1
    holiday = ((month == 12) & (day == 25)) | ((month == 1) & (day == 1))
    eve = (month == 12) & ((day == 24) | (day == 31))
    return opened & ~(holiday & before_turn) & ~(eve & ~before_turn)


def session_masks(moments: NDArray[np.datetime64]) -> dict[str, NDArray[np.bool_]]:
    """Tell for each session and each moment (UTC, (n,)) whether it is open, (n,) by name; as `open_sessions`, all at once."""
    opened, seconds = open_mask(moments), _seconds(moments)
    masks: dict[str, NDArray[np.bool_]] = {}
    for name, (zone, start, end) in _SESSIONS.items():
        time_of_day = (seconds + _offset_s(zone, moments)) % _DAY_S
        masks[name] = opened & (time_of_day >= start.hour * _HOUR_S) & (time_of_day < end.hour * _HOUR_S)
    return masks


def new_york_offset(moments: NDArray[np.datetime64]) -> NDArray[np.timedelta64]:
    """Return what New York's clock adds to UTC at each moment (UTC, (n,)): (n,) timedelta64[s], below zero."""
    return _offset_s(NEW_YORK, moments).astype("timedelta64[s]")


def _seconds(moments: NDArray[np.datetime64]) -> NDArray[np.int64]:
    return moments.astype("datetime64[s]").astype(np.int64)


def _offset_s(zone: ZoneInfo, moments: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Return a zone's offset at each moment, (n,) seconds: one look a day, and one an hour on the days on which clocks change."""
    seconds = _seconds(moments)
    days, day_of = _distinct(seconds // _DAY_S)
    starts = np.array([_offset_at(zone, int(day) * _DAY_S) for day in days], dtype=np.int64)
    ends = np.array([_offset_at(zone, int(day + 1) * _DAY_S) for day in days], dtype=np.int64)
    offsets = starts[day_of]
    for position in np.flatnonzero(starts != ends):
        here = np.flatnonzero(day_of == position)
        hours, hour_of = np.unique(seconds[here] // _HOUR_S, return_inverse=True)
        offsets[here] = np.array([_offset_at(zone, int(hour) * _HOUR_S) for hour in hours], dtype=np.int64)[hour_of]
    return offsets


def _distinct(numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct numbers, and for each its position among them; without sorting where they lie close together."""
    first, last = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, -1)
    if last - first > _DENSE:
        distinct, position_of = np.unique(numbers, return_inverse=True)
        return distinct, position_of.astype(np.int64)
    present = np.zeros(last - first + 1, dtype=bool)
    present[numbers - first] = True
    return np.flatnonzero(present) + first, (np.cumsum(present) - 1)[numbers - first]


def _offset_at(zone: ZoneInfo, second: int) -> int:
    offset = datetime.fromtimestamp(second, tz=UTC).astimezone(zone).utcoffset()
    assert offset is not None, "a time with a zone has an offset"
    return int(offset.total_seconds())
