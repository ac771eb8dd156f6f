"""The length of a candle, and when candles of that length open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.calendar import new_york_offset
from fxcast.errors import BadCandles

TimeArray = NDArray[np.datetime64]

_MINUTES = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
_DAY_OPENS = np.timedelta64(17 * 3600, "s")  # in New York, as the week does


@dataclass(frozen=True, slots=True)
class Timeframe:
    """A candle's length, named as traders name it (`1m`, `5m`, `15m`, `1h`, `4h`, `1d`).

    Raises:
        BadCandles: If the name is unknown.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in _MINUTES:
            raise BadCandles("timeframe", repr(self.name), ", ".join(_MINUTES))

    @property
    def minutes(self) -> int:
        return _MINUTES[self.name]

    @property
    def duration(self) -> timedelta:
        return timedelta(minutes=self.minutes)

    @property
    def step(self) -> np.timedelta64:
        """The length in seconds, as numpy counts them."""
        return np.timedelta64(self.minutes * 60, "s")

    def bars(self, horizon_minutes: int) -> int:
        """Return how many candles a horizon spans.

        Raises:
            BadCandles: If the horizon is not a positive multiple of the timeframe.
        """
        if horizon_minutes <= 0 or horizon_minutes % self.minutes:
            raise BadCandles("horizon_minutes", str(horizon_minutes), f"positive multiples of {self.minutes}")
        return horizon_minutes // self.minutes

    def opening(self, moments: TimeArray) -> TimeArray:
        """Return when the candle that holds each moment opens, (n,) datetime64[s], UTC.

        Up to an hour, candles open at multiples of their length since midnight. Longer ones are counted from 17:00 New York, where
        the trading day begins: so six candles of 4h are a day, and neither reaches across the weekend.
        """
        seconds = moments.astype("datetime64[s]")
        if self.minutes <= 60:
            return seconds - (seconds.astype(np.int64) % (self.minutes * 60)).astype("timedelta64[s]")
        offset = new_york_offset(seconds)
        local = (seconds + offset - _DAY_OPENS).astype(np.int64)
        opens = seconds - (local % (self.minutes * 60)).astype("timedelta64[s]")
        # By the clock at the opening: the hours of the Sunday on which it jumps forward belong to the candle before, not to one
        # that would open an hour too early. The market is closed then.
        return opens + np.maximum(offset - new_york_offset(opens), np.timedelta64(0, "s"))

    def __str__(self) -> str:
        return self.name


def timeframes() -> tuple[Timeframe, ...]:
    """Return all timeframes, shortest first."""
    return tuple(Timeframe(name) for name in _MINUTES)
