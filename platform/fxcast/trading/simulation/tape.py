"""A series of candles as bid and ask, all at once: what `prices.candle_quotes` says of each, in ticks."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.candle import CandleSeries, FloatArray
from fxcast.domain.instrument import Instrument, default_instrument
from fxcast.trading.config import CandleSide, PaperMarketConfig
from fxcast.trading.simulation.prices import spread_in_hour

_HOUR_S = 3600
_WHOLE_DAY = 25  # hours, the one that a clock is set back over included
_DOUBTFUL = 1e-6  # of a tick: so near to a half, binary fractions may round another way than decimal ones

Ticks = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteTape:
    """Bid and ask of each candle, (n,) in ticks."""

    tick: Decimal
    low_bid: Ticks
    low_ask: Ticks
    high_bid: Ticks
    high_ask: Ticks
    close_bid: Ticks
    close_ask: Ticks


def quote_tape(config: PaperMarketConfig, series: CandleSeries) -> QuoteTape:
    """Return the quotes of a series on the paper market."""
    instrument = default_instrument(series.symbol)
    opened_s = series.open_times.astype("datetime64[s]").astype(np.int64)
    closed_s = opened_s + series.timeframe.minutes * 60
    inside = _widest(config, instrument, opened_s, closed_s)
    low_bid, low_ask = _quotes(config, ticks_of(series.values[:, 2], instrument), inside)
    high_bid, high_ask = _quotes(config, ticks_of(series.values[:, 1], instrument), inside)
    close_bid, close_ask = _quotes(config, ticks_of(series.closes, instrument), _spreads(config, instrument, closed_s // _HOUR_S))
    return QuoteTape(
        tick=instrument.tick,
        low_bid=low_bid,
        low_ask=low_ask,
        high_bid=high_bid,
        high_ask=high_ask,
        close_bid=close_bid,
        close_ask=close_ask,
    )


def ticks_of(prices: FloatArray, instrument: Instrument) -> Ticks:
    """Return prices in ticks, (n,), each rounded as `Instrument.round_price` does it."""
    scaled = prices / float(instrument.tick)
    ticks = np.rint(scaled).astype(np.int64)
    doubtful = np.flatnonzero(np.abs(np.abs(scaled - ticks) - 0.5) < _DOUBTFUL)
    for position in doubtful:
        ticks[position] = int(instrument.round_price(float(prices[position])) / instrument.tick)
    return ticks


def _quotes(config: PaperMarketConfig, known: Ticks, spread: Ticks) -> tuple[Ticks, Ticks]:
    match config.candle_side:
        case CandleSide.BID:
            return known, known + spread
        case CandleSide.ASK:
            return known - spread, known
        case CandleSide.MID:
            doubled = 2 * known - spread
            below = doubled // 2
            bid = below + (doubled % 2) * (below % 2)  # a half goes to the even tick
            return bid, bid + spread


def _spreads(config: PaperMarketConfig, instrument: Instrument, hours: Ticks) -> Ticks:
    """Return the spread in each hour, counted from 1970 in UTC, in ticks."""
    distinct, where = np.unique(hours, return_inverse=True)
    spreads = [int(spread_in_hour(config, instrument.symbol, int(hour)) / instrument.tick) for hour in distinct]
    return np.array(spreads, dtype=np.int64)[where]


def _widest(config: PaperMarketConfig, instrument: Instrument, opened_s: Ticks, closed_s: Ticks) -> Ticks:
    """Return the widest spread inside each candle, in ticks."""
    first, last = opened_s // _HOUR_S, (closed_s - 1) // _HOUR_S
    widest = _spreads(config, instrument, first)
    for later in range(1, min(int((last - first).max(initial=0)), _WHOLE_DAY - 1) + 1):
        widest = np.maximum(widest, _spreads(config, instrument, np.minimum(first + later, last)))
    return widest
