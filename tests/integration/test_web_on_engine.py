"""The page in front of an engine that trades: what is set and thrown on the page reaches it, and it stops."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from playwright.sync_api import expect
from ray.actor import ActorHandle

from actors.engine_settings import LiveSetup
from actors.market_feed import FeedSettings, find_feed, start_feed
from actors.trading_engine import start_engine
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.data.store import CandleStore
from fxcast.domain.order import OrderPurpose
from fxcast.trading.config import RiskLimits, TradingConfig
from tests.browser import Visit, needs_chromium, visiting
from tests.factories import make_series
from tests.waiting import wait_for
from tests.web_site import Site

_BARS = 2000
_SPEED = 3600.0 * 5  # five candles a second: the market lasts for six minutes, longer than the test
_WAVE = 40


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(folder=tmp_path)
    migrate(site.database_url)
    site.start()
    yield site
    site.stop()


@pytest.fixture
def engine(dashboard_url: str, site: Site, tmp_path: Path) -> Iterator[ActorHandle[Any]]:
    """An engine that trades waves as they are replayed, on paper."""
    assert dashboard_url
    closes = [1.1 + 0.0006 * math.sin(2 * math.pi * bar / _WAVE) for bar in range(_BARS)]
    CandleStore(tmp_path / "history").append(make_series(closes, range_width=0.0002))
    setup = LiveSetup.model_validate(
        {
            "account": "on-the-page",
            "timeframe": "1h",
            "store": str(tmp_path / "store"),
            "database_url": site.database_url,
            "broker_file": str(tmp_path / "paper.db"),
            "provider": "replay",
            "begin": "1970-01-01T00:00:00Z",
            "broker": "paper",
            "poll_s": 0.2,
            "trading": TradingConfig(use_ldm4ts=False, min_quality=0.0, risk=RiskLimits(cool_off_minutes=0)),
        }
    )
    engine = start_engine(setup)
    feed = FeedSettings(symbols=("EURUSD",), timeframe="1h", store=setup.store, source=str(tmp_path / "history"), speed=_SPEED)
    start_feed(feed)
    yield engine
    for actor in (find_feed("replay"), engine):
        if actor is not None:
            ray.kill(actor, no_restart=True)


def status(engine: ActorHandle[Any]) -> Any:  # Ray publishes no type for a remote call's answer
    return ray.get(engine.status.remote())


def candles(engine: ActorHandle[Any]) -> int:
    return status(engine)["candles_done"]


def go(visit: Visit, site: Site, path: str) -> None:
    visit.page.goto(f"{site.url}/{path}")
    expect(visit.page.locator("#freshness")).to_have_text("live")


@needs_chromium
def test_a_setting_and_the_kill_switch_reach_an_engine_that_trades(engine: ActorHandle[Any], site: Site) -> None:
    ledger = SqlLedger(open_database(site.database_url), engine_id="on-the-page")
    wait_for(lambda: bool(ledger.orders()), timeout_s=120)
    with visiting() as visit:
        go(visit, site, "settings")
        expect(visit.page.get_by_text("Version 1, from the start of the engine, in force since")).to_be_visible()
        visit.page.get_by_role("textbox", name="min quality").fill("1")
        visit.page.get_by_role("button", name="Show what changes").click()
        visit.page.get_by_role("button", name="Apply").click()
        expect(visit.page.get_by_text("Version 2, set by anonymous, in force since")).to_be_visible()  # the engine has said so
        assert (status(engine)["settings_version"], status(engine)["settings_by"]) == (2, "anonymous")

        decided = candles(engine)
        opened = [each for each in ledger.orders() if each.intent.purpose is OrderPurpose.OPEN]
        wait_for(lambda: candles(engine) >= decided + 2 * _WAVE, timeout_s=120)
        assert [each for each in ledger.orders() if each.intent.purpose is OrderPurpose.OPEN] == opened, "no signal is that good"

        go(visit, site, "settings")
        visit.page.get_by_role("button", name="go back to 1").click()
        visit.page.get_by_role("button", name="Apply").click()
        expect(visit.page.get_by_text("Version 3, set by anonymous, in force since")).to_be_visible()
        wait_for(lambda: len(ledger.orders()) > len(opened) + 2, timeout_s=120)  # it trades again

        go(visit, site, "risk")
        visit.page.get_by_role("button", name="halted", exact=True).click()
        visit.page.get_by_role("button", name="Set to halted").click()
        expect(visit.page.get_by_text("The engine is halted: it sends nothing")).to_be_visible()
        assert status(engine)["kill_switch"] == "halted"
        stopped, orders = candles(engine), ledger.orders()
        wait_for(lambda: candles(engine) >= stopped + 2 * _WAVE, timeout_s=120)
        assert [each.intent for each in ledger.orders()] == [each.intent for each in orders], "it sends nothing"
        assert status(engine)["state"] == "running"
        assert (visit.errors, visit.outside) == ([], [])
