"""What Prometheus reads of a feed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fxcast.adapters.clock import SystemClock
from fxcast.adapters.feeds.port import FeedCandles, FeedState
from fxcast.cluster.meters import Board, Meter, harmless
from fxcast.domain.calendar import is_open
from fxcast.domain.candle import to_datetime
from fxcast.trading.ports import Clock

_PROVIDER = ("provider",)
_SYMBOL = (*_PROVIDER, "symbol")
STATE = Meter(name="fxcast_feed_state", kind="gauge", labels=(*_PROVIDER, "state"), unit="0, 1", meaning="1 for what it is doing")
NEWEST_CLOSE = Meter(
    name="fxcast_feed_newest_close_timestamp_seconds", kind="gauge", labels=_SYMBOL, unit="s since 1970",
    meaning="Close of the newest candle published",
)  # fmt: skip
PUBLISH_LAG = Meter(
    name="fxcast_feed_publish_lag_seconds", kind="gauge", labels=_SYMBOL, unit="s",
    meaning="From the newest candle's close until it was stored and published; of a replay, how long ago that was",
)  # fmt: skip
OVERDUE = Meter(
    name="fxcast_feed_overdue_seconds", kind="gauge", labels=_SYMBOL, unit="s",
    meaning="By how much the next candle is late while the market is open; 0 while it is not, and for a replay",
)  # fmt: skip
PUBLISHED = Meter(
    name="fxcast_feed_candles_total", kind="total", labels=_SYMBOL, meaning="Candles published since the process began"
)
REFUSED = Meter(
    name="fxcast_feed_refused_total", kind="total", labels=(*_PROVIDER, "reason"),
    meaning="What was not taken: conflicting (the store holds another candle), and messages: malformed, late, duplicate and others",
)  # fmt: skip
RECONNECTS = Meter(
    name="fxcast_feed_reconnects_total", kind="total", labels=_PROVIDER, meaning="Connections after one that was lost"
)
GAPS = Meter(
    name="fxcast_feed_gaps_total", kind="total", labels=_PROVIDER, meaning="Times that missing candles were fetched from history"
)
LACKING = Meter(
    name="fxcast_feed_lacking_candles", kind="gauge", labels=_PROVIDER,
    meaning="Candles whose quotes were seen, but which history never had (the last hundred at most)",
)  # fmt: skip
PENDING = Meter(
    name="fxcast_feed_pending_candles", kind="gauge", labels=_PROVIDER, meaning="Candles that wait for the store to answer"
)
FEED_METERS = (STATE, NEWEST_CLOSE, PUBLISH_LAG, OVERDUE, PUBLISHED, REFUSED, RECONNECTS, GAPS, LACKING, PENDING)

_REASONS = {
    "conflicting": "conflicting",
    "malformed": "malformed",
    "late": "late_ticks",
    "duplicate": "duplicate_ticks",
    "market_closed": "closed_market_ticks",
    "unexpected": "unexpected",
}  # by the name of what `MarketFeedShell.status` counts


@dataclass(slots=True)
class _Newest:
    close: datetime
    lag_s: float


class FeedMeters:
    """Counts what a feed publishes, and shows what it says of itself; never fails it.

    Args:
        duration: Of a candle.
        status: `MarketFeedShell.status`; called from the board's thread.
    """

    def __init__(
        self,
        provider: str,
        symbols: Sequence[str],
        duration: timedelta,
        status: Callable[[], Mapping[str, object]],
        clock: Clock | None = None,
    ) -> None:
        self._provider = provider
        self._symbols = tuple(symbols)
        self._duration = duration
        self._status = status
        self._clock = SystemClock() if clock is None else clock
        self._newest: dict[str, _Newest] = {}
        self._open_since: datetime | None = None
        self.board = Board(FEED_METERS, {"provider": provider}, self.look)
        for symbol in self._symbols:
            self.board.add(PUBLISHED, 0.0, symbol=symbol)

    @harmless
    def published(self, batch: Sequence[FeedCandles]) -> None:
        """Count candles that the store holds and subscribers see."""
        now = self._clock.now()
        for candles in batch:
            symbol, count = candles.data.symbol, len(candles.data)
            if not count:
                continue
            close = to_datetime(candles.data.candles.close_times[-1])
            self.board.add(PUBLISHED, count, symbol=symbol)
            self._newest[symbol] = _Newest(close, (now - close).total_seconds())

    @harmless
    def look(self) -> None:
        """Write down what the feed says of itself, and how late it is."""
        board, status, now = self.board, self._status(), self._clock.now()
        board.set_each(STATE, "state", {each.value: float(each.value == status["state"]) for each in FeedState})
        for reason, counted in _REASONS.items():
            board.set(REFUSED, _number(status[counted]), reason=reason)
        board.set(RECONNECTS, _number(status["reconnects"]))
        board.set(GAPS, _number(status["gaps_backfilled"]))
        board.set(PENDING, _number(status["pending"]))
        lacking = status["lacking"]
        board.set(LACKING, len(lacking) if isinstance(lacking, list) else 0)
        self._open_since = (self._open_since or now) if is_open(now) else None
        for symbol in self._symbols:
            newest = self._newest.get(symbol)
            board.set(OVERDUE, self._overdue_s(newest, now), symbol=symbol)
            if newest is not None:
                board.set(NEWEST_CLOSE, newest.close.timestamp(), symbol=symbol)
                board.set(PUBLISH_LAG, newest.lag_s, symbol=symbol)

    def _overdue_s(self, newest: _Newest | None, now: datetime) -> float:
        """Counted from the newest close, or from when this process first saw the market open, if that is later."""
        if self._provider == "replay" or self._open_since is None:
            return 0.0
        since = self._open_since if newest is None else max(newest.close, self._open_since)
        return max((now - since - self._duration).total_seconds(), 0.0)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
