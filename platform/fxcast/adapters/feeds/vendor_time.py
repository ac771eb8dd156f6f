"""What the messages of a vendor tell of its clock: how far its time has come, and how it differs from ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_UNKNOWN = datetime.min.replace(tzinfo=UTC)
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)  # an earlier time is none: a field that was not filled in, say


class VendorTime:
    """The watermark of a connection, the clock skew and the lag.

    The watermark follows the vendor's own times. Our clock counts only where a heartbeat has no time, and then as far behind as the
    slowest message of late was.

    Args:
        lateness: How far quotes may be out of order, by their own times.
        memory: How long a delay counts, at least; after twice as long it is forgotten.
        max_ahead: How far ahead of the vendor's time, as our clock and the skew tell it, a time is still believed.
        max_skew: The same ahead of our clock, while the connection has not told the skew.

    Attributes:
        watermark: The time (vendor's, UTC) up to which every quote is taken to be here.
    """

    __slots__ = (
        "_delay",
        "_is_measured",
        "_lateness",
        "_longest",
        "_max_ahead",
        "_max_skew",
        "_memory",
        "_past_longest",
        "_past_shortest",
        "_shortest",
        "_turn",
        "watermark",
    )

    def __init__(self, lateness: timedelta, memory: timedelta, *, max_ahead: timedelta, max_skew: timedelta) -> None:
        self._lateness = lateness
        self._memory = memory
        self._max_ahead = max_ahead
        self._max_skew = max_skew
        self.forget()
        self.restart()

    @property
    def is_known(self) -> bool:
        """Whether the vendor has told a time on this connection."""
        return self.watermark is not _UNKNOWN

    @property
    def skew(self) -> timedelta | None:
        """Our clock less the vendor's, as far as the fastest message of late tells; None before the first."""
        return None if self._delay is None else min(self._shortest, self._past_shortest)

    @property
    def lag(self) -> timedelta | None:
        """From the time of the latest message to its arrival, less the skew; None before the first."""
        return None if self._delay is None else self._delay - min(self._shortest, self._past_shortest)

    def restart(self) -> None:
        """Forget the watermark: a new connection begins."""
        self.watermark = _UNKNOWN
        self._is_measured = False  # on this connection: meanwhile our clock may have been set

    def forget(self) -> None:
        """Forget the delays: one of them came from a wrong time."""
        self._delay: timedelta | None = None
        self._turn: datetime | None = None  # when the delays of now become those of the past
        self._shortest = self._past_shortest = timedelta.max
        self._longest = self._past_longest = timedelta.min

    def is_credible(self, time: datetime, arrival: datetime) -> bool:
        """Tell whether a message may be of that time: neither far ahead nor before all vendors."""
        if self._is_measured:
            return time >= _FIRST and time - arrival <= self._max_ahead - min(self._shortest, self._past_shortest)
        return time >= _FIRST and time - arrival <= self._max_skew

    def advance(self, time: datetime) -> None:
        """Take a message of that time."""
        moment = time - self._lateness
        if moment > self.watermark:
            self.watermark = moment

    def measure(self, time: datetime, arrival: datetime) -> None:
        """Take the delay of a message that came as soon as it could; what a vendor repeats on connecting did not."""
        if self._turn is None or arrival >= self._turn:
            self._turn = arrival + self._memory
            self._past_shortest, self._past_longest = self._shortest, self._longest
            self._shortest, self._longest = timedelta.max, timedelta.min
        self._is_measured = True
        delay = self._delay = arrival - time
        if delay < self._shortest:
            self._shortest = delay
        if delay > self._longest:
            self._longest = delay

    def advance_by_clock(self, arrival: datetime) -> None:
        """Take a heartbeat that has no time."""
        if self._delay is not None and self.is_known:
            self.advance(arrival - max(self._longest, self._past_longest))
