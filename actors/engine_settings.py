"""What an engine trades, when, and where everything is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import AwareDatetime, Field, model_validator
from pydantic_core import PydanticCustomError

from fxcast.adapters.alerts import AlertSettings
from fxcast.adapters.brokers.ctrader import CTraderBrokerSettings
from fxcast.adapters.brokers.oanda import OandaBrokerSettings
from fxcast.adapters.storage.database import absolute_database_url
from fxcast.config import Settings
from fxcast.data.store import CandleStore, absolute_location
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles
from fxcast.serving.names import APPLICATION
from fxcast.trading.config import Pairs, PaperMarketConfig, TradingConfig


def _broker_file(given: dict[str, Any]) -> Path:
    return Path("runs") / f"paper_broker_{given.get('account', '')}.db"  # one account a file: two engines on one would disagree


class EngineSettings(Settings):
    """What an engine trades and where everything is."""

    account: str = Field(default="paper", pattern="^[a-z0-9-]+$", description="name of the account; one engine each")
    symbols: Pairs = Field(default=("EURUSD",), min_length=1, description="what is traded")
    conversion_symbols: Pairs = Field(
        default=(), description="followed for their prices alone, to convert currencies to the account's"
    )
    timeframe: str = "1h"
    store: str = Field(default="runs/store", description="root of the candle store")
    database_url: str = Field(default="sqlite:///runs/fxcast.db", repr=False, description="the ledger")  # may hold a password
    broker_file: Path = Field(
        default_factory=_broker_file, description="the paper broker's own books; by default runs/paper_broker_ACCOUNT.db"
    )
    trading: TradingConfig = TradingConfig()
    market: PaperMarketConfig = Field(default=PaperMarketConfig(), description="what the paper broker simulates")
    application: str = Field(default=APPLICATION, description="Serve application that forecasts")
    alerts: AlertSettings = Field(default=AlertSettings(), description="who is told at once")
    lease_ttl_s: float = Field(default=30.0, gt=0, description="how long an account stays an engine's after its last sign of life")
    decisions_kept_days: int = Field(default=30, ge=1, description="how long the inputs of decisions are kept")

    @property
    def followed(self) -> tuple[str, ...]:
        """All symbols whose candles the engine sees."""
        return tuple(dict.fromkeys((*self.symbols, *self.conversion_symbols)))

    def absolute(self) -> Self:
        """Return the same setup with absolute paths: the engine's process has another working directory.

        Raises:
            BadSetup: If the database URL can't be read.
        """
        model = self.trading.ldm4ts_checkpoint_path
        return self.model_copy(
            update={
                "store": absolute_location(self.store),
                "database_url": absolute_database_url(self.database_url),
                "broker_file": self.broker_file.absolute(),
                "trading": self.trading.model_copy(update={"ldm4ts_checkpoint_path": None if model is None else model.absolute()}),
            }
        )


class ReplaySetup(EngineSettings):
    """An engine that trades past candles of the store against the paper broker, and the period that it replays."""

    start: AwareDatetime = Field(description="the first candle closes at or after it")
    stop: AwareDatetime = Field(description="candles that close at or after it are not replayed")

    @property
    def lease_account(self) -> str:
        """What the lease is on."""
        return f"paper:{self.account}"

    def candles(self) -> dict[str, tuple[CandleSeries, int, int]]:
        """Read the candles of each symbol; those at positions from the first number up to the second are replayed.

        Raises:
            BadCandles: If the store holds none of the period.
            BadSetting: If the store's URI is unknown.
        """
        store = CandleStore(self.store)
        return {symbol: self._candles_of(store, symbol) for symbol in self.followed}

    def _candles_of(self, store: CandleStore, symbol: str) -> tuple[CandleSeries, int, int]:
        series = store.read(symbol, Timeframe(self.timeframe))
        first, end = (int(np.searchsorted(series.close_times, to_datetime64(moment))) for moment in (self.start, self.stop))
        if first >= end:
            held = f"the store holds {to_datetime(series.open_times[0]):%Y-%m-%d} to {to_datetime(series.close_times[-1]):%Y-%m-%d}"
            found = f"none of {symbol} {self.timeframe} from {self.start.isoformat()} to {self.stop.isoformat()}"
            raise BadCandles("candles", found, f"a start and a stop around some; {held}")
        return series, first, end


class LiveSetup(EngineSettings):
    """An engine that trades the candles of a feed as they close, against the paper broker or a real one."""

    provider: Literal["oanda", "tiingo", "replay"] = Field(default="oanda", description="whose feed's candles are traded")
    broker: Literal["paper", "oanda", "ctrader"] = Field(default="paper", description="where orders go")
    oanda: OandaBrokerSettings = Field(default=OandaBrokerSettings(), description="which account at OANDA")
    ctrader: CTraderBrokerSettings = Field(default=CTraderBrokerSettings(), description="which account of cTrader")
    begin: AwareDatetime | None = Field(
        default=None, description="a new engine trades the candles that close after it; by default those that are not stored yet"
    )
    poll_s: float = Field(default=5.0, gt=0, description="how often to look after what is open while no candle closes")

    @property
    def lease_account(self) -> str:
        """What the lease is on: the broker's account, whatever it is called here."""
        match self.broker:
            case "oanda":
                return f"oanda:{self.oanda.account_id}"
            case "ctrader":
                return f"ctrader:{self.ctrader.account_id}"
            case "paper":
                return f"paper:{self.account}"

    @model_validator(mode="after")
    def _names_its_account(self) -> Self:
        named = {"oanda": self.oanda.account_id, "ctrader": self.ctrader.account_id, "paper": self.account}[self.broker]
        if named is None:
            problem = "{broker}.account_id: missing; an engine trades the account that its settings name"
            raise PydanticCustomError("account", problem, {"broker": self.broker})
        return self


Setup = ReplaySetup | LiveSetup
