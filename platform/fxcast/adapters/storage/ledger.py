"""The durable record of one engine, in SQL."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Select, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from fxcast.adapters.storage.base import Base
from fxcast.adapters.storage.database import insert_into, writing
from fxcast.adapters.storage.engine_tables import (
    DecisionRow,
    EngineSettingsRow,
    EngineStateRow,
    EquityRow,
    FillRow,
    FinancingRow,
    KillSwitchRequestRow,
    OrderRow,
    PositionRow,
    ProtectionChangeRow,
    RiskEventRow,
    SignalRow,
)
from fxcast.adapters.storage.lease import HeldLease
from fxcast.adapters.storage.ledger_rows import (
    ChangeRecord,
    answer_values,
    change_record,
    change_values,
    decided_signal,
    decision_record,
    decision_values,
    fill_of,
    fill_values,
    financing_of,
    financing_values,
    kill_switch_request,
    order_record,
    order_values,
    position_record,
    position_values,
    risk_event,
    risk_event_values,
    signal_values,
)
from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.predictions import insert_predictions
from fxcast.domain.order import ChangeAnswer, Fill, Financing, OrderStatus, Transaction
from fxcast.domain.portfolio import EquityPoint, Position
from fxcast.errors import ReconciliationFailed
from fxcast.trading.ports import (
    DecidedSignal,
    DecisionRecord,
    KillSwitchRequest,
    LedgerBatch,
    OrderRecord,
    PositionRecord,
    RiskEvent,
)
from fxcast.trading.state import EngineState, state_from_json

RowT = TypeVar("RowT", bound=Base)
ValueT = TypeVar("ValueT")
_Row = dict[str, Any]
_Insert = postgresql.Insert | sqlite.Insert

_UNRESOLVED = (OrderStatus.INTENT.value, OrderStatus.SENT.value)


class SqlLedger:
    """Implements `trading.ports.Ledger`; every method is one transaction, and raises DatabaseUnavailable in an outage.

    Args:
        engine: From `open_database`.
        engine_id: Whose record this is; other engines' rows are neither seen nor touched.
        lease: If given, what is saved is saved only while it is held; otherwise LeaseLost is raised, and nothing is.
    """

    def __init__(self, engine: Engine, engine_id: str, *, lease: HeldLease | None = None) -> None:
        self._engine = engine
        self._engine_id = engine_id
        self._lease = lease
        self._inserts: dict[type[Base], _Insert] = {}

    def load_state(self) -> EngineState | None:
        """Return the state saved last, None for an engine that never ran."""
        with answered(self._engine), Session(self._engine) as session:
            saved = session.scalar(select(EngineStateRow.state).where(EngineStateRow.engine_id == self._engine_id))
        return None if saved is None else state_from_json(saved)

    def commit(self, state: EngineState, batch: LedgerBatch) -> None:
        """Save the state and what changed, all or nothing; the same batch again changes nothing.

        What is recorded stays: an order and a change of protection keep their later status, a forecast its outcome, a closed
        position stays closed. Of several symbols' candles that close together, the last one's equity counts.

        Raises:
            ReconciliationFailed: If a fill or interest has the sequence of another one, as after a change of the broker's account.
            LeaseLost: If another engine has taken the account over.
            DatabaseUnavailable: If the database does not answer.
        """
        saved = state.to_json()  # made, and decisions compressed, before the database is locked
        decisions = [decision_values(record) for record in batch.decisions]
        with self._writing() as connection:
            self._save_state(connection, saved)
            insert_predictions(connection, batch.predictions)
            self._insert_new(connection, SignalRow, [signal_values(decided) for decided in batch.signals])
            self._insert_new(connection, OrderRow, [order_values(intent, place) for place, intent in enumerate(batch.intents)])
            self._insert_new(connection, ProtectionChangeRow, [change_values(change) for change in batch.changes])
            self._save_transactions(connection, batch.transactions)
            self._save_positions(connection, [position_values(record) for record in batch.positions])
            if batch.equity is not None:
                self._save_equity(connection, batch.equity)
            self._insert_new(connection, RiskEventRow, [risk_event_values(event) for event in batch.risk_events])
            self._insert_new(connection, DecisionRow, decisions)

    def unresolved_orders(self) -> tuple[OrderRecord, ...]:
        """Return the orders whose status is intent or sent, oldest first."""
        return self._orders_where(OrderRow.status.in_(_UNRESOLVED))

    def mark_order(self, client_order_id: str, status: OrderStatus, *, broker_order_id: str = "", reason: str = "") -> None:
        """Save what became of an order; an empty broker_order_id or reason leaves the one that is there.

        Raises:
            LookupError: If this engine has no such order.
            LeaseLost: If another engine has taken the account over.
        """
        values = {"status": status.value}
        values |= {"broker_order_id": broker_order_id} if broker_order_id else {}
        values |= {"reason": reason} if reason else {}
        which = (OrderRow.engine_id == self._engine_id, OrderRow.client_order_id == client_order_id)
        with self._writing() as connection:
            if not connection.execute(update(OrderRow).where(*which).values(values)).rowcount:
                raise LookupError(f"engine {self._engine_id} has no order {client_order_id}")

    def mark_change(self, change_id: str, answer: ChangeAnswer) -> None:
        """Save what the broker said to a change of protection; of several answers the last one counts.

        Raises:
            LookupError: If this engine has no such change.
            LeaseLost: If another engine has taken the account over.
        """
        which = (ProtectionChangeRow.engine_id == self._engine_id, ProtectionChangeRow.change_id == change_id)
        with self._writing() as connection:
            if not connection.execute(update(ProtectionChangeRow).where(*which).values(answer_values(answer))).rowcount:
                raise LookupError(f"engine {self._engine_id} has no change {change_id}")

    def keep_settings(self, settings_hash: str, content: str) -> None:
        """Keep the settings (JSON) that decisions refer to by their hash; those that are there already stay."""
        with self._writing() as connection:
            insert = insert_into(connection, EngineSettingsRow).values(settings_hash=settings_hash, content=content)
            connection.execute(insert.on_conflict_do_nothing())

    def prune_decisions(self, before: datetime) -> int:
        """Remove the decisions made before a moment; return how many there were."""
        with self._writing() as connection:
            which = (DecisionRow.engine_id == self._engine_id, DecisionRow.at < before)
            return connection.execute(delete(DecisionRow).where(*which)).rowcount

    def orders(self) -> tuple[OrderRecord, ...]:
        """Return every order, oldest first; those of one candle in the order they were decided."""
        return self._orders_where()

    def kill_switch_request(self) -> KillSwitchRequest | None:
        """Return the newest request of a person to set the kill switch, None if there never was one."""
        newest = self._of(KillSwitchRequestRow).order_by(KillSwitchRequestRow.sequence.desc()).limit(1)
        return next(iter(self._read(newest, kill_switch_request)), None)

    def signals(self) -> tuple[DecidedSignal, ...]:
        """Return every signal with what was decided about it, oldest first."""
        return self._read(self._of(SignalRow).order_by(SignalRow.made_at, SignalRow.signal_id), decided_signal)

    def last_signals(self, limit: int) -> tuple[DecidedSignal, ...]:
        """Return the newest signals with what was decided about them, newest first."""
        query = self._of(SignalRow).order_by(SignalRow.made_at.desc(), SignalRow.signal_id.desc())
        return self._read(query.limit(limit), decided_signal)

    def changes(self) -> tuple[ChangeRecord, ...]:
        """Return every change of protection, oldest first."""
        query = self._of(ProtectionChangeRow).order_by(ProtectionChangeRow.created_at, ProtectionChangeRow.change_id)
        return self._read(query, change_record)

    def fills(self) -> tuple[Fill, ...]:
        """Return every fill by its sequence."""
        return self._read(self._of(FillRow).order_by(FillRow.sequence), fill_of)

    def financings(self) -> tuple[Financing, ...]:
        """Return all interest that was booked, by its sequence."""
        return self._read(self._of(FinancingRow).order_by(FinancingRow.sequence), financing_of)

    def equity_curve(self) -> tuple[EquityPoint, ...]:
        """Return the account at every candle, oldest first."""
        return self._read(
            self._of(EquityRow).order_by(EquityRow.at),
            lambda row: EquityPoint(at=row.at, balance=row.balance, open_profit=row.open_profit),
        )

    def positions(self) -> tuple[PositionRecord, ...]:
        """Return every position, open or closed, by the time it was opened."""
        return self._positions_where()

    def open_positions(self) -> tuple[Position, ...]:
        """Return the positions that are open, by the time they were opened."""
        return tuple(record.position for record in self._positions_where(PositionRow.closed_at.is_(None)))

    def risk_events(self) -> tuple[RiskEvent, ...]:
        """Return every risk event, oldest first, then by kind and symbol."""
        return self._read(self._of(RiskEventRow).order_by(RiskEventRow.at, RiskEventRow.kind, RiskEventRow.symbol), risk_event)

    def decisions(self, symbol: str | None = None, limit: int | None = None) -> tuple[DecisionRecord, ...]:
        """Return decisions, oldest first, then by symbol.

        Args:
            symbol: Only this one's.
            limit: Only so many, the newest.
        """
        query = self._of(DecisionRow).order_by(DecisionRow.at.desc(), DecisionRow.symbol.desc())
        query = query if symbol is None else query.where(DecisionRow.symbol == symbol)
        return self._read(query.limit(limit), decision_record)[::-1]

    def decision(self, symbol: str, at: datetime) -> DecisionRecord | None:
        """Return what was decided on a symbol at a moment, None if nothing was or it is kept no more."""
        query = self._of(DecisionRow).where(DecisionRow.symbol == symbol, DecisionRow.at == at)
        return next(iter(self._read(query, decision_record)), None)

    def settings(self, settings_hash: str) -> str | None:
        """Return the settings (JSON) of a hash, None if they were never kept."""
        query = select(EngineSettingsRow.content).where(EngineSettingsRow.settings_hash == settings_hash)
        with answered(self._engine), Session(self._engine) as session:
            return session.scalar(query)

    @contextmanager
    def _writing(self) -> Generator[Connection]:
        with answered(self._engine), writing(self._engine).begin() as connection:
            if self._lease is not None:
                self._lease.check(connection)
            yield connection

    def _of(self, table: type[RowT]) -> Select[RowT]:
        return select(table).where(table.__table__.c.engine_id == self._engine_id)

    def _read(self, query: Select[RowT], value_of: Callable[[RowT], ValueT]) -> tuple[ValueT, ...]:
        with answered(self._engine), Session(self._engine) as session:
            return tuple(value_of(row) for row in session.scalars(query))

    def _orders_where(self, *conditions: ColumnElement[bool]) -> tuple[OrderRecord, ...]:
        query = self._of(OrderRow).where(*conditions)
        return self._read(query.order_by(OrderRow.created_at, OrderRow.place_in_batch, OrderRow.client_order_id), order_record)

    def _positions_where(self, *conditions: ColumnElement[bool]) -> tuple[PositionRecord, ...]:
        query = self._of(PositionRow).where(*conditions)
        return self._read(query.order_by(PositionRow.opened_at, PositionRow.client_order_id), position_record)

    def _save_state(self, connection: Connection, state: str) -> None:
        def upsert(insert: _Insert) -> _Insert:
            new = insert.excluded
            changed = {"state": new.state, "saved_at": new.saved_at}
            return insert.on_conflict_do_update(index_elements=["engine_id"], set_=changed, where=EngineStateRow.state != new.state)

        # The first statement but for the lease, so that PostgreSQL too lets one commit of an engine wait for the other.
        self._insert(connection, EngineStateRow, upsert, [{"state": state, "saved_at": datetime.now(UTC)}])

    def _insert_new(self, connection: Connection, table: type[Base], rows: Sequence[_Row]) -> None:
        """Insert the rows whose key is not there yet, all in one statement."""
        self._insert(connection, table, lambda insert: insert.on_conflict_do_nothing(), rows)

    def _insert(
        self, connection: Connection, table: type[Base], completed: Callable[[_Insert], _Insert], rows: Sequence[_Row]
    ) -> None:
        """Insert rows, all in one statement, which `completed` tells what to do on a conflict; a table's is always the same."""
        if rows:
            if table not in self._inserts:  # made once: making a statement takes longer than inserting a row
                self._inserts[table] = completed(insert_into(connection, table))
            connection.execute(self._inserts[table], [{"engine_id": self._engine_id, **row} for row in rows])

    def _save_transactions(self, connection: Connection, transactions: Sequence[Transaction]) -> None:
        if not transactions:
            return
        fills = [fill_values(each) for each in transactions if isinstance(each, Fill)]
        financings = [financing_values(each) for each in transactions if isinstance(each, Financing)]
        self._insert_new(connection, FillRow, fills)
        self._insert_new(connection, FinancingRow, financings)
        sequences = [each.sequence for each in transactions]
        stored_fills = self._stored(connection, FillRow, sequences)
        stored_financings = self._stored(connection, FinancingRow, sequences)
        both = sorted(stored_fills.keys() & stored_financings.keys())
        if both:
            raise ReconciliationFailed(f"transaction {both[0]} of engine {self._engine_id} is a fill, and interest as well")
        for row in fills:
            self._check_same("fill", row, stored_fills[row["sequence"]])
        for row in financings:
            self._check_same("interest", row, stored_financings[row["sequence"]])

    def _stored(self, connection: Connection, table: type[FillRow | FinancingRow], sequences: Iterable[int]) -> dict[int, _Row]:
        query = select(table.__table__).where(table.engine_id == self._engine_id, table.sequence.in_(sequences))
        return {row["sequence"]: dict(row) for row in connection.execute(query).mappings()}

    def _check_same(self, name: str, row: _Row, stored: _Row) -> None:
        differing = [column for column, value in row.items() if stored[column] != value]
        if differing:
            found, recorded = (
                ", ".join(f"{column} {each[column]}" for column in ("client_order_id", *differing)) for each in (row, stored)
            )
            raise ReconciliationFailed(
                f"{name} {row['sequence']} of engine {self._engine_id} is already recorded with another {', '.join(differing)}: "
                f"found {found}; recorded {recorded}"
            )

    def _save_equity(self, connection: Connection, point: EquityPoint) -> None:
        def upsert(insert: _Insert) -> _Insert:
            changed = {column: insert.excluded[column] for column in ("balance", "open_profit")}
            return insert.on_conflict_do_update(index_elements=["engine_id", "at"], set_=changed)

        row = {"at": point.at, "balance": point.balance, "open_profit": point.open_profit}
        self._insert(connection, EquityRow, upsert, [row])

    def _save_positions(self, connection: Connection, rows: Sequence[_Row]) -> None:
        def upsert(insert: _Insert) -> _Insert:
            return insert.on_conflict_do_update(
                index_elements=["engine_id", "client_order_id"],
                set_={column: insert.excluded[column] for column in rows[0]},
                where=PositionRow.closed_at.is_(None),
            )

        self._insert(connection, PositionRow, upsert, rows)
