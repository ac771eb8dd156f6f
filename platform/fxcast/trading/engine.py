"""The engine: a pure function from a state and an event to the next state and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import HorizonForecast, LDM4TSPrediction
from fxcast.domain.instrument import Instrument, default_instrument
from fxcast.domain.order import OrderIntent, OrderPurpose, Side
from fxcast.domain.portfolio import EquityPoint
from fxcast.domain.signal import Direction, FusedSignal, Signal, Verdict
from fxcast.signals.fusion import Consensus, fuse
from fxcast.signals.ldm4ts import forecast_signals
from fxcast.signals.mean_reversion import MeanReversionRule, mean_reversion_signal
from fxcast.signals.quality import SignalQualityScorer
from fxcast.signals.regime import unknown_regime
from fxcast.signals.trend import TrendRule, trend_signal
from fxcast.trading.config import TradingConfig
from fxcast.trading.events import (
    CandleClosed,
    Command,
    Event,
    FillReceived,
    KillSwitchSet,
    OrderUpdated,
    PlaceOrder,
    RecordEquity,
    RecordPrediction,
    RecordSignal,
)
from fxcast.trading.execution import take_fill, take_order
from fxcast.trading.ports import DecidedSignal
from fxcast.trading.risk import RiskView, apply_gates, currency_exposures
from fxcast.trading.sizing import Size, size_position, unit_value
from fxcast.trading.state import EngineState, KillSwitch, LastForecast, PendingOrder, fx_day


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What the engine needs to know besides the trader's settings; a symbol not named has the usual conventions."""

    trading: TradingConfig = field(default_factory=lambda: TradingConfig.model_validate({}))
    instruments: Mapping[str, Instrument] = field(default_factory=dict[str, Instrument])
    trend: TrendRule = field(default_factory=TrendRule)
    mean_reversion: MeanReversionRule = field(default_factory=MeanReversionRule)

    def instrument(self, symbol: str) -> Instrument:
        """Return a symbol's pip, tick and lot."""
        return self.instruments.get(symbol) or default_instrument(symbol)


def step(state: EngineState, event: Event, config: EngineConfig) -> tuple[EngineState, tuple[Command, ...]]:
    """Take one event in.

    A candle or a fill that was handled before changes nothing.

    Raises:
        BadSetup: If the account's currency is neither of the pair's.
        ReconciliationFailed: If a fill belongs to no order or position of ours, or differs from it in size.
    """
    match event:
        case CandleClosed():
            return _on_candle(state, event, config)
        case FillReceived():
            return take_fill(state, event.fill)
        case OrderUpdated():
            return take_order(state, event.order), ()
        case KillSwitchSet():
            return replace(state, kill_switch=event.kill_switch), ()


def wants_forecast(state: EngineState, symbol: str, config: EngineConfig) -> bool:
    """Tell whether to ask for a forecast on the next candle of a symbol."""
    return config.trading.use_ldm4ts and state.candles.get(symbol, 0) % config.trading.forecast_interval_bars == 0


def _on_candle(state: EngineState, event: CandleClosed, config: EngineConfig) -> tuple[EngineState, tuple[Command, ...]]:
    symbol, at = event.window.symbol, event.closed_at
    if symbol in state.cursors and at <= state.cursors[symbol]:
        return state, ()
    state = _advanced(state, event, config)
    commands: list[Command] = []
    if event.prediction is not None:
        commands.append(RecordPrediction(prediction=event.prediction))
    state, closing = _close_expired(state, symbol, at, event.window)
    commands += closing
    forecast = _usable_forecast(state, symbol, config)
    consensus = fuse(_signals(event.window, forecast, config), made_at=at, price=float(event.window.closes[-1]))
    if consensus is not None:
        state, deciding = _decide(state, event, consensus, forecast, config)
        commands += deciding
    account = event.account
    commands.append(RecordEquity(point=EquityPoint(at=at, balance=account.balance, open_profit=account.open_profit)))
    return state, tuple(commands)


def _advanced(state: EngineState, event: CandleClosed, config: EngineConfig) -> EngineState:
    """Count the candle, age the forecast, keep the books of peak and day."""
    symbol, at, equity = event.window.symbol, event.closed_at, event.account.equity
    forecasts = dict(state.forecasts)
    if event.prediction is not None:
        forecasts[symbol] = LastForecast(prediction=_without_samples(event.prediction), age_bars=0)
    elif symbol in forecasts:
        forecasts[symbol] = replace(forecasts[symbol], age_bars=forecasts[symbol].age_bars + 1)
    positions = dict(state.positions)
    if symbol in positions:
        positions[symbol] = replace(positions[symbol], bars_held=positions[symbol].bars_held + 1)
    day = fx_day(at)
    return replace(
        state,
        cursors={**state.cursors, symbol: at},
        candles={**state.candles, symbol: state.candles.get(symbol, 0) + 1},
        prices={**state.prices, symbol: config.instrument(symbol).round_price(float(event.window.closes[-1]))},
        forecasts=forecasts,
        forecasts_missed=state.forecasts_missed + event.forecast_missed,
        positions=positions,
        peak_equity=equity if state.peak_equity is None else max(state.peak_equity, equity),
        day=day,
        day_first_equity=state.day_first_equity if day == state.day else equity,
    )


def _without_samples(prediction: LDM4TSPrediction) -> LDM4TSPrediction:
    horizons: dict[int, HorizonForecast] = {
        minutes: replace(horizon, samples=()) for minutes, horizon in prediction.horizons.items()
    }
    return replace(prediction, horizons=horizons)


def _close_expired(state: EngineState, symbol: str, at: datetime, window: CandleSeries) -> tuple[EngineState, tuple[Command, ...]]:
    """Close the position whose signal's horizon has passed, unless a close is on its way or the switch is halted."""
    held = state.positions.get(symbol)
    if held is None or held.bars_held < held.horizon_bars or state.kill_switch is KillSwitch.HALTED:
        return state, ()
    if any(order.intent.purpose is OrderPurpose.CLOSE and order.intent.symbol == symbol for order in state.pending.values()):
        return state, ()
    attempt = held.close_attempts + 1
    intent = OrderIntent(
        client_order_id=f"{held.signal_id}-close" + (f"-{attempt}" if attempt > 1 else ""),
        signal_id=held.signal_id,
        symbol=symbol,
        side=held.position.side.opposite,
        units=held.position.units,
        purpose=OrderPurpose.CLOSE,
        stop=None,
        target=None,
        created_at=at,
    )
    state = _with_pending(state, intent, horizon_bars=0, valid_until=at + window.timeframe.duration)
    state = replace(state, positions={**state.positions, symbol: replace(held, close_attempts=attempt)})
    return state, (PlaceOrder(intent=intent),)


def _usable_forecast(state: EngineState, symbol: str, config: EngineConfig) -> LDM4TSPrediction | None:
    last = state.forecasts.get(symbol)
    if not config.trading.use_ldm4ts or last is None or last.age_bars > config.trading.risk.max_forecast_age_bars:
        return None
    return last.prediction


def _signals(window: CandleSeries, forecast: LDM4TSPrediction | None, config: EngineConfig) -> Iterator[Signal]:
    trading = config.trading
    if forecast is not None:
        spread = trading.spread_pips * float(config.instrument(window.symbol).pip)
        yield from forecast_signals(
            forecast, spread=spread, min_strength=trading.ldm4ts_min_strength, source=trading.forecast_source
        )
    technical = (
        trend_signal(window, config.trend) if trading.use_trend else None,
        mean_reversion_signal(window, config.mean_reversion) if trading.use_mean_reversion else None,
    )
    yield from (signal for signal in technical if signal is not None)


def _decide(
    state: EngineState, event: CandleClosed, consensus: Consensus, forecast: LDM4TSPrediction | None, config: EngineConfig
) -> tuple[EngineState, tuple[Command, ...]]:
    """Score a consensus, size it, pass it through the gates; record the verdict whatever it is."""
    signal = _scored(state, event, consensus, forecast, config)
    instrument = config.instrument(signal.symbol)
    size = _sized(signal, event, instrument, config)
    units, reason = size.units, _refusal(signal, size, config)
    if not reason:
        result = apply_gates(units, _risk_view(state, event, signal, instrument, config))
        units, reason = result.units, result.reason
    else:
        units = Decimal(0)
    verdict = Verdict.ACCEPTED if units else Verdict.REJECTED
    decided = DecidedSignal(signal=signal, verdict=verdict, reason=reason, base_units=size.base_units, units=units)
    if not units:
        return state, (RecordSignal(decided=decided),)
    intent = OrderIntent(
        client_order_id=f"{signal.signal_id}-open",
        signal_id=signal.signal_id,
        symbol=signal.symbol,
        side=_side(signal),
        units=units,
        purpose=OrderPurpose.OPEN,
        stop=instrument.round_price(signal.stop),
        target=instrument.round_price(signal.target),
        created_at=signal.made_at,
    )
    timeframe = event.window.timeframe
    state = _with_pending(
        state,
        intent,
        horizon_bars=max(1, signal.horizon_minutes // timeframe.minutes),
        valid_until=signal.made_at + timeframe.duration,
    )
    return state, (RecordSignal(decided=decided), PlaceOrder(intent=intent))


def _scored(
    state: EngineState, event: CandleClosed, consensus: Consensus, forecast: LDM4TSPrediction | None, config: EngineConfig
) -> FusedSignal:
    trading = config.trading
    model = state.regime_models.get(consensus.symbol)
    regimes = unknown_regime() if model is None else model.filtered(event.window)
    uncertainty_pct = None if forecast is None else _uncertainty_pct(forecast, consensus)
    scorer = SignalQualityScorer(
        uncertainty_threshold=trading.ldm4ts_uncertainty_threshold,
        max_spread_pips=trading.risk.max_spread_pips,
        forecast_spread_pips=trading.spread_pips,
    )
    quality = scorer.score(
        consensus,
        window=event.window,
        prediction=forecast,
        spread_pips=event.spread_pips,
        regimes=regimes,
        uncertainty_pct=uncertainty_pct,
    )
    return consensus.scored(quality=quality, regime=regimes.regime, uncertainty_pct=uncertainty_pct)


def _uncertainty_pct(forecast: LDM4TSPrediction, consensus: Consensus) -> float:
    """Uncertainty over the time the trade is meant to last: the leader's horizon, or the forecast's nearest to it."""
    leader = consensus.leader
    if leader.source.is_forecast:
        return forecast.uncertainty_pct(leader.horizon_minutes)
    return forecast.uncertainty_pct(min(forecast.horizons, key=lambda minutes: abs(minutes - leader.horizon_minutes)))


def _sized(signal: FusedSignal, event: CandleClosed, instrument: Instrument, config: EngineConfig) -> Size:
    trading = config.trading
    return size_position(
        equity=event.account.equity,
        risk_pct=Decimal(repr(trading.risk_per_trade_pct)),
        price=instrument.round_price(signal.price),
        stop=instrument.round_price(signal.stop),
        spread_pips=Decimal(repr(event.spread_pips)),
        instrument=instrument,
        account_currency=event.account.currency,
        uncertainty_pct=signal.uncertainty_pct if trading.ldm4ts_position_scaling else None,
        uncertainty_threshold=trading.ldm4ts_uncertainty_threshold,
    )


def _refusal(signal: FusedSignal, size: Size, config: EngineConfig) -> str:
    """Why the signal itself is not worth an order; empty if it is."""
    trading = config.trading
    threshold = trading.ldm4ts_uncertainty_threshold
    if signal.uncertainty_pct is not None and signal.uncertainty_pct >= threshold:
        return f"an uncertainty of {signal.uncertainty_pct:.3f} % is not below {threshold:g} %"
    if signal.quality.total < trading.min_quality:
        return f"a quality of {signal.quality.total:.3f} is below {trading.min_quality:g}"
    if not size.units:
        return f"the size is below one lot ({size.base_units} before scaling)"
    return ""


def _risk_view(
    state: EngineState, event: CandleClosed, signal: FusedSignal, instrument: Instrument, config: EngineConfig
) -> RiskView:
    currency, equity = event.account.currency, event.account.equity
    entries = [order.intent for order in state.pending.values() if order.intent.purpose is OrderPurpose.OPEN]
    held = [held.position for held in state.positions.values()]
    last = state.forecasts.get(signal.symbol)
    return RiskView(
        at=signal.made_at,
        instrument=instrument,
        side=_side(signal),
        unit_value=unit_value(signal.symbol, state.prices[signal.symbol], currency),
        equity=equity,
        peak_equity=equity if state.peak_equity is None else state.peak_equity,
        day_first_equity=equity if state.day_first_equity is None else state.day_first_equity,
        open_symbols=tuple(each.symbol for each in (*held, *entries)),
        exposures=currency_exposures([(each.symbol, each.side, each.units) for each in (*held, *entries)], state.prices, currency),
        spread_pips=event.spread_pips,
        forecast_age_bars=None if last is None else last.age_bars,
        forecast_required=config.trading.use_ldm4ts,
        kill_switch=state.kill_switch,
        limits=config.trading.risk,
    )


def _side(signal: FusedSignal) -> Side:
    return Side.BUY if signal.direction is Direction.BULL else Side.SELL


def _with_pending(state: EngineState, intent: OrderIntent, *, horizon_bars: int, valid_until: datetime) -> EngineState:
    order = PendingOrder(intent=intent, horizon_bars=horizon_bars, valid_until=valid_until)
    return replace(state, pending={**state.pending, intent.client_order_id: order})
