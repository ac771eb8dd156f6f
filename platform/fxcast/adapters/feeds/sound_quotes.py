"""Which quotes are to be believed, and which are of a time when nothing is traded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fxcast.domain import calendar
from fxcast.domain.tick import Tick

# A rate that changes by so much from one quote to the next: a slip of the decimal point, or of another pair. The largest move of a
# major pair within a day, the franc's of January 2015, was nearly a third.
_LARGEST_STEP = 1.5

_HOUR = timedelta(hours=1)


class Level:
    """Where a symbol's quotes are, on one connection.

    Attributes:
        refused_in_a_row: How many quotes were too far away since the last one that was not.
    """

    __slots__ = ("_mid", "refused_in_a_row")

    def __init__(self) -> None:
        self._mid: float | None = None
        self.refused_in_a_row = 0

    def follow(self, tick: Tick) -> bool:
        """Take a quote, and tell whether it is near the one before; the first one is, and one that is not is forgotten."""
        mid = (tick.bid + tick.ask) / 2
        last = self._mid
        if last is not None and not last / _LARGEST_STEP <= mid <= last * _LARGEST_STEP:
            self.refused_in_a_row += 1
            return False
        self._mid = mid
        self.refused_in_a_row = 0
        return True


class TradingHours:
    """The calendar, asked once an hour: the market opens and closes on full hours of UTC."""

    __slots__ = ("_is_open", "_start", "_stop")

    def __init__(self) -> None:
        self._start = self._stop = datetime.max.replace(tzinfo=UTC)
        self._is_open = False

    def is_open(self, moment: datetime) -> bool:
        """Tell whether the FX market is open at a moment (UTC)."""
        if not self._start <= moment < self._stop:
            self._start = moment.replace(minute=0, second=0, microsecond=0)
            self._stop = self._start + _HOUR
            self._is_open = calendar.is_open(self._start)
        return self._is_open
