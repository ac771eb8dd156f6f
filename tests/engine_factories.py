"""Engines to test."""

from __future__ import annotations

from pathlib import Path

from actors.engine_settings import ReplaySetup
from fxcast.adapters.storage.database import migrate
from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime
from fxcast.trading.config import TradingConfig
from tests.factories import make_series
from tests.state import job_database


def make_setup(folder: Path, *, account: str = "calm") -> ReplaySetup:
    """A setup that trades trends and extremes on a random walk, without Ray."""
    series = make_series(bars=600, seed=4, range_width=0.0003)
    CandleStore(folder / "store").append(series)
    database_url = job_database(folder, "ledger")
    migrate(database_url)
    return ReplaySetup(
        account=account,
        store=str(folder / "store"),
        database_url=database_url,
        broker_file=folder / f"{account}.db",
        start=to_datetime(series.close_times[400]),
        stop=to_datetime(series.close_times[480]),
        trading=TradingConfig(use_ldm4ts=False, min_quality=0.0),
    )
