"""What the spread was, by hour of day, from the quotes that the store has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
from numpy.typing import NDArray

from fxcast.data.store import CandleStore
from fxcast.domain.calendar import new_york_offset
from fxcast.domain.candle import FloatArray, TimeArray, to_datetime
from fxcast.domain.instrument import default_instrument
from fxcast.domain.market import MarketCandles, PriceSide
from fxcast.domain.timeframe import Timeframe
from fxcast.trading.config import CandleSide, PaperMarketConfig

_FEWEST_CANDLES = 20  # of an hour; the mean of fewer says more of a few moments than of the hour
_HOURS = 24
_CENTIPIP = Decimal("0.01")
_SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSpreads:
    """The mean spread of a symbol by hour of New York.

    Attributes:
        timeframe: Of the candles whose quotes were measured.
        start, stop: What was asked for.
        first, last: Open of the first candle with a quote, close of the last.
        candles: With a quote.
        overall: Mean over all quotes, in pips.
        pips_by_hour: For each of the 24 hours; the overall mean where too few candles have a quote.
        candles_by_hour: How many candles with a quote each hour rests on.
        crossed: Candles left out, whose ask lies below the bid.
    """

    symbol: str
    timeframe: Timeframe
    start: datetime
    stop: datetime
    first: datetime
    last: datetime
    candles: int
    overall: Decimal
    pips_by_hour: Mapping[int, Decimal]
    candles_by_hour: Mapping[int, int]
    crossed: int = 0

    @property
    def thin_hours(self) -> tuple[int, ...]:
        """The hours that have the overall mean, for want of quotes."""
        return tuple(hour for hour in range(_HOURS) if self.candles_by_hour[hour] < _FEWEST_CANDLES)

    @property
    def described(self) -> str:
        """A sentence for a report."""
        pips = self.pips_by_hour
        narrowest, widest = min(pips, key=lambda hour: pips[hour]), max(pips, key=lambda hour: pips[hour])
        said = (
            f"{self.symbol}: mean spread by hour (New York) of the bids and asks of {self.candles:,} {self.timeframe} candles from "
            f"{_minute(self.first)} to {_minute(self.last)} UTC, measured in the period traded itself "
            f"({_minute(self.start)} to {_minute(self.stop)} UTC): {self.overall} pips overall, "
            f"from {pips[narrowest]} at {narrowest}:00 to {pips[widest]} at {widest}:00"
        )
        if self.thin_hours:
            hours = ", ".join(map(str, self.thin_hours))
            said += f"; with quotes of fewer than {_FEWEST_CANDLES} candles, these hours have the overall mean: {hours}"
        if self.crossed:
            said += f"; left out, their ask being below the bid: {self.crossed:,} candles"
        return f"{said}."


def measured_spreads(
    store: CandleStore, symbol: str, timeframe: Timeframe, start: datetime, stop: datetime
) -> MeasuredSpreads | None:
    """Measure the spread by hour of New York, in pips.

    Measured is the period that is traded: costs are what was paid then. That knows nothing of where prices go, but it does know how
    wide that time's spreads were on the whole, which nobody did at its beginning; `described` says so. It is the mean, for that is
    what many trades pay on average, the rare wide moments included; a median would leave those out. A candle counts with the
    quotes that it opened and closed with, each in its own hour. The paper market rounds to the tick, a tenth of a pip.

    Args:
        timeframe: Of the candles traded. If none of them has a quote, those of the timeframe with the most quotes are measured.
        start, stop: The period; candles that open in [start, stop) count.

    Returns:
        None if no candle of the period has a quote.

    Raises:
        BadCandles: If the store holds no candles of the timeframe (names what it holds), or a time has no zone.
    """
    chosen = _with_quotes(store, symbol, timeframe, start, stop)
    if chosen is None:
        others = (each for each in store.timeframes(symbol) if each != timeframe)
        found = [quotes for each in others if (quotes := _with_quotes(store, symbol, each, start, stop)) is not None]
        if not found:
            return None
        chosen = max(found, key=lambda quotes: len(quotes.quoted))
    return _measured(chosen, start, stop)


def with_measured_spreads(market: PaperMarketConfig, measured: Mapping[str, MeasuredSpreads]) -> PaperMarketConfig:
    """Return a market that charges each symbol what was measured of it, and the others what it did before."""
    by_symbol = {symbol: dict(each.pips_by_hour) for symbol, each in measured.items()}
    return PaperMarketConfig.model_validate(
        {**market.model_dump(), "spread_pips_by_symbol": {**market.spread_pips_by_symbol, **by_symbol}}
    )


def candle_side(store: CandleStore, symbol: str, timeframe: Timeframe) -> CandleSide | None:
    """Return which price the stored candles are of, None if that is not stated.

    Raises:
        BadCandles: If the store holds no such series (names what it holds).
    """
    span = store.span(symbol, timeframe)
    newest = None if span is None else span[1] - timeframe.duration
    side = store.read_market(symbol, timeframe, newest).side
    return None if side is PriceSide.UNSTATED else CandleSide(side.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quotes:
    """What the candles of a period were quoted at.

    Attributes:
        spreads: Of each quote, (quotes,), in quote currency.
        hours: Of each quote, (quotes,), in New York.
        candle_hours: Of each candle with a quote its hour, or two where it opened and closed in different ones.
        quoted: Positions of the candles with a quote.
    """

    data: MarketCandles
    spreads: FloatArray
    hours: NDArray[np.int64]
    candle_hours: NDArray[np.int64]
    quoted: NDArray[np.int64]
    crossed: int


def _with_quotes(store: CandleStore, symbol: str, timeframe: Timeframe, start: datetime, stop: datetime) -> _Quotes | None:
    data = store.read_market(symbol, timeframe, start, stop)
    opening = data.detail("ask_open") - data.detail("bid_open")  # (candles,), as are those below
    closing = np.where(np.isnan(data.detail("spread")), data.detail("ask_close") - data.detail("bid_close"), data.detail("spread"))
    crossed = (opening < 0) | (closing < 0)  # a comparison with NaN is false
    at_open, at_close = ~np.isnan(opening) & ~crossed, ~np.isnan(closing) & ~crossed
    quoted = np.flatnonzero(at_open | at_close)
    if not len(quoted):
        return None
    # What a candle closed with was quoted before its close, which may be the next hour's first moment.
    open_hours, close_hours = _new_york_hours(data.open_times), _new_york_hours(data.candles.close_times - _SECOND)
    elsewhere = at_close & ~(at_open & (open_hours == close_hours))
    return _Quotes(
        data=data,
        spreads=np.concatenate([opening[at_open], closing[at_close]]),
        hours=np.concatenate([open_hours[at_open], close_hours[at_close]]),
        candle_hours=np.concatenate([open_hours[at_open], close_hours[elsewhere]]),
        quoted=quoted,
        crossed=int(crossed.sum()),
    )


def _measured(quotes: _Quotes, start: datetime, stop: datetime) -> MeasuredSpreads:
    data, pip = quotes.data, float(default_instrument(quotes.data.symbol).pip)
    sums = np.bincount(quotes.hours, weights=quotes.spreads, minlength=_HOURS)  # (24,), as are those below
    counts = np.bincount(quotes.hours, minlength=_HOURS)
    candles = np.bincount(quotes.candle_hours, minlength=_HOURS)
    overall = float(quotes.spreads.mean())
    means = [float(sums[hour] / counts[hour]) if candles[hour] >= _FEWEST_CANDLES else overall for hour in range(_HOURS)]
    return MeasuredSpreads(
        symbol=data.symbol,
        timeframe=data.timeframe,
        start=start,
        stop=stop,
        first=to_datetime(data.open_times[int(quotes.quoted[0])]),
        last=to_datetime(data.candles.close_times[int(quotes.quoted[-1])]),
        candles=len(quotes.quoted),
        overall=_pips(overall / pip),
        pips_by_hour={hour: _pips(mean / pip) for hour, mean in enumerate(means)},
        candles_by_hour={hour: int(count) for hour, count in enumerate(candles)},
        crossed=quotes.crossed,
    )


def _new_york_hours(moments: TimeArray) -> NDArray[np.int64]:
    local = moments + new_york_offset(moments)
    return local.astype("datetime64[h]").astype(np.int64) % _HOURS


def _pips(value: float) -> Decimal:
    return Decimal(repr(value)).quantize(_CENTIPIP, rounding=ROUND_HALF_EVEN)


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
