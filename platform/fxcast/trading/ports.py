"""What the runner needs from outside; adapters implement these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from fxcast.domain.candle import Candle, CandleSeries
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Quote, Rates
from fxcast.domain.order import BrokerOrder, ChangeAnswer, OrderIntent, OrderStatus, ProtectionChange, Transaction
from fxcast.domain.portfolio import Account, BrokerPosition, EquityPoint, Position
from fxcast.domain.signal import FusedSignal, Verdict
from fxcast.errors import ForecastUnavailable
from fxcast.signals.regime import RegimeModel
from fxcast.trading.state import EngineState


class Clock(Protocol):
    """Where the time comes from; the core never reads one itself."""

    def now(self) -> datetime: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedCandle:
    """A candle that has just closed, with the window of candles known at that moment (it is the window's last).

    `higher` holds the closed candles of longer timeframes known then, by timeframe; empty where nothing asks for them.
    `traceparent` is the span that brought it (`fxcast.tracing`).
    """

    window: CandleSeries
    higher: Mapping[str, CandleSeries] = field(default_factory=dict[str, CandleSeries])
    traceparent: str | None = None

    @property
    def candle(self) -> Candle:
        return self.window.candle(-1)

    @property
    def closed_at(self) -> datetime:
        return self.window.close_time(-1)


class Feed(Protocol):
    """Closed candles of the symbols that an engine follows; of each symbol each once and in order."""

    @property
    def symbols(self) -> tuple[str, ...]: ...

    def closed_candles(self, *, after: Mapping[str, datetime]) -> Iterator[tuple[ClosedCandle, ...]]:
        """Yield together what closed at one moment, by symbol, oldest moment first.

        An empty tuple says that nothing has closed for a while: a moment to look after what is open.

        Args:
            after: By symbol, the close of the last candle handled; a symbol that is missing starts at the feed's beginning.
        """
        ...

    def window(self, symbol: str, closed_at: datetime) -> CandleSeries | None:
        """Return the window of a candle that was handled before, None if it is no longer to be had."""
        ...


class MarketObserver(Protocol):
    """Something that sees each closed candle before the engine does (the paper broker fills orders inside it)."""

    def observe(self, symbol: str, candle: Candle, closed_at: datetime) -> None:
        """Take a candle in; one that was taken before changes nothing."""
        ...


class Broker(Protocol):
    """Where orders go.

    Every method raises Unavailable (Disconnected, RateLimited) if the broker does not answer, and certainly did nothing; where
    it may have done something, OutcomeUnknown.
    """

    def instruments(self, symbols: Sequence[str]) -> Mapping[str, Instrument]:
        """Return pip, tick, lot and margin of each symbol.

        Raises:
            BadSetting: If the broker does not trade one of them (names it).
        """
        ...

    def account(self) -> Account: ...

    def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """Return the newest price of each symbol; one without a price is missing."""
        ...

    def rates(self) -> Rates:
        """Return what each currency of the symbols traded is worth in the account's, as far as it is known."""
        ...

    def place_order(self, intent: OrderIntent) -> BrokerOrder:
        """Place a market order with its protection; the same client_order_id again returns the first one's state.

        Raises:
            OutcomeUnknown: If no answer came; ask with `order`.
        """
        ...

    def close_position(self, intent: OrderIntent) -> BrokerOrder:
        """Close (a part of) a symbol's position at market; otherwise as `place_order`. It never opens one the other way."""
        ...

    def modify_order(self, change: ProtectionChange) -> ChangeAnswer:
        """Set stop and target of an open position; the same again changes nothing. A refusal is an answer, not an error.

        Raises:
            OutcomeUnknown: If no answer came; send it again.
        """
        ...

    def order(self, client_order_id: str) -> BrokerOrder | None:
        """Return what the broker knows of an order, None if it never came."""
        ...

    def open_orders(self) -> tuple[BrokerOrder, ...]:
        """Return the orders taken but neither filled nor cancelled (not the stops and targets of positions)."""
        ...

    def positions(self) -> tuple[BrokerPosition, ...]: ...

    def newest_sequence(self) -> int:
        """Return the sequence of the account's last transaction, 0 if it never had one: where a new engine begins."""
        ...

    def transactions_since(self, sequence: int) -> tuple[Transaction, ...]:
        """Return the fills and the interest with a higher sequence, in order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastQuestion:
    """What a forecaster is asked; `model_version` None means the service's own model."""

    source: str
    window: CandleSeries
    horizons_minutes: tuple[int, ...]
    num_samples: int
    seed: int
    model_version: str | None = None


ForecastAnswer = LDM4TSPrediction | ForecastUnavailable


class ForecastService(Protocol):
    """Where forecasts come from."""

    def ask(self, questions: Sequence[ForecastQuestion], *, timeout_s: float) -> tuple[ForecastAnswer, ...]:
        """Ask all questions at once, and return what came within the time for all of them, in their order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedRegimes:
    """The regimes of a symbol, fitted on candles up to `at`; None if they can't be fitted on them."""

    symbol: str
    model: RegimeModel | None
    at: datetime


class RegimeFitter(Protocol):
    """Fits regimes elsewhere, while the engine goes on."""

    def ask(self, symbol: str, at: datetime) -> None:
        """Begin to fit a symbol's regimes on the candles known at a moment."""
        ...

    def ready(self) -> tuple[FittedRegimes, ...]:
        """Return what has been fitted since it was asked for, each once. In a replay, where time waits, that is all of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedSignal:
    """A fused signal with what became of it: `base_units` before and `units` after uncertainty and risk.

    `explanation` says which dimension of quality cost what, `arithmetic` step by step how the size came about.
    """

    signal: FusedSignal
    verdict: Verdict
    reason: str
    base_units: Decimal
    units: Decimal
    explanation: tuple[str, ...] = ()
    arithmetic: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionRecord:
    """A position as the ledger keeps it, open (closed_at None) or closed."""

    position: Position
    closed_at: datetime | None
    exit_price: Decimal | None
    profit: Decimal | None


class RiskEventKind(StrEnum):
    """What a person should know of."""

    KILL_SWITCH = "kill_switch"
    HALT = "halt"  # the engine stopped itself
    COOL_OFF = "cool_off"
    REJECTION = "rejection"  # the broker refused an order or a change
    STOP_MISSING = "stop_missing"  # a position had no stop, or a looser one, and got its own again
    SOURCE = "source"  # a user's source failed, and was not listened to
    HAND_CHANGE = "hand_change"  # a person changed or closed something at the broker
    FOREIGN_POSITION = "foreign_position"
    RECONCILIATION = "reconciliation"
    MARGIN = "margin"
    DISCONNECT = "disconnect"
    SETTINGS = "settings"  # what a person has set can't be traded with


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskEvent:
    """Something that touched what is at risk; the same kind, symbol and moment is the same event."""

    kind: RiskEventKind
    at: datetime
    symbol: str  # empty where it is none's
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """Everything a decision was made from, and what was decided, so that it can be made again.

    `inputs` and `commands` are JSON (`trading.replay`); `settings_hash` names the settings they were made with.
    """

    symbol: str
    at: datetime
    settings_hash: str
    inputs: str
    commands: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBatch:
    """Everything that one moment changed, committed in one transaction together with the engine's state."""

    predictions: tuple[LDM4TSPrediction, ...] = ()
    signals: tuple[DecidedSignal, ...] = ()
    intents: tuple[OrderIntent, ...] = ()
    changes: tuple[ProtectionChange, ...] = ()
    transactions: tuple[Transaction, ...] = ()
    positions: tuple[PositionRecord, ...] = ()
    equity: EquityPoint | None = None
    risk_events: tuple[RiskEvent, ...] = ()
    decisions: tuple[DecisionRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRecord:
    """An order as the ledger keeps it."""

    intent: OrderIntent
    status: OrderStatus
    broker_order_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KillSwitchRequest:
    """What a person asked for; `sequence` counts the requests of an engine. `kill_switch` is one of `state.KillSwitch`."""

    sequence: int
    kill_switch: str
    by: str
    reason: str
    requested_at: datetime


class Ledger(Protocol):
    """The durable record of one engine; every method commits before it returns.

    Raises DatabaseUnavailable where the database does not answer (nothing was saved), and LeaseLost where another engine has
    taken the account over.
    """

    def load_state(self) -> EngineState | None:
        """Return the state saved last, None for an engine that never ran."""
        ...

    def commit(self, state: EngineState, batch: LedgerBatch) -> None:
        """Save the state and what changed, all or nothing; the same batch again changes nothing."""
        ...

    def unresolved_orders(self) -> tuple[OrderRecord, ...]:
        """Return the orders whose status is intent or sent, oldest first."""
        ...

    def mark_order(self, client_order_id: str, status: OrderStatus, *, broker_order_id: str = "", reason: str = "") -> None: ...

    def mark_change(self, change_id: str, answer: ChangeAnswer) -> None:
        """Save what the broker said to a change of protection."""
        ...

    def orders(self) -> tuple[OrderRecord, ...]: ...

    def kill_switch_request(self) -> KillSwitchRequest | None:
        """Return the newest request of a person to set the kill switch, None if there never was one."""
        ...

    def keep_settings(self, settings_hash: str, content: str) -> None:
        """Keep the settings (JSON) that decisions refer to by their hash."""
        ...


class Alerts(Protocol):
    """Who is told at once of what a person should know."""

    def send(self, kind: str, text: str, at: datetime) -> None:
        """Take a message and return at once; it never raises and never blocks."""
        ...
