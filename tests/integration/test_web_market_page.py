"""Page Market in a real browser: signals on the chart, and that no late answer sets the chart back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Page, Request, Route, expect

from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.domain.candle import to_datetime
from fxcast.domain.signal import Direction, Verdict
from fxcast.trading.ports import DecidedSignal, LedgerBatch
from fxcast.trading.state import EngineState
from tests.browser import needs_chromium, visiting
from tests.ledger_factories import decided
from tests.waiting import wait_for
from tests.web_site import Site

pytestmark = needs_chromium

CHART = "#market-chart .js-plotly-plot"
RANGE = f"document.querySelector('{CHART}')?.layout?.xaxis?.range"
START_OF_CANDLES = f"document.querySelector('{CHART}').data.find(trace => trace.name === 'candles').x[0]"
END_OF_CANDLES = f"document.querySelector('{CHART}').data.find(trace => trace.name === 'candles').x.at(-1)"
NAMES = f"(document.querySelector('{CHART}')?.data ?? []).map(trace => trace.name)"
PAN = f"([start, stop]) => Plotly.relayout(document.querySelector('{CHART}'), {{'xaxis.range': [start, stop]}})"
EARLY, LATE = ("2017-12-04 00:00", "2017-12-06 00:00"), ("2017-12-18 00:00", "2017-12-20 00:00")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose engine decided something at its last candles."""
    site = Site(folder=tmp_path_factory.mktemp("market"))
    database = site.fill()
    (symbol, timeframe), *_ = site.candles.newest_parts()
    series = site.candles.read(symbol, timeframe)
    signals: list[DecidedSignal] = []
    for place in range(1, 7):
        made = decided(to_datetime(series.close_times[-10 * place]))
        made = replace(
            made,
            signal=replace(
                made.signal,
                symbol=symbol,
                direction=Direction.BULL if place % 2 else Direction.BEAR,
                price=float(series.closes[-10 * place]),
            ),
        )
        refused = replace(made, verdict=Verdict.REJECTED, reason="a quality of 0.28 is below 0.45", units=Decimal(0))
        signals.append(made if place > 2 else refused)
    SqlLedger(database, "demo").commit(EngineState(), LedgerBatch(signals=tuple(signals)))
    database.dispose()
    site.start()
    yield site
    site.stop()


@dataclass
class Held:
    """Holds back answers that the server has given, as a slow network does."""

    page: Page
    wanted: Callable[[Request], bool] = field(default=lambda _: False)
    answers: list[tuple[Route, APIResponse]] = field(default_factory=list[tuple[Route, APIResponse]])

    def __post_init__(self) -> None:
        self.page.route("**/_dash-update-component?*", self._asked)

    def _asked(self, route: Route) -> None:
        if self.wanted(route.request):
            self.answers.append((route, route.fetch()))
        else:
            route.continue_()

    def until_held(self, count: int) -> None:
        """Wait until so many are held; Playwright looks at requests while the page is asked for something."""
        wait_for(lambda: bool(self.page.evaluate("true")) and len(self.answers) >= count, timeout_s=30.0)

    def let_go(self) -> None:
        """Give the first answer that is held, and wait until the browser has it."""
        route, answer = self.answers.pop(0)
        with self.page.expect_event("requestfinished", lambda request: request == route.request):
            route.fulfill(response=answer)


def until(page: Page, is_so: str, arg: Any = None) -> None:  # any value that JavaScript can have
    """Wait until something is so on the page, whose policy forbids Playwright's own way to wait for it."""
    wait_for(lambda: bool(page.evaluate(is_so, arg)), timeout_s=45.0)


def opened(page: Page, site: Site) -> None:
    """Open the page and wait for the chart; from then on the ranges that it is drawn with are written down."""
    page.goto(f"{site.url}/")
    until(page, f"({NAMES}).includes('candles')")
    until(page, f"document.querySelector('{CHART}')._ev.listenerCount('plotly_relayout') > 0")  # from then on it is heard
    page.evaluate(
        f"""() => {{
            window.starts = [];
            document.querySelector("{CHART}").on("plotly_afterplot", () => window.starts.push(String({RANGE}[0])));
        }}"""
    )


def ranges_drawn(page: Page) -> list[str]:
    return page.evaluate("window.starts.map(start => start.slice(0, 10))")


def of_the_chart(request: Request) -> bool:
    """Whether a request may move the chart."""
    body = request.post_data or ""
    return "market-chart.figure" in body or '"output":"market-view.data' in body


def until_drawn(page: Page, day: str) -> None:
    """Wait until the server has drawn a period that begins on a day: the first candle lies half a width before it."""
    until(page, f"day => {START_OF_CANDLES} <= day && {END_OF_CANDLES} < '2017-12-22' && {RANGE}[0].slice(0, 10) === day", day)


def test_signals_of_the_period_are_on_the_chart_told_apart_and_can_be_hidden(site: Site) -> None:
    with visiting() as visit:
        opened(visit.page, site)
        wanted = {"bull accepted (2)", "bear accepted (2)", "bull refused (1)", "bear refused (1)"}
        until(visit.page, f"wanted => wanted.every(name => ({NAMES}).includes(name))", list(wanted))
        expect(
            visit.page.get_by_text("Arrows are signals of demo, filled where accepted (4), hollow where refused (2)")
        ).to_be_visible()
        visit.page.get_by_role("button", name="Signals").click()
        expect(visit.page.get_by_text("Arrows are signals of demo")).not_to_be_visible()
        until(visit.page, f"!({NAMES}).some(name => name?.includes('refused'))")
        visit.page.get_by_role("button", name="Signals").click()
        expect(visit.page.get_by_text("Arrows are signals of demo")).to_be_visible()
        assert visit.errors == []


def test_a_late_answer_to_an_earlier_pan_never_sets_the_chart_back(site: Site) -> None:
    with visiting() as visit:
        page = visit.page
        held = Held(page)
        opened(page, site)
        held.wanted = lambda request: "market-chart.figure" in (request.post_data or "")
        page.evaluate(PAN, EARLY)
        held.until_held(1)
        held.wanted = of_the_chart
        page.evaluate(PAN, LATE)
        held.until_held(2)
        page.evaluate("window.starts = []")
        held.let_go()
        held.wanted = lambda _: False
        held.let_go()
        until_drawn(page, LATE[0][:10])
        assert set(ranges_drawn(page)) == {LATE[0][:10]}


def test_a_late_answer_to_a_button_does_not_undo_what_was_panned_since(site: Site) -> None:
    with visiting() as visit:
        page = visit.page
        held = Held(page)
        opened(page, site)
        page.evaluate(PAN, EARLY)
        until_drawn(page, EARLY[0][:10])
        held.wanted = of_the_chart
        page.get_by_role("button", name="Later →").click()
        held.until_held(1)
        held.wanted = lambda _: False
        page.evaluate(PAN, LATE)
        until_drawn(page, LATE[0][:10])
        page.evaluate("window.starts = []")
        held.let_go()
        page.get_by_role("button", name="Sampled paths").click()  # one more answer, after the late one
        until(page, "window.starts.length > 0")
        until_drawn(page, LATE[0][:10])
        assert set(ranges_drawn(page)) == {LATE[0][:10]}


def test_buttons_pressed_while_an_answer_is_on_its_way_all_count(site: Site) -> None:
    with visiting() as visit:
        page = visit.page
        held = Held(page)
        opened(page, site)
        page.evaluate(PAN, LATE)
        until_drawn(page, LATE[0][:10])
        held.wanted = of_the_chart
        page.get_by_role("button", name="← Earlier").click()
        held.until_held(1)
        page.get_by_role("button", name="← Earlier").click()
        held.until_held(2)
        held.wanted = lambda _: False
        held.let_go()
        held.let_go()
        until_drawn(page, "2017-12-16")  # twice half of the two days
