"""The forecast as a source of signals, one per horizon."""

from __future__ import annotations

from dataclasses import dataclass

from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.signal import Direction, Signal, SignalKind, SignalSource
from fxcast.signals.sources import MarketView


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSource:
    """A forecaster, LDM4TS or one of its opponents, as a source: one signal for each horizon of its newest forecast.

    Attributes:
        name: Whose forecasts it looks at.
        spread_pips: The typical spread; a mean within half of it around the price is no opinion.
        min_strength: A weaker forecast is neutral.
    """

    name: SignalSource = SignalSource.LDM4TS_FORECAST
    spread_pips: float = 1.0
    min_strength: float = 0.3

    @property
    def timeframes(self) -> tuple[str, ...]:
        return ()

    def signals(self, view: MarketView) -> tuple[Signal, ...]:
        """Return its opinions, none without a forecast."""
        prediction = view.predictions.get(self.name)
        if prediction is None:
            return ()
        spread = self.spread_pips * float(view.instrument.pip)
        return forecast_signals(prediction, spread=spread, min_strength=self.min_strength, source=self.name)


def forecast_signals(
    prediction: LDM4TSPrediction,
    *,
    spread: float,
    min_strength: float,
    source: SignalSource = SignalSource.LDM4TS_FORECAST,
) -> tuple[Signal, ...]:
    """Return the forecast's opinion on each horizon, shortest first.

    Args:
        spread: In quote currency; a mean within half of it around the price is no opinion.
        min_strength: A weaker forecast is neutral.
        source: Whose forecast it is.
    """
    return tuple(
        forecast_signal(prediction, horizon_minutes, spread=spread, min_strength=min_strength, source=source)
        for horizon_minutes in sorted(prediction.horizons)
    )


def forecast_signal(
    prediction: LDM4TSPrediction,
    horizon_minutes: int,
    *,
    spread: float,
    min_strength: float,
    source: SignalSource = SignalSource.LDM4TS_FORECAST,
) -> Signal:
    """Return the forecast's opinion on one horizon.

    The strength is min(|mean − price| / std, 1), the target the mean, the stop the 5 % (bull) or 95 % (bear) quantile. A
    neutral signal carries the price as stop and target.
    """
    horizon = prediction.horizons[horizon_minutes]
    price = prediction.price
    # Samples without any width are no distribution, so they carry no strength.
    strength = min(abs(horizon.mean - price) / horizon.std, 1.0) if horizon.std > 0 else 0.0
    direction = mean_direction(prediction, horizon_minutes, spread=spread)
    if strength < min_strength:
        direction = Direction.NEUTRAL
    stop = target = price
    if direction is Direction.BULL:
        # If even the 5 % quantile lies above the price it can't be a stop; one std below the price stands in.
        stop, target = (horizon.q05 if horizon.q05 < price else price - horizon.std), horizon.mean
    elif direction is Direction.BEAR:
        stop, target = (horizon.q95 if horizon.q95 > price else price + horizon.std), horizon.mean
    return Signal(
        source=source,
        kind=SignalKind.FORECAST,
        symbol=prediction.symbol,
        made_at=prediction.made_at,
        horizon_minutes=horizon_minutes,
        direction=direction,
        strength=strength,
        price=price,
        stop=stop,
        target=target,
    )


def mean_direction(prediction: LDM4TSPrediction, horizon_minutes: int, *, spread: float) -> Direction:
    """Tell on which side of the price the mean lies; within half the spread (quote currency) on neither."""
    move = prediction.horizons[horizon_minutes].mean - prediction.price
    if move > spread / 2:
        return Direction.BULL
    return Direction.BEAR if move < -spread / 2 else Direction.NEUTRAL
