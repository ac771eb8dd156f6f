"""The length of a candle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from fxcast.errors import BadCandles

_MINUTES = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240}


@dataclass(frozen=True, slots=True)
class Timeframe:
    """A candle's length, named as traders name it (`1m`, `5m`, `15m`, `1h`, `4h`).

    Raises:
        BadCandles: If the name is unknown.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in _MINUTES:
            raise BadCandles("timeframe", repr(self.name), ", ".join(_MINUTES))

    @property
    def minutes(self) -> int:
        return _MINUTES[self.name]

    @property
    def duration(self) -> timedelta:
        return timedelta(minutes=self.minutes)

    def bars(self, horizon_minutes: int) -> int:
        """Return how many candles a horizon spans.

        Raises:
            BadCandles: If the horizon is not a positive multiple of the timeframe.
        """
        if horizon_minutes <= 0 or horizon_minutes % self.minutes:
            raise BadCandles("horizon_minutes", str(horizon_minutes), f"positive multiples of {self.minutes}")
        return horizon_minutes // self.minutes

    def __str__(self) -> str:
        return self.name
