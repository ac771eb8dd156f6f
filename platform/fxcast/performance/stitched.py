"""What is kept of a fold's account, and the account that would have gone through all folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from fxcast.backtest.result import BacktestResult, EquityCurve
from fxcast.backtest.stitch import stitch
from fxcast.domain.signal import Verdict
from fxcast.performance.measure import NO_COSTS
from fxcast.performance.measures import Costs, Measures
from fxcast.performance.trade import Trade

_STEP = Decimal("0.0001")  # of the paper market's money
_OF_SIZE = ("units", "base_units", "profit", "commission", "financing", "spread_cost", "slippage_cost", "risk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account in what its measures are made of; much less than everything that a run did.

    Attributes:
        traded: Worth of everything bought and sold, in account currency.
        counts: How many orders, signals, accepted signals, risk events, candles and missed forecasts there were.
    """

    equity: EquityCurve
    trades: tuple[Trade, ...] = ()
    costs: Costs = NO_COSTS
    traded: float = 0.0
    open_positions: int = 0
    counts: Mapping[str, int]


def account_of(result: BacktestResult, trades: Sequence[Trade], measures: Measures) -> Account:
    """Return what to keep of a run that was measured."""
    mean_equity = float(result.equity.equity.mean()) if len(result.equity) else float(result.starting_balance)
    return Account(
        equity=result.equity,
        trades=tuple(trades),
        costs=measures.costs,
        traded=measures.turnover * measures.years * mean_equity,
        open_positions=measures.open_positions,
        counts={
            "candles": result.candles,
            "orders": len(result.orders),
            "signals": len(result.signals),
            "signals_accepted": sum(decided.verdict is Verdict.ACCEPTED for decided in result.signals),
            "forecasts_missed": result.forecasts_missed,
            "risk_events": len(result.risk_events),
        },
    )


def stitched(accounts: Sequence[Account], starting_balance: Decimal) -> Account:
    """Return the account that would have gone through all folds, as `stitch` puts their curves together.

    Units and money of a fold's trades and costs are multiplied as its curve is: an account that has grown trades as much more. So
    trades, costs and curve agree with each other, and shares (win rate, R multiples) are those of the folds. What a fold's account
    itself traded, in its own money and whole lots, its own folder holds.

    Args:
        accounts: Oldest first; each began with the starting balance.

    Raises:
        ValueError: If there is none, or they overlap.
    """
    together = stitch([each.equity for each in accounts], float(starting_balance))
    scaled = list(zip(accounts, together.scales, strict=True))
    counts: Counter[str] = Counter()
    for account in accounts:
        counts.update(account.counts)
    return Account(
        equity=together.equity,
        trades=tuple(_scaled(trade, scale) for account, scale in scaled for trade in account.trades),
        costs=Costs(
            spread=sum(each.costs.spread * scale for each, scale in scaled),
            slippage=sum(each.costs.slippage * scale for each, scale in scaled),
            commission=sum(each.costs.commission * scale for each, scale in scaled),
            financing=sum(each.costs.financing * scale for each, scale in scaled),
        ),
        traded=sum(each.traded * scale for each, scale in scaled),
        open_positions=sum(each.open_positions for each in accounts),
        counts=dict(counts),
    )


def _scaled(trade: Trade, scale: float) -> Trade:
    if scale == 1.0:
        return trade
    by = Decimal(scale)
    return replace(trade, **{name: (getattr(trade, name) * by).quantize(_STEP) for name in _OF_SIZE})
