"""One run against another on the same days."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fxcast.backtest.result import BacktestResult
from fxcast.domain.candle import FloatArray, to_datetime64
from fxcast.performance.bootstrap import DRAWS, LEAST_DAYS, LEAST_TRADES, Order, block_length, draw_orders, in_parts, interval
from fxcast.performance.daily import DailyCurve, daily_curve, deepest_fall, fx_days
from fxcast.performance.measures import Difference, Interval
from fxcast.performance.ratios import sharpe, total_return
from fxcast.performance.trade import Trade

MEASURES = ("sharpe", "max_drawdown", "win_rate", "total_return")


def differences(
    ours: BacktestResult,
    theirs: BacktestResult,
    our_trades: Sequence[Trade],
    their_trades: Sequence[Trade],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> tuple[Difference, ...]:
    """Compare two runs over the same time: ours less theirs, in the order of `MEASURES`.

    The stationary bootstrap is paired: both runs get the same drawn days, so that what the market did to both does not count as a
    difference; a trade comes with the day of its close. On a day that only one of them has, the other earned nothing. There is no
    interval for fewer than `LEAST_DAYS` days, and none of the win rate where either made fewer than `LEAST_TRADES` trades.
    """
    our_curve, their_curve = _days_of(ours), _days_of(theirs)
    days = np.union1d(our_curve.days, their_curve.days)
    sides = (our_curve.on_days(days), our_trades), (their_curve.on_days(days), their_trades)

    def figures(order: Order) -> FloatArray:
        return np.stack([_figures(curve, trades, order) for curve, trades in sides], axis=1)  # (4, 2, draws)

    values = figures(np.arange(len(days))[:, np.newaxis])[:, :, 0]  # (4, 2)
    if len(days) < LEAST_DAYS:
        values[MEASURES.index("sharpe")] = np.nan
        return tuple(_difference(name, pair, None) for name, pair in zip(MEASURES, values, strict=True))
    block = block_length(*(curve.returns for curve, _ in sides))
    drawn = in_parts(draw_orders(len(days), block, seed=seed, draws=draws), figures)  # (4, 2, draws)
    few = min(len(our_trades), len(their_trades)) < LEAST_TRADES
    return tuple(
        _difference(name, pair, None if few and name == "win_rate" else each)
        for name, pair, each in zip(MEASURES, values, drawn, strict=True)
    )


def _days_of(result: BacktestResult) -> DailyCurve:
    return daily_curve(result.equity.times, result.equity.equity, float(result.starting_balance))


def _figures(curve: DailyCurve, trades: Sequence[Trade], order: Order) -> FloatArray:
    returns = curve.returns[order]  # (n, draws)
    ended, won = _by_day(curve.days, trades)  # each (n,)
    with np.errstate(divide="ignore", invalid="ignore"):
        win_rate = won[order].sum(axis=0) / ended[order].sum(axis=0)  # NaN where no trade ended
    return np.stack([sharpe(returns), deepest_fall(curve, order), win_rate, total_return(returns)])  # (4, draws)


def _by_day(days: NDArray[np.datetime64], trades: Sequence[Trade]) -> tuple[FloatArray, FloatArray]:
    """Count the trades that ended on each day, and those of them that won, each (n,)."""
    if not trades or not len(days):
        return np.zeros(len(days)), np.zeros(len(days))
    closed = fx_days(np.array([to_datetime64(trade.closed_at) for trade in trades]))
    # What ends at the first open of a day counts for the day before, which has candles of its own or else none.
    day_of = np.minimum(np.searchsorted(days, closed), len(days) - 1)
    wins = np.array([trade.net > 0 for trade in trades], dtype=np.float64)
    ended, won = (np.bincount(day_of, weights=each, minlength=len(days)) for each in (np.ones(len(wins)), wins))
    return ended.astype(np.float64), won.astype(np.float64)


def _difference(measure: str, pair: FloatArray, drawn: FloatArray | None) -> Difference:
    ours, theirs = (float(each) if np.isfinite(each) else None for each in pair)
    if ours is None or theirs is None:
        difference = Interval(value=None)
    elif drawn is None:
        difference = Interval(value=ours - theirs)
    else:
        difference = interval(ours - theirs, drawn[0] - drawn[1])
    return Difference(measure=measure, ours=ours, theirs=theirs, difference=difference)
