"""Trades by month, symbol, source, regime and hour."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fxcast.domain.calendar import NEW_YORK
from fxcast.domain.candle import to_datetime64
from fxcast.performance.daily import fx_days
from fxcast.performance.measures import Costs, Group
from fxcast.performance.ratios import trade_figures
from fxcast.performance.trade import Trade

_KEYS: Mapping[str, Callable[[Trade], str]] = {
    "symbol": lambda trade: trade.symbol,
    "source": lambda trade: trade.source,
    "regime": lambda trade: trade.signal.regime.value,
    "hour": lambda trade: f"{trade.opened_at.astimezone(NEW_YORK):%H}:00",
}


def groups_of(trades: Sequence[Trade]) -> Mapping[str, tuple[Group, ...]]:
    """Group trades by month, symbol, source, regime and hour, each sorted by its label.

    The month (2016-05) is that of the FX day on which a trade was closed, the hour (17:00) that of its opening in New York.
    """
    closed = [to_datetime64(trade.closed_at) for trade in trades]
    months = [str(day)[:7] for day in fx_days(np.array(closed, dtype="datetime64[s]"))]
    labels = {"month": months, **{name: [key(trade) for trade in trades] for name, key in _KEYS.items()}}
    return {name: _grouped(each, trades) for name, each in labels.items()}


def costs_of(trades: Sequence[Trade]) -> Costs:
    """Return what trades cost together."""
    return Costs(
        spread=float(sum(trade.spread_cost for trade in trades)),
        slippage=float(sum(trade.slippage_cost for trade in trades)),
        commission=float(sum(trade.commission for trade in trades)),
        financing=float(sum(trade.financing for trade in trades)),
    )


def _grouped(labels: Sequence[str], trades: Sequence[Trade]) -> tuple[Group, ...]:
    members: defaultdict[str, list[Trade]] = defaultdict(list)
    for label, trade in zip(labels, trades, strict=True):
        members[label].append(trade)
    return tuple(_group(label, members[label]) for label in sorted(members))


def _group(label: str, trades: Sequence[Trade]) -> Group:
    win_rate, factor, expectancy = (float(each) for each in trade_figures(np.array([float(trade.net) for trade in trades])))
    return Group(
        label=label,
        trades=len(trades),
        net=float(sum(trade.net for trade in trades)),
        win_rate=win_rate,
        profit_factor=factor if np.isfinite(factor) else None,
        expectancy=expectancy,
        costs=costs_of(trades),
    )
