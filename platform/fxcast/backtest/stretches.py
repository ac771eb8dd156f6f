"""Pass over runs of quiet candles of one series: the same state, book and equity as candle by candle, in a fraction of the time."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from fxcast.backtest.broker import SimulatedBroker
from fxcast.backtest.curve import CurveRecorder
from fxcast.backtest.feed import OneSeriesFeed
from fxcast.domain.calendar import week_close
from fxcast.domain.candle import CandleSeries
from fxcast.domain.money import Quote
from fxcast.domain.order import Side
from fxcast.domain.portfolio import Position
from fxcast.trading.config import ManagementConfig
from fxcast.trading.engine import EngineConfig
from fxcast.trading.quiet import PassedCandles, passed, quiet_candles
from fxcast.trading.runner import Runner
from fxcast.trading.simulation.costs import profit
from fxcast.trading.simulation.tape import quote_tape
from fxcast.trading.state import EngineState, HeldPosition, fx_day

_HOUR_S = 3600
_MARGIN_SLACK = 1.001  # binary fractions decide only where there is margin enough


class QuietStretches:
    """Finds and passes over the quiet candles of one series on the paper market.

    Args:
        series: The only one that is followed.
        config: The engine's.
        feed: Says which candle comes next.
        broker: Whose book the prices pass.
    """

    def __init__(self, series: CandleSeries, *, config: EngineConfig, feed: OneSeriesFeed, broker: SimulatedBroker) -> None:
        self._series = series
        self._config = config
        self._feed = feed
        self._broker = broker
        self._tape = quote_tape(broker.book.config, series)
        self._closed_s = series.close_times.astype(np.int64)
        self._day_changes = _day_changes(self._closed_s).tolist()
        symbol = series.symbol  # in whichever regime it is: a rule of any may end what is quiet
        self._managements = [config.trading_for(symbol, regime).management for regime in config.regimes_of(symbol)]

    def pass_over(self, runner: Runner, curve: CurveRecorder) -> int:
        """Pass over what is quiet from here on; return how many candles that was."""
        if runner.waits_for_regimes or self._broker.book.working:
            return 0
        count = self._count(runner.state)
        if count:
            first, stop = self._feed.next, self._feed.next + count
            state = self._passed(runner.state, first, stop)
            self._record(curve, first, stop)
            self._feed.pass_over(count)
            runner.pass_over(state, self._feed.window_before(stop))
        return count

    def _count(self, state: EngineState) -> int:
        symbol, first = self._series.symbol, self._feed.next
        count = min(quiet_candles(state, symbol, self._config), self._feed.last - first)
        if count <= 0:
            return 0
        # Interest is booked, and the day's first equity kept, at the candle with which an FX day begins.
        stop = min(first + count, self._day_changes[bisect_left(self._day_changes, first)])
        held = state.positions.get(symbol)
        position = self._broker.book.positions.get(symbol)
        if held is None or position is None:
            return 0 if (held is None) is not (position is None) else stop - first
        stop = min(stop, self._before_weekend(first))
        return self._untouched(held, position, first, stop)

    def _before_weekend(self, first: int) -> int:
        """Return the position of the candle at which positions are closed because the week ends."""
        minutes = [each.exit_before_weekend_minutes for each in self._managements if each.exit_before_weekend_minutes is not None]
        if not minutes:
            return len(self._closed_s)
        ahead = max(timedelta(minutes=max(minutes)), self._series.timeframe.duration)
        closing = week_close(self._series.close_time(first)) - ahead
        return int(np.searchsorted(self._closed_s, int(closing.timestamp())))

    def _untouched(self, held: HeldPosition, position: Position, first: int, stop: int) -> int:
        """Return how many candles go by before one reaches stop or target, lets a rule move the stop, or strains the margin."""
        if stop <= first:
            return 0
        tape, tick, span = self._tape, self._tape.tick, slice(first, stop)
        long = position.side is Side.BUY
        worst, best = (tape.low_bid[span], tape.high_bid[span]) if long else (tape.high_ask[span], tape.low_ask[span])
        sign, stop_at = position.side.sign, _ticks(position.stop, tick, up=not long)
        touched = sign * worst <= sign * stop_at
        if position.target is not None:
            touched |= sign * best >= sign * _ticks(position.target, tick, up=long)
        moves_stop = _first_rule(self._managements)
        if moves_stop is not None:
            away = moves_stop * float(held.risk / tick) - 1
            entry = float(position.entry_price / tick)
            if sign * (float(held.best_price / tick) - entry) >= away:
                return 0
            touched |= sign * ((tape.close_ask if long else tape.close_bid)[span] - entry) >= away
        count = int(touched.argmax()) if touched.any() else stop - first
        return count if count and self._has_margin(position, first, first + count) else 0

    def _has_margin(self, position: Position, first: int, stop: int) -> bool:
        """Tell whether the equity stays clear of the margin used, whatever happens inside these candles or at their closes."""
        market, tape, span = self._broker.book.config, self._tape, slice(first, stop)
        tick, units, entry = float(tape.tick), float(position.units), float(position.entry_price)
        # A close may have the wider spread of the next hour.
        lowest = float(min(tape.low_bid[span].min(), tape.close_bid[span].min())) * tick
        highest = float(max(tape.high_ask[span].max(), tape.close_ask[span].max())) * tick
        loss = (entry - lowest if position.side is Side.BUY else highest - entry) * units
        worth = units * highest
        if market.account_currency == position.symbol[:3]:
            loss, worth = loss / lowest, units
        needed = worth / float(market.leverage) * max(1.0, float(market.margin_closeout_pct) / 100)
        return float(self._broker.book.balance) - max(loss, 0.0) * _MARGIN_SLACK > needed * _MARGIN_SLACK

    def _passed(self, state: EngineState, first: int, stop: int) -> EngineState:
        symbol, series, book = self._series.symbol, self._series, self._broker.book
        closed_at, instrument = series.close_time(stop - 1), self._config.instrument(symbol)
        bids, asks, tick = self._tape.close_bid[first:stop], self._tape.close_ask[first:stop], self._tape.tick
        mark = Quote(bid=int(bids[-1]) * tick, ask=int(asks[-1]) * tick, at=closed_at)
        book = replace(book, marks={**book.marks, symbol: mark})
        self._broker.book = book
        closes = series.closes[first:stop]
        close = best_close = instrument.round_price(float(closes[-1]))
        equity = peak = book.balance
        position = book.positions.get(symbol)
        if position is not None:
            long = position.side is Side.BUY
            equity += profit(book, position, mark.closing(position.side))
            # With one pair the equity grows with its price, so that the best close is the peak.
            peak += profit(book, position, int(bids.max() if long else asks.min()) * tick)
            best_close = instrument.round_price(float(closes.max() if long else closes.min()))
        return passed(
            state,
            symbol,
            PassedCandles(
                count=stop - first,
                closed_at=closed_at,
                close=close,
                best_close=best_close,
                equity=equity,
                peak_equity=peak,
                regime=state.regimes[symbol].advanced_over(series, first, stop),
            ),
        )

    def _record(self, curve: CurveRecorder, first: int, stop: int) -> None:
        book, span = self._broker.book, slice(first, stop)
        position = book.positions.get(self._series.symbol)
        balance = float(book.balance)
        if position is None:
            curve.add_flat(self._closed_s[span], balance)
            return
        tick = float(self._tape.tick)
        bid, ask = self._tape.close_bid[span], self._tape.close_ask[span]
        closing = (bid if position.side is Side.BUY else ask).astype(np.float64) * tick
        mid = (bid + ask).astype(np.float64) * (tick / 2)
        units, entry = float(position.units), float(position.entry_price)
        profits = position.side.sign * units * (closing - entry)
        if book.config.account_currency == position.symbol[:3]:
            curve.add(self._closed_s[span], balance, profits / closing, np.full(stop - first, units))
        else:
            curve.add(self._closed_s[span], balance, profits, units * mid)


def _first_rule(managements: Sequence[ManagementConfig]) -> float | None:
    """Return the profit, in first risks, from which on a rule may move the stop."""
    rules = [rule for each in managements for rule in (each.break_even_at_r, each.trail_at_r) if rule is not None]
    return min(rules, default=None)


def _ticks(price: Decimal, tick: Decimal, *, up: bool) -> int:
    exact = price / tick
    return math.ceil(exact) if up else math.floor(exact)


def _day_changes(closed_s: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions of the candles whose FX day is another than the one's before, and last the number of candles."""
    hours, where = np.unique(closed_s // _HOUR_S, return_inverse=True)
    days = np.array([fx_day(datetime.fromtimestamp(int(hour) * _HOUR_S, UTC)).toordinal() for hour in hours], dtype=np.int64)[where]
    return np.append(np.flatnonzero(np.diff(days)) + 1, len(closed_s))
