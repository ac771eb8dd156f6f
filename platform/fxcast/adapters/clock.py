"""Where the time comes from."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        return datetime.now(tz=UTC)


class ReplayClock:
    """The time of the last candle that a replay handed out; it never goes back."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance_to(self, moment: datetime) -> None:
        """Set the time, unless it is later already."""
        self._now = max(self._now, moment)
