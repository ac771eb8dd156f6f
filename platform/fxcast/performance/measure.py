"""A run in figures, each with its interval where it can have one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fxcast.backtest.result import BacktestResult, EquityCurve
from fxcast.domain.candle import FloatArray, TimeArray
from fxcast.domain.order import Fill
from fxcast.performance.bootstrap import (
    DRAWS,
    LEAST_DAYS,
    LEAST_TRADES,
    block_length,
    draw_orders,
    in_parts,
    intervals,
)
from fxcast.performance.daily import DAYS_A_YEAR, DailyCurve, daily_curve, deepest_fall
from fxcast.performance.fill_rates import FillRates
from fxcast.performance.lives import lives_of
from fxcast.performance.luck import sharpe_above
from fxcast.performance.measures import Costs, Interval, Measures
from fxcast.performance.ratios import curve_figures, trade_figures
from fxcast.performance.trade import Trade

NO_COSTS = Costs(spread=0.0, slippage=0.0, commission=0.0, financing=0.0)
_UNKNOWN = Interval(value=None)


def measure(result: BacktestResult, trades: Sequence[Trade], *, seed: int = 0, draws: int = DRAWS) -> Measures:
    """Measure a run of the engine.

    Intervals are 95 % percentile intervals of the stationary bootstrap, over days for what is of the account (from
    `LEAST_DAYS` days on), over trades in the order of their ends for what is of trades (from `LEAST_TRADES` trades on).
    Resampled days bring their falls at candle closes with them; a fall also depends on the order of days, so that its interval
    need not lie around it. Costs and turnover are those of all fills, of positions that are still open too; a fill in a cross whose
    worth no fill of the run tells (`FillRates`) is not in the turnover.

    Args:
        trades: The run's, from `trades_of`.
    """
    lives = lives_of(result)
    rates = FillRates(lives, result.currency)
    fills = [fill for fill in result.transactions if isinstance(fill, Fill)]
    interest = sum((float(each.amount) for each in result.transactions if not isinstance(each, Fill)), 0.0)
    return measure_curve(
        result.equity,
        float(result.starting_balance),
        trades=trades,
        costs=Costs(
            spread=float(sum(each.spread for each in result.fill_costs.values())),
            slippage=float(sum(each.slippage for each in result.fill_costs.values())),
            commission=float(sum(fill.commission for fill in fills)),
            financing=interest,
        ),
        traded=sum((float(rates.traded(fill) or 0) for fill in fills), 0.0),
        open_positions=sum(life.record.closed_at is None for life in lives),
        seed=seed,
        draws=draws,
    )


def measure_curve(
    equity: EquityCurve,
    starting_balance: float,
    *,
    trades: Sequence[Trade] = (),
    costs: Costs = NO_COSTS,
    traded: float = 0.0,
    open_positions: int = 0,
    seed: int = 0,
    draws: int = DRAWS,
) -> Measures:
    """Measure an account, as one that bought and held; otherwise as `measure`.

    Args:
        traded: Worth of everything bought and sold, in account currency.
    """
    worth = equity.equity
    curve = daily_curve(equity.times, worth, starting_balance)
    years = len(curve) / DAYS_A_YEAR
    cagr, sharpe, sortino, calmar, fall = _of_days(curve, seed=seed, draws=draws)
    nets = np.array([float(trade.net) for trade in sorted(trades, key=lambda trade: trade.closed_at)])
    win_rate, profit_factor, expectancy = _of_trades(nets, seed=seed, draws=draws)
    net_profit = float(worth[-1]) - starting_balance if len(equity) else 0.0
    mean_equity = float(worth.mean()) if len(equity) else starting_balance
    return Measures(
        years=years,
        net_profit=net_profit,
        total_return=net_profit / starting_balance,
        cagr=cagr,
        sharpe=sharpe,
        sortino=sortino,
        calmar=calmar,
        max_drawdown=fall,
        max_drawdown_days=longest_fall_days(equity.times, worth, starting_balance),
        trades=len(nets),
        win_rate=win_rate,
        profit_factor=profit_factor,
        expectancy=expectancy,
        average_win=float(nets[nets > 0].mean()) if (nets > 0).any() else None,
        average_loss=float(nets[nets < 0].mean()) if (nets < 0).any() else None,
        turnover=traded / years / mean_equity if years and mean_equity > 0 else 0.0,
        exposure=float((equity.exposure > 0).mean()) if len(equity) else 0.0,
        costs=costs,
        probabilistic_sharpe=sharpe_above(curve.returns, 0.0),
        open_positions=open_positions,
    )


def longest_fall_days(times: TimeArray, equity: FloatArray, starting_balance: float) -> float:
    """Return the longest time from a peak until it was reached again, or to the end; the first peak is the starting balance."""
    if not len(times):
        return 0.0
    below = equity < np.maximum.accumulate(np.maximum(equity, starting_balance))  # (n,)
    edges = np.diff(np.concatenate([[0], below.astype(np.int8), [0]]))  # (n + 1,)
    begun, ended = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    peaks, reached = times[np.maximum(begun - 1, 0)], times[np.minimum(ended, len(times) - 1)]
    return float(((reached - peaks) / np.timedelta64(1, "D")).max(initial=0.0))


def _of_days(curve: DailyCurve, *, seed: int, draws: int) -> tuple[Interval, ...]:
    as_it_was = np.arange(len(curve))[:, np.newaxis]  # (n, 1)
    if len(curve) < LEAST_DAYS:
        return (*(_UNKNOWN,) * 4, Interval(value=float(deepest_fall(curve, as_it_was)[0])))
    order = draw_orders(len(curve), block_length(curve.returns), seed=seed, draws=draws)
    drawn = in_parts(order, lambda some: curve_figures(curve, some))  # (5, draws)
    return intervals([float(each) for each in curve_figures(curve, as_it_was)[:, 0]], drawn)


def _of_trades(nets: FloatArray, *, seed: int, draws: int) -> tuple[Interval, ...]:
    if not len(nets):
        return (_UNKNOWN,) * 3
    values = [float(each) for each in trade_figures(nets)]
    if len(nets) < LEAST_TRADES:
        return tuple(Interval(value=value if np.isfinite(value) else None) for value in values)
    order = draw_orders(len(nets), block_length(nets), seed=seed, draws=draws)
    return intervals(values, in_parts(order, lambda some: trade_figures(nets[some])))
