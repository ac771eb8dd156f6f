"""Small builders of signals and of what sources look at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.instrument import default_instrument
from fxcast.domain.signal import Direction, Regime, Signal, SignalKind, SignalSource
from fxcast.signals.regime import RegimeView
from fxcast.signals.sources import MarketView
from tests.factories import NOON, make_series

KINDS: Mapping[str, SignalKind] = {
    SignalSource.TREND: SignalKind.TREND,
    SignalSource.MEAN_REVERSION: SignalKind.MEAN_REVERSION,
    SignalSource.PATTERN: SignalKind.PATTERN,
    SignalSource.MULTI_TIMEFRAME: SignalKind.CONFLUENCE,
}


def make_signal(
    source: str = SignalSource.LDM4TS_FORECAST,
    direction: Direction = Direction.BULL,
    strength: float = 0.6,
    *,
    kind: SignalKind | None = None,
    symbol: str = "EURUSD",
    made_at: datetime = NOON,
    horizon_minutes: int = 240,
    price: float = 1.10,
    risk: float = 0.002,
    reward: float = 0.003,
) -> Signal:
    """Build a signal of its source's usual kind (a user's: a forecast), with stop and target so far from the price."""
    return Signal(
        source=source,
        kind=KINDS.get(source, SignalKind.FORECAST) if kind is None else kind,
        symbol=symbol,
        made_at=made_at,
        horizon_minutes=horizon_minutes,
        direction=direction,
        strength=strength,
        price=price,
        stop=price - risk * direction.sign,
        target=price + reward * direction.sign,
    )


def make_view(
    window: CandleSeries | None = None,
    *,
    higher: Mapping[str, CandleSeries] | None = None,
    predictions: Mapping[str, LDM4TSPrediction] | None = None,
    spread_pips: float = 1.0,
) -> MarketView:
    """Build a view of a window, by default one of an endless rise."""
    window = make_series([1.1 + 0.0005 * bar for bar in range(100)]) if window is None else window
    return MarketView(
        window=window,
        instrument=default_instrument(window.symbol),
        higher={} if higher is None else higher,
        predictions={} if predictions is None else predictions,
        spread_pips=spread_pips,
    )


def certain(regime: Regime) -> RegimeView:
    """Return the view of a market whose regime is beyond doubt."""
    return RegimeView(regime=regime, probabilities={each: 1.0 if each is regime else 0.0 for each in Regime})
