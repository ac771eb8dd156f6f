"""What differs in what two runs did up to a moment."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, TypeVar, cast

from fxcast.backtest.result import BacktestResult
from fxcast.domain.candle import to_datetime
from fxcast.domain.order import Fill, OrderStatus, Transaction
from fxcast.trading.ports import DecidedSignal, OrderRecord, PositionRecord, RiskEvent

_SETTLED = (OrderStatus.FILLED, OrderStatus.REJECTED, OrderStatus.CANCELLED)
_NOTHING = "nothing"

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that is otherwise without the future.

    Attributes:
        at: When it was decided, or happened.
        what: signal, order, fill or interest, position, risk event, equity, or the forecast of a model.
    """

    at: datetime
    symbol: str
    what: str
    with_future: str
    without: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What came of a comparison.

    Attributes:
        decisions: Verdicts on signals that either run had.
        differing: All that is otherwise: signals, orders, fills, interest, positions, risk events, points of equity.
        differences: The first of each kind, oldest first.
    """

    decisions: int
    differing: int
    differences: tuple[Difference, ...]


def compare_until(whole: BacktestResult, rerun: BacktestResult, cut: datetime) -> Compared:
    """Compare, to the last bit, a run with one whose candles end at a cut.

    An order made at the cut fills at the next candle's open, which may be the same moment: what happened at the cut itself must be
    in the whole run if it is in the other, but not the reverse.
    """
    kinds = (
        _compared("signal", _signals(whole), _signals(rerun), cut, at=_signal_at, until_cut=True),
        _compared("order", _orders(whole), _orders(rerun), cut, at=_order_at, until_cut=True, same=_same_order),
        _compared("fill or interest", _booked(whole), _booked(rerun), cut, at=_booked_at),
        _compared("position", _closed(whole), _closed(rerun), cut, at=_closed_at),
        _compared("risk event", _events(whole), _events(rerun), cut, at=_event_at),
        _compared("equity", _equity(whole), _equity(rerun), cut, at=_equity_at, until_cut=True),
    )
    differences = sorted((first for _, first in kinds if first is not None), key=lambda each: each.at)
    decided = _signals(rerun).keys() | {key for key, each in _signals(whole).items() if _signal_at(each) <= cut}
    return Compared(decisions=len(decided), differing=sum(count for count, _ in kinds), differences=tuple(differences))


def _compared(
    what: str,
    whole: Mapping[Hashable, Item],
    rerun: Mapping[Hashable, Item],
    cut: datetime,
    *,
    at: Callable[[Item], datetime],
    until_cut: bool = False,
    same: Callable[[Item, Item], bool] | None = None,
) -> tuple[int, Difference | None]:
    """Return how much differs, and the first of it.

    Args:
        until_cut: Whether all that the whole run has at the very moment of the cut must be in the rerun.
        same: Whether two are equal; by default if they are in all their fields.
    """
    due = {key for key, item in whole.items() if at(item) < cut or (until_cut and at(item) == cut)}
    differing: list[tuple[datetime, Item | None, Item | None]] = []
    for key in due | rerun.keys():
        one, other = whole.get(key), rerun.get(key)
        if one is not None and other is not None and (one == other if same is None else same(one, other)):
            continue
        differing.append((min(at(each) for each in (one, other) if each is not None), one, other))
    if not differing:
        return 0, None
    moment, one, other = min(differing, key=lambda each: each[0])
    with_future, without = _told(one), _told(other)
    if with_future == without:
        with_future, without = (
            f"{text}; {field}" for text, field in zip((with_future, without), _unequal(one, other), strict=True)
        )
    symbol = _symbol(one if one is not None else other)
    return len(differing), Difference(at=moment, symbol=symbol, what=what, with_future=with_future, without=without)


@dataclass(frozen=True, slots=True, kw_only=True)
class _EquityPoint:
    at: datetime
    balance: float
    open_profit: float
    exposure: float


def _signals(result: BacktestResult) -> dict[Hashable, DecidedSignal]:
    return {each.signal.signal_id: each for each in result.signals}


def _signal_at(decided: DecidedSignal) -> datetime:
    return decided.signal.made_at


def _orders(result: BacktestResult) -> dict[Hashable, OrderRecord]:
    return {each.intent.client_order_id: each for each in result.orders}


def _order_at(order: OrderRecord) -> datetime:
    return order.intent.created_at


def _same_order(one: OrderRecord, other: OrderRecord) -> bool:
    """Tell whether the same was ordered, and the same came of it; an order still open at the cut may have ended since."""
    return one.intent == other.intent and (other.status not in _SETTLED or one == other)


def _booked(result: BacktestResult) -> dict[Hashable, Transaction]:
    return {each.sequence: each for each in result.transactions}


def _booked_at(transaction: Transaction) -> datetime:
    return transaction.filled_at if isinstance(transaction, Fill) else transaction.booked_at


def _closed(result: BacktestResult) -> dict[Hashable, PositionRecord]:
    return {each.position.client_order_id: each for each in result.positions if each.closed_at is not None}


def _closed_at(record: PositionRecord) -> datetime:
    assert record.closed_at is not None, "an open position was left out"
    return record.closed_at


def _events(result: BacktestResult) -> dict[Hashable, RiskEvent]:
    return {(each.at, each.kind, each.symbol, each.detail): each for each in result.risk_events}


def _event_at(event: RiskEvent) -> datetime:
    return event.at


def _equity(result: BacktestResult) -> dict[Hashable, _EquityPoint]:
    curve = result.equity
    rows = zip(curve.times, curve.balance.tolist(), curve.open_profit.tolist(), curve.exposure.tolist(), strict=True)
    points = (
        _EquityPoint(at=to_datetime(at), balance=balance, open_profit=open_profit, exposure=exposure)
        for at, balance, open_profit, exposure in rows
    )
    return {point.at: point for point in points}


def _equity_at(point: _EquityPoint) -> datetime:
    return point.at


def _symbol(item: object) -> str:
    match item:
        case DecidedSignal():
            return item.signal.symbol
        case OrderRecord():
            return item.intent.symbol
        case PositionRecord():
            return item.position.symbol
        case _:
            return getattr(item, "symbol", "")  # an account has none


def _told(item: object) -> str:
    """Say in words what one was."""
    match item:
        case None:
            return _NOTHING
        case DecidedSignal():
            why = f" ({item.reason})" if item.reason else ""
            return f"{item.signal.direction.value} {item.verdict.value}, {item.units} units{why}"
        case OrderRecord():
            return f"{item.intent.purpose.value}: {item.intent.side.value} {item.intent.units}, {item.status.value}"
        case Fill():
            return f"{item.side.value} {item.units} at {item.price}, {item.reason.value}"
        case PositionRecord():
            return f"{item.position.side.value} {item.position.units} closed at {item.exit_price}, profit {item.profit}"
        case RiskEvent():
            return f"{item.kind.value}: {item.detail}"
        case _EquityPoint():
            return f"balance {item.balance:.2f}, open profit {item.open_profit:.2f}"
        case _:
            return str(item)


def _unequal(one: object, other: object, path: str = "") -> tuple[str, str]:
    """Return the first field in which two things differ, with its value in each."""
    if type(one) is type(other):
        for name, mine, theirs in _pairs(one, other):
            if mine != theirs:
                return _unequal(mine, theirs, f"{path}.{name}" if path else name)
    return f"{path} {one!r}", f"{path} {other!r}"


def _pairs(one: object, other: object) -> list[tuple[str, object, object]]:
    if is_dataclass(one):
        return [(field.name, getattr(one, field.name), getattr(other, field.name)) for field in fields(one)]
    if isinstance(one, tuple) and len(cast("tuple[Any, ...]", one)) == len(cast("tuple[Any, ...]", other)):
        together_ = zip(cast("tuple[Any, ...]", one), cast("tuple[Any, ...]", other), strict=True)
        return [(str(place), mine, theirs) for place, (mine, theirs) in enumerate(together_)]
    return []
