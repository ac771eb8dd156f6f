"""Open pages hear of news: at once, each of them, and nobody looks while none is open."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from fxcast.adapters.clock import SystemClock
from fxcast.adapters.storage.controls import request_kill_switch
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.data.store import CandleStore
from fxcast.trading.state import KillSwitch
from fxcast.web.live import Watch, marks_of
from fxcast.web.sources import Sources
from tests.factories import make_series


def told(event: str) -> dict[str, str] | None:
    return json.loads(event.split("data: ", 1)[1]) if event.startswith("event: marks") else None


def test_every_listener_is_told_what_is_new_and_only_that() -> None:
    marks = {"candles": "1"}
    watch = Watch(lambda: dict(marks), look_s=0.01, stream_s=0.5)

    async def listened() -> list[dict[str, str]]:
        found = [told(event) async for event in watch.events()]
        return [each for each in found if each is not None]

    async def change() -> None:
        await asyncio.sleep(0.15)
        marks["candles"] = "2"

    async def both() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        first, second, _ = await asyncio.gather(listened(), listened(), change())
        return first, second

    first, second = asyncio.run(both())
    assert first == second == [{"candles": "1"}, {"candles": "2"}]
    assert watch.listeners == 0


def test_nobody_looks_while_no_page_is_open() -> None:
    looks: list[float] = []

    def look() -> dict[str, str]:
        looks.append(time.monotonic())
        return {}

    watch = Watch(look, look_s=0.01, stream_s=0.1)

    async def listen() -> list[str]:
        return [event async for event in watch.events()]

    assert looks == []
    assert asyncio.run(listen())[-1] == "event: silence\ndata: {}\n\n", "also that nothing is new is said"
    time.sleep(0.1)  # for the last look to end
    before = len(looks)
    time.sleep(0.1)
    assert len(looks) == before > 1
    asyncio.run(listen())
    assert len(looks) > before, "and the next page starts it anew"


def test_a_look_that_fails_is_told_and_the_next_one_is_made_all_the_same() -> None:
    looks = iter([{"candles": "1"}, OSError("a bug"), {"candles": "2"}])
    last: dict[str, str] = {"candles": "2"}

    def look() -> dict[str, str]:
        found = next(looks, last)
        if isinstance(found, OSError):
            raise found
        return found

    watch = Watch(look, look_s=0.1, stream_s=0.8)

    async def listen() -> list[dict[str, str] | None]:
        return [told(event) async for event in watch.events()]

    marks = [each for each in asyncio.run(listen()) if each is not None]
    assert marks == [{"candles": "1"}, {"failed": "OSError"}, {"candles": "2"}]


def test_marks_differ_after_a_candle_a_request_and_a_loss(tmp_path: Path) -> None:
    url, store = f"sqlite:///{tmp_path / 'fxcast.db'}", tmp_path / "store"
    migrate(url)
    series = make_series([1.1, 1.2, 1.3])
    CandleStore(store).append(series.slice(0, 2))
    clock = SystemClock()
    sources = Sources(database_url=url, store=str(store), api_url="http://127.0.0.1:1", api_token=None, clock=clock.now)
    first = marks_of(sources)
    assert marks_of(sources) == first
    CandleStore(store).append(series.slice(2, 3))
    second = marks_of(sources)
    assert second["candles"] != first["candles"]
    assert second["database"] == first["database"]
    database = open_database(url)
    request_kill_switch(database, "demo", KillSwitch.HALTED, "a person", "", clock.now())
    database.dispose()
    assert marks_of(sources)["database"] != second["database"]
    (tmp_path / "fxcast.db").rename(tmp_path / "away.db")
    assert "there is no such file" in marks_of(sources)["database"]
    (tmp_path / "away.db").rename(tmp_path / "fxcast.db")
    assert "problem" not in marks_of(sources)["database"]
    assert "no answer" in sources.service_problem()
    sources.close()
