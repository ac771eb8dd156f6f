"""Candles with everything else that their source says: bid, ask, spread, tick and real volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from fxcast.domain.candle import CandleSeries, FloatArray, TimeArray
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles

BID = ("bid_open", "bid_high", "bid_low", "bid_close")
ASK = ("ask_open", "ask_high", "ask_low", "ask_close")
_UNKNOWN = np.array(np.nan)
DETAILS = (*BID, *ASK, "spread", "tick_volume", "real_volume")


class PriceSide(StrEnum):
    """Which price the open, high, low and close of a series are."""

    BID = "bid"
    ASK = "ask"
    MID = "mid"
    UNSTATED = "unstated"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketCandles:
    """A series of candles, and what its source says beyond it.

    Attributes:
        candles: What models and engines read: prices of `side`; the volume is the tick volume, else the real one, else what the
            source calls volume without saying which, else 0.
        side: Mid wherever bid and ask are known.
        details: (n, 11) float64, columns `DETAILS`; NaN where the source says nothing. Prices and spread (ask less bid at the
            candle's close) in quote currency; tick volume counts quotes, real volume is in units of the source.

    Raises:
        BadCandles: If the shape of `details` differs.
    """

    candles: CandleSeries
    side: PriceSide
    details: FloatArray

    def __post_init__(self) -> None:
        if self.details.shape != (len(self.candles), len(DETAILS)):
            raise BadCandles("details", f"shape {self.details.shape}", f"({len(self.candles)}, {len(DETAILS)})")

    def __len__(self) -> int:
        return len(self.candles)

    @property
    def symbol(self) -> str:
        return self.candles.symbol

    @property
    def timeframe(self) -> Timeframe:
        return self.candles.timeframe

    @property
    def open_times(self) -> TimeArray:
        """Open times, (n,) datetime64[s], UTC."""
        return self.candles.open_times

    def detail(self, name: str) -> FloatArray:
        """Return one of `DETAILS`, (n,), NaN where it is unknown."""
        return self.details[:, DETAILS.index(name)]

    def slice(self, start: int, stop: int) -> MarketCandles:
        """Return the candles from position `start` up to and without `stop`."""
        return MarketCandles(candles=self.candles.slice(start, stop), side=self.side, details=self.details[start:stop])


def without_details(candles: CandleSeries, side: PriceSide = PriceSide.UNSTATED) -> MarketCandles:
    """Wrap a series of which nothing else is known."""
    return MarketCandles(candles=candles, side=side, details=no_details(len(candles)))


def no_details(count: int) -> FloatArray:
    """Return details that say nothing, (count, 11), read-only: one number stands for all."""
    return np.broadcast_to(_UNKNOWN, (count, len(DETAILS)))


def concatenate(parts: Sequence[MarketCandles]) -> MarketCandles:
    """Join parts of one series that follow each other in time.

    Raises:
        BadCandles: If they differ in symbol, timeframe or side, or overlap.
    """
    first = parts[0]
    for part in parts:
        found, wanted = (part.symbol, part.timeframe, part.side), (first.symbol, first.timeframe, first.side)
        if found != wanted:
            raise BadCandles("parts", " ".join(map(str, found)), " ".join(map(str, wanted)))
    candles = CandleSeries(
        symbol=first.symbol,
        timeframe=first.timeframe,
        open_times=np.concatenate([part.open_times for part in parts]),
        values=np.concatenate([part.candles.values for part in parts]),
    )
    nothing = all(part.details.strides == (0, 0) for part in parts)
    details = no_details(len(candles)) if nothing else np.concatenate([part.details for part in parts])
    return MarketCandles(candles=candles, side=first.side, details=details)
