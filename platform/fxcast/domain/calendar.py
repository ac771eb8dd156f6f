"""The FX week (17:00 New York, Sunday to Friday, daylight saving included) and its sessions."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
_WEEK_TURN = time(17)

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


def open_sessions(moment: datetime) -> tuple[str, ...]:
    """Return the names of the sessions open at an aware time, east to west; none at the weekend."""
    if not is_open(moment):
        return ()
    return tuple(name for name, (zone, start, end) in _SESSIONS.items() if start <= moment.astimezone(zone).time() < end)
