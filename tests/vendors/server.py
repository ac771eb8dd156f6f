"""A vendor's server in a thread of its own: what OANDA and Tiingo have in common."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from aiohttp import web

from fxcast.domain.tick import Tick
from tests.ports import free_port
from tests.vendors.script import MINUTE, AtTick, Fault, OnConnect, OnHistory, Script, VendorCandle, Wrong

_AHEAD = timedelta(minutes=5)
_LATENESS = timedelta(seconds=3)  # more than clients allow quotes by default: then the candle before is closed
_HEARTBEAT = timedelta(seconds=5)
_LAG_CANDLES = 2
_IDLE_S = 0.02  # between signs of life after the end of the script
_DELAY_S = 0.1
RETRY_AFTER_S = 7


@dataclass(kw_only=True)
class Seen:
    """What a server saw of its clients; written by its thread only."""

    connects: int = 0
    history_requests: int = 0
    symbols: list[str] = field(default_factory=list[str])  # of the last subscription


class Outlet(ABC):
    """The stream to one client; sending raises ConnectionError or OSError once the client has left."""

    @abstractmethod
    async def tick(self, tick: Tick) -> None: ...

    @abstractmethod
    async def heartbeat(self, now: datetime) -> None: ...

    @abstractmethod
    async def garbage(self) -> None: ...

    @abstractmethod
    def abort(self) -> None: ...


class VendorServer(ABC):
    """Plays a script to one client at a time, as fast as it is read, in simulated time; a context manager.

    The script begins at `begin` with the first connect; what lies before is history. It goes on while no client is there only as
    far as a fault's `missed` says.

    Args:
        begin: Of the stream.
        faults: Each happens once.
        in_step: Never be more than five minutes of simulated time ahead of the candles that `acknowledge` was told of, so that
            clients see every quote live but those that a fault keeps from them; and lose no connection before they have what came.
    """

    def __init__(self, script: Script, *, begin: datetime, faults: Sequence[Fault] = (), in_step: bool = False) -> None:
        self.script = script
        self.seen = Seen()
        self._position = script.position(begin)
        self._begin = self._now = begin
        self._at_tick = sorted((fault for fault in faults if isinstance(fault, AtTick)), key=lambda fault: fault.after)
        self._on_connect = {number: fault.wrong for fault in faults if isinstance(fault, OnConnect) for number in fault.numbers}
        self._on_history = {number: fault.wrong for fault in faults if isinstance(fault, OnHistory) for number in fault.numbers}
        self._in_step = in_step
        self._acknowledged = begin
        self._client = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True, name=type(self).__name__)
        self._stop = asyncio.Event()
        self._port = free_port()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60), "the server did not start"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self._port}"

    def acknowledge(self, close_time: datetime) -> None:
        """Note that the client has a candle that closed then; from any thread."""
        self._acknowledged = max(self._acknowledged, close_time)

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """Return what the server answers."""

    def refusal_of_connect(self) -> Wrong | None:
        """Count a connect, and say what is wrong with it."""
        self.seen.connects += 1
        return self._on_connect.get(self.seen.connects)

    def refusal_of_history(self) -> Wrong | None:
        """Count a request, and say what is wrong with it."""
        self.seen.history_requests += 1
        return self._on_history.get(self.seen.history_requests)

    def candles(
        self, symbol: str, start: datetime, stop: datetime, wrong: Wrong | None, length: timedelta = MINUTE
    ) -> list[tuple[VendorCandle, bool]]:
        """Return what is known of [start, stop) now, and of each candle whether it is complete."""
        candles = [
            (candle, candle.close_time <= self._now)
            for candle in self.script.candles(symbol, self._now, length)
            if start <= candle.open_time < stop
        ]
        return candles[:-_LAG_CANDLES] if wrong is Wrong.LAG else candles

    async def play(self, outlet: Outlet, symbols: Sequence[str], wrong: Wrong | None) -> None:
        """Send what comes to a client that has been accepted, until it leaves."""
        self.seen.symbols = list(symbols)
        if wrong is Wrong.CLOSE:
            return
        if wrong is Wrong.SILENT:
            await self._stop.wait()
            return
        self._client += 1
        if self._position:
            self._now = max(self._now, self.script.ticks[self._position - 1].time)  # what a client that left did not see is over
        self._acknowledged = max(self._acknowledged, self._now)
        try:
            if await self._play_script(outlet, symbols):
                while not self._stop.is_set():
                    await outlet.heartbeat(self._now)
                    await asyncio.sleep(_IDLE_S)
        except OSError:
            return  # it has left

    async def _play_script(self, outlet: Outlet, symbols: Sequence[str]) -> bool:
        """Return whether the script came to its end."""
        ticks, client = self.script.ticks, self._client
        await outlet.heartbeat(self._now)
        next_heartbeat = self._now + _HEARTBEAT
        while self._position < len(ticks):
            tick = ticks[self._position]
            await self._idle(outlet, until=tick.time - _AHEAD)
            if tick.time >= next_heartbeat:
                await outlet.heartbeat(self._now)
                next_heartbeat = tick.time + _HEARTBEAT
            if client != self._client:
                return False  # a new one is served, though this one's leaving was not noticed yet
            fault = self._fault_at(tick.time)
            if fault is not None and fault.wrong in {Wrong.DROP, Wrong.SILENT}:
                await self._idle(outlet, until=(self._now - _LATENESS).replace(second=0, microsecond=0))
                self._now = tick.time + fault.missed
                self._position = max(self._position, self.script.position(self._now))
                if fault.wrong is Wrong.DROP:
                    outlet.abort()
                else:
                    await self._stop.wait()
                return False
            count = 1 if fault is None else fault.count
            if fault is not None and fault.wrong is Wrong.LATE:
                closed = tick.time.replace(second=0, microsecond=0) + MINUTE
                count = self.script.position(closed + _HEARTBEAT) - self._position
            batch = ticks[self._position : self._position + count]
            self._position += len(batch)
            for sent in batch if fault is None else await self._spoiled(outlet, batch, fault):
                self._now = max(self._now, sent.time)
                if sent.symbol in symbols:
                    await outlet.tick(sent)
        self._now += _HEARTBEAT
        return True

    def _fault_at(self, moment: datetime) -> AtTick | None:
        """Return the fault that is due, once."""
        if not self._at_tick or moment < self._begin + self._at_tick[0].after:
            return None
        return self._at_tick.pop(0)

    async def _spoiled(self, outlet: Outlet, batch: Sequence[Tick], fault: AtTick) -> list[Tick]:
        """Return the quotes as a fault has them; what can't be expressed so is sent at once."""
        match fault.wrong:
            case Wrong.DUPLICATE:
                return [tick for tick in batch for _ in range(2)]
            case Wrong.REORDER:
                swapped = list(batch)
                for earlier in range(0, len(batch) - 1, 2):
                    swapped[earlier : earlier + 2] = reversed(swapped[earlier : earlier + 2])
                return swapped
            case Wrong.LATE:
                return [*batch[1:], batch[0]]
            case Wrong.DELAY:
                await asyncio.sleep(_DELAY_S)
            case Wrong.MALFORMED:
                for _ in batch:
                    await outlet.garbage()
            case Wrong.UNEXPECTED:
                for tick in batch:
                    await outlet.tick(tick._replace(symbol="GBPCHF"))
            case other:
                raise AssertionError(f"{other} does not happen at a tick")
        return list(batch)

    async def _idle(self, outlet: Outlet, until: datetime) -> None:
        """Send signs of life until the client has candles up to a moment."""
        while self._in_step and until > self._acknowledged and not self._stop.is_set():
            await outlet.heartbeat(self._now)
            await asyncio.sleep(_IDLE_S)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._run())
        self._loop.close()

    async def _run(self) -> None:
        application = web.Application()
        application.add_routes(self.routes())
        runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()
        rest = asyncio.all_tasks() - {asyncio.current_task()}  # handlers that were silent
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
