"""The account that buys at the beginning and holds: what the market alone would have done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from datetime import time as time_of_day

import numpy as np

from fxcast.backtest.result import EquityCurve
from fxcast.domain.calendar import NEW_YORK, new_york_offset
from fxcast.domain.candle import CandleSeries, FloatArray, TimeArray, to_datetime, to_datetime64
from fxcast.domain.instrument import default_instrument
from fxcast.domain.money import missing_rates
from fxcast.errors import BadSetup
from fxcast.trading.config import CandleSide, PaperMarketConfig

_ROLL = time_of_day(17)  # New York
_DAYS_OF_INTEREST = {0: 1, 1: 1, 2: 3, 3: 1, 4: 1}  # as the paper market books it, from Monday
_ABOVE_BID = {CandleSide.BID: 0.0, CandleSide.MID: 0.5, CandleSide.ASK: 1.0}  # of the spread


def buy_and_hold(
    series: Mapping[str, CandleSeries],
    start: datetime,
    stop: datetime,
    market: PaperMarketConfig,
    *,
    symbols: Sequence[str] | None = None,
) -> EquityCurve:
    """Buy the base currency of each symbol with an equal share of the starting balance, without leverage, and hold it.

    Bought at the ask of the first candle that closes at or after `start` (and by which every currency has a price), and valued at
    the bid from then on: the spread is paid once. Interest is booked at 17:00 New York where `swap_pct_long` has the symbol.
    Slippage, commission and lots are left out: they are paid once, and rounding would leave some of the balance idle.

    Args:
        series: By symbol; candles from before `start` on do no harm.
        stop: Candles that close at or after it are not seen.
        symbols: What is bought, by default everything in `series`; other series only tell what currencies are worth.

    Returns:
        A point for each close of any of the candles of `symbols`. The positions are open to the end.

    Raises:
        BadSetup: If a symbol has no series or no candle in the time, or a currency can't be converted to the account's.
    """
    bought = tuple(series if symbols is None else symbols)
    absent = [symbol for symbol in bought if symbol not in series]
    if absent or not bought:
        raise BadSetup(f"there are no candles of {' and '.join(absent) or 'any symbol'}; found: {', '.join(series) or 'none'}")
    missing = missing_rates(bought, market.account_currency, series)
    if missing:
        raise BadSetup(
            f"no candles lead from {' and '.join(missing)} to the account's {market.account_currency}: "
            "add a pair of the two to the symbols"
        )
    first, last = to_datetime64(start), to_datetime64(stop)
    seen = {symbol: series[symbol].close_times for symbol in bought}
    closes = {symbol: times[(times >= first) & (times < last)] for symbol, times in seen.items()}
    for symbol, times in closes.items():
        if not len(times):
            raise BadSetup(f"{symbol} has no candle that closes from {start.isoformat()} up to {stop.isoformat()}")
    times = np.unique(np.concatenate(list(closes.values())))
    mids = {name: _mids(each, times, market) for name, each in series.items()}
    worth = _worth(mids, market.account_currency)
    balance = np.full(len(times), float(market.starting_balance))
    open_profit, exposure = np.zeros(len(times)), np.zeros(len(times))
    for symbol in bought:
        base, quote = worth[symbol[:3]], worth[symbol[3:]]
        known = np.isfinite(base) & np.isfinite(quote) & (times >= closes[symbol][0])
        if not known.any():
            raise BadSetup(
                f"{symbol} can't be bought: not all prices from it to {market.account_currency} are known by its last candle"
            )
        at = int(np.argmax(known))
        half = _spreads(symbol, times, market) / 2
        ask, bid = mids[symbol] + half, mids[symbol] - half
        units = float(market.starting_balance) / len(bought) / (ask[at] * quote[at])
        held = slice(at, None)
        open_profit[held] += units * (bid[held] - ask[at]) * quote[held]
        exposure[held] += units * base[held]
        yearly_pct = market.swap_pct_long.get(symbol)
        if yearly_pct:
            balance[held] += _interest(times[held], units * base[held]) * float(yearly_pct) / 100 / 365
    return EquityCurve(times=times, balance=balance, open_profit=open_profit, exposure=exposure)


def _mids(series: CandleSeries, times: TimeArray, market: PaperMarketConfig) -> FloatArray:
    """Return the mid of the last close at or before each moment, NaN before the first, (n,)."""
    at = np.searchsorted(series.close_times, times, side="right") - 1
    closed = series.close_times[np.maximum(at, 0)]
    above = _spreads(series.symbol, closed, market) * (0.5 - _ABOVE_BID[market.candle_side])
    return np.where(at >= 0, series.closes[np.maximum(at, 0)] + above, np.nan)


def _spreads(symbol: str, times: TimeArray, market: PaperMarketConfig) -> FloatArray:
    """Return ask less bid at each moment, (n,)."""
    local_hours = ((times + new_york_offset(times)).astype("datetime64[s]").astype(np.int64) // 3600) % 24
    by_hour = np.array([float(market.spread_pips_by_hour.get(hour, market.spread_pips)) for hour in range(24)])
    return by_hour[local_hours] * float(default_instrument(symbol).pip)


def _worth(mids: Mapping[str, FloatArray], account_currency: str) -> dict[str, FloatArray]:
    """Return what currencies are worth in the account's at each moment, over the fewest pairs; as `money.rates_from_prices`."""
    worth = {account_currency: np.ones(len(next(iter(mids.values()))))}
    reached = [account_currency]
    for known in reached:  # which grows meanwhile: nearest first
        for symbol in sorted(mids):
            base, quote = symbol[:3], symbol[3:]
            if quote == known and base not in worth:
                worth[base] = worth[known] * mids[symbol]
                reached.append(base)
            elif base == known and quote not in worth:
                worth[quote] = worth[known] / mids[symbol]
                reached.append(quote)
    return worth


def _interest(times: TimeArray, exposure: FloatArray) -> FloatArray:
    """Return what has been held for how many days, in account currency times days, booked at each roll up to each moment, (n,)."""
    booked = np.zeros(len(times))
    day = to_datetime(times[0]).astimezone(NEW_YORK).date()
    while (roll := to_datetime64(datetime.combine(day, _ROLL, tzinfo=NEW_YORK))) <= times[-1]:
        days = _DAYS_OF_INTEREST.get(day.weekday(), 0)
        if roll > times[0] and days:
            at = int(np.searchsorted(times, roll))  # the first moment that has seen it
            held = at if times[at] == roll else at - 1
            booked[at] += exposure[held] * days
        day += timedelta(days=1)
    return np.cumsum(booked)
