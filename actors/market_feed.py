"""Market data as a Ray actor: one a provider, named, detached, restarted without limit.

Its constructor starts the feed, so that start and restart are one path: it goes on after the last candle that the store holds of
each symbol. Subscribers ask for what is new (`actors.subscription`); the feed does not know them.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from traceback import format_tb
from typing import Any, Literal, Self, cast

import ray
import structlog
from pydantic import AwareDatetime, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError
from ray.actor import ActorHandle

from actors.feed_channel import FeedChannel, News
from actors.feed_meters import FeedMeters
from actors.feed_writer import FeedWriter
from fxcast import logs, tracing
from fxcast.adapters.backoff import backoff
from fxcast.adapters.clock import SystemClock
from fxcast.adapters.feeds.live import LiveFeed, LiveSettings
from fxcast.adapters.feeds.port import CandleFeed, FeedCandles, FeedState, FeedStatus
from fxcast.adapters.feeds.store_replay import StoreReplay
from fxcast.adapters.feeds.vendors import VendorSettings, open_vendor
from fxcast.config import Settings
from fxcast.data.store import CandleStore, absolute_location
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetup, Refused, Unavailable

log = structlog.get_logger(__name__)

NAMESPACE = "fxcast"
ENDED = frozenset({FeedState.FINISHED, FeedState.STOPPED, FeedState.REFUSED, FeedState.FAILED})  # a feed does not leave them
_SUBSCRIBERS = 32  # that wait at the same time; more are answered in turn
_LONGEST_WAIT_S = 60.0  # of a subscriber for news


class FeedSettings(Settings):
    """What a feed brings, from where, and the store that it goes into. Credentials come from the process's environment alone."""

    provider: Literal["oanda", "tiingo", "replay"] = "replay"
    symbols: tuple[str, ...] = Field(default=("EURUSD",), min_length=1)
    timeframe: str = "1m"
    store: str = Field(default="runs/store", description="root of the candle store that the candles go into")
    source: str | None = Field(default=None, description="replay: root of the candle store that is replayed")
    start: AwareDatetime | None = Field(default=None, description="replay: the first candle opens at or after it")
    stop: AwareDatetime | None = Field(default=None, description="replay: candles that open at or after it are not replayed")
    speed: float | None = Field(default=None, gt=0, description="replay: times faster than the market; as fast as possible without")
    vendor: VendorSettings = VendorSettings()
    live: LiveSettings = LiveSettings()
    kept_candles: int = Field(default=10_000, ge=1, description="kept for subscribers; who is further behind reads the store")
    most_pending: int = Field(default=10_000, ge=1, description="candles that wait for the store before the feed has to")

    @field_validator("symbols")
    @classmethod
    def _check_symbols(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        for symbol in symbols:
            if len(symbol) != 6 or not symbol.isalpha() or not symbol.isupper():
                raise PydanticCustomError("symbol", "not six capital letters, as in EURUSD")
        return tuple(dict.fromkeys(symbols))

    @field_validator("timeframe")
    @classmethod
    def _check_timeframe(cls, timeframe: str) -> str:
        try:
            return Timeframe(timeframe).name
        except BadCandles as error:
            raise PydanticCustomError("timeframe", "allowed: {allowed}", {"allowed": error.allowed}) from None

    @model_validator(mode="after")
    def _check_replay(self) -> Self:
        if self.provider != "replay":
            given = [name for name in ("source", "start", "stop", "speed") if getattr(self, name) is not None]
            if given:
                problem = "{name} is for the provider replay, not for {provider}"
                raise PydanticCustomError("replay", problem, {"name": given[0], "provider": self.provider})
        elif self.source is None:
            raise PydanticCustomError("replay", "source: missing; a replay needs the candle store that it replays")
        elif absolute_location(self.source) == absolute_location(self.store):
            raise PydanticCustomError("replay", "source and store are the same; replay into another store")
        return self

    def absolute(self) -> Self:
        """Return the same with absolute paths: the actor's process has another working directory."""
        source = None if self.source is None else absolute_location(self.source)
        return self.model_copy(update={"store": absolute_location(self.store), "source": source})


LastCloses = Mapping[str, datetime | None]
OpenFeed = Callable[[FeedSettings, LastCloses], CandleFeed]


def open_feed(settings: FeedSettings, last_closes: LastCloses) -> CandleFeed:
    """Return the feed that the settings describe, to go on after these closes.

    Raises:
        BadCredentials: If the environment lacks a vendor's credentials.
        BadSetting: If the source's URI is unknown.
    """
    timeframe = Timeframe(settings.timeframe)
    if settings.source is not None:  # only a replay has one
        source = CandleStore(settings.source)
        return StoreReplay(
            source, settings.symbols, timeframe, settings.start, settings.stop, settings.speed, last_closes=last_closes
        )
    vendor = open_vendor(settings.provider, settings.vendor)
    return LiveFeed(vendor, settings.symbols, timeframe, last_closes, clock=SystemClock(), settings=settings.live)


class MarketFeedShell:
    """Holds a feed, the writer behind it and the thread they run on.

    Args:
        settings: What comes from where.
        open_feed: Opens the feed.
        pauses: Begins the pauses, in seconds, between two tries of a store that does not answer.
    """

    def __init__(
        self,
        settings: FeedSettings,
        open_feed: OpenFeed = open_feed,
        pauses: Callable[[], Iterator[float]] = backoff,
    ) -> None:
        self._settings = settings
        self._open_feed = open_feed
        self._pauses = pauses
        self._channel = FeedChannel(settings.kept_candles)
        self._feed: CandleFeed | None = None
        self._writer: FeedWriter | None = None
        self._end: FeedState | None = None
        self._problem = ""
        self._stopping = threading.Event()
        self.meters = FeedMeters(settings.provider, settings.symbols, Timeframe(settings.timeframe).duration, self.status)
        self.meters.board.start()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def settings(self) -> FeedSettings:
        """Say what the feed brings and where it goes; holds no credential."""
        return self._settings

    def status(self) -> dict[str, Any]:
        """Say what the feed is doing, in plain types: `FeedStatus` and what became of its candles.

        It has finished only when everything is stored and published; a store that does not answer makes it wait.
        """
        feed, writer = self._feed, self._writer
        said = (FeedStatus() if feed is None else feed.status()).to_dict()
        state, problem = FeedState(said["state"]), said["problem"] or self._problem
        if self._end is not None:
            state, problem = self._end, self._problem
        elif writer is not None and writer.problem:
            state, problem = FeedState.WAITING, writer.problem
        elif feed is None and self._problem:
            state = FeedState.WAITING
        elif state in ENDED:
            state = FeedState.LIVE  # as seen from outside: the last candles are still being stored
        return {
            **said,
            "state": state.value,
            "problem": problem,
            "pid": os.getpid(),
            "provider": self._settings.provider,
            "symbols": list(self._settings.symbols),
            "stored": 0 if writer is None else writer.stored,
            "conflicting": 0 if writer is None else writer.conflicting,
            "pending": 0 if writer is None else writer.pending,
        }

    def candles_after(self, epoch: str, sequence: int | None, timeout_s: float) -> News:
        """Return what was published after a sequence number, as soon as there is something; see `FeedChannel.after`."""
        return self._channel.after(epoch, sequence, min(timeout_s, _LONGEST_WAIT_S))

    def stop(self) -> None:
        """End the feed; what it has handed out is still stored and published, if the store answers."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._end = asyncio.run(self._bring())
        except Refused as error:
            self._problem, self._end = str(error), FeedState.REFUSED
            log.error("feed refused", provider=self._settings.provider, problem=self._problem)
        except Unavailable as error:  # only a feed that is being stopped gives up
            self._problem, self._end = str(error), FeedState.STOPPED
            log.warning("feed stopped before all was stored", provider=self._settings.provider, problem=self._problem)
        except Exception as error:  # noqa: BLE001  # nobody awaits this thread: its status alone can tell the caller of a bug
            # Its class and where it came from: an unforeseen text may hold an address, and addresses may hold a credential.
            self._problem, self._end = type(error).__name__, FeedState.FAILED
            trace = "".join(format_tb(error.__traceback__))
            log.error("feed failed", provider=self._settings.provider, problem=self._problem, traceback=trace)
        finally:
            self._channel.end()

    async def _bring(self) -> FeedState:
        store = CandleStore(self._settings.store)
        last_closes = self._last_closes(store)
        if last_closes is None:
            return FeedState.STOPPED
        self._feed = feed = self._open_feed(self._settings, last_closes)
        self._writer = writer = FeedWriter(store, self._publish, most_pending=self._settings.most_pending, pauses=self._pauses)
        writing = asyncio.create_task(writer.run())
        feeding = asyncio.create_task(feed.run(writer.put))
        stopping = asyncio.create_task(asyncio.to_thread(self._stopping.wait))
        try:
            await _first_of(feeding, writing, stopping)
            finished = feeding.done()
            await _cancel(feeding)
            finishing = asyncio.create_task(writer.finish())
            if finished:
                await _first_of(finishing, writing, stopping)
            if not finishing.done():  # being stopped: what was handed out is still stored, if the store answers
                writer.give_up()
                await _first_of(finishing, writing)
            writing.cancel()
            if finished:
                feeding.result()  # what refused or failed
            return FeedState.FINISHED if finished else FeedState.STOPPED
        finally:
            self._stopping.set()  # lets the thread that waits for it go
            await _cancel(feeding, writing, stopping)

    def _publish(self, batch: Sequence[FeedCandles]) -> None:
        self._channel.publish(batch)
        self.meters.published(batch)

    def _last_closes(self, store: CandleStore) -> LastCloses | None:
        """Return the close of the last stored candle by symbol; None if the feed was stopped before the store answered."""
        timeframe = Timeframe(self._settings.timeframe)
        for pause_s in self._pauses():
            if self._stopping.is_set():
                break
            try:
                spans = {symbol: store.span(symbol, timeframe) for symbol in self._settings.symbols}
            except Unavailable as error:
                self._problem = str(error)
                log.warning("feed waits for the store", problem=self._problem, pause_s=round(pause_s, 1))
                self._stopping.wait(pause_s)
            else:
                self._problem = ""
                return {symbol: None if span is None else span[1] for symbol, span in spans.items()}
        return None


async def _first_of(first: asyncio.Task[Any], writing: asyncio.Task[None], *others: asyncio.Task[Any]) -> None:
    """Wait until one is done; only what ended the writing is raised here, for it never ends by itself."""
    await asyncio.wait((first, writing, *others), return_when=asyncio.FIRST_COMPLETED)
    if writing.done():
        writing.result()


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class MarketFeed(MarketFeedShell):
    """The shell in a process of its own, which it sets up."""

    def __init__(
        self, settings: FeedSettings, open_feed: OpenFeed = open_feed, pauses: Callable[[], Iterator[float]] = backoff
    ) -> None:
        logs.configure_actor()
        tracing.configure("fxcast-feed")
        super().__init__(settings, open_feed, pauses)


# Marked and wrapped, not decorated: so methods and class keep their types. These answer however many subscribers wait.
for _method in (MarketFeedShell.settings, MarketFeedShell.status, MarketFeedShell.stop):
    ray.method(concurrency_group="control")(_method)
MarketFeedActor: Any = cast("Any", ray.remote)(concurrency_groups={"control": 4})(MarketFeed)  # an option without a type


def actor_name(provider: str) -> str:
    """Return the name under which a provider's feed is found."""
    return f"feed-{provider}"


def start_feed(settings: FeedSettings) -> ActorHandle[Any]:
    """Start a provider's feed on the connected cluster; its credentials are those of the environment of Ray's processes there.

    Raises:
        BadSetup: If one runs already.
    """
    if find_feed(settings.provider) is not None:
        raise BadSetup(f"a feed of {settings.provider} runs already; attach to it with --attach, or stop it first with --stop")
    options = {
        "name": actor_name(settings.provider),
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "max_restarts": -1,
        "max_task_retries": 0,  # a subscriber asks again by itself
        "max_concurrency": _SUBSCRIBERS,
        "num_cpus": 0.1,
    }
    return MarketFeedActor.options(**options).remote(settings.absolute())


def find_feed(provider: str) -> ActorHandle[Any] | None:
    """Return a provider's feed if it runs."""
    try:
        return ray.get_actor(actor_name(provider), namespace=NAMESPACE)
    except ValueError:
        return None
