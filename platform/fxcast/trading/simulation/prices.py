"""From candles to what can be bought and sold at: spread by hour, slippage, and the price of an order that comes late."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from functools import cached_property, lru_cache

from fxcast.domain.calendar import NEW_YORK
from fxcast.domain.candle import Candle
from fxcast.domain.instrument import Instrument, default_instrument
from fxcast.domain.money import Quote
from fxcast.domain.order import Side
from fxcast.trading.config import CandleSide, PaperMarketConfig

_MICROSECOND = timedelta(microseconds=1)
_WHOLE_DAY = 25  # hours, the one that a clock is set back over included
_HOUR_S = 3600


@dataclass(frozen=True, kw_only=True)  # no slots: what was worked out once is kept
class CandleQuotes:
    """A closed candle as bid and ask, on the tick; each is worked out when it is asked for: most are only asked for their close.

    Open and close have the spread of their moment; low and high, whose moment nobody knows, the widest of the candle's hours.
    """

    config: PaperMarketConfig
    symbol: str
    candle: Candle
    closed_at: datetime

    @property
    def opened_at(self) -> datetime:
        return self.candle.open_time

    @cached_property
    def open(self) -> Quote:
        return self._quote(self.candle.open, _spread_at(self.config, self.symbol, self.opened_at), self.opened_at)

    @cached_property
    def low(self) -> Quote:
        return self._quote(self.candle.low, self._inside, self.closed_at)

    @cached_property
    def high(self) -> Quote:
        return self._quote(self.candle.high, self._inside, self.closed_at)

    @cached_property
    def close(self) -> Quote:
        return self._quote(self.candle.close, _spread_at(self.config, self.symbol, self.closed_at), self.closed_at)

    def worst(self, side: Side) -> Decimal:
        """Return the worst price at which a position of a side could have been closed."""
        return self.low.bid if side is Side.BUY else self.high.ask

    def best(self, side: Side) -> Decimal:
        """Return the best price at which a position of a side could have been closed."""
        return self.high.bid if side is Side.BUY else self.low.ask

    @cached_property
    def _inside(self) -> Decimal:
        return widest_spread(self.config, self.symbol, self.opened_at, self.closed_at)

    def _quote(self, price: float, spread: Decimal, at: datetime) -> Quote:
        instrument = _usual_instrument(self.symbol)
        return _quote(self.config, instrument, instrument.round_price(price), spread, at)


def candle_quotes(config: PaperMarketConfig, symbol: str, candle: Candle, closed_at: datetime) -> CandleQuotes:
    """Return a candle's prices as bid and ask."""
    return CandleQuotes(config=config, symbol=symbol, candle=candle, closed_at=closed_at)


def active_at(config: PaperMarketConfig, created_at: datetime) -> datetime:
    """Return when an order reaches the market."""
    return created_at + int(config.latency_s * 1_000_000) * _MICROSECOND


def late_quote(config: PaperMarketConfig, symbol: str, candle: Candle, closed_at: datetime, *, side: Side, at: datetime) -> Quote:
    """Return what an order of a side meets that becomes active inside a candle.

    What the price did until then is unknown. The open is moved toward the candle's extreme on the trader's wrong side (the high
    for a buy) by the share of the candle that has passed, and rounded against the trader; the spread is the widest until then.
    """
    instrument = default_instrument(symbol)
    share = Decimal((at - candle.open_time) // _MICROSECOND) / ((closed_at - candle.open_time) // _MICROSECOND)
    opening = instrument.round_price(candle.open)
    extreme = instrument.round_price(candle.high if side is Side.BUY else candle.low)
    moved = opening + (extreme - opening) * share
    price = moved.quantize(instrument.tick, rounding=ROUND_CEILING if side is Side.BUY else ROUND_FLOOR)
    spread = max(widest_spread(config, symbol, candle.open_time, at), _spread_at(config, symbol, at))
    return _quote(config, instrument, price, spread, at)


def slippage(config: PaperMarketConfig, symbol: str) -> Decimal:
    """Return what market orders and stops lose on top of the spread, in quote currency."""
    instrument = default_instrument(symbol)
    return instrument.round_price(config.slippage_pips * instrument.pip)


def slipped(config: PaperMarketConfig, symbol: str, side: Side, quote: Quote) -> Decimal:
    """Return what a market order is filled at."""
    return quote.opening(side) + side.sign * slippage(config, symbol)


def paper_instrument(config: PaperMarketConfig, symbol: str) -> Instrument:
    """Return a symbol's usual conventions, with this market's margin and least distance of a stop."""
    usual = default_instrument(symbol)
    return replace(usual, margin_rate=1 / config.leverage, min_stop_distance=usual.round_price(config.min_stop_pips * usual.pip))


def widest_spread(config: PaperMarketConfig, symbol: str, start: datetime, end: datetime) -> Decimal:
    """Return the widest spread from a moment until just before another, in quote currency."""
    first, after = _utc_hour(start), _utc_hour(end - _MICROSECOND) + 1
    if after - first <= 1 or not (config.spread_pips_by_hour or symbol in config.spread_pips_by_symbol):
        return spread_in_hour(config, symbol, first)
    return max(spread_in_hour(config, symbol, hour) for hour in range(first, min(after, first + _WHOLE_DAY)))


def _spread_at(config: PaperMarketConfig, symbol: str, at: datetime) -> Decimal:
    return spread_in_hour(config, symbol, _utc_hour(at))


def spread_in_hour(config: PaperMarketConfig, symbol: str, utc_hour: int) -> Decimal:
    """Return the spread of an hour, counted from 1970 in UTC."""
    pips, of_symbol = config.spread_pips, config.spread_pips_by_symbol.get(symbol)
    if of_symbol or config.spread_pips_by_hour:
        hour = _new_york_hour(utc_hour)
        pips = config.spread_pips_by_hour.get(hour, pips)
        pips = of_symbol.get(hour, pips) if of_symbol else pips
    return _on_the_tick(pips, symbol)


def _utc_hour(at: datetime) -> int:
    return int(at.timestamp() // _HOUR_S)


# Every candle asks for these, and the answers are few.
@lru_cache(maxsize=4096)
def _new_york_hour(utc_hour: int) -> int:
    return datetime.fromtimestamp(utc_hour * _HOUR_S, tz=UTC).astimezone(NEW_YORK).hour


@lru_cache(maxsize=4096)
def _on_the_tick(pips: Decimal, symbol: str) -> Decimal:
    instrument = default_instrument(symbol)
    return instrument.round_price(pips * instrument.pip)


_usual_instrument = lru_cache(maxsize=256)(default_instrument)


def _quote(config: PaperMarketConfig, instrument: Instrument, known: Decimal, spread: Decimal, at: datetime) -> Quote:
    """Turn a price of the candles into bid and ask, on the tick; ask − bid is the spread exactly."""
    match config.candle_side:
        case CandleSide.BID:
            return Quote(bid=known, ask=known + spread, at=at)
        case CandleSide.ASK:
            return Quote(bid=known - spread, ask=known, at=at)
        case CandleSide.MID:
            bid = (known - spread / 2).quantize(instrument.tick, rounding=ROUND_HALF_EVEN)
            return Quote(bid=bid, ask=bid + spread, at=at)
