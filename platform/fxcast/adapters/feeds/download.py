"""Bring a vendor's past candles into the store, chunk by chunk, so that a second run fetches only what the first did not."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from fxcast.adapters.feeds.port import QuoteFeed
from fxcast.data.store import AppendResult, CandleStore
from fxcast.domain import calendar
from fxcast.domain.candle import to_datetime, to_datetime64
from fxcast.domain.market import MarketCandles
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetup, RateLimited, Unavailable

log = structlog.get_logger(__name__)

Period = tuple[datetime, datetime]
Sleep = Callable[[float], Awaitable[None]]

_UNSETTLED = timedelta(minutes=10)  # a vendor may still add to its latest candles, or change them; the store keeps what came first
_HOUR = timedelta(hours=1)
_LONGEST_PAUSE_S = 60.0  # between tries, where the vendor does not ask for more


class FetchedPeriods:
    """A record of the periods of one series that have been fetched completely; a small JSON file, replaced as a whole.

    Args:
        file: Where it is, or will be.
        store: Where the candles went; a record is worth nothing for another store.

    Raises:
        BadSetup: If the file is no such record, or one of another store.
    """

    def __init__(self, file: Path, store: str) -> None:
        self._file = file
        self._store = store
        self._periods: list[Period] = []
        if file.exists():
            self._periods = self._load()

    def missing(self, start: datetime, stop: datetime) -> list[Period]:
        """Return what of [start, stop) was not fetched, in order."""
        gaps: list[Period] = []
        for fetched_start, fetched_stop in self._periods:
            if start < min(fetched_start, stop):
                gaps.append((start, min(fetched_start, stop)))
            start = max(start, fetched_stop)
        if start < stop:
            gaps.append((start, stop))
        return gaps

    def add(self, start: datetime, stop: datetime) -> None:
        """Note that [start, stop) is in the store."""
        self._periods = joined([*self._periods, (start, stop)])
        self._save()

    def forget(self) -> None:
        """Begin anew: the store has lost what it had."""
        self._periods = []

    def _load(self) -> list[Period]:
        try:
            record = json.loads(self._file.read_text(encoding="utf-8"))
            store = record["store"]
            periods = [(datetime.fromisoformat(start), datetime.fromisoformat(stop)) for start, stop in record["fetched"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadSetup(f"{self._file}: not a record of downloads ({type(error).__name__}); remove it to fetch again") from None
        if store != self._store:
            raise BadSetup(
                f"{self._file} tells what was fetched into {store}, not into {self._store}; set another folder for records"
            )
        return periods

    def _save(self) -> None:
        fetched = [[start.isoformat(), stop.isoformat()] for start, stop in self._periods]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_name(f".{self._file.name}.tmp")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"store": self._store, "fetched": fetched}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A period to be asked for at once."""

    symbol: str
    start: datetime
    stop: datetime


def chunks(
    fetched: FetchedPeriods, symbol: str, timeframe: Timeframe, start: datetime, stop: datetime, chunk_candles: int
) -> list[Chunk]:
    """Cut what is missing of a period into chunks of so many candles."""
    step = chunk_candles * timeframe.duration
    found: list[Chunk] = []
    for gap_start, gap_stop in fetched.missing(start, stop):
        since = gap_start
        while since < gap_stop:
            found.append(Chunk(symbol=symbol, start=since, stop=min(since + step, gap_stop)))
            since += step
    return found


def closed_until(timeframe: Timeframe, now: datetime) -> datetime:
    """Return the open of the candle under way: those that open before it are closed."""
    return to_datetime(timeframe.opening(np.array([to_datetime64(now)]))[0])


def settled_until(timeframe: Timeframe, now: datetime) -> datetime:
    """Return the open of the first candle that a vendor may still change: those that open before it closed ten minutes ago."""
    return closed_until(timeframe, now - _UNSETTLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What became of a chunk.

    Attributes:
        chunk: As far as it had settled.
        is_missing: Nothing came though the market was open for more than an hour; so it is not recorded.
    """

    chunk: Chunk
    result: AppendResult
    is_missing: bool


def joined(periods: Sequence[Period]) -> list[Period]:
    """Return the same periods in order, those that touch as one."""
    found: list[Period] = []
    for start, stop in sorted(periods):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found


async def download(
    vendor: QuoteFeed,
    store: CandleStore,
    wanted: Sequence[tuple[Chunk, FetchedPeriods]],
    timeframe: Timeframe,
    *,
    now: Callable[[], datetime],
    tries: int,
    sleep: Sleep = asyncio.sleep,
) -> AsyncIterator[Brought]:
    """Fetch chunks in order; yield each once it is stored and recorded.

    A chunk is recorded after it is stored, so a run that is killed fetches it again, which changes nothing. One that brought
    nothing though the market was open is not recorded, so that the next run asks again.

    Args:
        now: Tells the time; what had not settled by then (`settled_until`) is not asked for.
        tries: How often a chunk is asked for, at most, while the vendor or the store does not answer. The pauses between grow, up
            to a minute, and are at least as long as the vendor asks for.

    Raises:
        BadCredentials, BadSetting, BadCandles: As the vendor and the store say.
        Unavailable: If they did not answer as often as that.
    """
    for whole, fetched in wanted:
        chunk = replace(whole, stop=min(whole.stop, settled_until(timeframe, now())))
        if chunk.start >= chunk.stop:
            continue

        async def bring(chunk: Chunk = chunk) -> AppendResult:
            data = await vendor.history(chunk.symbol, timeframe, chunk.start, chunk.stop)
            return await asyncio.to_thread(_append, store, data)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            wait=_pause_s,
            stop=stop_after_attempt(tries),
            sleep=sleep,
            before_sleep=_log_pause,
            reraise=True,
        )
        result: AppendResult = await retrying(bring)
        came = result.added + result.completed + result.already_there + len(result.conflicting)
        is_missing = not came and _was_open(chunk.start, chunk.stop)
        if is_missing:
            log.warning("nothing came", symbol=chunk.symbol, start=chunk.start.isoformat(), stop=chunk.stop.isoformat())
        else:
            fetched.add(chunk.start, chunk.stop)
        yield Brought(chunk=chunk, result=result, is_missing=is_missing)


def _was_open(start: datetime, stop: datetime) -> bool:
    """Tell whether the market was open for more than an hour of a period; it opens and closes on full hours of UTC."""
    opened = timedelta(0)
    while start < stop and opened <= _HOUR:
        turn = min(start.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + _HOUR, stop)
        opened += turn - start if calendar.is_open(start) else timedelta(0)
        start = turn
    return opened > _HOUR


def _append(store: CandleStore, data: MarketCandles) -> AppendResult:
    if not len(data):
        return AppendResult(added=0, completed=0, already_there=0, conflicting=())
    return store.append(data)


_growing = wait_random_exponential(multiplier=1.0, max=_LONGEST_PAUSE_S)


def _pause_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    pause_s = _growing(state)
    return error.retry_after_s + pause_s if isinstance(error, RateLimited) else pause_s


def _log_pause(state: RetryCallState) -> None:
    fields: dict[str, Any] = {"attempt": state.attempt_number, "pause_s": round(state.upcoming_sleep, 1)}
    problem = str(state.outcome.exception()) if state.outcome is not None else ""
    log.warning("download waits", problem=problem, **fields)
