"""The candles of a store, handed out as a live feed hands out its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import numpy as np
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from fxcast.adapters.feeds.port import Emit, FeedCandles, FeedState, FeedStatus, Origin
from fxcast.adapters.feeds.replay import Pace
from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime, to_datetime64
from fxcast.domain.market import MarketCandles
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]

_LONGEST_PAUSE_S = 60.0  # between tries to read a store that does not answer
_EVER = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


class StoreReplay:
    """Implements `port.CandleFeed` over a candle store: one candle at a time, in the order of their closes, then of the symbols.

    It holds a month of each symbol in memory.

    Args:
        start: Candles that open before it are not replayed; by default all are.
        stop: Nor are those that open at or after it.
        speed: How many times faster than the market, gaps and weekends included; None: as fast as candles are consumed.
        sleep: Waits for a number of seconds.
        now_s: A clock in seconds that never goes back.
        last_closes: By symbol; of a symbol that is named, candles that close at or before it are left out.

    Raises:
        BadSetting: If the speed is not above zero.
    """

    def __init__(
        self,
        store: CandleStore,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime | None = None,
        stop: datetime | None = None,
        speed: float | None = None,
        sleep: Sleep = asyncio.sleep,
        *,
        now_s: Callable[[], float] = time.monotonic,
        last_closes: Mapping[str, datetime | None] | None = None,
    ) -> None:
        self._store = store
        self._symbols = tuple(sorted(set(symbols)))
        self._timeframe = timeframe
        self._start, self._stop = start or _EVER[0], stop or _EVER[1]
        self._pace = Pace(speed, now_s)
        self._sleep = sleep
        self._last_closes = {} if last_closes is None else dict(last_closes)
        self._status = FeedStatus()

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    @property
    def timeframe(self) -> Timeframe:
        return self._timeframe

    def status(self) -> FeedStatus:
        return self._status

    async def run(self, emit: Emit) -> None:
        """Replay the period; a store that does not answer is asked again until it does.

        Raises:
            BadCandles: If the store holds no candle of the period of a symbol, or a file can't be read.
        """
        start, stop = await self._reading(self._period)
        self._status.state = FeedState.LIVE
        for since, until in _months(start, stop):
            month = await self._reading(lambda since=since, until=until: self._month(since, until))
            for candle in _in_order(month):
                closed_at = to_datetime(candle.candles.close_times[0])
                await self._wait(self._pace.pause_s(closed_at))
                await emit(FeedCandles(data=candle, origin=Origin.REPLAY))
                self._status.candles_emitted += 1
                self._status.last_candle = closed_at
        self._status.state = FeedState.FINISHED

    async def _wait(self, pause_s: float) -> None:
        if pause_s > 0:
            await self._sleep(pause_s)
        else:
            await asyncio.sleep(0)  # let others run: `emit` may never have to wait

    def _period(self) -> tuple[datetime, datetime]:
        """Return when the first candle to replay opens, at the earliest, and the last one, at the latest."""
        bounds = list[tuple[datetime, datetime]]()
        for symbol in self._symbols:
            span = self._store.span(symbol, self._timeframe)
            if span is None:
                self._store.read(symbol, self._timeframe)  # says what there is
                continue
            first, last = span[0], span[1]
            if last <= self._start or first >= self._stop or self._start >= self._stop:
                found = f"none of {symbol} {self._timeframe} from {self._start:%Y-%m-%d %H:%M} to {self._stop:%Y-%m-%d %H:%M}"
                held = f"a period around some; the store holds {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
                raise BadCandles("candles", found, held)
            done = self._last_closes.get(symbol)
            earliest = self._start if done is None else max(self._start, done - self._timeframe.duration)
            bounds.append((max(first, earliest), min(last, self._stop)))
        return min(first for first, _ in bounds), max(last for _, last in bounds)

    def _month(self, since: datetime, until: datetime) -> list[MarketCandles]:
        parts = list[MarketCandles]()
        for symbol in self._symbols:
            data = self._store.read_market(symbol, self._timeframe, since, until)
            last_close = self._last_closes.get(symbol)
            if last_close is not None:
                done = int(np.searchsorted(data.candles.close_times, to_datetime64(last_close), side="right"))
                data = data.slice(done, len(data))
            parts.append(data)
        return parts

    async def _reading(self, read: Callable[[], T]) -> T:
        """Read in a thread of its own, again and again while the store does not answer."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_random_exponential(max=_LONGEST_PAUSE_S),
            sleep=self._sleep,
            before_sleep=self._say_waiting,
        )
        before = self._status.state
        answer = await retrying(asyncio.to_thread, read)
        self._status.state, self._status.problem = before, ""
        return answer

    def _say_waiting(self, state: RetryCallState) -> None:
        problem = str(state.outcome.exception()) if state.outcome is not None else ""
        self._status.state, self._status.problem = FeedState.WAITING, problem
        log.warning("replay waits for its store", problem=problem, attempt=state.attempt_number)


def _months(start: datetime, stop: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the months of [start, stop), in order."""
    since = start
    while since < stop:
        turn = (since.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(day=1)
        yield since, min(turn, stop)
        since = turn


def _in_order(parts: Sequence[MarketCandles]) -> Iterator[MarketCandles]:
    """Yield the candles one by one, by close, then by symbol; all are of one timeframe, so the open says it."""
    opens = np.concatenate([part.open_times for part in parts])
    of_part = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    at = np.concatenate([np.arange(len(part)) for part in parts])
    for position in np.lexsort((of_part, opens)):
        one = int(at[position])
        yield parts[int(of_part[position])].slice(one, one + 1)
