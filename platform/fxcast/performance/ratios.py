"""Growth, ratios and what trades bring, of many draws at once; NaN where a figure can't be told.

Series run along the first axis: (n,) gives one figure, (n, draws) gives (draws,).
"""

from __future__ import annotations

import empyrical
import numpy as np

from fxcast.domain.candle import FloatArray
from fxcast.performance.bootstrap import Order
from fxcast.performance.daily import DAYS_A_YEAR, DailyCurve, deepest_fall

_NO_SPREAD = 1e-12


def curve_figures(curve: DailyCurve, order: Order) -> FloatArray:
    """Return CAGR, Sharpe ratio, Sortino ratio, Calmar ratio and deepest fall of days in some orders, (5, draws).

    CAGR and ratios of a year are `empyrical`'s, without a riskless rate. Calmar is CAGR over the deepest fall at candle closes,
    which daily returns do not know.

    Args:
        order: (n, draws) positions of days.
    """
    returns = curve.returns[order]  # (n, draws)
    cagr, fall = growth_a_year(returns), deepest_fall(curve, order)
    with np.errstate(divide="ignore", invalid="ignore"):
        calmar = np.where(fall > _NO_SPREAD, cagr / fall, np.nan)
    return np.stack([cagr, sharpe(returns), sortino(returns), calmar, fall])


def growth_a_year(returns: FloatArray) -> FloatArray:
    """Return the constant yearly return that ends at the same."""
    return np.asarray(empyrical.annual_return(returns, annualization=DAYS_A_YEAR))


def total_return(returns: FloatArray) -> FloatArray:
    return np.prod(1.0 + returns, axis=0) - 1.0


def sharpe(returns: FloatArray) -> FloatArray:
    """Return the mean over the standard deviation (n − 1), times the root of a year's days; NaN without a spread of returns."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.asarray(empyrical.sharpe_ratio(returns, annualization=DAYS_A_YEAR))
    return np.where(np.ptp(returns, axis=0) > _NO_SPREAD, ratio, np.nan)


def sortino(returns: FloatArray) -> FloatArray:
    """Return the mean over the root mean square of what lies below zero, annualised; infinite where no day lost, but some won."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.asarray(empyrical.sortino_ratio(returns, annualization=DAYS_A_YEAR))
    return np.where(np.ptp(returns, axis=0) > _NO_SPREAD, ratio, np.nan)


def trade_figures(nets: FloatArray) -> FloatArray:
    """Return win rate, profit factor and expectancy of trades, (3,) or (3, draws); the profit factor without a loss is infinite.

    Args:
        nets: (n,) or (n, draws) of account currency.
    """
    won, lost = np.where(nets > 0, nets, 0.0).sum(axis=0), -np.where(nets < 0, nets, 0.0).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = won / lost  # NaN where neither
    return np.stack([(nets > 0).mean(axis=0), factor, nets.mean(axis=0)])
