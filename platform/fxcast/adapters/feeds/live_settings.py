"""How a live feed waits, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from pydantic import Field

from fxcast.adapters.backoff import backoff
from fxcast.config import Settings


class LiveSettings(Settings):
    """How a live feed waits, and how patient it is.

    Attributes:
        silence_s: A connection on which nothing comes for so long is dead.
        lateness_s: How far quotes may be out of order, by their own times; every candle is handed out so much later.
        settle_s: Pause before the vendor is asked for a candle that has only just closed.
        history: How far back an empty store is filled.
        max_malformed: Quotes in a row that are refused; then the connection is given up.
        max_ahead: Quotes and heartbeats so far ahead of the vendor's time, as our clock and the skew tell it, are refused: one
            wrong date would close all candles until then.
        max_skew: The same ahead of our clock, while a connection has not told the skew yet: so wrong may that clock be.
        wake_before_open: How long before the week opens a feed that slept connects.
        first_pause_s, longest_pause_s: Limits of the pauses between tries; each limit is twice the one before, and each pause half
            of its limit or more.
        steady_s: A connection that lived so long was a good one: pauses begin anew.
        lacking_tries: How often the vendor is asked again for a candle of which quotes came, but which its history lacks.
        page_candles: Candles of the past that are asked for and handed out at a time.
        skew_memory: How long a quote's delay counts for clock skew and lag.
    """

    silence_s: float = Field(default=15.0, gt=0)
    lateness_s: float = Field(default=2.0, ge=0)
    settle_s: float = Field(default=2.0, ge=0)
    history: timedelta = Field(default=timedelta(days=1), ge=timedelta(0))
    max_malformed: int = Field(default=20, ge=1)
    max_ahead: timedelta = Field(default=timedelta(minutes=1), gt=timedelta(0))
    max_skew: timedelta = Field(default=timedelta(days=1), gt=timedelta(0))
    wake_before_open: timedelta = Field(default=timedelta(minutes=5), ge=timedelta(0))
    first_pause_s: float = Field(default=1.0, gt=0)
    longest_pause_s: float = Field(default=60.0, gt=0)
    steady_s: float = Field(default=60.0, ge=0)
    lacking_tries: int = Field(default=8, ge=0)
    page_candles: int = Field(default=4000, ge=1)
    skew_memory: timedelta = Field(default=timedelta(minutes=5), gt=timedelta(0))

    def pauses_s(self) -> Iterator[float]:
        """Begin the pauses between tries, in seconds."""
        return backoff(self.first_pause_s, self.longest_pause_s)
