"""Tell open pages at once that something is new; a page that nobody changes costs one connection and no request.

One thread looks for all pages, and only while one is open: at the candle store's newest files and at the database's pulse.
"""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import asdict

import structlog

from fxcast.adapters.storage.pulse import read_pulse
from fxcast.errors import FxcastError
from fxcast.web.sources import Sources

LOOK_S = 0.4  # a candle that is stored is on the page within a second
_SILENCE_S = 10.0  # after which a connection is told that nothing is new, so that a dead one is noticed
_STREAM_S = 20.0  # then the browser connects again: Serve's proxy ends a request after its request_timeout_s, with an error
_AGAIN_MS = 300  # after how long

Marks = Mapping[str, str]  # what changes (candles, database) to a text that differs when it did; or a problem

log = structlog.get_logger(__name__)


class Watch:
    """What is new, for any number of listeners.

    Args:
        look: Returns the marks; takes as long as it takes, in a thread of its own.
        look_s: Pause between two looks.
        stream_s: How long a listener is told.
    """

    def __init__(self, look: Callable[[], Marks], *, look_s: float = LOOK_S, stream_s: float = _STREAM_S) -> None:
        self._look = look
        self._look_s = look_s
        self._stream_s = stream_s
        self._marks: Marks = {}
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def listeners(self) -> int:
        """How many pages are open."""
        with self._lock:
            return len(self._listeners)

    async def events(self) -> AsyncGenerator[str]:
        """Yield server-sent events for a while: the marks at once, whenever they differ, and now and again that nothing does."""
        changed, loop = asyncio.Event(), asyncio.get_running_loop()
        with self._lock:
            self._listeners[changed] = loop
            if self._thread is None:
                self._thread = threading.Thread(target=self._look_while_heard, name="watch", daemon=True)
                self._thread.start()
        told: Marks = {}
        ends = loop.time() + self._stream_s
        try:
            yield f"retry: {_AGAIN_MS}\n\n"
            while (left := ends - loop.time()) > 0:
                marks = self._marks
                if marks != told:
                    told = marks
                    yield f"event: marks\ndata: {json.dumps(dict(marks), sort_keys=True)}\n\n"
                try:
                    await asyncio.wait_for(changed.wait(), min(_SILENCE_S, left))
                    changed.clear()
                except TimeoutError:
                    yield "event: silence\ndata: {}\n\n"
        finally:
            with self._lock:
                del self._listeners[changed]

    def _look_while_heard(self) -> None:
        pause = threading.Event()
        while True:
            marks = self._looked()
            with self._lock:
                if not self._listeners:
                    self._thread = None
                    return
                if marks != self._marks:
                    self._marks = marks
                    for event, loop in self._listeners.items():
                        if not loop.is_closed():  # the server was stopped under its listeners
                            loop.call_soon_threadsafe(event.set)
            pause.wait(self._look_s)

    def _looked(self) -> Marks:
        try:
            return self._look()
        except Exception as error:  # noqa: BLE001  # a bug too: without this thread pages would say "live" and hear nothing
            # As text: structlog's own rendering prints the local variables of every frame.
            log.error("not looked", exception="".join(traceback.format_exception(error)))
            return {"failed": type(error).__name__}


def marks_of(sources: Sources) -> Marks:
    """Look at the candle store and the database; what does not answer says so in its mark."""
    marks: dict[str, str] = {}
    for name, look in (("candles", lambda: _candles(sources)), ("database", lambda: _database(sources))):
        try:
            marks[name] = look()
        except FxcastError as error:
            marks[name] = f"problem: {error}"
    return marks


def _candles(sources: Sources) -> str:
    newest = {f"{symbol} {timeframe}": name for (symbol, timeframe), name in sources.candles.newest_parts().items()}
    return json.dumps(newest, sort_keys=True)


def _database(sources: Sources) -> str:
    return json.dumps(asdict(read_pulse(sources.database)), default=str, sort_keys=True)
