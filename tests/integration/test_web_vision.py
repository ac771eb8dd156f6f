"""Page Vision in a real browser, with the shipped model behind the API's own route."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from fxcast.data.packaged import read_packaged_sample
from fxcast.models.load import load_forecaster
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.shipped import shipped_model
from tests.browser import Visit, needs_chromium, visiting
from tests.forecast_server import ForecastServer
from tests.web_site import Site

pytestmark = needs_chromium

_FOCUS_TARGET = ".dash-dropdown-focus-target"  # see test_web_site
_FUTURES = "The futures that it draws"
_INK = {"light": "rgb(27, 36, 48)", "dark": "rgb(230, 234, 240)"}  # of the charts
_OLD = "A newer candle has closed since."


@pytest.fixture(scope="module")
def pipeline() -> LDM4TSPipeline:
    folder = shipped_model("1h")
    assert folder is not None
    forecaster = load_forecaster(folder)
    assert isinstance(forecaster, LDM4TSPipeline)
    return forecaster


@pytest.fixture
def server(pipeline: LDM4TSPipeline) -> Iterator[ForecastServer]:
    server = ForecastServer(pipeline=pipeline)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def site(tmp_path: Path, server: ForecastServer) -> Iterator[Site]:
    """A site whose store lacks the last two of the packaged candles."""
    site = Site(folder=tmp_path, api_url=server.url)
    site.fill(until=-2).dispose()
    site.start()
    yield site
    site.stop()


def opened(visit: Visit, site: Site) -> None:
    visit.page.goto(f"{site.url}/vision")
    expect(visit.page.get_by_role("heading", name=_FUTURES)).to_be_visible()


def store_next(site: Site, left: int) -> None:
    """Store one more candle, with so many left."""
    series = read_packaged_sample().series
    site.candles.append(series.slice(len(series) - left - 1, len(series) - left))


def priced_as_stored(label: str) -> bool:
    """Tell whether a label has the prices of the candle that it names."""
    series = read_packaged_sample().series
    place = series.open_times.tolist().index(datetime.strptime(label[:16], "%Y-%m-%d %H:%M"))  # noqa: DTZ007  # as numpy has it
    open_, high, low, close = (f"{price:.5f}" for price in series.values[place, :4])
    return f"open {open_} high {high}" in label and f"low {low} close {close}" in label


@pytest.mark.parametrize(("width", "theme"), [(1200, "light"), (390, "dark")])
def test_pictures_words_and_futures_are_shown_and_a_pixel_tells_its_candle(
    site: Site, server: ForecastServer, width: int, theme: str
) -> None:
    with visiting(width=width, theme=theme) as visit:
        opened(visit, site)
        page = visit.page
        for title in ("SEG", "GAF", "RP", "RGB", "What it is told beside the picture"):
            expect(page.get_by_role("heading", name=title)).to_be_visible()
        expect(page.get_by_text("Volatility is")).to_be_visible()
        expect(page.locator(".futures img")).to_have_count(12)
        assert page.locator(".futures img").first.evaluate("image => image.naturalWidth") == 32
        plot = page.locator(".js-plotly-plot").first
        plot.scroll_into_view_if_needed()
        area = plot.locator(".nsewdrag").bounding_box()
        assert area is not None
        page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] - 5)
        label = plot.locator(".hovertext")
        expect(label).to_contain_text("2017-12-29 ")  # the last row is the last day
        assert priced_as_stored(label.text_content() or "")
        found = Axe().run(page, context={"exclude": [[_FOCUS_TARGET]]})
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out at the side"
        assert (visit.errors, visit.outside) == ([], [])
        asked = len(server.asked)
        page.locator("#theme-switch").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "light" if theme == "dark" else "dark")
        expect(page.locator(".js-plotly-plot .xtitle").first).to_have_css("fill", _INK["light" if theme == "dark" else "dark"])
        assert len(server.asked) == asked, "to paint anew asks for no forecast"


def test_a_newer_candle_is_said_and_looked_at_when_asked_or_followed(site: Site, server: ForecastServer) -> None:
    with visiting() as visit:
        opened(visit, site)
        expect(visit.page.get_by_text("Its last candle closed 2017-12-29 20:00")).to_be_visible()
        asked = len(server.asked)
        store_next(site, left=1)
        expect(visit.page.get_by_text(_OLD)).to_be_visible()
        assert len(server.asked) == asked, "a forecast costs, and nobody asked"
        visit.page.get_by_role("button", name="Look").click()
        expect(visit.page.get_by_text("Its last candle closed 2017-12-29 21:00")).to_be_visible()
        expect(visit.page.get_by_text(_OLD)).not_to_be_visible()
        visit.page.get_by_role("button", name="Follow: off").click()
        expect(visit.page.get_by_role("button", name="Follow: on")).to_be_visible()
        store_next(site, left=0)
        expect(visit.page.get_by_text("Its last candle closed 2017-12-29 22:00")).to_be_visible()


def test_a_service_that_is_gone_or_refuses_is_said_in_place_of_the_pictures(site: Site, server: ForecastServer) -> None:
    with visiting() as visit:
        opened(visit, site)
        server.stop()
        visit.page.get_by_role("button", name="Look").click()
        expect(visit.page.get_by_role("alert").filter(has_text="the service does not answer")).to_be_visible()
        expect(visit.page.get_by_role("heading", name=_FUTURES)).not_to_be_visible()
        server.start()
        visit.page.get_by_role("button", name="Look").click()
        expect(visit.page.get_by_role("heading", name=_FUTURES)).to_be_visible()
        visit.page.locator("#vision-model").click()
        visit.page.get_by_role("option").nth(1).click()  # of the registry, and not what this service serves
        expect(visit.page.get_by_role("alert").filter(has_text="model_version: found")).to_be_visible()
        expect(visit.page.get_by_role("heading", name=_FUTURES)).not_to_be_visible()
