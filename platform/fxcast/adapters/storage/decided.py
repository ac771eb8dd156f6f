"""What an engine decided and what became of it: its signals a page at a time, and the orders, fills and position of one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, func, select
from sqlalchemy.orm import Session

from fxcast.adapters.storage.engine_tables import FillRow, FinancingRow, OrderRow, PositionRow, ProtectionChangeRow, SignalRow
from fxcast.adapters.storage.ledger_rows import (
    ChangeRecord,
    change_record,
    decided_signal,
    fill_of,
    financing_of,
    order_record,
    position_record,
)
from fxcast.adapters.storage.outages import answered
from fxcast.domain.order import Fill, Financing
from fxcast.domain.signal import Direction, Verdict
from fxcast.trading.ports import DecidedSignal, OrderRecord, PositionRecord

SIGNALS_A_PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which signals; None and an empty text leave nothing out.

    Attributes:
        reason: Text that stands somewhere in the reason, in capitals or not.
        since: The earliest moment they were made at.
        before: The moment before which they were made.
    """

    symbol: str | None = None
    verdict: Verdict | None = None
    direction: Direction | None = None
    reason: str = ""
    since: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many signals there are by verdict; `reduced` of the accepted got fewer units than their base size."""

    accepted: int = 0
    reduced: int = 0
    rejected: int = 0

    def of(self, verdict: Verdict | None) -> int:
        """Return how many have a verdict, all of them for None."""
        return {Verdict.ACCEPTED: self.accepted, Verdict.REJECTED: self.rejected, None: self.accepted + self.rejected}[verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    """What came of a signal, each in the order it happened; all empty where no order did.

    Attributes:
        changes: Other stops and targets for the position.
        financings: Interest booked while it was held.
    """

    orders: tuple[OrderRecord, ...] = ()
    fills: tuple[Fill, ...] = ()
    position: PositionRecord | None = None
    changes: tuple[ChangeRecord, ...] = ()
    financings: tuple[Financing, ...] = ()


def signal_symbols(engine: Engine, engine_id: str) -> tuple[str, ...]:
    """Return the symbols that an engine ever had a signal on, in alphabetical order.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    query = select(SignalRow.symbol).where(SignalRow.engine_id == engine_id).distinct().order_by(SignalRow.symbol)
    with answered(engine), Session(engine) as session:
        return tuple(session.scalars(query))


def count_signals(engine: Engine, engine_id: str, wanted: Wanted) -> Counts:
    """Count signals by verdict, whatever verdict is wanted.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    # Both are multiples of the lot, written alike: so they differ as text, which they are on SQLite, where they differ as numbers.
    is_reduced = SignalRow.units != SignalRow.base_units
    query = (
        select(SignalRow.verdict, is_reduced, func.count())
        .where(*_conditions(engine_id, wanted, with_verdict=False))
        .group_by(SignalRow.verdict, is_reduced)
    )
    with answered(engine), Session(engine) as session:
        found = {(Verdict(verdict), bool(reduced)): count for verdict, reduced, count in session.execute(query)}
    reduced = found.get((Verdict.ACCEPTED, True), 0)
    return Counts(
        accepted=found.get((Verdict.ACCEPTED, False), 0) + reduced,
        reduced=reduced,
        rejected=sum(count for (verdict, _), count in found.items() if verdict is Verdict.REJECTED),
    )


def signals_page(engine: Engine, engine_id: str, wanted: Wanted, *, page: int) -> tuple[DecidedSignal, ...]:
    """Return a page of signals, newest first.

    Args:
        page: 0 for the newest `SIGNALS_A_PAGE`.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    query = (
        select(SignalRow)
        .where(*_conditions(engine_id, wanted))
        .order_by(SignalRow.made_at.desc(), SignalRow.signal_id.desc())
        .offset(page * SIGNALS_A_PAGE)
        .limit(SIGNALS_A_PAGE)
    )
    with answered(engine), Session(engine) as session:
        return tuple(decided_signal(row) for row in session.scalars(query))


def find_signal(engine: Engine, engine_id: str, signal_id: str) -> DecidedSignal | None:
    """Return a signal with what was decided about it, None if the engine has no such one.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    with answered(engine), Session(engine) as session:
        row = session.get(SignalRow, (engine_id, signal_id))
        return None if row is None else decided_signal(row)


def consequences_of(engine: Engine, engine_id: str, signal_id: str) -> Consequences:
    """Return what came of a signal, as it was at one moment.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    with answered(engine), Session(engine) as session:
        orders = session.scalars(
            select(OrderRow)
            .where(OrderRow.engine_id == engine_id, OrderRow.signal_id == signal_id)
            .order_by(OrderRow.created_at, OrderRow.place_in_batch, OrderRow.client_order_id)
        ).all()
        ids = [row.client_order_id for row in orders]
        position = session.scalars(
            select(PositionRow)
            .where(PositionRow.engine_id == engine_id, PositionRow.client_order_id.in_(ids))
            .order_by(PositionRow.opened_at)
            .limit(1)
        ).first()
        changes = session.scalars(
            select(ProtectionChangeRow)
            .where(ProtectionChangeRow.engine_id == engine_id, ProtectionChangeRow.client_order_id.in_(ids))
            .order_by(ProtectionChangeRow.created_at, ProtectionChangeRow.change_id)
        )
        fills = session.scalars(
            select(FillRow).where(FillRow.engine_id == engine_id, FillRow.client_order_id.in_(ids)).order_by(FillRow.sequence)
        )
        financings = session.scalars(
            select(FinancingRow)
            .where(FinancingRow.engine_id == engine_id, FinancingRow.client_order_id.in_(ids))
            .order_by(FinancingRow.sequence)
        )
        return Consequences(
            orders=tuple(order_record(row) for row in orders),
            fills=tuple(fill_of(row) for row in fills),
            position=None if position is None else position_record(position),
            changes=tuple(change_record(row) for row in changes),
            financings=tuple(financing_of(row) for row in financings),
        )


def _conditions(engine_id: str, wanted: Wanted, *, with_verdict: bool = True) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [SignalRow.engine_id == engine_id]
    if wanted.symbol is not None:
        conditions.append(SignalRow.symbol == wanted.symbol)
    if wanted.verdict is not None and with_verdict:
        conditions.append(SignalRow.verdict == wanted.verdict.value)
    if wanted.direction is not None:
        conditions.append(SignalRow.direction == wanted.direction.value)
    if wanted.reason:
        conditions.append(SignalRow.reason.icontains(wanted.reason, autoescape=True))
    if wanted.since is not None:
        conditions.append(SignalRow.made_at >= wanted.since)
    if wanted.before is not None:
        conditions.append(SignalRow.made_at < wanted.before)
    return conditions
