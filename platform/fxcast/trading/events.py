"""What happens to the engine (events) and what it wants done (commands)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.money import Quote, Rates
from fxcast.domain.order import BrokerOrder, ChangeAnswer, OrderIntent, ProtectionChange, Transaction
from fxcast.domain.portfolio import Account, BrokerPosition, EquityPoint
from fxcast.signals.regime import RegimeModel
from fxcast.trading.ports import DecidedSignal, PositionRecord, RiskEvent
from fxcast.trading.state import KillSwitch


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleClosed:
    """A candle closed: what is known at that moment, and the account after it.

    Attributes:
        window: The candles known, of which this is the last.
        higher: Closed candles of longer timeframes known at the same moment, by timeframe.
        predictions: Forecasts made of this window, by source.
        forecasts_missed: How many were asked for in vain.
        quote: Of the symbol; None where there is no price, as while the market is closed: then nothing is decided.
        correlations: Of the symbol's returns with those of each other one that is held or being opened, [-1, 1].
        seen_at: When the engine came to it.
    """

    window: CandleSeries
    higher: Mapping[str, CandleSeries] = field(default_factory=dict[str, CandleSeries])
    predictions: Mapping[str, LDM4TSPrediction] = field(default_factory=dict[str, LDM4TSPrediction])
    forecasts_missed: int = 0
    account: Account
    quote: Quote | None
    rates: Rates
    correlations: Mapping[str, float] = field(default_factory=dict[str, float])
    seen_at: datetime

    @property
    def closed_at(self) -> datetime:
        return self.window.close_time(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionReceived:
    """The broker executed something, or booked interest."""

    transaction: Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderUpdated:
    """The broker said what became of an order."""

    order: BrokerOrder
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAnswered:
    """The broker said what became of a change of protection."""

    change: ProtectionChange
    answer: ChangeAnswer
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionsSeen:
    """All positions at the broker, after every transaction up to then was taken in."""

    positions: tuple[BrokerPosition, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KillSwitchSet:
    """A person set the kill switch; `sequence` is the request's in the ledger, None for one that is not there."""

    kill_switch: KillSwitch
    by: str
    reason: str
    at: datetime
    sequence: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimesFitted:
    """The regimes of a symbol were fitted anew, on candles up to `at`; there is no model where they can't be fitted on them."""

    symbol: str
    model: RegimeModel | None
    at: datetime


Event = CandleClosed | TransactionReceived | OrderUpdated | ChangeAnswered | PositionsSeen | KillSwitchSet | RegimesFitted


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """Commit this intent, then send it: `place_order` or, by its purpose, `close_position`."""

    intent: OrderIntent


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeProtection:
    """Commit this change, then send it; it is in the state until the broker has answered."""

    change: ProtectionChange


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPrediction:
    prediction: LDM4TSPrediction


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSignal:
    decided: DecidedSignal


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordTransaction:
    transaction: Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPosition:
    record: PositionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEquity:
    point: EquityPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRiskEvent:
    event: RiskEvent


Command = (
    PlaceOrder
    | ChangeProtection
    | RecordPrediction
    | RecordSignal
    | RecordTransaction
    | RecordPosition
    | RecordEquity
    | RecordRiskEvent
)
