"""What happens to the engine (events) and what it wants done (commands)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.order import BrokerOrder, Fill, OrderIntent
from fxcast.domain.portfolio import Account, EquityPoint
from fxcast.trading.ports import DecidedSignal, PositionRecord
from fxcast.trading.state import KillSwitch


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleClosed:
    """A candle closed: the window that ends with it, the forecast if one was asked for and came, the account after it.

    `forecast_missed` tells that one was asked for in vain.
    """

    window: CandleSeries
    prediction: LDM4TSPrediction | None
    account: Account
    spread_pips: float
    forecast_missed: bool = False

    @property
    def closed_at(self) -> datetime:
        return to_datetime(self.window.close_times[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class FillReceived:
    """The broker executed something."""

    fill: Fill


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderUpdated:
    """The broker said what became of an order."""

    order: BrokerOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class KillSwitchSet:
    """An operator set the kill switch."""

    kill_switch: KillSwitch


Event = CandleClosed | FillReceived | OrderUpdated | KillSwitchSet


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """Commit this intent, then send it."""

    intent: OrderIntent


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPrediction:
    prediction: LDM4TSPrediction


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSignal:
    decided: DecidedSignal


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFill:
    fill: Fill


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPosition:
    record: PositionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEquity:
    point: EquityPoint


Command = PlaceOrder | RecordPrediction | RecordSignal | RecordFill | RecordPosition | RecordEquity
