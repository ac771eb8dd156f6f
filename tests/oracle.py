"""A second opinion on backtests: a simple strategy in raptorbt, a public backtesting library, on the same candles."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np

from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from tests.backtest_factories import CrossRule

os.environ.setdefault("RAPTORBT_NO_VERSION_CHECK", "1")  # importing it would ask pypi.org for a newer release

import raptorbt
from raptorbt.strategy import orders

_TOGETHER = 100  # trades given to the library at a time
_CAPITAL = 1e9  # as good as endless: what an account can hold is not what is compared


class OracleExit(StrEnum):
    """Why the library closed a trade."""

    STOP = "StopLoss"
    TARGET = "TakeProfit"
    TIME = "Signal"
    END = "EndOfData"


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleTrade:
    """A trade of the library, in prices that could be dealt at: what sells, does so at the bid.

    Attributes:
        signal_at: The close that it was decided at.
        entry_at, exit_at: The opens of the candles that it was filled in.
        sign: 1 bought, −1 sold.
        profit: In quote currency, the fees taken off.
        fees: Of both fills.
    """

    signal_at: datetime
    entry_at: datetime
    exit_at: datetime
    sign: int
    units: float
    entry_price: float
    exit_price: float
    reason: OracleExit
    profit: float
    fees: float


def run_oracle(
    series: CandleSeries,
    rule: CrossRule | None = None,
    *,
    units: float | Mapping[datetime, float] = 10_000.0,
    fees_per_million: float = 0.0,
    start: datetime | None = None,
) -> list[OracleTrade]:
    """Trade a series by the rule.

    The library knows one price. A buy is made and closed as its candles are, a sale likewise; so levels that are watched on the bid
    are moved up by the spread, and prices that are dealt at the bid are moved down again in what is returned.

    A year of minutes takes seconds: the library looks at every order it ever had at every candle, so few are given to it at a time.

    Args:
        series: Candles of the ask; all of them are traded.
        units: Of each trade; or by the close that it is decided at, and a cross that is missing is not traded.
        fees_per_million: Of quote currency bought or sold.
        start: No trade is decided at a close before it.
    """
    rule = rule or CrossRule()
    decided = _decided(series, rule, units, start)
    trades: list[OracleTrade] = []
    for first in range(0, len(decided), _TOGETHER):
        part, later = decided[first : first + _TOGETHER], decided[first + _TOGETHER :]
        begin = part[0].at
        # The last trade is over by the open of the candle at whose close the next one is decided.
        end = later[0].at + 1 if later else len(series)
        moved = {each.at - begin: each for each in part}
        trades += _traded(series.slice(begin, end), rule, moved, fees_per_million)
    return trades


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    """A trade that begins at the close of the candle at a position: 1 buys, −1 sells."""

    at: int
    sign: int
    units: float


def _decided(
    series: CandleSeries, rule: CrossRule, units: float | Mapping[datetime, float], start: datetime | None
) -> list[_Decision]:
    crosses, closes_at = _crosses(series.closes, rule), series.close_times
    if start is not None:
        crosses[: int(np.searchsorted(closes_at, to_datetime64(start)))] = 0
    decided: list[_Decision] = []
    for at in np.flatnonzero(crosses).tolist():
        size = units.get(to_datetime(closes_at[at]), 0.0) if isinstance(units, Mapping) else units
        if size:
            decided.append(_Decision(at=at, sign=int(crosses[at]), units=size))
    return decided


def _traded(
    series: CandleSeries, rule: CrossRule, decisions: Mapping[int, _Decision], fees_per_million: float
) -> list[OracleTrade]:
    seconds = series.open_times.astype("datetime64[s]").astype(np.int64)
    open_, high, low, close, volume = (np.ascontiguousarray(column) for column in series.values.T)
    config = raptorbt.BacktestConfig(
        initial_capital=_CAPITAL, fees=fees_per_million / 1e6, slippage=0.0, fill_timing="next_bar_open"
    )
    result = raptorbt.run_strategy_backtest(
        _Cross(rule, decisions, close.tolist()),
        seconds * 1_000_000_000,
        open_,
        high,
        low,
        close,
        volume,
        symbol=series.symbol,
        config=config,
        account_type="margin",
        leverage=30.0,
    )
    return [_trade(series, rule, each) for each in result.trades()]


class _Cross(raptorbt.Strategy):
    def __init__(self, rule: CrossRule, decisions: Mapping[int, _Decision], closes: Sequence[float]) -> None:
        super().__init__()
        self._rule = rule
        self._decisions = decisions
        self._closes = closes
        self._close_at: int | None = None

    def on_bar(self, ctx: raptorbt.StrategyContext) -> None:
        at = ctx.idx
        if at == self._close_at:
            self._close_at = None
            if ctx.position is not None:
                self.close_position()
        decision = self._decisions.get(at)
        if decision is None:
            return
        rule, sign, price = self._rule, decision.sign, self._closes[at]
        raised = rule.spread_pips if sign > 0 else 0.0  # a bought position is closed at the bid
        self.submit_order(
            orders.Market(
                side="buy" if sign > 0 else "sell",
                units=decision.units,
                stop_price=price + (raised - sign * rule.stop_pips) * rule.pip,
                target_price=price + (raised + sign * rule.target_pips) * rule.pip,
            )
        )
        self._close_at = at + rule.hold_bars


def _crosses(closes: np.ndarray[Any, np.dtype[np.float64]], rule: CrossRule) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return 1 where the fast average has crossed upwards, −1 where downwards, 0 elsewhere, (n,); only after a quiet time."""
    closes = np.ascontiguousarray(closes)
    # Averages of prices with five digits differ by nothing, or by much more than a billionth.
    difference = np.round(raptorbt.sma(closes, rule.fast_bars) - raptorbt.sma(closes, rule.slow_bars), 9)
    side = np.sign(np.nan_to_num(difference)).astype(np.int64)
    crossed = np.zeros_like(side)
    crossed[1:] = np.where(side[1:] * side[:-1] < 0, side[1:], 0)
    at = np.flatnonzero(crossed)
    crossed[at[1:][np.diff(at) <= rule.hold_bars]] = 0
    return crossed


def _trade(series: CandleSeries, rule: CrossRule, trade: raptorbt.Trade) -> OracleTrade:
    # A bought position is closed at the bid, and a sold one opened.
    lowered, sign = rule.spread_pips * rule.pip, int(trade.direction)
    entry = trade.entry_price - (lowered if sign < 0 else 0.0)
    exit_ = trade.exit_price - (lowered if sign > 0 else 0.0)
    entry_at = to_datetime(series.open_times[trade.entry_idx])
    return OracleTrade(
        signal_at=to_datetime(series.close_times[trade.entry_idx - 1]),
        entry_at=entry_at,
        exit_at=to_datetime(series.open_times[trade.exit_idx]),
        sign=sign,
        units=trade.size,
        entry_price=round(entry, 5),
        exit_price=round(exit_, 5),
        reason=OracleExit(trade.exit_reason),
        profit=trade.pnl - trade.size * lowered,
        fees=trade.fees,
    )
