"""Page Settings in a real browser: the difference before it applies, versions with who and when, undo, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from fxcast.adapters.storage.access_tokens import Scope, create_token
from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.settings_versions import SettingsVersions
from tests.browser import Visit, needs_chromium, visiting
from tests.web_site import Site

pytestmark = needs_chromium

STRENGTH = "ldm4ts min strength"
_ASKED = '"output":"settings-confirm.children"'
_PRESSED = '"id":"settings-apply","property":"n_clicks","value":1'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with tokens, and an account with two versions: of the engine's start, and anna's, which no engine has taken yet."""
    site = Site(folder=tmp_path, tokens=True)
    database = site.fill()
    for name, scope in (("viewer", Scope.VIEW), ("trader", Scope.TRADE)):
        (tmp_path / f"{name}.token").write_text(create_token(database, name=name, scopes=[scope], now=datetime.now(UTC)))
    database.dispose()
    site.start()
    yield site
    site.stop()


def versions_of(site: Site) -> SettingsVersions:
    return SettingsVersions(open_database(site.database_url), "demo")


def sign_in(visit: Visit, site: Site, name: str) -> None:
    visit.page.goto(f"{site.url}/settings")
    visit.page.get_by_label("Token").fill((site.folder / f"{name}.token").read_text())
    visit.page.get_by_role("button", name="Sign in").click()
    expect(visit.page.get_by_role("textbox", name=STRENGTH)).to_be_visible()
    visit.errors.clear()  # of the answer that led to the sign-in


def look(visit: Visit) -> None:
    visit.page.get_by_role("button", name="Show what changes").click()


def test_what_is_set_is_shown_first_kept_with_who_and_why_and_put_back(site: Site) -> None:
    with visiting() as visit:
        sign_in(visit, site, "trader")
        expect(visit.page.get_by_text("Version 2, set by anna")).to_be_visible()
        visit.page.get_by_role("textbox", name=STRENGTH).fill("0.42")
        look(visit)
        dialog = visit.page.get_by_role("alertdialog")
        expect(dialog.get_by_role("row", name="ldm4ts min strength 0.3 0.42")).to_be_visible()
        expect(dialog.get_by_role("row")).to_have_count(2)  # with its head
        assert versions_of(site).newest(1)[0].version == 2, "nothing is set by looking"

        dialog.get_by_role("textbox").fill("fewer trades")
        dialog.get_by_role("button", name="Apply").click()
        expect(visit.page.get_by_text("Version 3 is set by trader")).to_be_visible()
        third = versions_of(site).get(3)
        assert (third.by, third.reason, third.trading().ldm4ts_min_strength) == ("trader", "fewer trades", 0.42)
        assert third.trading().model_copy(update={"ldm4ts_min_strength": 0.3}) == versions_of(site).get(2).trading()
        expect(visit.page.get_by_text("Version 3, set by trader")).to_be_visible()

        visit.page.get_by_role("button", name="go back to 2").click()
        expect(dialog.get_by_role("row", name="ldm4ts min strength 0.42 0.3")).to_be_visible()
        dialog.get_by_role("button", name="Apply").click()
        expect(visit.page.get_by_text("Version 4 is set by trader")).to_be_visible()
        fourth = versions_of(site).get(4)
        assert (fourth.reason, fourth.trading()) == ("back to version 2", versions_of(site).get(2).trading())
        expect(visit.page.get_by_role("textbox", name=STRENGTH)).to_have_value("0.3")
        assert visit.errors == []


@pytest.mark.parametrize(
    ("name", "typed", "said"),
    [
        (STRENGTH, "1.5", "ldm4ts_min_strength: found 1.5: Input should be less than or equal to 1"),
        (STRENGTH, "much", "ldm4ts_min_strength: found 'much'"),
        ("ldm4ts horizons", "60, 15", r"ldm4ts_horizons must ascend from above zero, found [60, 15]"),
        ("ldm4ts checkpoint path", "models/tiny", "ldm4ts_checkpoint_path: found 'models/tiny': not an absolute path"),
    ],
)
def test_what_is_not_allowed_is_said_in_the_words_of_the_settings_and_what_was_typed_stays(
    site: Site, name: str, typed: str, said: str
) -> None:
    with visiting() as visit:
        sign_in(visit, site, "trader")
        visit.page.get_by_role("textbox", name=name).fill(typed)
        look(visit)
        expect(visit.page.get_by_role("alert").filter(has_text=said)).to_be_visible()
        expect(visit.page.get_by_role("textbox", name=name)).to_have_value(typed)
        expect(visit.page.get_by_role("button", name="Apply")).to_have_count(0)
    assert versions_of(site).newest(1)[0].version == 2


def test_who_was_not_the_only_one_is_told_and_keeps_what_was_typed(site: Site) -> None:
    with visiting() as visit:
        sign_in(visit, site, "trader")
        visit.page.get_by_role("textbox", name=STRENGTH).fill("0.42")
        look(visit)
        apply = visit.page.get_by_role("button", name="Apply")
        expect(apply).to_be_visible()
        versions = versions_of(site)
        versions.add(versions.get(1).trading(), by="ben", reason="", after=2, now=datetime.now(UTC))
        apply.click()

        expect(visit.page.get_by_text("found version 3, expected version 2; look at them again")).to_be_visible()
        expect(visit.page.get_by_text("Below is version 2; the newest is 3.")).to_be_visible()
        expect(visit.page.get_by_role("textbox", name=STRENGTH)).to_have_value("0.42")
        visit.page.get_by_role("button", name="Show the newest").click()
        expect(visit.page.get_by_role("textbox", name=STRENGTH)).to_have_value("0.3")
    assert versions_of(site).newest(1)[0].by == "ben"


def test_what_the_engine_refused_and_what_it_took_is_told_when_it_happens(site: Site) -> None:
    with visiting() as visit:
        sign_in(visit, site, "viewer")
        expect(visit.page.get_by_text("not taken in yet")).to_be_visible()
        versions = versions_of(site)
        hers = versions.in_force(versions.get(1).trading(), datetime.now(UTC))
        versions.refuse(hers.version, "horizon 7 is not among those of the model")
        expect(visit.page.get_by_text("Version 2, set by anna, was refused by the engine")).to_be_visible()
        expect(visit.page.get_by_text("horizon 7 is not among those of the model")).to_be_visible()
        number = versions.add(hers.trading, by="ben", reason="", after=2, now=datetime.now(UTC))
        expect(visit.page.get_by_text(f"Version {number}, set by ben, not taken in yet")).to_be_visible()
        versions.mark_taken(number, datetime.now(UTC))
        expect(visit.page.get_by_text(f"Version {number}, set by ben, in force since")).to_be_visible()


def test_settings_that_can_not_be_read_take_no_kill_switch_away(site: Site) -> None:
    with open_database(site.database_url).begin() as connection:
        connection.execute(text("""UPDATE settings_versions SET content = '{"min_quality": 7}' WHERE version = 1"""))
    with visiting() as visit:
        sign_in(visit, site, "trader")
        visit.page.goto(f"{site.url}/risk")
        expect(visit.page.get_by_text("version 1: min_quality: found 7")).to_be_visible()
        expect(visit.page.get_by_role("button", name="halted", exact=True)).to_be_enabled()


def test_who_may_only_look_can_set_nothing_whatever_is_sent(site: Site) -> None:
    with visiting() as visit:  # what the page sends for somebody who may
        sign_in(visit, site, "trader")
        visit.page.get_by_role("textbox", name=STRENGTH).fill("0.42")
        with visit.page.expect_request(lambda request: _ASKED in (request.post_data or "")) as looked:
            look(visit)
        question = looked.value.post_data
        with visit.page.expect_request(lambda request: _PRESSED in (request.post_data or "")) as sent:
            visit.page.get_by_role("button", name="Apply").click()
        url, body = sent.value.url, sent.value.post_data
        expect(visit.page.get_by_text("Version 3 is set by trader")).to_be_visible()
    with visiting() as visit:
        sign_in(visit, site, "viewer")
        for name in ("Show what changes", "go back to 1"):
            expect(visit.page.get_by_role("button", name=name)).to_be_disabled()
        assert "found view; allowed: trade" in visit.post(url, body)
        assert "found view; allowed: trade" in visit.post(url, question), "nor have what was typed read"
    assert versions_of(site).newest(1)[0].version == 3
