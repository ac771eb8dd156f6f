"""The engine on a feed's candles and a broker that is reached over the network: a practice account at a server on loopback."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import ray

from actors.engine_settings import LiveSetup
from actors.market_feed import FeedSettings, find_feed, start_feed
from actors.trading_engine import ENDED, EngineShell
from fxcast.adapters.brokers.oanda import OandaBrokerSettings
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.data.store import CandleStore
from fxcast.domain.order import OrderPurpose, OrderStatus
from fxcast.trading.config import ManagementConfig, RiskLimits, TradingConfig
from tests.brokers.oanda_server import TOKEN, OandaServer
from tests.factories import make_series
from tests.state import job_database
from tests.waiting import wait_for

_BARS = 240


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OandaServer]:
    monkeypatch.setenv("FXCAST_OANDA_TOKEN", TOKEN)
    with OandaServer() as server:
        yield server


@pytest.fixture
def setup(dashboard_url: str, server: OandaServer, tmp_path: Path) -> Iterator[LiveSetup]:
    """An engine that trades quiet waves, which are replayed, on an account whose price stands still in their middle."""
    assert dashboard_url
    closes = [1.1 + 0.0006 * math.sin(2 * math.pi * bar / 40) for bar in range(_BARS)]
    series = make_series(closes, range_width=0.0002)
    CandleStore(tmp_path / "history").append(series)
    server.account.set_price("EUR_USD", "1.09995", "1.10005")
    migrate(job_database(tmp_path, "ledger"))
    feed = start_feed(
        FeedSettings(symbols=("EURUSD",), timeframe="1h", store=str(tmp_path / "store"), source=str(tmp_path / "history"))
    )
    yield LiveSetup.model_validate(
        {
            "account": "practice",
            "timeframe": "1h",
            "store": str(tmp_path / "store"),
            "database_url": job_database(tmp_path, "ledger"),
            "provider": "replay",
            "begin": "1970-01-01T00:00:00Z",
            "broker": "oanda",
            "oanda": OandaBrokerSettings(rest_url=server.url, account_id=server.account.account_id),
            "poll_s": 0.2,
            "trading": TradingConfig(
                use_ldm4ts=False,
                min_quality=0.0,
                risk=RiskLimits(cool_off_minutes=0),
                management=ManagementConfig(break_even_at_r=0.1, min_target_change_pips=0.5),
            ),
        }
    )
    feed = find_feed("replay")
    if feed is not None:
        ray.kill(feed, no_restart=True)


def _run(setup: LiveSetup) -> EngineShell:
    shell = EngineShell(setup)
    wait_for(lambda: shell.status()["candles_done"] >= _BARS - 99 or shell.status()["state"] in ENDED, timeout_s=300)
    return shell


def test_engine_trades_a_practice_account_and_ledger_and_broker_tell_the_same(setup: LiveSetup, server: OandaServer) -> None:
    shell = _run(setup)
    status = shell.status()
    assert (status["state"], status["problem"]) == ("running", "")
    assert status["describe"].startswith("practice account")
    shell.stop()
    ledger = SqlLedger(open_database(setup.database_url), engine_id="practice")
    orders = ledger.orders()
    reasons = [decided.reason for decided in ledger.signals()]
    assert len([record for record in orders if record.intent.purpose is OrderPurpose.OPEN]) >= 3, reasons
    assert {record.status for record in orders} == {OrderStatus.FILLED}
    fills = ledger.fills()
    assert [str(fill.units) for fill in fills] == [fill["units"].lstrip("-") for fill in server.account.fills]
    assert all(trade.stop is not None for trade in server.account.open_trades)
    balance = server.account.balance
    assert balance == Decimal(100_000) + sum((fill.profit - fill.commission for fill in fills), Decimal(0))


def test_restarted_engine_goes_on_with_the_position_that_the_broker_holds(setup: LiveSetup, server: OandaServer) -> None:
    shell = _run(setup)
    shell.stop()
    with server.lock:
        held = [(trade.client_id, trade.units) for trade in server.account.open_trades]
        calls = server.calls("POST")
    again = EngineShell(setup)
    wait_for(lambda: again.status()["state"] == "running" or again.status()["state"] in ENDED, timeout_s=120)
    status = again.status()
    again.stop()
    assert (status["state"], status["problem"]) == ("running", "")
    assert [(position["symbol"], position["units"]) for position in status["positions"]] == [
        ("EURUSD", str(abs(units))) for _, units in held
    ]
    assert server.calls("POST") == calls, "nothing was sent anew"
