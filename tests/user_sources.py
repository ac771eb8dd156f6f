"""Sources as users write them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from fxcast.domain.candle import to_datetime
from fxcast.domain.signal import Direction, Signal, SignalKind
from fxcast.signals.sources import MarketView


@dataclass
class Optimist:
    """Always expects a rise; `hours_ahead` makes it speak of the future."""

    reward: float = 0.0020
    hours_ahead: int = 0
    name: str = "optimist"
    timeframes: tuple[str, ...] = ()

    def signals(self, view: MarketView) -> Iterator[Signal]:
        price = float(view.window.closes[-1])
        yield Signal(
            source=self.name,
            kind=SignalKind.PATTERN,
            symbol=view.window.symbol,
            made_at=to_datetime(view.window.close_times[-1]) + timedelta(hours=self.hours_ahead),
            horizon_minutes=240,
            direction=Direction.BULL,
            strength=0.8,
            price=price,
            stop=price - 0.0015,
            target=price + self.reward,
        )


class Broken:
    """Fails at every candle."""

    name = "broken"
    timeframes = ()

    def signals(self, view: MarketView) -> Iterator[Signal]:
        raise ZeroDivisionError(f"{view.window.symbol} by zero")
