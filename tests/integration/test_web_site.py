"""The page in a real browser: what every page must do, signing in, roles, and what happens when something is gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from fxcast.adapters.storage.access_tokens import Scope, create_token, revoke_token
from fxcast.adapters.storage.backtests import BacktestRecords
from fxcast.adapters.storage.controls import kill_switch_requests
from fxcast.adapters.storage.database import open_database
from fxcast.web.pages import PAGES
from tests.backtest_record_factories import backtest_record
from tests.browser import Visit, needs_chromium, visiting
from tests.web_site import Site

pytestmark = needs_chromium

# Dash's own dropdown hands the focus on from an input that it hides from readers of screens.
_FOCUS_TARGET = ".dash-dropdown-focus-target"
_PRESSED = '"id":"risk-throw","property":"n_clicks","value":1'
LOOKS = [(1200, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site on this machine alone, where nobody signs in."""
    site = Site(folder=tmp_path_factory.mktemp("site"))
    site.fill().dispose()
    site.start()
    yield site
    site.stop()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Site]:
    """A site with tokens: of a viewer, a trader and a guest."""
    site = Site(folder=tmp_path, tokens=True)
    database = site.fill()
    for name, scope in (("viewer", Scope.VIEW), ("trader", Scope.TRADE), ("guest", Scope.VIEW)):
        secret = create_token(database, name=name, scopes=[scope], now=datetime.now(UTC))
        (tmp_path / f"{name}.token").write_text(secret)
    database.dispose()
    site.start()
    yield site
    site.stop()


def token(site: Site, name: str) -> str:
    return (site.folder / f"{name}.token").read_text()


def sign_in(visit: Visit, site: Site, secret: str, path: str = "risk") -> None:
    visit.page.goto(f"{site.url}/{path}")
    visit.page.get_by_label("Token").fill(secret)
    visit.page.get_by_role("button", name="Sign in").click()


def opened(visit: Visit, site: Site, path: str) -> None:
    """Open a page and wait until it is drawn and hears of news."""
    visit.page.goto(f"{site.url}/{path}")
    title = next(page.title for page in PAGES if page.path == path)
    expect(visit.page.get_by_role("heading", name=title, level=1)).to_be_visible()
    expect(visit.page.locator("#freshness")).to_have_text("live")
    expect(visit.page.locator("section.panel").first).to_be_visible()


@pytest.mark.parametrize(("width", "theme"), LOOKS)
@pytest.mark.parametrize("path", [page.path for page in PAGES])
def test_a_page_is_drawn_without_errors_asks_nobody_outside_and_is_accessible(
    site: Site, path: str, width: int, theme: str
) -> None:
    with visiting(width=width, theme=theme) as visit:
        opened(visit, site, path)
        assert visit.page.evaluate("document.documentElement.dataset.theme") == theme
        found = Axe().run(visit.page, context={"exclude": [[_FOCUS_TARGET]]})
        assert found.violations_count == 0, found.generate_report()
        assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out at the side"
        assert (visit.errors, visit.outside) == ([], [])


def test_theme_and_zone_are_switched_said_and_kept(site: Site) -> None:
    with visiting() as visit:
        opened(visit, site, "risk")
        visit.page.locator("#theme-switch").click()
        expect(visit.page.locator("html")).to_have_attribute("data-theme", "dark")
        expect(visit.page.locator("#zone-switch")).to_have_text("UTC")
        expect(visit.page.get_by_text("Times in UTC").first).to_be_visible()
        opened(visit, site, "risk")
        expect(visit.page.locator("html")).to_have_attribute("data-theme", "dark")


def test_an_unknown_page_says_so_and_leads_back(site: Site) -> None:
    with visiting() as visit:
        visit.page.goto(f"{site.url}/nowhere")
        expect(visit.page.get_by_text("There is no such page.")).to_be_visible()


def test_the_kill_switch_asks_for_confirmation_and_is_recorded_with_who_and_why(guarded: Site) -> None:
    with visiting() as visit:
        sign_in(visit, guarded, token(guarded, "trader"))
        before = _requests(guarded)
        visit.page.get_by_role("button", name="halted", exact=True).click()
        expect(visit.page.get_by_role("alertdialog")).to_contain_text("Set the kill switch of demo to halted?")
        visit.page.get_by_role("button", name="Cancel").click()
        expect(visit.page.locator("#risk-said")).to_have_text("Nothing was changed.")
        assert _requests(guarded) == before

        visit.page.get_by_role("button", name="halted", exact=True).click()
        visit.page.get_by_label("Reason").fill("spread is odd")
        visit.page.get_by_role("button", name="Set to halted").click()
        expect(visit.page.locator("#risk-said")).to_contain_text("Kill switch of demo: halted, asked for by trader.")
        assert _requests(guarded)[-1] == ("halted", "trader", "spread is odd")
        expect(visit.page.get_by_text("Asked for, and not taken in yet")).to_be_visible()


def test_the_kill_switch_is_thrown_with_the_keyboard_alone(guarded: Site) -> None:
    with visiting() as visit:
        sign_in(visit, guarded, token(guarded, "trader"))
        button = visit.page.get_by_role("button", name="halted", exact=True)
        expect(button).to_be_enabled()
        dialog = visit.page.get_by_role("alertdialog")
        for _ in range(40):
            visit.page.keyboard.press("Tab")
            if button.evaluate("each => each === document.activeElement"):
                break
        visit.page.keyboard.press("Enter")
        expect(dialog).to_be_focused()
        visit.page.keyboard.press("Enter")  # answers nothing
        visit.page.keyboard.press("Tab")
        expect(dialog.get_by_label("Reason")).to_be_focused()
        visit.page.keyboard.type("spread is odd")
        for _ in range(2):
            visit.page.keyboard.press("Tab")
        visit.page.keyboard.press("Enter")
        expect(visit.page.locator("#risk-said")).to_have_text("Nothing was changed.")
        expect(button).to_be_focused()

        visit.page.keyboard.press("Enter")
        expect(dialog).to_be_focused()
        for _ in range(2):
            visit.page.keyboard.press("Tab")
        visit.page.keyboard.press("Enter")
        expect(visit.page.locator("#risk-said")).to_contain_text("halted, asked for by trader")
    assert _requests(guarded)[-1][:2] == ("halted", "trader")


def test_who_may_only_look_can_not_throw_it_whatever_is_sent(guarded: Site) -> None:
    with visiting() as visit:  # what the page sends for somebody who may
        sign_in(visit, guarded, token(guarded, "trader"))
        visit.page.get_by_role("button", name="halted", exact=True).click()
        with visit.page.expect_request(lambda request: _PRESSED in (request.post_data or "")) as sent:
            visit.page.get_by_role("button", name="Set to halted").click()
        url, body = sent.value.url, sent.value.post_data
        expect(visit.page.locator("#risk-said")).to_contain_text("asked for by trader")
    before = _requests(guarded)
    with visiting() as visit:
        sign_in(visit, guarded, token(guarded, "viewer"))
        expect(visit.page.get_by_text("viewer (view)")).to_be_visible()
        expect(visit.page.get_by_role("button", name="halted", exact=True)).to_be_disabled()
        assert "found view; allowed: trade" in visit.post(url, body)
    assert _requests(guarded) == before


def test_a_revoked_token_ends_what_it_opened_and_signing_out_too(guarded: Site) -> None:
    secret = token(guarded, "guest")
    with visiting() as visit:
        sign_in(visit, guarded, "fxc_wrong")
        expect(visit.page.get_by_role("alert")).to_contain_text("not valid")
        sign_in(visit, guarded, secret)
        expect(visit.page.get_by_text("guest (view)")).to_be_visible()
        visit.page.get_by_role("button", name="Sign out").click()
        expect(visit.page.get_by_label("Token")).to_be_visible()
        sign_in(visit, guarded, secret)
        expect(visit.page.get_by_text("guest (view)")).to_be_visible()
        assert secret not in visit.page.content()
        assert all(secret not in each.get("value", "") for each in visit.context.cookies())
        database = open_database(guarded.database_url)
        revoke_token(database, name="guest", now=datetime.now(UTC))
        database.dispose()
        expect(visit.page.get_by_label("Token")).to_be_visible()  # the page finds out by itself


def test_a_runs_report_is_shown_to_who_is_signed_in_and_to_nobody_else(guarded: Site) -> None:
    record = replace(backtest_record(), name="with a report", settings_hash="beef", report_folder=str(guarded.folder / "backtest"))
    (guarded.folder / "backtest").mkdir()
    (guarded.folder / "backtest" / "report.html").write_text("<h1>What came of it</h1>")
    database = open_database(guarded.database_url)
    BacktestRecords(database).save(record, [])
    database.dispose()
    report = f"{guarded.url}/reports/backtest/{record.id}/report.html"
    assert httpx.get(report, trust_env=False).status_code == 401
    with visiting() as visit:
        sign_in(visit, guarded, token(guarded, "viewer"), "runs")
        row = visit.page.get_by_role("row").filter(has_text="with a report")
        with visit.context.expect_page() as opening:
            row.get_by_role("link", name="open").click()
        expect(opening.value.get_by_role("heading", name="What came of it")).to_be_visible()
        assert opening.value.url == report


def test_a_dead_service_greys_the_page_and_it_comes_back_by_itself(tmp_path: Path) -> None:
    site = Site(folder=tmp_path)
    site.fill().dispose()
    site.start()
    with visiting() as visit:
        opened(visit, site, "risk")
        site.stop()
        expect(visit.page.locator("#freshness")).to_have_text("no connection: what you see is old")
        expect(visit.page.locator("html")).to_have_attribute("data-connection", "lost")
        site.start()
        expect(visit.page.locator("#freshness")).to_have_text("live")
        expect(visit.page.locator("html")).to_have_attribute("data-connection", "live")
    site.stop()


def test_a_database_that_is_gone_is_said_in_place_of_old_numbers(tmp_path: Path) -> None:
    site = Site(folder=tmp_path)
    site.fill().dispose()
    site.start()
    with visiting() as visit:
        opened(visit, site, "risk")
        expect(visit.page.get_by_role("heading", name="Kill switch")).to_be_visible()
        (tmp_path / "fxcast.db").rename(tmp_path / "away.db")
        expect(visit.page.get_by_text("the ledger can't be read now")).to_be_visible()
        expect(visit.page.get_by_role("heading", name="Kill switch")).not_to_be_visible()
        (tmp_path / "away.db").rename(tmp_path / "fxcast.db")
        expect(visit.page.get_by_role("heading", name="Kill switch")).to_be_visible()
    site.stop()


def _requests(site: Site) -> list[tuple[str, str, str]]:
    database = open_database(site.database_url)
    try:
        return [(each.kill_switch, each.by, each.reason) for each in kill_switch_requests(database, "demo")]
    finally:
        database.dispose()
