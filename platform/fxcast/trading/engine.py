"""The engine: a pure function from a state and an event to the next state and what to do about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from fxcast.domain.forecast import HorizonForecast, LDM4TSPrediction
from fxcast.domain.instrument import Instrument, default_instrument
from fxcast.domain.money import Quote
from fxcast.domain.order import OrderPurpose
from fxcast.domain.portfolio import Account, EquityPoint
from fxcast.domain.signal import Regime
from fxcast.signals.regime import RegimeState
from fxcast.signals.sources import Source
from fxcast.trading.config import TradingConfig
from fxcast.trading.decision import decide, nearest_horizon, usable_forecast, usable_forecasts
from fxcast.trading.events import (
    CandleClosed,
    ChangeAnswered,
    Command,
    Event,
    KillSwitchSet,
    OrderUpdated,
    PositionsSeen,
    RecordEquity,
    RecordPrediction,
    RecordRiskEvent,
    RegimesFitted,
    TransactionReceived,
)
from fxcast.trading.execution import (
    Stepped,
    change_protection,
    close_position,
    take_answer,
    take_order,
    take_positions,
    take_transaction,
)
from fxcast.trading.management import ManagementView, better_price, manage
from fxcast.trading.parameters import with_values
from fxcast.trading.ports import RiskEvent, RiskEventKind
from fxcast.trading.sizing import margin_needed
from fxcast.trading.source_list import build_sources
from fxcast.trading.state import EngineState, HeldPosition, KillSwitch, LastForecast, fx_day
from fxcast.trading.tuned import tuned_values


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """What the engine needs to know besides the trader's settings.

    Attributes:
        instruments: A symbol not named has the usual conventions.
        symbols: What is traded; the others are followed for their prices alone. Empty: all are traded.

    Raises:
        BadSetting: When `sources` is read, if a source of the user's own can't be loaded.
    """

    trading: TradingConfig = field(default_factory=lambda: TradingConfig.model_validate({}))
    instruments: Mapping[str, Instrument] = field(default_factory=dict[str, Instrument])
    symbols: tuple[str, ...] = ()

    def is_traded(self, symbol: str) -> bool:
        """Tell whether orders may be placed in a symbol."""
        return not self.symbols or symbol in self.symbols

    def instrument(self, symbol: str) -> Instrument:
        """Return a symbol's pip, tick and lot."""
        return self.instruments.get(symbol) or default_instrument(symbol)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The sources that are on where nothing was tuned; what is tuned asks for no other timeframes."""
        return build_sources(self.trading)

    def trading_for(self, symbol: str | None = None, regime: Regime | None = None) -> TradingConfig:
        """Return the trader's settings with what was tuned for a symbol in a regime; of neither, what holds for the account."""
        if not self.trading.tuned:
            return self.trading
        key = (symbol, regime)
        if key not in self._tradings:
            base = self.trading.model_copy(update={"tuned": ()})
            self._tradings[key] = with_values(base, tuned_values(self.trading.tuned, symbol, regime))
        return self._tradings[key]

    def sources_for(self, symbol: str, regime: Regime | None = None) -> tuple[Source, ...]:
        """Return the sources that are on for a symbol in a regime."""
        if not self.trading.tuned:
            return self.sources
        key = (symbol, regime)
        if key not in self._sources:
            self._sources[key] = build_sources(self.trading_for(symbol, regime), loaded=self.sources)
        return self._sources[key]

    def regimes_of(self, symbol: str) -> tuple[Regime | None, ...]:
        """Return the regimes that a symbol has settings for; None alone if they are the same in each."""
        named = any(each.regime is not None and each.symbol in (None, symbol) for each in self.trading.tuned)
        return tuple(Regime) if named else (None,)

    @cached_property
    def _tradings(self) -> dict[tuple[str | None, Regime | None], TradingConfig]:
        return {}

    @cached_property
    def _sources(self) -> dict[tuple[str, Regime | None], tuple[Source, ...]]:
        return {}

    @cached_property
    def content(self) -> str:
        """All of it as JSON, from which `engine_config_from_json` makes the same."""
        content: dict[str, Any] = {
            "trading": self.trading.model_dump(mode="json", by_alias=True),
            "instruments": {
                symbol: {name: str(getattr(instrument, name)) for name in instrument.__slots__ if name != "symbol"}
                for symbol, instrument in sorted(self.instruments.items())
            },
            "symbols": list(self.symbols),
        }
        return json.dumps(content, sort_keys=True)

    @cached_property
    def hash(self) -> str:
        """What names these settings in the records of decisions."""
        return hashlib.sha256(self.content.encode()).hexdigest()[:16]


def step(state: EngineState, event: Event, config: EngineConfig) -> Stepped:
    """Take one event in.

    A candle or a transaction that was handled before changes nothing.

    Raises:
        BadSetup: If a currency can't be converted to the account's.
        ReconciliationFailed: If what the broker did or holds does not fit what we asked for.
    """
    match event:
        case CandleClosed():
            return _on_candle(state, event, config)
        case TransactionReceived():
            return take_transaction(state, event, config.trading_for().risk)
        case OrderUpdated():
            return take_order(state, event.order, event.at)
        case ChangeAnswered():
            return take_answer(state, event)
        case PositionsSeen():
            return take_positions(state, event)
        case KillSwitchSet():
            return _switched(state, event)
        case RegimesFitted():
            return _fitted(state, event), ()


def wants_forecast(state: EngineState, symbol: str, config: EngineConfig) -> bool:
    """Tell whether to ask for forecasts on the next candle of a symbol; what decides that is the same for all, and never tuned."""
    trading = config.trading
    return (trading.use_ldm4ts or bool(trading.opponents)) and state.candles.get(symbol, 0) % trading.forecast_interval_bars == 0


def _fitted(state: EngineState, event: RegimesFitted) -> EngineState:
    regime = state.regimes.get(event.symbol, RegimeState())
    if event.model is None:
        regime = replace(regime, fitted_at=event.at, candles_since_fit=0)  # the next try is as far away as after a fit
    else:
        regime = regime.refitted(event.model, event.at)
    return replace(state, regimes={**state.regimes, event.symbol: regime})


def _switched(state: EngineState, event: KillSwitchSet) -> Stepped:
    sequence = state.control_sequence if event.sequence is None else max(state.control_sequence, event.sequence)
    who, why = event.by or "an unnamed person", event.reason or "no reason given"
    detail = f"{state.kill_switch.value} → {event.kill_switch.value} by {who}: {why}"
    risk_event = RiskEvent(kind=RiskEventKind.KILL_SWITCH, at=event.at, symbol="", detail=detail)
    state = replace(state, kill_switch=event.kill_switch, control_sequence=sequence)
    return state, (RecordRiskEvent(event=risk_event),)


def _on_candle(state: EngineState, event: CandleClosed, config: EngineConfig) -> Stepped:
    symbol, at = event.window.symbol, event.closed_at
    if symbol in state.cursors and at <= state.cursors[symbol]:
        return state, ()
    state = _advanced(state, event, at, config)
    commands: list[Command] = [RecordPrediction(prediction=prediction) for prediction in event.predictions.values()]
    held, quote = state.positions.get(symbol), event.quote
    regime = state.regimes[symbol].view().regime if config.regimes_of(symbol) != (None,) else None
    trading = config.trading_for(symbol, regime)
    if held is not None and quote is not None and state.kill_switch is not KillSwitch.HALTED:
        state, managing = _managed(state, held, event, quote, trading, config.instrument(symbol))
        commands += managing
    if quote is not None and config.is_traded(symbol):
        reserving = _reserving(state, event, config)
        state, deciding = decide(
            state,
            event if reserving is event.account else replace(event, account=reserving),
            quote=quote,
            trading=trading,
            instrument=config.instrument(symbol),
            sources=config.sources_for(symbol, regime),
            forecasts=usable_forecasts(state, symbol, trading),
        )
        commands += deciding
    account = event.account
    state, telling = _margin_watched(state, account, at)
    commands += telling
    commands.append(RecordEquity(point=EquityPoint(at=at, balance=account.balance, open_profit=account.open_profit)))
    return state, tuple(commands)


def _margin_watched(state: EngineState, account: Account, at: datetime) -> Stepped:
    """Tell, once, when there is no free margin left: the broker may close everything soon."""
    short = account.free_margin < 0
    if short == state.margin_short:
        return state, ()
    state = replace(state, margin_short=short)
    if not short:
        return state, ()
    margin = f"equity {account.equity:.2f}, used {account.margin_used:.2f}"
    detail = f"the free margin is {account.free_margin:.2f} {account.currency}: {margin}"
    return state, (RecordRiskEvent(event=RiskEvent(kind=RiskEventKind.MARGIN, at=at, symbol="", detail=detail)),)


def _reserving(state: EngineState, event: CandleClosed, config: EngineConfig) -> Account:
    """The account as if the entries on their way had been filled."""
    entries = [order.intent for order in state.pending.values() if order.intent.purpose is OrderPurpose.OPEN]
    if not entries:
        return event.account
    margins = (margin_needed(each.symbol, each.units, config.instrument(each.symbol), event.rates) for each in entries)
    return replace(event.account, margin_used=event.account.margin_used + sum(margins, Decimal(0)))


def _advanced(state: EngineState, event: CandleClosed, at: datetime, config: EngineConfig) -> EngineState:
    """Count the candle, age the forecasts, filter the regime, keep the books of peak and day."""
    symbol, equity = event.window.symbol, event.account.equity
    close = config.instrument(symbol).round_price(float(event.window.closes[-1]))
    aged = {
        source: LastForecast(prediction=last.prediction, age_bars=last.age_bars + 1)
        for source, last in state.forecasts.get(symbol, {}).items()
        if source not in event.predictions
    }
    made = {source: LastForecast(prediction=_slim(prediction), age_bars=0) for source, prediction in event.predictions.items()}
    positions, held = state.positions, state.positions.get(symbol)
    if held is not None:
        held = replace(held, bars_held=held.bars_held + 1, best_price=better_price(held, close))
        positions = {**positions, symbol: held}
    day = fx_day(at)
    return replace(
        state,
        cursors={**state.cursors, symbol: at},
        candles={**state.candles, symbol: state.candles.get(symbol, 0) + 1},
        prices={**state.prices, symbol: close},
        forecasts={**state.forecasts, symbol: {**aged, **made}},
        forecasts_missed=state.forecasts_missed + event.forecasts_missed,
        positions=positions,
        peak_equity=equity if state.peak_equity is None else max(state.peak_equity, equity),
        day=day,
        day_first_equity=state.day_first_equity if day == state.day else _equity_at_turn(state, event),
        last_equity=equity,
        regimes={**state.regimes, symbol: state.regimes.get(symbol, RegimeState()).advanced(event.window)},
    )


def _equity_at_turn(state: EngineState, event: CandleClosed) -> Decimal:
    """Return the equity with which a day begins: at the last candle before it, so that what a gap costs is lost on that day.

    A candle that opened before the turn and is handled in time tells it more precisely.
    """
    at, duration = event.closed_at, event.window.timeframe.duration
    tells = fx_day(at - duration) != fx_day(at) and event.seen_at < at + duration
    return event.account.equity if tells or state.last_equity is None else state.last_equity


def _slim(prediction: LDM4TSPrediction) -> LDM4TSPrediction:
    """A forecast without its samples: the state is saved at each candle, and would be mostly samples."""
    horizons: dict[int, HorizonForecast] = {
        minutes: HorizonForecast(mean=each.mean, std=each.std, q05=each.q05, q50=each.q50, q95=each.q95)
        for minutes, each in prediction.horizons.items()
    }
    return replace(prediction, horizons=horizons)


def _managed(
    state: EngineState, held: HeldPosition, event: CandleClosed, quote: Quote, trading: TradingConfig, instrument: Instrument
) -> Stepped:
    """Close the held position of the event's symbol, or move its stop and target."""
    symbol, at = event.window.symbol, event.closed_at
    if held.stop_lost and held.change is None:
        return close_position(state, held, at, "its stop is lost, and the broker does not take it back")
    horizon_minutes = held.horizon_bars * event.window.timeframe.minutes
    forecast = usable_forecast(state, symbol, trading)
    managed = manage(
        held,
        ManagementView(
            at=at,
            close=state.prices[symbol],
            quote=quote,
            instrument=instrument,
            prediction=event.predictions.get(trading.forecast_source),
            horizon_minutes=horizon_minutes,
            uncertainty_pct=None if forecast is None else forecast.uncertainty_pct(nearest_horizon(forecast, horizon_minutes)),
            spread=quote.spread,
        ),
        trading.management,
    )
    if managed.close_reason:
        return close_position(state, held, at, managed.close_reason)
    if not managed.reasons or held.change is not None:
        return state, ()
    return change_protection(state, held, managed.stop, managed.target, at, "; ".join(managed.reasons))
