"""An engine of real parts whose surroundings fail: OANDA's server on loopback, a ledger in SQL, a store of candles, a webhook.

Time is a clock that tests set; the broker's and the engine's are the same one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import event

from actors.engine_parts import EngineParts
from actors.engine_settings import LiveSetup, Setup
from actors.subscribed_feed import SubscribedFeed
from actors.trading_engine import ENDED, EngineShell
from fxcast.adapters.alerts import AlertSettings, WebhookAlerts
from fxcast.adapters.brokers.oanda import OandaBroker, OandaBrokerSettings
from fxcast.adapters.clock import SystemClock
from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN
from fxcast.adapters.storage.database import Database, migrate, open_database
from fxcast.adapters.storage.lease import acquire
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.settings_versions import SettingsVersions
from fxcast.data.store import CandleStore
from fxcast.data.windows import window_at
from fxcast.domain.candle import Candle, CandleSeries, to_datetime
from fxcast.domain.forecast import CONTEXT_BARS, LDM4TSPrediction
from fxcast.domain.timeframe import Timeframe
from fxcast.trading.config import ManagementConfig, RiskLimits, TradingConfig
from fxcast.trading.engine import EngineConfig
from fxcast.trading.ports import Alerts, Broker, ClosedCandle, Feed, Ledger, LedgerBatch
from fxcast.trading.runner import Runner
from tests.brokers.oanda_account import ACCOUNT, OandaAccount, Trade
from tests.brokers.oanda_server import TOKEN, OandaServer
from tests.databases import new_database
from tests.factories import make_prediction, make_series
from tests.fakes import ScriptedForecasts, SettableClock
from tests.publisher import Publisher
from tests.waiting import wait_for

ENGINE_ID = "faults"
TUESDAY = datetime(2017, 3, 7, 12, tzinfo=UTC)  # when the first candle closes that is traded
SILENCE_S = 0.5  # after which the broker counts as silent
HORIZON_BARS = 4
TRADING = TradingConfig(
    ldm4ts_horizons=(240,),
    ldm4ts_min_strength=0.0,
    min_quality=0.0,
    use_trend=False,
    use_mean_reversion=False,
    risk=RiskLimits(max_forecast_age_bars=1),
    management=ManagementConfig(follow_targets=False),
)


def rising(window: CandleSeries, seed: int) -> LDM4TSPrediction:
    """Forecast a rise of 20 pips, with a stop some 29 pips below the price."""
    del seed
    price, at = float(window.closes[-1]), to_datetime(window.close_times[-1])
    minutes = HORIZON_BARS * window.timeframe.minutes
    horizons = {minutes: (price + 0.0020, 0.0030)}
    return make_prediction(horizons, price=price, symbol=window.symbol, timeframe=window.timeframe.name, made_at=at)


@dataclass
class RecordedAlerts:
    """What a person was told, as (kind, text)."""

    told: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def send(self, kind: str, text: str, at: datetime) -> None:
        del at
        self.told.append((kind, text))

    def of(self, kind: str) -> list[str]:
        return [text for told, text in self.told if told == kind]


class OandaWorld:
    """Everything around an engine that trades EUR/USD at OANDA, which outlives the engine.

    A test moves time with `close_candle`, or with `shell` and `publish`; the broker's price follows the candles' closes.

    Attributes:
        server: The broker; `account` is what it holds.
        candle: Position in `series` of the candle that closes next.
        at_candle: Called when an engine has a new candle in hand, and nothing is committed yet.
        at_pause: Called with the clock's time after each pause of a shell that waits.
    """

    def __init__(
        self,
        folder: Path,
        server: OandaServer,
        *,
        database_kind: str = "sqlite",
        timeframe: str = "1h",
        trading: TradingConfig = TRADING,
        first_close: datetime = TUESDAY,
        rest_url: str = "",
    ) -> None:
        frame = Timeframe(timeframe)
        self.folder = folder
        self.server, self.account = server, server.account
        self.trading = trading
        start = first_close - CONTEXT_BARS * frame.duration
        self.series = make_series(bars=CONTEXT_BARS + 60, timeframe=timeframe, start=start, volatility=0.00002, seed=3)
        self.candle = CONTEXT_BARS - 1
        self.clock = SettableClock(first_close - frame.duration)
        self.account.clock = self.clock.now
        (folder / "database").mkdir()
        self.database_url = new_database(database_kind, folder / "database")
        migrate(self.database_url)
        self.database = _impatient(open_database(self.database_url))
        self.forecasts = ScriptedForecasts(rising)
        self.alerts = RecordedAlerts()
        self.webhook_url = ""
        self.store = CandleStore(folder / "store")
        self.store.append(self.series.slice(0, self.candle))
        self.publisher = Publisher(self.store, frame)
        self.at_pause: Callable[[datetime], object] = lambda _: None
        self.at_candle: Callable[[], object] = lambda: None
        self.rest_url = rest_url or server.url
        self._runner: Runner | None = None
        self._opened = ExitStack()

    def close(self) -> None:
        self._opened.close()
        self.database.dispose()

    # One engine after the other, each step at a test's bidding.

    @property
    def ledger(self) -> SqlLedger:
        """The engine's record, for a person to read."""
        return SqlLedger(self.database, ENGINE_ID)

    @property
    def runner(self) -> Runner:
        assert self._runner is not None, "no engine runs"
        return self._runner

    @property
    def trade(self) -> Trade:
        """The only open position at the broker."""
        (trade,) = self.account.open_trades
        return trade

    @property
    def kinds(self) -> list[str]:
        """Of the risk events, oldest first."""
        return [each.kind.value for each in self.ledger.risk_events()]

    def start(self, ledger: Ledger | None = None) -> Runner:
        """Start an engine, or start it again."""
        self._runner = self._new_runner(self._broker(), ledger or self.ledger)
        self._runner.start()
        return self._runner

    def close_candle(self, *, clock_off: timedelta = timedelta(0)) -> LedgerBatch:
        """Let the next candle close, and the engine come to it; its clock may be off."""
        closed = self.next_closed()
        self.clock.time += clock_off
        return self.runner.handle(closed)

    def next_closed(self) -> tuple[ClosedCandle, ...]:
        """Let the next candle close; the engine has not come to it yet."""
        closed = ClosedCandle(window=window_at(self.series, to_datetime(self.series.close_times[self.candle])))
        self.candle += 1
        self.clock.time = closed.closed_at
        return (closed,)

    def look(self) -> LedgerBatch:
        """Let the engine look after what is open, between two candles."""
        return self.runner.handle(())

    def open_position(self) -> Trade:
        """Start an engine and let it open its first position."""
        self.start()
        self.close_candle()
        self.look()  # the fill is taken in
        assert "EURUSD" in self.runner.state.positions
        return self.trade

    def observe(self, symbol: str, candle: Candle, closed_at: datetime) -> None:
        """Let the broker's price be the candle's close."""
        del closed_at
        self.at_candle()
        bid = Decimal(repr(candle.close)).quantize(Decimal("0.00001"))
        with self.server.lock:
            self.account.set_price(f"{symbol[:3]}_{symbol[3:]}", str(bid), str(bid + Decimal("0.00010")))

    # An engine in its shell, on a thread of its own.

    @contextmanager
    def shell(self, *, lease_ttl_s: float = 30.0) -> Generator[EngineShell]:
        """Run an engine on the feed until the end of the block."""
        setup = LiveSetup(
            account=ENGINE_ID,
            timeframe=self.series.timeframe.name,
            store=str(self.folder / "store"),
            database_url=self.database_url,
            trading=self.trading,
            alerts=AlertSettings(url=SecretStr(self.webhook_url) if self.webhook_url else None),
            lease_ttl_s=lease_ttl_s,
            broker="oanda",
            oanda=OandaBrokerSettings(account_id=ACCOUNT),
            poll_s=0.1,
        )
        self.publisher.come_back()
        shell = EngineShell(setup, self.open_parts, self.pauses)
        try:
            yield shell
        finally:
            self.publisher.go_away()
            if shell.status()["state"] not in ENDED:
                shell.stop()

    def open_parts(self, setup: Setup, passed_over: Collection[int] = ()) -> EngineParts:
        """Put an engine together as `actors.engine_parts` does, but without Ray: the feed and the forecasts are a test's."""
        assert isinstance(setup, LiveSetup)
        with ExitStack() as opened:
            lease = acquire(
                self.database,
                setup.lease_account,
                f"engine {next(_numbers)}",
                ttl_s=setup.lease_ttl_s,
                now=SystemClock().now(),
            )
            opened.callback(lease.release)
            ledger = SqlLedger(self.database, ENGINE_ID, lease=lease)
            alerts = WebhookAlerts(setup.alerts, engine_id=setup.account)
            opened.callback(alerts.close)
            versions = SettingsVersions(self.database, ENGINE_ID)
            feed = SubscribedFeed(
                self.publisher.subscribe,
                self.store,
                setup.symbols,
                Timeframe(setup.timeframe),
                poll_s=setup.poll_s,
                advance=self._advance_to,
                lost=lambda problem: alerts.send("disconnect", f"no candles: {problem}", self.clock.now()),
                pauses=lambda: repeat(0.05),
            )
            opened.callback(feed.stop)
            broker = self._broker()
            runner = self._new_runner(broker, ledger, feed=feed, alerts=alerts)
            return EngineParts(
                runner=runner,
                clock=self.clock,
                ledger=ledger,
                lease=lease,
                alerts=alerts,
                versions=versions,
                terms=versions.in_force(setup.trading, self.clock.time, without=passed_over),
                candles_done=0,
                candles_total=0,
                describe=broker.describe(),
                stop_feed=feed.stop,
                opened=opened.pop_all(),
            )

    def pauses(self) -> Iterator[float]:
        """Pauses of a minute on the tests' clock, and of no time on a wall's."""
        while True:
            yield 0.0
            self.clock.time += timedelta(minutes=1)
            self.at_pause(self.clock.time)

    def publish(self, candles: int = 1) -> None:
        """Let the feed publish the next candles; the clock goes on to their close when the engine comes to them."""
        for _ in range(candles):
            self.publisher.publish(self.series.slice(self.candle, self.candle + 1))
            self.candle += 1

    def _advance_to(self, moment: datetime) -> None:
        self.clock.time = max(self.clock.time, moment)

    def _broker(self) -> OandaBroker:
        settings = OandaBrokerSettings(account_id=ACCOUNT, rest_url=self.rest_url, request_timeout_s=SILENCE_S)
        broker = OandaBroker(settings, ["EURUSD"])
        self._opened.callback(broker.close)
        return broker

    def _new_runner(self, broker: Broker, ledger: Ledger, *, feed: Feed | None = None, alerts: Alerts | None = None) -> Runner:
        return Runner(
            EngineConfig(trading=self.trading, instruments=broker.instruments(["EURUSD"]), symbols=("EURUSD",)),
            feed=feed or _Handed(),
            broker=broker,
            ledger=ledger,
            clock=self.clock,
            forecasts=self.forecasts,
            observers=[self],
            alerts=alerts or self.alerts,
        )


@contextmanager
def oanda_world(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Generator[OandaWorld]:
    """Open a world, and close it at the end."""
    monkeypatch.setenv(OANDA_TOKEN, TOKEN)
    monkeypatch.setenv(OANDA_ACCOUNT, ACCOUNT)
    with OandaServer(OandaAccount()) as server:
        world = OandaWorld(folder, server, **options)
        try:
            yield world
        finally:
            server.every_call = None
            world.close()


def wait_until_done(shell: EngineShell, candles: int) -> None:
    """Wait until a shell has handled so many candles and goes on."""
    wait_for(lambda: shell.status()["candles_done"] >= candles and shell.status()["state"] == "running")


class _Handed:
    """A feed whose candles a test hands to the runner."""

    symbols = ("EURUSD",)

    def closed_candles(self, *, after: Mapping[str, datetime]) -> Iterator[tuple[ClosedCandle, ...]]:
        raise AssertionError(f"a test hands the candles over, also those after {after}")

    def window(self, symbol: str, closed_at: datetime) -> CandleSeries | None:
        del symbol, closed_at


def _impatient(database: Database) -> Database:
    """Let SQLite wait for another's lock for a moment only."""
    if database.dialect.name == "sqlite":
        database.dispose()

        @event.listens_for(database, "connect")
        def prepare(connection: sqlite3.Connection, _record: object) -> None:  # pyright: ignore[reportUnusedFunction]  # an event's
            connection.execute("PRAGMA busy_timeout=1")

    return database


_numbers = iter(range(1, 1_000_000))
