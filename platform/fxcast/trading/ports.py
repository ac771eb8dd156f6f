"""What the runner needs from outside; adapters implement these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from fxcast.domain.candle import Candle, CandleSeries
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.order import BrokerOrder, Fill, OrderIntent, OrderStatus
from fxcast.domain.portfolio import Account, EquityPoint, Position
from fxcast.domain.signal import FusedSignal, Verdict


class Clock(Protocol):
    """Where the time comes from; the core never reads one itself."""

    def now(self) -> datetime: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedCandle:
    """A candle that has just closed, with the window of candles known at that moment (it is the window's last)."""

    window: CandleSeries

    @property
    def candle(self) -> Candle:
        return self.window.candle(-1)

    @property
    def closed_at(self) -> datetime:
        return self.candle.open_time + self.window.timeframe.duration


class Feed(Protocol):
    """Closed candles of one symbol, each once and in order."""

    @property
    def symbol(self) -> str: ...

    def closed_candles(self, *, after: datetime | None) -> Iterator[ClosedCandle]:
        """Yield the candles that close after a moment (all of the feed's period when None)."""
        ...


class MarketObserver(Protocol):
    """Something that sees each closed candle before the engine does (the paper broker fills orders inside it)."""

    def observe(self, symbol: str, candle: Candle, closed_at: datetime) -> None:
        """Take a candle in; one that was taken before changes nothing."""
        ...


class Broker(Protocol):
    """Where orders go."""

    def place_order(self, intent: OrderIntent) -> BrokerOrder:
        """Place a market order with its protection; the same client_order_id again returns the first one's state.

        Raises:
            OutcomeUnknown: If no answer came; ask with `order`.
        """
        ...

    def order(self, client_order_id: str) -> BrokerOrder | None:
        """Return what the broker knows of an order, None if it never came."""
        ...

    def open_orders(self) -> tuple[BrokerOrder, ...]:
        """Return the orders taken but neither filled nor cancelled (not the stops and targets of positions)."""
        ...

    def positions(self) -> tuple[Position, ...]: ...

    def fills_since(self, sequence: int) -> tuple[Fill, ...]:
        """Return the fills with a higher sequence, in order."""
        ...

    def account(self) -> Account: ...

    def spread_pips(self, symbol: str) -> float: ...


class ForecastService(Protocol):
    """Where forecasts come from."""

    def forecast(
        self, window: CandleSeries, *, horizons_minutes: Sequence[int], num_samples: int, seed: int, timeout_s: float
    ) -> LDM4TSPrediction:
        """Ask for a forecast.

        Raises:
            ForecastUnavailable: If none came in time.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedSignal:
    """A fused signal with what became of it: `base_units` before and `units` after uncertainty and risk."""

    signal: FusedSignal
    verdict: Verdict
    reason: str
    base_units: Decimal
    units: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionRecord:
    """A position as the ledger keeps it, open (closed_at None) or closed."""

    position: Position
    closed_at: datetime | None
    exit_price: Decimal | None
    profit: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBatch:
    """Everything that one candle changed, committed in one transaction together with the engine's state."""

    prediction: LDM4TSPrediction | None = None
    signals: tuple[DecidedSignal, ...] = ()
    intents: tuple[OrderIntent, ...] = ()
    fills: tuple[Fill, ...] = ()
    positions: tuple[PositionRecord, ...] = ()
    equity: EquityPoint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRecord:
    """An order as the ledger keeps it."""

    intent: OrderIntent
    status: OrderStatus
    broker_order_id: str
    reason: str


class Ledger(Protocol):
    """The durable record of one engine; every method commits before it returns."""

    def load_state(self) -> str | None:
        """Return the state saved last (JSON), None for an engine that never ran."""
        ...

    def commit(self, state: str, batch: LedgerBatch) -> None:
        """Save the state (JSON) and what changed, all or nothing; the same batch again changes nothing."""
        ...

    def unresolved_orders(self) -> tuple[OrderRecord, ...]:
        """Return the orders whose status is intent or sent, oldest first."""
        ...

    def mark_order(self, client_order_id: str, status: OrderStatus, *, broker_order_id: str = "", reason: str = "") -> None: ...

    def orders(self) -> tuple[OrderRecord, ...]: ...
