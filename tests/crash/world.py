"""The engine as it runs, on a real ledger and a paper broker's file: what a process does until it is killed, and what is left."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path

import structlog

from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.clock import ReplayClock
from fxcast.adapters.feeds.replay import ReplayFeed
from fxcast.adapters.storage.controls import kill_switch_requests, request_kill_switch
from fxcast.adapters.storage.database import Database, migrate
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.domain.candle import Candle, CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.signals.regime import RegimeModel, fit_regimes
from fxcast.trading.config import ManagementConfig, PaperMarketConfig, RiskLimits, TradingConfig
from fxcast.trading.engine import EngineConfig
from fxcast.trading.ports import Broker, FittedRegimes, MarketObserver
from fxcast.trading.runner import Runner
from fxcast.trading.state import KillSwitch
from tests.crash.hooks import Hooks, Kill
from tests.crash.shared_ledger import SharedLedger, ledger_url
from tests.factories import make_prediction, make_series
from tests.fakes import ScriptedForecasts

ENGINE_ID = "crash"
HOUR = timedelta(hours=1)
START = datetime(2017, 3, 7, 12, tzinfo=UTC)  # a Tuesday: 17:00 New York comes once, and no weekend
MOMENTS = 19
HORIZON = 180
_BEFORE = 320  # candles: enough to fit regimes on
_SERIES = {
    symbol: make_series(
        bars=_BEFORE + MOMENTS,
        symbol=symbol,
        start=START - (_BEFORE + 1) * HOUR,
        price=price,
        volatility=0.0008,
        range_width=0.0003,
        seed=seed,
    )
    for symbol, price, seed in (("EURUSD", 1.10, 21), ("GBPUSD", 1.25, 5))
}
SYMBOLS = tuple(_SERIES)
TRADING = TradingConfig(
    ldm4ts_horizons=(HORIZON,),
    ldm4ts_min_strength=0.0,
    min_quality=0.0,
    use_trend=False,
    use_mean_reversion=False,
    regime_refit_bars=8,
    risk=RiskLimits(max_correlation=1.0, cool_off_minutes=120, cool_off_losses=3),
    management=ManagementConfig(break_even_at_r=0.5, trail_at_r=0.7, trail_distance_r=0.6),
)
MARKET = PaperMarketConfig(
    rejection_probability=0.2,
    partial_fill_probability=0.3,
    swap_pct_long={"EURUSD": Decimal(-2), "GBPUSD": Decimal(-1)},
    swap_pct_short={"EURUSD": Decimal(1), "GBPUSD": Decimal("-0.5")},
    seed=3,
)
LEDGER = SharedLedger()
# What a person asks for, and at which close.
_WISHES = {START + 15 * HOUR: KillSwitch.REDUCING, START + 17 * HOUR: KillSwitch.ACTIVE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One process's: where its files are, when it kills itself, and how long nothing ran before it."""

    folder: Path
    kill: Kill | None = None
    pause: timedelta = timedelta(0)


def live(life: Life) -> None:
    """Run a fresh engine to the end of the candles, on what the folder holds; the calls it made are left there."""
    broker = PaperBroker(broker_file(life.folder), MARKET)

    def look() -> None:
        for position in broker.positions():
            assert position.stop is not None, f"{position.client_order_id} has no stop"

    hooks = Hooks(life.kill, look)
    with LEDGER.opened(life.folder) as database, hooks.watching_statements(database):
        observers = [hooks.wrapped("market", broker), Person(database)]
        run_engine(hooks, database, broker, observers, moments=MOMENTS, pause=life.pause)
    calls_file(life.folder).write_bytes(pickle.dumps(hooks.calls))
    broker.close()


def run_engine(
    hooks: Hooks,
    database: Database,
    broker: Broker,
    observers: Sequence[MarketObserver],
    *,
    moments: int,
    pause: timedelta = timedelta(0),
) -> None:
    """Run the engine with all its ports wrapped, to the end of so many moments; it starts a pause after the last one handled."""
    clock = ReplayClock(_reached(database) + pause)
    Runner(
        EngineConfig(trading=TRADING),
        feed=hooks.wrapped("feed", ReplayFeed(list(_SERIES.values()), start=START, stop=START + moments * HOUR, clock=clock)),
        broker=hooks.wrapped("broker", broker),
        ledger=hooks.wrapped("ledger", SqlLedger(database, ENGINE_ID)),
        clock=clock,
        forecasts=hooks.wrapped("forecasts", ScriptedForecasts(_forecast)),
        observers=observers,
        regimes=hooks.wrapped("regimes", Fitter()),
    ).run()


class Fitter:
    """Fits regimes where it is asked; what was asked of a process that was killed is never ready."""

    def __init__(self) -> None:
        self._asked: list[tuple[str, datetime]] = []

    def ask(self, symbol: str, at: datetime) -> None:
        self._asked.append((symbol, at))

    def ready(self) -> tuple[FittedRegimes, ...]:
        asked, self._asked = self._asked, []
        return tuple(FittedRegimes(symbol=symbol, at=at, model=_fitted(symbol, at)) for symbol, at in asked)


class Person:
    """Asks for the kill switch at certain closes, from another process so to speak: once, whatever the engine does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def observe(self, symbol: str, candle: Candle, closed_at: datetime) -> None:
        del symbol, candle
        wish = _WISHES.get(closed_at)
        if wish is not None and all(each.requested_at != closed_at for each in kill_switch_requests(self._database, ENGINE_ID)):
            request_kill_switch(self._database, ENGINE_ID, wish, "a person", "lunch", closed_at)


def prepare(folder: Path) -> None:
    """Make what every process needs, so that none has to: compiled schemas and models, not connections."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    new_world(folder)
    live(Life(folder=folder))


def new_world(folder: Path) -> None:
    """Put an empty ledger into a folder."""
    folder.mkdir(exist_ok=True)
    migrate(ledger_url(folder))


def _forecast(window: CandleSeries, seed: int) -> LDM4TSPrediction:
    price = float(window.closes[-1])
    mean = price * (1 + (0.0012 if seed % 3 else -0.0012) * (1 + seed % 5 / 10))
    return make_prediction(
        {HORIZON: (mean, 0.0014)}, price=price, symbol=window.symbol, made_at=to_datetime(window.close_times[-1])
    )


@cache  # every process comes to the same ones: they are fitted before the first
def _fitted(symbol: str, at: datetime) -> RegimeModel:
    series = _SERIES[symbol]
    known = sum(to_datetime(close) <= at for close in series.close_times)
    return fit_regimes(series.slice(known - _BEFORE, known))


def _reached(database: Database) -> datetime:
    saved = SqlLedger(database, ENGINE_ID).load_state()
    return START if saved is None else max([START, *saved.cursors.values()])


def broker_file(folder: Path) -> Path:
    return folder / "broker.db"


def calls_file(folder: Path) -> Path:
    return folder / "calls"
