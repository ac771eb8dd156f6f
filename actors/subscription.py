"""Follow a market feed from another process: every candle once, from the feed or, where it was too fast, from the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar, cast

import numpy as np
import ray
import structlog
from ray.actor import ActorHandle
from ray.exceptions import ActorUnavailableError, GetTimeoutError

from actors.feed_channel import News
from actors.market_feed import FeedSettings
from fxcast.adapters.backoff import backoff
from fxcast.adapters.feeds.port import FeedCandles, Origin
from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime, to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")
Ask = Callable[[str, int | None], News]

_WAIT_S = 10.0  # of one question, for news
_ANSWER_TIMEOUT_S = 60.0  # beyond that wait


class Subscription:
    """Iterates over a feed's candles as they are published, until the feed has ended.

    Within a symbol they come in order and once, whatever befalls the feed's process or this one's speed; what was missed is read
    from the store, symbol by symbol, before anything newer.

    Args:
        ask: Puts a question to the feed (`FeedChannel.after`); raises Unavailable if it is to be asked again.
        store: The one that the feed writes into.
        after: Candles that close at or before it are known already, one moment for all or one a symbol; by default all are that
            the store holds now.
        pauses: Begins the pauses, in seconds, between two tries of a feed or a store that does not answer.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        ask: Ask,
        store: CandleStore,
        symbols: Sequence[str],
        timeframe: Timeframe,
        *,
        after: datetime | Mapping[str, datetime] | None = None,
        pauses: Callable[[], Iterator[float]] = backoff,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._ask = ask
        self._store = store
        self._symbols = tuple(symbols)
        self._timeframe = timeframe
        self._pauses = pauses
        self._sleep = sleep
        known = after if isinstance(after, Mapping) else dict.fromkeys(symbols, after) if after is not None else {}
        self._last_closes: dict[str, datetime] = dict(known) if after is not None else self._persist(self._stored_closes)

    def __iter__(self) -> Iterator[FeedCandles]:
        """Yield what is new, waiting for it; ends when the feed has ended and all it published was seen."""
        news = self._persist(lambda: self._ask("", None))
        yield from self._from_store()
        while not news.is_over:
            asked = news
            news = self._persist(lambda asked=asked: self._ask(asked.epoch, asked.last))
            if news.is_behind:
                yield from self._from_store()
            for published in news.published:
                yield from self._unseen(published.candles)

    def _from_store(self) -> Iterator[FeedCandles]:
        for symbol in self._symbols:
            last = self._last_closes.get(symbol)
            start = None if last is None else last - self._timeframe.duration
            if self._persist(lambda symbol=symbol: self._store.has(symbol, self._timeframe)):
                data = self._persist(lambda symbol=symbol, start=start: self._store.read_market(symbol, self._timeframe, start))
                yield from self._unseen(FeedCandles(data=data, origin=Origin.BACKFILL))

    def _unseen(self, candles: FeedCandles) -> Iterator[FeedCandles]:
        """Yield what was not seen before, and note it as seen."""
        data = candles.data
        last = self._last_closes.get(data.symbol)
        seen = 0 if last is None else int(np.searchsorted(data.candles.close_times, to_datetime64(last), side="right"))
        if seen < len(data):
            self._last_closes[data.symbol] = to_datetime(data.candles.close_times[-1])
            yield candles if seen == 0 else replace(candles, data=data.slice(seen, len(data)))

    def _stored_closes(self) -> dict[str, datetime]:
        spans = {symbol: self._store.span(symbol, self._timeframe) for symbol in self._symbols}
        return {symbol: span[1] for symbol, span in spans.items() if span is not None}

    def _persist(self, act: Callable[[], T]) -> T:
        for pause_s in self._pauses():
            try:
                return act()
            except Unavailable as error:
                log.warning("subscription waits", problem=str(error), pause_s=round(pause_s, 1))
                self._sleep(pause_s)
        raise AssertionError("pauses without end have ended")


def subscribe(feed: ActorHandle[Any], *, after: datetime | Mapping[str, datetime] | None = None) -> Subscription:
    """Subscribe to a feed's actor; see `Subscription`.

    Raises:
        ActorDiedError: Here and while iterating, if the actor was taken down for good.
    """

    def call(method: str, *arguments: object) -> object:
        try:
            return ray.get(getattr(feed, method).remote(*arguments), timeout=_WAIT_S + _ANSWER_TIMEOUT_S)
        except (ActorUnavailableError, GetTimeoutError) as error:  # Ray is restarting it, or the machine is slow
            raise Unavailable(f"the feed does not answer: {type(error).__name__}") from None

    def ask(epoch: str, sequence: int | None) -> News:
        return cast("News", call("candles_after", epoch, sequence, _WAIT_S))

    settings = cast("FeedSettings", call("settings"))
    return Subscription(ask, CandleStore(settings.store), settings.symbols, Timeframe(settings.timeframe), after=after)
