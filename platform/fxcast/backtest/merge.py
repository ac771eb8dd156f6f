"""Put runs on separate accounts together, as if one account had held them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from fxcast.backtest.result import BacktestResult, EquityCurve, FillCost
from fxcast.domain.candle import FloatArray, TimeArray
from fxcast.domain.order import Fill, Transaction


def merged(name: str, results: Sequence[BacktestResult]) -> BacktestResult:
    """Return runs of the same time and currency as one: balances, profits and trades added up.

    Transactions are put in order of time and numbered anew. Before an account's first candle it holds its starting balance.
    """
    first = results[0]
    if len(results) == 1:
        return replace(first, name=name)
    tagged = sorted(
        ((_moment(transaction), number, transaction) for number, each in enumerate(results) for transaction in each.transactions),
        key=lambda each: (each[0], each[1], each[2].sequence),
    )
    transactions = tuple(replace(transaction, sequence=place) for place, (_, _, transaction) in enumerate(tagged, start=1))
    costs: dict[int, FillCost] = {
        place: results[number].fill_costs[transaction.sequence]
        for place, (_, number, transaction) in enumerate(tagged, start=1)
        if transaction.sequence in results[number].fill_costs
    }
    return replace(
        first,
        name=name,
        symbols=tuple(dict.fromkeys(symbol for each in results for symbol in each.symbols)),
        starting_balance=sum((each.starting_balance for each in results[1:]), first.starting_balance),
        candles=sum(each.candles for each in results),
        equity=_summed(results),
        transactions=transactions,
        fill_costs=costs,
        orders=tuple(sorted((order for each in results for order in each.orders), key=lambda order: order.intent.created_at)),
        signals=tuple(sorted((decided for each in results for decided in each.signals), key=lambda each: each.signal.made_at)),
        positions=tuple(sorted((held for each in results for held in each.positions), key=lambda each: each.position.opened_at)),
        risk_events=tuple(sorted((event for each in results for event in each.risk_events), key=lambda event: event.at)),
        forecasts_missed=sum(each.forecasts_missed for each in results),
    )


def _moment(transaction: Transaction) -> datetime:
    return transaction.filled_at if isinstance(transaction, Fill) else transaction.booked_at


def _summed(results: Sequence[BacktestResult]) -> EquityCurve:
    times = np.unique(np.concatenate([each.equity.times for each in results]))

    def together(values: Sequence[FloatArray], before: Sequence[float]) -> FloatArray:
        parts = zip(results, values, before, strict=True)
        return np.sum([_carried(times, each.equity.times, value, start) for each, value, start in parts], axis=0)

    nothing = [0.0] * len(results)
    return EquityCurve(
        times=times,
        balance=together([each.equity.balance for each in results], [float(each.starting_balance) for each in results]),
        open_profit=together([each.equity.open_profit for each in results], nothing),
        exposure=together([each.equity.exposure for each in results], nothing),
    )


def _carried(times: TimeArray, known: TimeArray, values: FloatArray, before: float) -> FloatArray:
    """Return values at other times, each the last one known; `before` until there is one."""
    place = np.searchsorted(known, times, side="right")
    return np.concatenate([[before], values])[place]
