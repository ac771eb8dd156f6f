"""Small backtests built by hand: trades, and results that hold what the engine would have left of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np

from fxcast.backtest.result import BacktestResult, EquityCurve, FillCost
from fxcast.domain.candle import FloatArray, TimeArray, to_datetime64
from fxcast.domain.order import Fill, FillReason, Financing, OrderIntent, OrderPurpose, OrderStatus, Side, Transaction
from fxcast.domain.portfolio import Position
from fxcast.domain.signal import Direction, FusedSignal, QualityScore, Regime, SignalSource, Verdict
from fxcast.performance.trade import Trade
from fxcast.trading.ports import DecidedSignal, OrderRecord, PositionRecord
from tests.signal_factories import make_signal

# A Monday, 00:00 UTC.
MONDAY = datetime(2017, 3, 6, tzinfo=UTC)
HOUR = timedelta(hours=1)
_NOTHING = Decimal(0)


def make_fused(
    *,
    symbol: str = "EURUSD",
    side: Side = Side.BUY,
    made_at: datetime = MONDAY,
    price: float = 1.10,
    source: str = SignalSource.LDM4TS_FORECAST,
    regime: Regime = Regime.TRENDING,
    uncertainty_pct: float | None = 0.2,
    risk: float = 0.002,
) -> FusedSignal:
    """Build what one source alone said, with its stop `risk` from the price and its target half as far again."""
    direction = Direction.BULL if side is Side.BUY else Direction.BEAR
    member = make_signal(source, direction, symbol=symbol, made_at=made_at, price=price, risk=risk, reward=1.5 * risk)
    score = QualityScore(
        consistency=0.9,
        confirmation=0.8,
        strength=0.6,
        timing=0.7,
        risk_reward=0.5,
        regime_alignment=0.6,
        weighted_mean=0.7,
        uncertainty_penalty=0.1,
        total=0.63,
    )
    return FusedSignal(
        symbol=symbol,
        made_at=made_at,
        horizon_minutes=member.horizon_minutes,
        direction=direction,
        strength=member.strength,
        price=price,
        stop=member.stop,
        target=member.target,
        uncertainty_pct=uncertainty_pct,
        regime=regime,
        quality=score,
        members=(member,),
    )


def make_trade(
    profit: float | str | Decimal = 10,
    *,
    symbol: str = "EURUSD",
    side: Side = Side.BUY,
    units: int = 10_000,
    opened_at: datetime = MONDAY + HOUR,
    held: timedelta = 4 * HOUR,
    entry_price: str = "1.10000",
    exit_reason: FillReason = FillReason.TARGET,
    commission: str = "0",
    financing: str = "0",
    spread_cost: str = "1",
    slippage_cost: str = "0",
    risk: str = "20",
    source: str = SignalSource.LDM4TS_FORECAST,
    regime: Regime = Regime.TRENDING,
    uncertainty_pct: float | None = 0.2,
    base_units: int | None = None,
) -> Trade:
    """Build a trade in an account of its quote currency: the profit gives the exit price, the risk the stop.

    Its signal was made when it was opened; two of one symbol at one moment have the same id.
    """
    won, entry = Decimal(str(profit)), Decimal(entry_price)
    distance = float(Decimal(risk) / units)
    signal = make_fused(
        symbol=symbol,
        side=side,
        made_at=opened_at,
        price=float(entry),
        source=source,
        regime=regime,
        uncertainty_pct=uncertainty_pct,
        risk=distance,
    )
    return Trade(
        order_id=f"{signal.signal_id}-open",
        symbol=symbol,
        side=side,
        units=Decimal(units),
        opened_at=opened_at,
        closed_at=opened_at + held,
        entry_price=entry,
        exit_price=entry + side.sign * won / units,
        exit_reason=exit_reason.value,
        profit=won,
        commission=Decimal(commission),
        financing=Decimal(financing),
        spread_cost=Decimal(spread_cost),
        slippage_cost=Decimal(slippage_cost),
        risk=Decimal(risk).quantize(Decimal("0.0001")),
        signal=signal,
        base_units=Decimal(2 * units if base_units is None else base_units),
    )


def make_trades(profits: Sequence[float], *, symbol: str = "EURUSD", every: timedelta = 24 * HOUR) -> tuple[Trade, ...]:
    """Build one trade after the other, one a weekday where nothing else is said."""
    trades: list[Trade] = []
    opened_at = MONDAY + HOUR
    for profit in profits:
        while opened_at.weekday() > 4:
            opened_at += timedelta(days=1)
        trades.append(make_trade(round(profit, 4), symbol=symbol, opened_at=opened_at))
        opened_at += every
    return tuple(trades)


def make_curve(equity: Sequence[float] | FloatArray, *, start: datetime = MONDAY, step: timedelta = HOUR) -> EquityCurve:
    """Build an account without open positions, a point after each step from the start."""
    balance = np.array(equity, dtype=np.float64)
    seconds = (np.arange(len(balance)) + 1) * int(step.total_seconds())
    times: TimeArray = to_datetime64(start) + seconds.astype("timedelta64[s]")
    return EquityCurve(times=times, balance=balance, open_profit=np.zeros(len(balance)), exposure=np.zeros(len(balance)))


def make_daily_curve(returns: Sequence[float] | FloatArray, *, starting_balance: float = 100_000.0) -> EquityCurve:
    """Build an account that is seen once each weekday at 21:00 UTC, with these daily returns."""
    days = np.busday_offset(np.datetime64("2017-03-06"), np.arange(len(returns)))
    times: TimeArray = days.astype("datetime64[h]") + np.full(len(days), 21).astype("timedelta64[h]")
    growth = np.cumprod(1.0 + np.asarray(returns, dtype=np.float64), dtype=np.float64)
    nothing = np.zeros(len(growth))
    return EquityCurve(
        times=times.astype("datetime64[s]"), balance=starting_balance * growth, open_profit=nothing, exposure=nothing
    )


def make_result(
    trades: Sequence[Trade] = (),
    *,
    name: str = "strategy",
    starting_balance: int = 100_000,
    currency: str = "USD",
    equity: EquityCurve | None = None,
    days: int = 0,
) -> BacktestResult:
    """Build what the engine leaves behind of trades, each with one fill to open and one to close it.

    A trade that ended at market has a closing order. Without an equity curve there is one point an hour, from Monday up to the end
    of the last trade or for so many days, which jumps as trades end; interest is booked at the end, commission at the entry, and
    all other costs are the opening fill's.
    """
    transactions: list[Transaction] = []
    for trade in trades:
        transactions += _booked(trade)
    # What opens comes after what closes at the same moment.
    transactions.sort(key=lambda each: (_moment(each), isinstance(each, Fill) and each.profit == 0 and _opens(each, trades)))
    numbered = [replace(each, sequence=sequence) for sequence, each in enumerate(transactions, start=1)]
    costs = {each.sequence: _cost(each, trades) for each in numbered if isinstance(each, Fill)}
    stop = max([trade.closed_at for trade in trades] + [MONDAY + timedelta(days=max(days, 1))])
    curve = _stepped(trades, numbered, starting_balance, stop) if equity is None else equity
    return BacktestResult(
        name=name,
        symbols=tuple(dict.fromkeys([trade.symbol for trade in trades])) or ("EURUSD",),
        timeframe="1h",
        start=MONDAY,
        stop=stop + HOUR,
        currency=currency,
        starting_balance=Decimal(starting_balance),
        candles=len(curve),
        equity=curve,
        transactions=tuple(numbered),
        fill_costs=costs,
        orders=tuple(order for trade in trades for order in _orders(trade)),
        signals=tuple(_decided(trade) for trade in trades),
        positions=tuple(_position(trade) for trade in trades),
        risk_events=(),
    )


def _booked(trade: Trade) -> list[Transaction]:
    opening = Fill(
        sequence=0,
        client_order_id=trade.order_id,
        symbol=trade.symbol,
        side=trade.side,
        units=trade.units,
        price=trade.entry_price,
        reason=FillReason.MARKET,
        profit=_NOTHING,
        filled_at=trade.opened_at,
        commission=trade.commission,
    )
    at_market = trade.exit_reason == FillReason.MARKET.value
    closing = Fill(
        sequence=0,
        client_order_id=f"{trade.signal.signal_id}-close" if at_market else trade.order_id,
        symbol=trade.symbol,
        side=trade.side.opposite,
        units=trade.units,
        price=trade.exit_price,
        reason=FillReason(trade.exit_reason),
        profit=trade.profit,
        filled_at=trade.closed_at,
    )
    interest = Financing(
        sequence=0, client_order_id=trade.order_id, symbol=trade.symbol, amount=trade.financing, booked_at=trade.closed_at
    )
    return [opening, *([interest] if trade.financing else []), closing]


def _opens(fill: Fill, trades: Sequence[Trade]) -> bool:
    return any(fill.client_order_id == trade.order_id and fill.side is trade.side for trade in trades)


def _cost(fill: Fill, trades: Sequence[Trade]) -> FillCost:
    """All costs of a trade at its entry."""
    for trade in trades:
        if fill.client_order_id == trade.order_id and fill.side is trade.side:
            return FillCost(spread=trade.spread_cost, slippage=trade.slippage_cost)
    return FillCost(spread=_NOTHING, slippage=_NOTHING)


def _moment(transaction: Transaction) -> datetime:
    return transaction.filled_at if isinstance(transaction, Fill) else transaction.booked_at


def _stepped(trades: Sequence[Trade], transactions: Sequence[Transaction], starting_balance: int, stop: datetime) -> EquityCurve:
    hours = int((stop - MONDAY) / HOUR)
    curve = make_curve(np.full(hours, float(starting_balance)))
    for each in transactions:
        amount = each.profit - each.commission if isinstance(each, Fill) else each.amount
        curve.balance[curve.times >= to_datetime64(_moment(each))] += float(amount)
    for trade in trades:
        held = (curve.times >= to_datetime64(trade.opened_at)) & (curve.times < to_datetime64(trade.closed_at))
        curve.exposure[held] += float(trade.units * trade.entry_price)
    return curve


def _orders(trade: Trade) -> list[OrderRecord]:
    signal = trade.signal
    opening = OrderIntent(
        client_order_id=trade.order_id,
        signal_id=signal.signal_id,
        symbol=trade.symbol,
        side=trade.side,
        units=trade.units,
        purpose=OrderPurpose.OPEN,
        stop=trade.entry_price - trade.side.sign * trade.risk / trade.units,
        target=Decimal(str(signal.target)),
        created_at=signal.made_at,
    )
    closing = OrderIntent(
        client_order_id=f"{signal.signal_id}-close",
        signal_id=signal.signal_id,
        symbol=trade.symbol,
        side=trade.side.opposite,
        units=trade.units,
        purpose=OrderPurpose.CLOSE,
        stop=None,
        target=None,
        created_at=trade.closed_at,
        reason="its horizon is over",
    )
    intents = [opening, closing] if trade.exit_reason == FillReason.MARKET.value else [opening]
    return [OrderRecord(intent=each, status=OrderStatus.FILLED, broker_order_id="paper-1", reason="") for each in intents]


def _decided(trade: Trade) -> DecidedSignal:
    return DecidedSignal(signal=trade.signal, verdict=Verdict.ACCEPTED, reason="", base_units=trade.base_units, units=trade.units)


def _position(trade: Trade) -> PositionRecord:
    position = Position(
        client_order_id=trade.order_id,
        symbol=trade.symbol,
        side=trade.side,
        units=trade.units,
        entry_price=trade.entry_price,
        stop=trade.entry_price - trade.side.sign * trade.risk / trade.units,
        target=Decimal(str(trade.signal.target)),
        opened_at=trade.opened_at,
    )
    return PositionRecord(position=position, closed_at=trade.closed_at, exit_price=trade.exit_price, profit=trade.net)
