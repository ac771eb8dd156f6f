"""Everything the engine remembers; what it needs to go on after a crash, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cache, lru_cache
from typing import Annotated, Any, TypeVar

from pydantic import PlainSerializer, PlainValidator, TypeAdapter

from fxcast.domain.calendar import NEW_YORK
from fxcast.domain.forecast import LDM4TSPrediction, prediction_from_dict
from fxcast.domain.order import OrderIntent, OrderPurpose, ProtectionChange
from fxcast.domain.portfolio import Position
from fxcast.signals.regime import RegimeState, regime_state_from_dict

ValueT = TypeVar("ValueT")

_SATURDAY, _WEEK = 5, 7  # days, counted from Monday
_HOUR_S = 3600


class KillSwitch(StrEnum):
    """What the engine may do: everything; close but not open; send nothing (stops stay at the broker)."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingOrder:
    """An order that was decided and is neither filled nor refused; an entry never sent by `valid_until` is dropped."""

    intent: OrderIntent
    horizon_bars: int
    valid_until: datetime
    filled_units: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPosition:
    """An open position and what its management needs.

    Attributes:
        position: As it was opened; its stop and target are those that the broker is known to hold.
        horizon_bars: Candles of its signal's horizon.
        bars_held: Candles that have closed since it was opened.
        first_stop: Its stop when it was opened; entry to first stop is one R.
        best_price: Best close since then.
        realised: Profit of the parts already closed, less commissions, in account currency.
        close_attempts: Closing orders decided so far.
        changes: Changes of its protection decided so far.
        change: The change that the broker has not answered yet.
        stop_lost: The broker was seen without the stop, and has not taken it back yet.
    """

    position: Position
    signal_id: str
    horizon_bars: int
    bars_held: int
    first_stop: Decimal
    best_price: Decimal
    realised: Decimal = Decimal(0)
    close_attempts: int = 0
    changes: int = 0
    change: ProtectionChange | None = None
    stop_lost: bool = False

    @property
    def risk(self) -> Decimal:
        """One R: the distance from the entry to the first stop, in quote currency."""
        return abs(self.position.entry_price - self.first_stop)


def _load_regime(content: Any) -> RegimeState:  # noqa: ANN401  # JSON, or a state already
    return content if isinstance(content, RegimeState) else regime_state_from_dict(content)


def _load_prediction(content: Any) -> LDM4TSPrediction:  # noqa: ANN401  # JSON, or a prediction already
    return content if isinstance(content, LDM4TSPrediction) else prediction_from_dict(content)


def _dump_prediction(prediction: LDM4TSPrediction) -> dict[str, Any]:
    return prediction.to_dict()


def _dump_regime(regime: RegimeState) -> dict[str, Any]:
    return regime.to_dict()


StoredPrediction = Annotated[LDM4TSPrediction, PlainValidator(_load_prediction), PlainSerializer(_dump_prediction)]
StoredRegime = Annotated[RegimeState, PlainValidator(_load_regime), PlainSerializer(_dump_regime)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LastForecast:
    """The newest forecast of a symbol by one source, without its samples, and how many candles have closed since it was made."""

    prediction: StoredPrediction
    age_bars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """The engine between two events; keys are symbols, or client order ids for `pending`.

    Attributes:
        control_sequence: Of the last request to set the kill switch that was taken in.
        cursors: Close time of the last candle handled.
        candles: How many candles were handled.
        prices: Close of the last candle.
        transaction_sequence: Sequence of the last fill or financing handled.
        given_up: Entries of the last days that never reached the broker, as far as it said: should one be filled all the same, its
            position is taken over.
        forecasts: By symbol, then by source.
        forecasts_missed: Forecasts asked for in vain.
        foreign: Symbols in which the broker holds a position that is not ours: no new risk there.
        peak_equity: Highest equity at a candle's close, None before the first.
        day: The FX day (17:00 to 17:00 New York) of the last candle.
        day_first_equity: Equity with which that day began.
        last_equity: Equity at the last candle.
        losses_in_row: Positions closed with a loss since the last one that was not.
        cool_off_until: No new risk before it.
        margin_short: The free margin was below zero at the last candle, and a person has been told.
    """

    kill_switch: KillSwitch = KillSwitch.ACTIVE
    control_sequence: int = 0
    cursors: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    candles: Mapping[str, int] = field(default_factory=dict[str, int])
    prices: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    transaction_sequence: int = 0
    pending: Mapping[str, PendingOrder] = field(default_factory=dict[str, PendingOrder])
    given_up: Mapping[str, PendingOrder] = field(default_factory=dict[str, PendingOrder])
    positions: Mapping[str, HeldPosition] = field(default_factory=dict[str, HeldPosition])
    forecasts: Mapping[str, Mapping[str, LastForecast]] = field(default_factory=dict[str, Mapping[str, LastForecast]])
    forecasts_missed: int = 0
    foreign: tuple[str, ...] = ()
    peak_equity: Decimal | None = None
    day: date | None = None
    day_first_equity: Decimal | None = None
    last_equity: Decimal | None = None
    losses_in_row: int = 0
    cool_off_until: datetime | None = None
    margin_short: bool = False
    regimes: Mapping[str, StoredRegime] = field(default_factory=dict[str, RegimeState])

    def to_json(self) -> str:
        """Return exact JSON: Decimal as text, times in ISO 8601."""
        return _adapter().dump_json(self).decode()

    def of_symbol(self, symbol: str) -> EngineState:
        """Return what a decision on one symbol depends on: forecasts, regimes and cursors of the others are left out."""
        return replace(
            self,
            cursors=_only(self.cursors, symbol),
            candles=_only(self.candles, symbol),
            forecasts=_only(self.forecasts, symbol),
            regimes=_only(self.regimes, symbol),
        )

    def pending_of(self, symbol: str, purpose: OrderPurpose) -> tuple[PendingOrder, ...]:
        """Return the orders of a symbol that wait."""
        return tuple(order for order in self.pending.values() if order.intent.symbol == symbol and order.intent.purpose is purpose)


def state_from_json(text: str) -> EngineState:
    """Rebuild a state from `EngineState.to_json`."""
    return _adapter().validate_json(text)


@cache
def _adapter() -> TypeAdapter[EngineState]:
    return TypeAdapter(EngineState)


def _only(mapping: Mapping[str, ValueT], symbol: str) -> dict[str, ValueT]:
    return {symbol: mapping[symbol]} if symbol in mapping else {}


def fx_day(moment: datetime) -> date:
    """Return the FX day of an aware time: it ends at 17:00 New York; Monday's begins when Friday's ends."""
    return _fx_day(int(moment.timestamp() // _HOUR_S))


@lru_cache(maxsize=64)  # every candle asks for it, and the days turn at whole hours
def _fx_day(utc_hour: int) -> date:
    day = (datetime.fromtimestamp(utc_hour * _HOUR_S, UTC).astimezone(NEW_YORK) + timedelta(hours=7)).date()
    return day if day.weekday() < _SATURDAY else day + timedelta(days=_WEEK - day.weekday())
