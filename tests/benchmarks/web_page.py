"""The page: first paint, an idle page, news to fifty listeners, a candle's way to the chart: python -m tests.benchmarks.web_page.

The site runs in a process of its own, as uvicorn without Ray: what Serve's proxy adds is not in these figures. Its candles are the
packaged sample's, its database has rows in every table; no forecast service answers, and page Vision says so. Listeners are HTTP
clients without a browser.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
from playwright.sync_api import Browser, Page

from fxcast.cluster.local import REPOSITORY
from fxcast.data.packaged import read_packaged_sample
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.web.pages import PAGES
from tests.benchmarks.result import Against, Figure
from tests.browser import visiting
from tests.ports import free_port
from tests.waiting import wait_for
from tests.web_site import Site

_COMMAND = "python -m tests.benchmarks.web_page"
_FOLDER = REPOSITORY / "runs" / "bench"
_LOADS, _IDLE_S, _PAGES, _CANDLES = 5, 40.0, 50, 7
_TO_COME = 60  # candles of the sample that are stored while it is measured
_PAINT_LIMIT_S, _WAY_LIMIT_S = 2.0, 1.0
_TICKS = os.sysconf("SC_CLK_TCK")
_CHART = "document.querySelector('#market-chart .js-plotly-plot')"
_LAST_CANDLE = f"{_CHART}?.data?.find(trace => trace.name === 'candles')?.x?.at(-1)"
_WHEN = "new Promise(found => {{ const look = () => {} ? found(performance.now()) : requestAnimationFrame(look); look(); }})"
_READS = "[...document.querySelectorAll('main .empty')].some(each => each.textContent.startsWith('Reading '))"  # as `page.loading`
_ANSWERS = {  # by path: what stands on a page only once the server has answered all that it shows
    "vision": ("#vision-body .futures, #vision-body .problem",),
    "decisions": ("#decisions-list table",),
    "risk": ("#risk-body .panel",),
    "models": ("#models-registry .panel", "#models-body .panel"),
    "runs": ("#runs-body .panel",),
    "settings": ("#settings-state .panel", "#settings-form details", "#settings-history .panel"),
}
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Seconds from the click to the first paint and until all that the server answers is there, and what came over the network."""

    paint_s: float
    drawn_s: float
    kilobytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """What open pages cost while nothing happens, a minute."""

    cpu_s: float
    bytes_: float


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Seconds from a stored candle until the last listener has heard of it, and until the last has the answer with its chart."""

    heard_s: float
    answered_s: float


def serve(folder: Path, port: int) -> None:
    """Serve until nobody holds our standard input."""
    site = Site(folder=folder, port=port)
    site.start()
    print("serves", flush=True)
    sys.stdin.read()
    site.stop()


@contextmanager
def served(folder: Path) -> Generator[tuple[str, int]]:
    """Run the site in a process of its own; yields its address and its process id."""
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.web_page", str(folder), str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        while "serves" not in (line := process.stdout.readline()):
            assert line, "the site did not start"
        yield f"http://127.0.0.1:{port}/web", process.pid
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def fill(folder: Path) -> tuple[CandleStore, list[CandleSeries]]:
    """Fill the database and the store; returns the store, and the candles that are still to come, one by one."""
    site = Site(folder=folder)
    site.fill().dispose()
    shutil.rmtree(folder / "store")
    series = read_packaged_sample().series
    known = len(series) - _TO_COME
    site.candles.append(series.slice(0, known))
    return site.candles, [series.slice(place, place + 1) for place in range(known, len(series))]


def load(browser: Browser, url: str, path: str, *, warm: bool) -> Loaded:
    """Open a page in a new window, with an empty cache or with all that an earlier visit has left in it."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    try:
        page = context.new_page()
        drawn = is_drawn(path)
        if warm:
            page.goto(f"{url}/{path}")
            page.evaluate(_WHEN.format(drawn))
            page.goto("about:blank")
        page.goto(f"{url}/{path}", wait_until="commit")
        drawn_ms = page.evaluate(_WHEN.format(drawn))
        page.evaluate(_WHEN.format(f"{_PAINT} !== undefined"))
        paint_ms = page.evaluate(_PAINT)
        sizes = page.evaluate("performance.getEntries().map(each => each.transferSize ?? 0).reduce((a, b) => a + b)")
        return Loaded(paint_s=paint_ms / 1000, drawn_s=drawn_ms / 1000, kilobytes=sizes / 1024)
    finally:
        context.close()


def is_drawn(path: str) -> str:
    """Return what is true in a browser once a page has all its answers."""
    if not path:
        return f"{_LAST_CANDLE} !== undefined && !{_READS}"
    answers = [f'document.querySelector("{each}") !== null' for each in _ANSWERS[path]]
    return " && ".join([*answers, f"!{_READS}"])


def cpu_s(process: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def idle(url: str, process: int, pages: int) -> Idle:
    """Hold so many event streams open as browsers do, and look what that costs."""
    async with httpx.AsyncClient(trust_env=False, timeout=60.0, limits=httpx.Limits(max_connections=None)) as client:
        came = [0]

        async def listen() -> None:
            while True:
                async with client.stream("GET", f"{url}/events") as answer:
                    came[0] += sum(len(name) + len(value) + 4 for name, value in answer.headers.raw)
                    async for chunk in answer.aiter_raw():
                        came[0] += len(chunk)
                await asyncio.sleep(0.3)  # as the stream's `retry` asks

        tasks = [asyncio.create_task(listen()) for _ in range(pages)]
        await asyncio.sleep(3.0)  # until all are connected
        before, bytes_before, began = cpu_s(process), came[0], time.perf_counter()
        await asyncio.sleep(_IDLE_S)
        minutes = (time.perf_counter() - began) / 60
        found = Idle(cpu_s=(cpu_s(process) - before) / minutes, bytes_=(came[0] - bytes_before) / minutes)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found


async def news(url: str, store: CandleStore, candle: CandleSeries, asks: str, pages: int) -> News:
    """Store a candle while so many listen, each of which then asks for the chart again; no browser draws it."""
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(trust_env=False, timeout=120.0, limits=httpx.Limits(max_connections=None)) as client:
        ready = [asyncio.Event() for _ in range(pages)]
        stored = 0.0

        async def listen(connected: asyncio.Event) -> tuple[float, float]:
            async with client.stream("GET", f"{url}/events") as answer:
                async for line in answer.aiter_lines():
                    if not line.startswith("data: {") or line == "data: {}":
                        continue
                    if stored:
                        heard = time.perf_counter()
                        break
                    connected.set()
                else:
                    raise AssertionError("the stream ended before the news")
            (await client.post(f"{url}/_dash-update-component", content=asks, headers=headers)).raise_for_status()
            return heard - stored, time.perf_counter() - stored

        tasks = [asyncio.create_task(listen(each)) for each in ready]
        await asyncio.gather(*(each.wait() for each in ready))
        await asyncio.sleep(1.0)  # the last connection is quiet too
        store.append(candle)
        stored = time.perf_counter()
        found = await asyncio.gather(*tasks)
    return News(heard_s=max(heard for heard, _ in found), answered_s=max(answered for _, answered in found))


def chart_request(page: Page, url: str) -> str:
    """Open page Market; returns what it asks for its chart with."""
    with page.expect_request(lambda request: "market-chart.figure" in (request.post_data or "")) as asked:
        page.goto(f"{url}/")
    page.evaluate(_WHEN.format(f"{_LAST_CANDLE} !== undefined"))
    return asked.value.post_data or ""


def way_of_a_candle(page: Page, store: CandleStore, candle: CandleSeries) -> float:
    """Store a candle; return the seconds until it is on the chart of a page that is open."""
    before = page.evaluate(_LAST_CANDLE)
    store.append(candle)
    stored = time.perf_counter()
    wait_for(lambda: page.evaluate(_LAST_CANDLE) != before)
    return time.perf_counter() - stored


def publish(name: str, value: float, unit: str, against: str, other: float) -> None:
    """Print a figure beside another of this run, and write it."""
    figure = Figure(name=name, value=value, unit=unit, against=Against(name=against, value=other), command=_COMMAND)
    figure.publish(_FOLDER)


def pages_opened(browser: Browser, url: str) -> None:
    """Measure how long pages take to come up."""
    load(browser, url, "", warm=False)  # the server's own first time
    slowest = 0.0
    for page in PAGES:
        cold, warm = ([load(browser, url, page.path, warm=again) for _ in range(_LOADS)] for again in (False, True))
        slowest = max(slowest, paint := median(each.paint_s for each in cold))
        title, again = page.title.lower(), "with a warm cache"
        publish(f"page_{title}_first_paint", paint, "s", again, median(each.paint_s for each in warm))
        drawn, drawn_again = (median(each.drawn_s for each in loads) for loads in (cold, warm))
        publish(f"page_{title}_drawn", drawn, "s", again, drawn_again)
        print(f"  {median(each.kilobytes for each in cold):,.0f} KiB over the network")
    print(f"slowest first paint {slowest:.2f} s: the target is {_PAINT_LIMIT_S:.0f} s on two cores")


def candles_on_the_chart(browser: Browser, url: str, store: CandleStore, coming: Iterator[CandleSeries]) -> str:
    """Measure a candle's way to the chart; returns what a page asks for its chart with."""
    with browser.new_context() as context:
        page = context.new_page()
        asks = chart_request(page, url)
        ways = [way_of_a_candle(page, store, next(coming)) for _ in range(_CANDLES)]
    publish("page_candle_to_chart", median(ways), "s", "the slowest", max(ways))
    print(f"a candle's way to the chart: the target is {_WAY_LIMIT_S:.0f} s")
    return asks


def pages_open(url: str, process: int, store: CandleStore, coming: Iterator[CandleSeries], asks: str) -> None:
    """Measure what open pages cost, and how news reaches many."""
    nobody, one, many = (asyncio.run(idle(url, process, pages)) for pages in (0, 1, _PAGES))
    publish("page_idle_cpu_a_minute", one.cpu_s, "s", "with no page", nobody.cpu_s)
    publish(f"page_idle_cpu_a_minute_{_PAGES}", many.cpu_s, "s", "with one page", one.cpu_s)
    publish("page_idle_bytes_a_minute", one.bytes_, "B", f"{_PAGES} pages, each", many.bytes_ / _PAGES)
    alone, crowd = (asyncio.run(news(url, store, next(coming), asks, pages)) for pages in (1, _PAGES))
    publish(f"page_news_heard_by_{_PAGES}", crowd.heard_s, "s", "by one", alone.heard_s)
    publish(f"page_news_answered_to_{_PAGES}", crowd.answered_s, "s", "to one", alone.answered_s)


def main() -> None:
    """Run the benchmark."""
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        store, candles = fill(Path(name))
        coming = iter(candles)
        with served(Path(name)) as (url, process):
            with visiting() as visit:
                assert visit.context.browser is not None
                pages_opened(visit.context.browser, url)
                asks = candles_on_the_chart(visit.context.browser, url, store, coming)
            pages_open(url, process, store, coming, asks)
    print(f"load of the machine after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        serve(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
