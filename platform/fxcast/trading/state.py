"""Everything the engine remembers; what it needs to go on after a crash, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, TypeAdapter

from fxcast.domain.calendar import NEW_YORK
from fxcast.domain.forecast import LDM4TSPrediction, prediction_from_dict
from fxcast.domain.order import OrderIntent
from fxcast.domain.portfolio import Position
from fxcast.signals.regime import RegimeModel, regime_model_from_dict


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


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPosition:
    """An open position and how many candles of its signal's horizon have closed."""

    position: Position
    signal_id: str
    horizon_bars: int
    bars_held: int
    close_attempts: int = 0


def _load_model(content: Any) -> RegimeModel:  # noqa: ANN401  # JSON, or a model already
    return content if isinstance(content, RegimeModel) else regime_model_from_dict(content)


def _load_prediction(content: Any) -> LDM4TSPrediction:  # noqa: ANN401  # JSON, or a prediction already
    return content if isinstance(content, LDM4TSPrediction) else prediction_from_dict(content)


def _dump_prediction(prediction: LDM4TSPrediction) -> dict[str, Any]:
    return prediction.to_dict()


def _dump_model(model: RegimeModel) -> dict[str, Any]:
    return model.to_dict()


@dataclass(frozen=True, slots=True, kw_only=True)
class LastForecast:
    """The newest forecast of a symbol, without its samples, and how many candles have closed since it was made."""

    prediction: Annotated[LDM4TSPrediction, PlainValidator(_load_prediction), PlainSerializer(_dump_prediction)]
    age_bars: int


StoredModel = Annotated[RegimeModel, PlainValidator(_load_model), PlainSerializer(_dump_model)]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """The engine between two events; keys are symbols, or client order ids for `pending`.

    Attributes:
        cursors: Close time of the last candle handled.
        candles: How many candles were handled.
        prices: Close of the last candle.
        fill_sequence: Sequence of the last fill handled.
        peak_equity: Highest equity at a candle's close, None before the first.
        day: The FX day (17:00 to 17:00 New York) of the last candle.
        day_first_equity: Equity at that day's first candle.
        forecasts_missed: Forecasts asked for in vain.
    """

    kill_switch: KillSwitch = KillSwitch.ACTIVE
    cursors: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    candles: Mapping[str, int] = field(default_factory=dict[str, int])
    prices: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    fill_sequence: int = 0
    pending: Mapping[str, PendingOrder] = field(default_factory=dict[str, PendingOrder])
    positions: Mapping[str, HeldPosition] = field(default_factory=dict[str, HeldPosition])
    forecasts: Mapping[str, LastForecast] = field(default_factory=dict[str, LastForecast])
    forecasts_missed: int = 0
    peak_equity: Decimal | None = None
    day: date | None = None
    day_first_equity: Decimal | None = None
    regime_models: Mapping[str, StoredModel] = field(default_factory=dict[str, RegimeModel])

    def to_json(self) -> str:
        """Return exact JSON: Decimal as text, times in ISO 8601."""
        return _adapter().dump_json(self).decode()


def state_from_json(text: str) -> EngineState:
    """Rebuild a state from `EngineState.to_json`."""
    return _adapter().validate_json(text)


@cache
def _adapter() -> TypeAdapter[EngineState]:
    return TypeAdapter(EngineState)


def fx_day(moment: datetime) -> date:
    """Return the FX day of an aware time: it ends at 17:00 New York."""
    return (moment.astimezone(NEW_YORK) + timedelta(hours=7)).date()
