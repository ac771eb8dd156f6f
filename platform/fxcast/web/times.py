"""Times as a reader wants them: in UTC or in the browser's zone, and always saying which."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def zone_of(name: str | None) -> tzinfo:
    """Return a zone by its IANA name, as a browser says it; UTC for one that is unknown here."""
    if not name or name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a name that is a folder of the system's, or too long for a file
        return UTC


def zone_name(zone: tzinfo) -> str:
    """Return what a zone is called beside a time."""
    return zone.key if isinstance(zone, ZoneInfo) else "UTC"


def clock_time(moment: datetime, zone: tzinfo) -> str:
    """Return a time to the minute, without its zone: that stands once, above."""
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M")


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago something was, in words."""
    past = now - moment
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        if past >= unit:
            count = past // unit
            return f"{count:,} {name}{'s' if count != 1 else ''} ago"
    return "now" if past < timedelta(seconds=1) else f"{int(past.total_seconds())} s ago"
