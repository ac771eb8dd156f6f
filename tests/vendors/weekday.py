"""Feeds that do not wait for the week to open when a test happens to run at the weekend."""

from __future__ import annotations

from datetime import datetime

from actors.market_feed import FeedSettings, LastCloses
from fxcast.adapters.feeds.live import LiveFeed
from fxcast.adapters.feeds.port import CandleFeed
from fxcast.adapters.feeds.vendors import open_vendor
from fxcast.domain.timeframe import Timeframe
from tests.factories import NOON


class Weekday:
    """A clock that stands on a weekday."""

    def now(self) -> datetime:
        return NOON


def open_on_a_weekday(settings: FeedSettings, last_closes: LastCloses) -> CandleFeed:
    """Open a vendor's feed as `actors.market_feed.open_feed` does, by that clock."""
    vendor = open_vendor(settings.provider, settings.vendor)
    return LiveFeed(vendor, settings.symbols, Timeframe(settings.timeframe), last_closes, clock=Weekday(), settings=settings.live)
