"""From what a run booked to its trades, and whether all of it adds up to the balance."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from fxcast.backtest.result import BacktestResult
from fxcast.domain.order import Fill
from fxcast.domain.signal import Verdict
from fxcast.errors import ReconciliationFailed
from fxcast.performance.fill_rates import FillRates
from fxcast.performance.lives import Life, lives_of, mean_price
from fxcast.performance.trade import Trade
from fxcast.trading.ports import DecidedSignal

_NOTHING = Decimal(0)
_MONEY_STEP = Decimal("0.0001")  # of the paper market
_TOLERANCE = Decimal("0.005")  # half a cent: the curve's balance is a float


def trades_of(result: BacktestResult) -> tuple[Trade, ...]:
    """Return the positions that were closed, by when they were closed.

    The risk is the distance from the entry to the first stop, of all units, rounded to a hundredth of a cent; how it is converted
    `FillRates.loss_at_stop` says. It is zero where no fill of the run tells a rate.

    Raises:
        ReconciliationFailed: If a position has no order, fill or signal that opened it, or was closed without a fill.
    """
    lives = lives_of(result)
    rates = FillRates(lives, result.currency)
    decided = {each.signal.signal_id: each for each in result.signals if each.verdict is Verdict.ACCEPTED}
    closed = [_trade(life, rates, decided, result) for life in lives if life.record.closed_at is not None]
    return tuple(sorted(closed, key=lambda trade: (trade.closed_at, trade.symbol)))


def booked(result: BacktestResult) -> Decimal:
    """Return what all transactions together did to the balance."""
    return sum((each.profit - each.commission if isinstance(each, Fill) else each.amount for each in result.transactions), _NOTHING)


def check_balance(result: BacktestResult, trades: Sequence[Trade]) -> None:
    """Check that every transaction belongs to a trade or an open position, and that they explain the last balance to half a cent.

    Raises:
        ReconciliationFailed: If they do not; the message has the sums.
    """
    of_open = sum((life.net for life in lives_of(result) if life.record.closed_at is None), _NOTHING)
    of_trades, total = sum((trade.net for trade in trades), _NOTHING), booked(result)
    if of_trades + of_open != total:
        raise ReconciliationFailed(f"trades made {of_trades} and open positions {of_open}, but {total} was booked")
    last = Decimal(float(result.equity.balance[-1])) if len(result.equity) else result.starting_balance
    expected = result.starting_balance + total
    if abs(last - expected) > _TOLERANCE:
        raise ReconciliationFailed(
            f"the balance ends at {last:.4f}, but {result.starting_balance} and {total} booked make {expected}"
        )


def _trade(life: Life, rates: FillRates, decided: dict[str, DecidedSignal], result: BacktestResult) -> Trade:
    position, closed_at = life.position, life.record.closed_at
    opened_by = decided.get(life.intent.signal_id)
    if opened_by is None:
        raise ReconciliationFailed(f"position {position.client_order_id} has no accepted signal {life.intent.signal_id}")
    if closed_at is None or not life.exits:
        raise ReconciliationFailed(f"position {position.client_order_id} was closed without a fill")
    costs = [result.fill_costs[fill.sequence] for fill in life.fills]
    return Trade(
        order_id=position.client_order_id,
        symbol=position.symbol,
        side=position.side,
        units=life.units,
        opened_at=position.opened_at,
        closed_at=closed_at,
        entry_price=life.entry_price,
        exit_price=mean_price(life.exits),
        exit_reason=life.exits[-1].reason.value,
        profit=life.profit,
        commission=life.commission,
        financing=life.interest,
        spread_cost=sum((each.spread for each in costs), _NOTHING),
        slippage_cost=sum((each.slippage for each in costs), _NOTHING),
        risk=(rates.loss_at_stop(life) or _NOTHING).quantize(_MONEY_STEP),
        signal=opened_by.signal,
        base_units=opened_by.base_units,
    )
