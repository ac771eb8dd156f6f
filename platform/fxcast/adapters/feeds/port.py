"""Ports of live market data: vendors that quote, and feeds that turn what they have into closed candles."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from fxcast.domain.market import MarketCandles
from fxcast.domain.tick import Tick
from fxcast.domain.timeframe import Timeframe


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A sign of life without a quote; `time` is the vendor's clock (UTC), None where the vendor does not tell it."""

    time: datetime | None


class QuoteFeed(Protocol):
    """A vendor: quotes as they come, and candles of the past."""

    @property
    def name(self) -> str: ...

    @property
    def malformed(self) -> int:
        """How many messages could not be read so far."""
        ...

    def quotes(self, symbols: Sequence[str]) -> AsyncIterator[Tick | Heartbeat]:
        """Connect once and yield what comes until the connection ends; a message that can't be read is counted, not yielded.

        Raises:
            BadCredentials: If the vendor does not accept them.
            BadSetting: If the vendor knows no such symbol.
            RateLimited: If it asks for a pause.
            Disconnected: If no connection came about, it was lost, or the vendor closed it.
        """
        ...

    async def history(self, symbol: str, timeframe: Timeframe, start: datetime, stop: datetime) -> MarketCandles:
        """Return the vendor's complete candles that open in [start, stop), oldest first; none if it has none.

        Raises:
            BadCredentials, BadSetting, RateLimited, Disconnected: As `quotes`.
        """
        ...


class Origin(StrEnum):
    """Where a candle comes from."""

    LIVE = "live"  # built from quotes
    BACKFILL = "backfill"  # the vendor's own, for a time when no quotes came
    REPLAY = "replay"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedCandles:
    """Closed candles of one symbol, in order; each candle of a series comes once.

    `traceparent` is the span that brought them (`fxcast.tracing`).
    """

    data: MarketCandles
    origin: Origin
    traceparent: str | None = None


Emit = Callable[[FeedCandles], Awaitable[None]]


class FeedState(StrEnum):
    """What a feed is doing."""

    STARTING = "starting"
    CONNECTING = "connecting"
    BACKFILLING = "backfilling"  # connected; what was missed is being fetched
    LIVE = "live"
    WAITING = "waiting"  # disconnected, pausing before the next try
    MARKET_CLOSED = "market closed"  # disconnected until shortly before the week opens
    REFUSED = "refused"  # wrong credentials or settings: only a person can mend it
    FINISHED = "finished"  # a replay is through
    FAILED = "failed"  # a bug
    STOPPED = "stopped"


@dataclass(slots=True, kw_only=True)
class FeedStatus:
    """What a feed says of itself; the feed keeps it up to date, others read it."""

    state: FeedState = FeedState.STARTING
    problem: str = ""
    connected_at: datetime | None = None
    last_message: datetime | None = None  # by our clock
    last_tick: datetime | None = None  # by the vendor's clock
    last_candle: datetime | None = None  # close of the latest candle emitted
    lag_s: float | None = None  # from a quote's own time to its arrival, less the clock skew; the latest
    clock_skew_s: float | None = None  # our clock less the vendor's, as far as the fastest quote tells
    ticks: int = 0
    duplicate_ticks: int = 0
    late_ticks: int = 0  # for candles already emitted
    closed_market_ticks: int = 0  # of times at which the FX market is closed: dropped
    malformed: int = 0  # messages that can't be read or believed: no prices, a level far away, a time ahead
    unexpected: int = 0  # quotes of symbols not asked for
    candles_emitted: int = 0
    candles_backfilled: int = 0  # part of the emitted
    gaps_backfilled: int = 0  # times that something was fetched
    reconnects: int = 0
    disputed: list[str] = field(default_factory=list[str])  # candles that a late tick would have changed: symbol and open time
    lacking: list[str] = field(default_factory=list[str])  # candles of which ticks were seen, but which history never had; as above

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; times are ISO 8601 in UTC."""
        plain: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            plain[name] = value.isoformat() if isinstance(value, datetime) else list(value) if isinstance(value, list) else value
        return plain


class CandleFeed(Protocol):
    """Closed candles of several symbols, each once and in order, until it is cancelled or has no more."""

    @property
    def symbols(self) -> tuple[str, ...]: ...

    @property
    def timeframe(self) -> Timeframe: ...

    def status(self) -> FeedStatus: ...

    async def run(self, emit: Emit) -> None:
        """Hand every closed candle to `emit`, which is awaited before the next.

        Returns when there is nothing more to come. What a later try may mend is mended inside.

        Raises:
            Refused: If only a person can mend it (credentials, symbols).
        """
        ...
