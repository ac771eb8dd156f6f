"""From the sources' opinions on one symbol to an order, or to the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np

from fxcast.domain.forecast import HorizonForecast, LDM4TSPrediction
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Quote
from fxcast.domain.order import OrderIntent, OrderPurpose, Side
from fxcast.domain.signal import Direction, FusedSignal, Signal, Verdict
from fxcast.errors import BadSetting
from fxcast.signals.fusion import Consensus, fuse
from fxcast.signals.mean_reversion import mean_and_deviation
from fxcast.signals.quality import SignalQualityScorer, explain
from fxcast.signals.sources import MarketView, Source
from fxcast.trading.config import ManagementConfig, TradingConfig
from fxcast.trading.events import CandleClosed, Command, PlaceOrder, RecordRiskEvent, RecordSignal
from fxcast.trading.execution import Stepped
from fxcast.trading.ports import DecidedSignal, RiskEvent, RiskEventKind
from fxcast.trading.risk import RiskView, apply_gates, currency_exposures
from fxcast.trading.sizing import Size, SizeView, size_position
from fxcast.trading.state import EngineState, PendingOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What a decision is made from."""

    state: EngineState
    event: CandleClosed
    quote: Quote
    trading: TradingConfig
    instrument: Instrument
    view: MarketView
    forecast: LDM4TSPrediction | None  # the one that size and uncertainty come from

    @property
    def symbol(self) -> str:
        return self.event.window.symbol


def usable_forecasts(state: EngineState, symbol: str, trading: TradingConfig) -> dict[str, LDM4TSPrediction]:
    """Return the newest forecasts of a symbol that are on and not too old, by source."""
    sources: set[str] = {each.value for each in trading.opponents}
    if trading.use_ldm4ts:
        sources.add(trading.forecast_source.value)
    return {
        source: last.prediction
        for source, last in state.forecasts.get(symbol, {}).items()
        if source in sources and last.age_bars <= trading.risk.max_forecast_age_bars
    }


def usable_forecast(state: EngineState, symbol: str, trading: TradingConfig) -> LDM4TSPrediction | None:
    """Return the newest forecast that size and uncertainty come from, None if it is off or too old."""
    return usable_forecasts(state, symbol, trading).get(trading.forecast_source.value) if trading.use_ldm4ts else None


def nearest_horizon(prediction: LDM4TSPrediction, minutes: int) -> int:
    """Return the forecast's horizon nearest to a time in minutes; of two as near, the shorter."""
    return min(sorted(prediction.horizons), key=lambda horizon: abs(horizon - minutes))


def decide(
    state: EngineState,
    event: CandleClosed,
    *,
    quote: Quote,
    trading: TradingConfig,
    instrument: Instrument,
    sources: Sequence[Source],
    forecasts: Mapping[str, LDM4TSPrediction],
) -> Stepped:
    """Ask the sources, fuse what they say, score it, size it, pass it through the gates; record the verdict whatever it is.

    Raises:
        BadSetup: If a currency can't be converted to the account's.
    """
    view = MarketView(
        window=event.window,
        instrument=instrument,
        higher=event.higher,
        predictions=forecasts,
        spread_pips=float(quote.spread / instrument.pip),
    )
    at = event.closed_at
    opinions, failures = _opinions(view, sources, at)
    consensus = fuse(opinions, made_at=at, price=float(event.window.closes[-1]))
    if consensus is None:
        return state, failures
    consensus = replace(consensus, leader=_widened(consensus, trading.management, instrument))
    case = _Case(
        state=state,
        event=event,
        quote=quote,
        trading=trading,
        instrument=instrument,
        view=view,
        forecast=forecasts.get(trading.forecast_source.value) if trading.use_ldm4ts else None,
    )
    state, commands = _judged(case, consensus)
    return state, (*failures, *commands)


def _widened(consensus: Consensus, management: ManagementConfig, instrument: Instrument) -> Signal:
    """Return the leading signal with stop and target so many times as far from the close as it says, and above zero.

    The members keep what they said.
    """

    def moved(price: float, times: float) -> float:
        if times == 1.0:
            return price
        return max(consensus.price + times * (price - consensus.price), float(instrument.tick))

    leader = consensus.leader
    return replace(
        leader, stop=moved(leader.stop, management.stop_multiple), target=moved(leader.target, management.target_multiple)
    )


def _opinions(view: MarketView, sources: Sequence[Source], at: datetime) -> tuple[list[Signal], tuple[Command, ...]]:
    """Return what the sources say; one that fails is not listened to, and a person is told."""
    opinions: list[Signal] = []
    failures: list[Command] = []
    for source in sources:
        try:
            opinions += source.signals(view)
        except BadSetting as error:
            event = RiskEvent(kind=RiskEventKind.SOURCE, at=at, symbol=view.window.symbol, detail=str(error))
            failures.append(RecordRiskEvent(event=event))
    return opinions, tuple(failures)


def _judged(case: _Case, consensus: Consensus) -> Stepped:
    state = case.state
    signal = _scored(case, consensus)
    size = _sized(case, signal)
    refusal = _refusal(case, signal, size)
    if refusal:
        return state, (_recorded(signal, size, Decimal(0), refusal),)
    gated = apply_gates(size.units, _risk_view(case, signal))
    recorded = _recorded(signal, size, gated.units, gated.reason)
    if not gated.units:
        return state, (recorded,)
    state, placing = _ordered(case, signal, gated.units)
    return state, (recorded, placing)


def _scored(case: _Case, consensus: Consensus) -> FusedSignal:
    trading, forecast = case.trading, case.forecast
    regimes = case.state.regimes[consensus.symbol].view()
    uncertainty_pct = None
    if forecast is not None:  # over the time that the trade is meant to last
        uncertainty_pct = forecast.uncertainty_pct(nearest_horizon(forecast, consensus.leader.horizon_minutes))
    scorer = SignalQualityScorer(
        config=trading.quality,
        uncertainty_threshold=trading.ldm4ts_uncertainty_threshold,
        max_spread_pips=trading.risk.max_spread_pips,
        forecast_spread_pips=trading.spread_pips,
    )
    quality = scorer.score(consensus, view=case.view, prediction=forecast, regimes=regimes, uncertainty_pct=uncertainty_pct)
    return consensus.scored(quality=quality, regime=regimes.regime, uncertainty_pct=uncertainty_pct)


def _sized(case: _Case, signal: FusedSignal) -> Size:
    event, trading, instrument, side = case.event, case.trading, case.instrument, _side(signal)
    horizon: HorizonForecast | None = None
    prediction = event.predictions.get(trading.forecast_source.value) if trading.use_ldm4ts else None
    prediction = prediction or case.forecast  # one of this very candle still has its samples
    if prediction is not None:
        horizon = prediction.horizons[nearest_horizon(prediction, signal.horizon_minutes)]
    logs = np.log(event.window.closes)
    return size_position(
        SizeView(
            equity=event.account.equity,
            free_margin=event.account.free_margin,
            price=case.quote.closing(side),
            stop=instrument.round_price(signal.stop),
            target=instrument.round_price(signal.target),
            spread=case.quote.spread,
            side=side,
            instrument=instrument,
            rates=event.rates,
            horizon=horizon,
            forecast_price=None if prediction is None else prediction.price,
            bar_volatility=mean_and_deviation(logs[1:] - logs[:-1])[1],
            horizon_bars=_horizon_bars(case, signal),
            uncertainty_pct=signal.uncertainty_pct if trading.ldm4ts_position_scaling else None,
            uncertainty_threshold=trading.ldm4ts_uncertainty_threshold,
            regime=signal.regime,
        ),
        trading.sizing,
    )


def _refusal(case: _Case, signal: FusedSignal, size: Size) -> str:
    """Why the signal itself is not worth an order; empty if it is."""
    trading, quote, instrument, side = case.trading, case.quote, case.instrument, _side(signal)
    threshold = trading.ldm4ts_uncertainty_threshold
    if signal.uncertainty_pct is not None and signal.uncertainty_pct >= threshold:
        return f"an uncertainty of {signal.uncertainty_pct:.3f} % is not below {threshold:g} %"
    least = trading.quality.least_total(signal.regime, trading.min_quality)
    if signal.quality.total < least:
        return f"a quality of {signal.quality.total:.3f} is below {least:g}"
    stop, target = instrument.round_price(signal.stop), instrument.round_price(signal.target)
    nearest = max(instrument.min_stop_distance, instrument.tick)
    if side.sign * (quote.closing(side) - stop) < nearest:
        return f"the stop {stop} lies within {nearest} of the price {quote.closing(side)}, or beyond it"
    if side.sign * (target - quote.opening(side)) < nearest:
        return f"the target {target} lies within {nearest} of the price {quote.opening(side)}, or short of it"
    if not trading.sizing.multiplier(signal.regime):
        return f"a {signal.regime.value} market gets no position: its multiplier is 0"
    if not size.units:
        return f"the size is below one lot ({size.base_units} before scaling)"
    return ""


def _risk_view(case: _Case, signal: FusedSignal) -> RiskView:
    state, event = case.state, case.event
    entries = [order.intent for order in state.pending.values() if order.intent.purpose is OrderPurpose.OPEN]
    held = [held.position for held in state.positions.values()]
    open_ = {each.symbol: each for each in (*held, *entries)}
    last = state.forecasts.get(signal.symbol, {}).get(case.trading.forecast_source.value)
    equity = event.account.equity
    return RiskView(
        at=signal.made_at,
        seen_at=event.seen_at,
        instrument=case.instrument,
        side=_side(signal),
        unit_value=event.rates.convert(Decimal(1), case.instrument.base_currency),
        equity=equity,
        free_margin=event.account.free_margin,
        peak_equity=equity if state.peak_equity is None else state.peak_equity,
        day_first_equity=equity if state.day_first_equity is None else state.day_first_equity,
        open_symbols=tuple(open_),
        foreign=state.foreign,
        exposures=currency_exposures([(each.symbol, each.side, each.units) for each in (*held, *entries)], event.rates),
        sides={symbol: each.side for symbol, each in open_.items()},
        correlations=event.correlations,
        spread_pips=case.view.spread_pips,
        forecast_age_bars=None if last is None else last.age_bars,
        forecast_required=case.trading.use_ldm4ts,
        kill_switch=state.kill_switch,
        cool_off_until=state.cool_off_until,
        limits=case.trading.risk,
    )


def _recorded(signal: FusedSignal, size: Size, units: Decimal, reason: str) -> Command:
    return RecordSignal(
        decided=DecidedSignal(
            signal=signal,
            verdict=Verdict.ACCEPTED if units else Verdict.REJECTED,
            reason=reason,
            base_units=size.base_units,
            units=units,
            explanation=explain(signal.quality),
            arithmetic=size.arithmetic,
        )
    )


def _ordered(case: _Case, signal: FusedSignal, units: Decimal) -> tuple[EngineState, Command]:
    instrument = case.instrument
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
    order = PendingOrder(
        intent=intent,
        horizon_bars=_horizon_bars(case, signal),
        valid_until=signal.made_at + _validity(case),
    )
    state = replace(case.state, pending={**case.state.pending, intent.client_order_id: order})
    return state, PlaceOrder(intent=intent)


def _validity(case: _Case) -> timedelta:
    """How long an entry that could not be sent may still be sent: no longer than its candle would count as fresh."""
    return min(case.event.window.timeframe.duration, timedelta(seconds=case.trading.risk.max_candle_age_s))


def _horizon_bars(case: _Case, signal: FusedSignal) -> int:
    return max(1, signal.horizon_minutes // case.event.window.timeframe.minutes)


def _side(signal: FusedSignal) -> Side:
    return Side.BUY if signal.direction is Direction.BULL else Side.SELL
