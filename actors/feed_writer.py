"""From a feed into the store, and only then to the subscribers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import structlog

from fxcast import tracing
from fxcast.adapters.backoff import backoff
from fxcast.adapters.feeds.port import FeedCandles
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.market import MarketCandles, concatenate
from fxcast.errors import Unavailable

log = structlog.get_logger(__name__)


class FeedWriter:
    """Takes candles in, stores whatever waits with one append a series, and publishes what the store then holds.

    Where a stored candle differs, it stays, and it is what is published: so subscribers see what the store says. A store that does
    not answer is tried again; meanwhile candles wait, and beyond a number of them the feed does.

    Args:
        publish: Is handed stored candles in the order in which they came.
        most_pending: Candles that may wait; one hand-out of the feed may exceed it.
        pauses: Begins the pauses, in seconds, between two tries of a store that does not answer.
    """

    def __init__(
        self,
        store: CandleStore,
        publish: Callable[[Sequence[FeedCandles]], None],
        *,
        most_pending: int,
        pauses: Callable[[], Iterator[float]] = backoff,
    ) -> None:
        self._store = store
        self._publish = publish
        self._most_pending = most_pending
        self._pauses = pauses
        self._waiting: deque[FeedCandles] = deque()
        self._changed = asyncio.Condition()
        self._giving_up = asyncio.Event()
        self.pending = 0  # candles taken in and not yet published
        self.stored = 0  # candles that the store holds as they came, new or not
        self.conflicting = 0
        self.problem = ""  # of the store, while it does not answer

    async def put(self, candles: FeedCandles) -> None:
        """Take candles in; waits while too many are pending."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.pending < self._most_pending)
            self._waiting.append(candles)
            self.pending += len(candles.data)
            self._changed.notify_all()

    async def run(self) -> None:
        """Store and publish until cancelled.

        Raises:
            BadCandles: If the store can't take them: a file can't be read, or it holds prices of another side.
            Unavailable: If it does not answer after `give_up`.
        """
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._waiting))
                batch = list(self._waiting)
                self._waiting.clear()
            with tracing.span("bring candles", "producer", candles=sum(len(candles.data) for candles in batch)):
                published, traceparent = await self._stored(batch), tracing.traceparent()
                if traceparent is not None:
                    published = [replace(candles, traceparent=traceparent) for candles in published]
                self._publish(published)
            _log_published(published)
            async with self._changed:
                self.pending -= sum(len(candles.data) for candles in batch)
                self._changed.notify_all()

    async def finish(self) -> None:
        """Wait until everything that was taken in is published."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.pending == 0)

    def give_up(self) -> None:
        """From now on a store that does not answer is not tried again."""
        self._giving_up.set()

    async def _stored(self, batch: Sequence[FeedCandles]) -> list[FeedCandles]:
        """Store a batch and return it as the store holds it."""
        by_symbol: dict[str, list[MarketCandles]] = {}
        for candles in batch:
            by_symbol.setdefault(candles.data.symbol, []).append(candles.data)
        differing: dict[str, MarketCandles] = {}
        for symbol, parts in by_symbol.items():
            found = await self._persist(concatenate(parts))
            if found is not None:
                differing[symbol] = found
        return [
            replace(candles, data=_rows_at(found, candles.data))
            if (found := differing.get(candles.data.symbol)) is not None
            else candles
            for candles in batch
        ]

    async def _persist(self, data: MarketCandles) -> MarketCandles | None:
        for pause_s in self._pauses():
            try:
                found = await asyncio.to_thread(self._append, data)
            except Unavailable as error:
                self.problem = str(error)
                if self._giving_up.is_set():
                    raise
                log.warning("candles wait for the store", problem=str(error), pending=self.pending, pause_s=round(pause_s, 1))
                await self._pause(pause_s)
            else:
                self.problem = ""
                return found
        raise AssertionError("pauses without end have ended")

    def _append(self, data: MarketCandles) -> MarketCandles | None:
        """Append, and return what the store holds of these times if that may be something else."""
        result = self._store.append(data)
        held = None
        if result.conflicting or result.completed:
            first, last = to_datetime(data.open_times[0]), to_datetime(data.candles.close_times[-1])
            held = self._store.read_market(data.symbol, data.timeframe, first, last)
        if result.conflicting:
            shown = [moment.isoformat() for moment in result.conflicting[:5]]
            log.warning("candles differ from stored ones, which stay", symbol=data.symbol, open_times=shown)
        self.conflicting += len(result.conflicting)
        self.stored += len(data) - len(result.conflicting)
        return held

    async def _pause(self, pause_s: float) -> None:
        try:
            await asyncio.wait_for(self._giving_up.wait(), pause_s)
        except TimeoutError:
            return


def _log_published(published: Sequence[FeedCandles]) -> None:
    """Log one line a symbol: a replay at full speed brings thousands of candles at once."""
    by_symbol: dict[str, list[FeedCandles]] = {}
    for candles in published:
        by_symbol.setdefault(candles.data.symbol, []).append(candles)
    for symbol, parts in by_symbol.items():
        first, last = parts[0].data.candles, parts[-1].data.candles
        log.info(
            "candles published",
            symbol=symbol,
            timeframe=last.timeframe.name,
            count=sum(len(each.data) for each in parts),
            first=to_datetime(first.close_times[0]).isoformat(),
            candle=to_datetime(last.close_times[-1]).isoformat(),
            origin=parts[-1].origin.value,
        )


def _rows_at(held: MarketCandles, like: MarketCandles) -> MarketCandles:
    rows = np.isin(held.open_times, like.open_times)
    candles = CandleSeries(
        symbol=held.symbol, timeframe=held.timeframe, open_times=held.open_times[rows], values=held.candles.values[rows]
    )
    return MarketCandles(candles=candles, side=held.side, details=held.details[rows])
