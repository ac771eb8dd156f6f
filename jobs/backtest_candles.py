"""The candles of a backtest, and what the store knows of their market."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from fxcast.backtest.inner import InnerCandles, inner_series
from fxcast.backtest.spreads import candle_side, measured_spreads, with_measured_spreads
from fxcast.data.packaged import read_packaged_sample
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting
from fxcast.trading.config import PaperMarketConfig
from jobs.backtest_settings import TradedSettings

_SAMPLE_STORE = Path("runs/sample")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketData:
    """What is known of a period's market.

    Attributes:
        series: By symbol, from the beginning of the store to the end of the period.
        market: As it was set, with the spreads that were measured.
        inner: By symbol, shorter candles.
        described: Where spreads and the order of prices inside a candle come from, in sentences.
    """

    series: Mapping[str, CandleSeries]
    market: PaperMarketConfig
    inner: Mapping[str, InnerCandles]
    described: tuple[str, ...]


def open_store(settings: TradedSettings) -> CandleStore:
    """Return the store of the candles; the packaged sample is put into one of its own."""
    if not settings.sample:
        return CandleStore(settings.store)
    store = CandleStore(_SAMPLE_STORE)
    store.append(read_packaged_sample().data)
    return store


def last_close(store: CandleStore, symbols: tuple[str, ...], timeframe: Timeframe) -> datetime:
    """Return when the candles of the symbol that ends first end.

    Raises:
        BadCandles: If the store holds none of a symbol (names what it holds).
    """
    ends: list[datetime] = []
    for symbol in symbols:
        span = store.span(symbol, timeframe)
        if span is None:
            store.read(symbol, timeframe)  # says what there is
            raise BadCandles("symbols", f"{symbol}, of which the store holds no {timeframe} candle", "one that it holds")
        ends.append(span[1])
    return min(ends)


def read_market_data(settings: TradedSettings, store: CandleStore, start: datetime, stop: datetime) -> MarketData:
    """Read the candles up to the end of a period, and measure what the store's quotes say of its costs.

    Raises:
        BadCandles: If the store has none of a symbol in the period.
        BadSetting: If the candles are prices of another side than `market.candle_side` says.
    """
    timeframe = Timeframe(settings.timeframe)
    series = {symbol: _series(store, symbol, timeframe, start, stop) for symbol in settings.followed}
    _check_side(settings, store, timeframe)
    market, described = settings.market, list[str]()
    if settings.spreads == "measured":
        found = {symbol: measured_spreads(store, symbol, timeframe, start, stop) for symbol in settings.followed}
        measured = {symbol: each for symbol, each in found.items() if each is not None}
        market = with_measured_spreads(market, measured)
        described += [each.described for each in measured.values()]
        stated = [symbol for symbol in settings.symbols if symbol not in measured]
        if stated:
            described.append(f"{', '.join(stated)}: no quotes in the store; the spread is stated, {market.spread_pips} pips")
    else:
        described.append(f"the spread is stated, {market.spread_pips} pips")
    inner: dict[str, InnerCandles] = {}
    if settings.inner_candles:
        for symbol in settings.symbols:
            shorter = inner_series(store, symbol, timeframe, start, stop)
            if shorter is not None:
                inner[symbol] = InnerCandles(shorter)
                described.append(f"{symbol}: {shorter.timeframe} candles say in which order prices came, where there are any")
    without = [symbol for symbol in settings.symbols if symbol not in inner]
    if without:
        described.append(f"{', '.join(without)}: a candle that touches stop and target has touched the stop first")
    return MarketData(series=series, market=market, inner=inner, described=tuple(described))


def _series(store: CandleStore, symbol: str, timeframe: Timeframe, start: datetime, stop: datetime) -> CandleSeries:
    series = store.read(symbol, timeframe, stop=stop)
    known = series.slice(0, int(np.searchsorted(series.close_times, to_datetime64(stop))))
    if not len(known) or to_datetime(known.close_times[-1]) < start:
        span = store.span(symbol, timeframe)
        held = "no candle of it" if span is None else f"{span[0]:%Y-%m-%d %H:%M} to {span[1]:%Y-%m-%d %H:%M}"
        found = f"none of {symbol} {timeframe} from {start.isoformat()} to {stop.isoformat()}"
        raise BadCandles("candles", found, f"a period with candles; the store holds {held}")
    return known


def _check_side(settings: TradedSettings, store: CandleStore, timeframe: Timeframe) -> None:
    for symbol in settings.symbols:
        side = candle_side(store, symbol, timeframe)
        if side is not None and side is not settings.market.candle_side:
            found = settings.market.candle_side.value
            raise BadSetting(f"market.candle_side: found {found}; the {symbol} candles of the store are {side.value} prices")
