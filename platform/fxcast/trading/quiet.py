"""Many candles at once, where each of them would change nothing but the books.

Most candles of a replay bring no forecast, no signal, no fill and no change of a position. What `engine.step` makes of a run of
them follows from the last one and from the extremes on the way; tests/property/test_quiet_candles.py compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from fxcast.signals.ldm4ts import ForecastSource
from fxcast.signals.regime import RegimeState
from fxcast.trading.engine import EngineConfig
from fxcast.trading.management import better_price, holding_bars
from fxcast.trading.state import EngineState, HeldPosition, KillSwitch, LastForecast

NEVER = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedCandles:
    """What a run of quiet candles of one symbol comes to.

    Attributes:
        closed_at: Of the last one.
        close: Its close, on the tick.
        best_close: Best of their closes for the position held, on the tick; the last one without a position.
        equity: At the last one.
        peak_equity: Highest equity at one of them.
        regime: After the last one.
    """

    count: int
    closed_at: datetime
    close: Decimal
    best_close: Decimal
    equity: Decimal
    peak_equity: Decimal
    regime: RegimeState


def quiet_candles(state: EngineState, symbol: str, config: EngineConfig) -> int:
    """Return how many of the next candles of a symbol are quiet as far as the engine alone can tell, whatever the prices do.

    None are while an order is on its way, a source other than a forecaster is on, or a forecast can still be used. Each must
    also lie within the FX day of the last one handled. Where settings differ by regime, a candle must be quiet with those of each.
    """
    trading, regimes = config.trading, config.regimes_of(symbol)
    busy = state.pending or state.given_up or state.margin_short or state.kill_switch is not KillSwitch.ACTIVE
    if busy or symbol not in state.cursors:
        return 0
    if not all(isinstance(source, ForecastSource) for regime in regimes for source in config.sources_for(symbol, regime)):
        return 0
    tradings = [config.trading_for(symbol, regime) for regime in regimes]
    quiet = _until_refit(state, symbol, config)
    if trading.use_ldm4ts or trading.opponents:
        usable_bars = max(each.risk.max_forecast_age_bars for each in tradings)
        if any(last.age_bars < usable_bars for last in state.forecasts.get(symbol, {}).values()):
            return 0
        quiet = min(quiet, -state.candles.get(symbol, 0) % trading.forecast_interval_bars)
    held = state.positions.get(symbol)
    if held is not None:
        if held.change is not None or held.stop_lost:
            return 0
        closing = [holding_bars(held, each.management) for each in tradings if each.management.exit_at_horizon]
        quiet = min([quiet, *(bars - held.bars_held - 1 for bars in closing)])
    return max(0, quiet)


def passed(state: EngineState, symbol: str, candles: PassedCandles) -> EngineState:
    """Return the state after quiet candles."""
    positions: Mapping[str, HeldPosition] = state.positions
    held = positions.get(symbol)
    if held is not None:
        taken = replace(held, bars_held=held.bars_held + candles.count, best_price=better_price(held, candles.best_close))
        positions = {**positions, symbol: taken}
    forecasts: dict[str, Mapping[str, LastForecast]] = dict(state.forecasts)
    forecasts[symbol] = {
        source: LastForecast(prediction=last.prediction, age_bars=last.age_bars + candles.count)
        for source, last in forecasts.get(symbol, {}).items()
    }
    peak = candles.peak_equity
    return replace(
        state,
        cursors={**state.cursors, symbol: candles.closed_at},
        candles={**state.candles, symbol: state.candles.get(symbol, 0) + candles.count},
        prices={**state.prices, symbol: candles.close},
        forecasts=forecasts,
        positions=positions,
        peak_equity=peak if state.peak_equity is None else max(state.peak_equity, peak),
        last_equity=candles.equity,
        regimes={**state.regimes, symbol: candles.regime},
    )


def _until_refit(state: EngineState, symbol: str, config: EngineConfig) -> int:
    """Return how many candles come before the one at which the regimes are asked for anew."""
    regime = state.regimes.get(symbol, RegimeState())
    if regime.model is None and regime.fitted_at is None and regime.candles_since_fit == 0:
        return 0
    return config.trading.regime_refit_bars - regime.candles_since_fit - 1
