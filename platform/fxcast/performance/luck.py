"""Whether chance explains a result: Sharpe ratios with what is known of their error, and trades in another order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from fxcast.backtest.result import EquityCurve
from fxcast.domain.candle import FloatArray
from fxcast.performance.bootstrap import DRAWS, LEAST_DAYS, LEAST_TRADES, Order, in_parts
from fxcast.performance.daily import DAYS_A_YEAR, daily_curve
from fxcast.performance.measures import Luck, TradeOrder
from fxcast.performance.trade import Trade

_LEVELS = (0.05, 0.5, 0.95)
_NO_SPREAD = 1e-12


def luck_of(
    equity: EquityCurve,
    starting_balance: float,
    trades: Sequence[Trade],
    *,
    trials: int = 1,
    sharpe_variance: float | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> Luck:
    """Ask whether chance explains a run.

    Args:
        trials: Different settings that were tried on this market, this one included.
        sharpe_variance: Of the trials' annualised Sharpe ratios. Where it is not known, the error that the Sharpe ratio of as many
            days has without any skill stands for it: 260 / (days − 1), as if the trials were independent of each other.
        draws: Orders of the trades.

    Raises:
        ValueError: If there is no trial, or the variance is below zero.
    """
    if trials < 1 or (sharpe_variance is not None and sharpe_variance < 0):
        raise ValueError(f"found {trials} trials and the variance {sharpe_variance}; needed: 1 or more, and zero or more")
    returns = daily_curve(equity.times, equity.equity, starting_balance).returns
    expected = deflated = None
    if len(returns) >= LEAST_DAYS:
        variance = DAYS_A_YEAR / (len(returns) - 1) if sharpe_variance is None else sharpe_variance
        expected = expected_best_sharpe(trials, variance)
        deflated = sharpe_above(returns, expected)
    return Luck(
        trials=trials,
        expected_best_sharpe=expected,
        deflated_sharpe=deflated,
        trade_order=trade_order(trades, starting_balance, seed=seed, draws=draws),
    )


def sharpe_above(returns: FloatArray, yearly_sharpe: float) -> float | None:
    """Return the probability that the true Sharpe ratio of daily returns is above an annualised one.

    None for fewer than `LEAST_DAYS` days or returns without spread.
    """
    if len(returns) < LEAST_DAYS or np.ptp(returns) <= _NO_SPREAD:
        return None
    return probabilistic_sharpe(
        float(returns.mean() / returns.std(ddof=1)),
        observations=len(returns),
        skewness=float(stats.skew(returns)),
        kurtosis=float(stats.kurtosis(returns, fisher=False)),
        benchmark=yearly_sharpe / math.sqrt(DAYS_A_YEAR),
    )


def probabilistic_sharpe(sharpe: float, *, observations: int, skewness: float, kurtosis: float, benchmark: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio is above a benchmark; both are of one observation, not annualised.

    Args:
        kurtosis: 3 for the normal law.

    Source: Bailey & López de Prado 2012, The Sharpe ratio efficient frontier, doi:10.21314/JOR.2012.255, equation 9.
    """
    # Kurtosis is never below 1 + skewness², and so the square below never below (1 − skewness · sharpe / 2)².
    variance = 1.0 - skewness * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    error = math.sqrt(max(variance, _NO_SPREAD) / (observations - 1))
    return float(stats.norm.cdf((sharpe - benchmark) / error))


def expected_best_sharpe(trials: int, variance: float) -> float:
    """Return the Sharpe ratio that the best of independent trials without skill is expected to have, in the variance's units.

    Source: Bailey & López de Prado 2014, The deflated Sharpe ratio, doi:10.3905/jpm.2014.40.5.094, equation 1.
    """
    if trials == 1:
        return 0.0
    quantiles = stats.norm.ppf(1.0 - 1.0 / trials), stats.norm.ppf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * float((1.0 - np.euler_gamma) * quantiles[0] + np.euler_gamma * quantiles[1])


def trade_order(trades: Sequence[Trade], starting_balance: float, *, seed: int = 0, draws: int = DRAWS) -> TradeOrder | None:
    """Ask how deep the same trades could have fallen in another order; None for fewer than `LEAST_TRADES`.

    Each trade wins or loses the share of the balance that it did, and the balance is looked at after every trade only: falls
    within trades are not in it, neither in `actual`.
    """
    nets = np.array([float(trade.net) for trade in sorted(trades, key=lambda trade: trade.closed_at)])
    if len(nets) < LEAST_TRADES:
        return None
    before = starting_balance + np.concatenate([[0.0], np.cumsum(nets)[:-1]])
    shares = np.where(before > 0, np.maximum(nets / np.where(before > 0, before, 1.0), -1.0), 0.0)
    positions = np.broadcast_to(np.arange(len(nets))[:, np.newaxis], (len(nets), draws))
    orders = np.random.default_rng(seed).permuted(positions, axis=0)  # (n, draws)
    falls = in_parts(orders, lambda some: _falls(shares, some))
    actual = float(_falls(shares, np.arange(len(nets))[:, np.newaxis])[0])
    q05, q50, q95 = (float(each) for each in np.quantile(falls, _LEVELS))
    return TradeOrder(
        orders=draws,
        drawdown_q05=q05,
        drawdown_q50=q50,
        drawdown_q95=q95,
        actual=actual,
        as_deep_or_deeper=float((falls >= actual - _NO_SPREAD).mean()),
    )


def _falls(shares: FloatArray, orders: Order) -> FloatArray:
    balance = np.cumprod(1.0 + shares[orders], axis=0)  # (n, draws)
    peaks = np.maximum(np.maximum.accumulate(balance, axis=0), 1.0)
    return (1.0 - balance / peaks).max(axis=0)  # (draws,)
