"""The durable record of one engine, in SQL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, select, update
from sqlalchemy.orm import Session

from fxcast.adapters.storage.database import insert_into, writing
from fxcast.adapters.storage.predictions import insert_prediction
from fxcast.adapters.storage.tables import (
    EngineStateRow,
    EquityRow,
    FillRow,
    OrderRow,
    PositionRow,
    SignalRow,
)
from fxcast.domain.order import Fill, FillReason, OrderIntent, OrderPurpose, OrderStatus, Side
from fxcast.domain.portfolio import EquityPoint, Position
from fxcast.domain.signal import Direction, FusedSignal, QualityScore, Regime, Signal, SignalSource, Verdict
from fxcast.errors import ReconciliationFailed
from fxcast.trading.ports import DecidedSignal, LedgerBatch, OrderRecord, PositionRecord

_UNRESOLVED = (OrderStatus.INTENT.value, OrderStatus.SENT.value)


class SqlLedger:
    """Implements `trading.ports.Ledger`; every method is one transaction.

    Args:
        engine: From `open_database`.
        engine_id: Whose record this is; other engines' rows are neither seen nor touched.
    """

    def __init__(self, engine: Engine, engine_id: str) -> None:
        self._engine = engine
        self._engine_id = engine_id

    def load_state(self) -> str | None:
        """Return the state saved last (JSON), None for an engine that never ran."""
        with Session(self._engine) as session:
            return session.scalar(select(EngineStateRow.state).where(EngineStateRow.engine_id == self._engine_id))

    def commit(self, state: str, batch: LedgerBatch) -> None:
        """Save the state (JSON) and what changed, all or nothing; the same batch again changes nothing.

        What is recorded stays: an order keeps its later status, a forecast its outcome, a closed position stays closed.
        Of several symbols' candles that close together, the last one's equity counts.

        Raises:
            ReconciliationFailed: If a fill has the sequence of another one, as after a change of the broker's account.
        """
        with writing(self._engine).begin() as connection:
            self._save_state(connection, state)
            if batch.prediction is not None:
                insert_prediction(connection, batch.prediction)
            for decided in batch.signals:
                self._insert_new(connection, SignalRow, _signal_values(decided), "signal_id")
            for place, intent in enumerate(batch.intents):
                self._insert_new(connection, OrderRow, _order_values(intent, place), "client_order_id")
            for fill in batch.fills:
                self._insert_new(connection, FillRow, _fill_values(fill), "sequence")
                self._check_fill(connection, fill)
            for record in batch.positions:
                self._save_position(connection, record)
            if batch.equity is not None:
                self._save_equity(connection, batch.equity)

    def unresolved_orders(self) -> tuple[OrderRecord, ...]:
        """Return the orders whose status is intent or sent, oldest first."""
        return self._orders_where(OrderRow.status.in_(_UNRESOLVED))

    def mark_order(self, client_order_id: str, status: OrderStatus, *, broker_order_id: str = "", reason: str = "") -> None:
        """Save what became of an order; an empty broker_order_id or reason leaves the one that is there.

        Raises:
            LookupError: If this engine has no such order.
        """
        values = {"status": status.value}
        values |= {"broker_order_id": broker_order_id} if broker_order_id else {}
        values |= {"reason": reason} if reason else {}
        which = (OrderRow.engine_id == self._engine_id, OrderRow.client_order_id == client_order_id)
        with writing(self._engine).begin() as connection:
            marked = connection.execute(update(OrderRow).where(*which).values(values).returning(OrderRow.client_order_id)).all()
            if not marked:
                raise LookupError(f"engine {self._engine_id} has no order {client_order_id}")

    def orders(self) -> tuple[OrderRecord, ...]:
        """Return every order, oldest first; those of one candle in the order they were decided."""
        return self._orders_where()

    def signals(self) -> tuple[DecidedSignal, ...]:
        """Return every signal with what was decided about it, oldest first."""
        query = select(SignalRow).where(SignalRow.engine_id == self._engine_id).order_by(SignalRow.made_at, SignalRow.signal_id)
        with Session(self._engine) as session:
            return tuple(_decided_signal(row) for row in session.scalars(query))

    def fills(self) -> tuple[Fill, ...]:
        """Return every fill by its sequence."""
        query = select(FillRow).where(FillRow.engine_id == self._engine_id).order_by(FillRow.sequence)
        with Session(self._engine) as session:
            return tuple(_fill(row) for row in session.scalars(query))

    def equity_curve(self) -> tuple[EquityPoint, ...]:
        """Return the account at every candle, oldest first."""
        query = select(EquityRow).where(EquityRow.engine_id == self._engine_id).order_by(EquityRow.at)
        with Session(self._engine) as session:
            return tuple(EquityPoint(at=row.at, balance=row.balance, open_profit=row.open_profit) for row in session.scalars(query))

    def positions(self) -> tuple[PositionRecord, ...]:
        """Return every position, open or closed, by the time it was opened."""
        return self._positions_where()

    def open_positions(self) -> tuple[Position, ...]:
        """Return the positions that are open, by the time they were opened."""
        return tuple(record.position for record in self._positions_where(PositionRow.closed_at.is_(None)))

    def _orders_where(self, *conditions: ColumnElement[bool]) -> tuple[OrderRecord, ...]:
        query = (
            select(OrderRow)
            .where(OrderRow.engine_id == self._engine_id, *conditions)
            .order_by(OrderRow.created_at, OrderRow.place_in_batch, OrderRow.client_order_id)
        )
        with Session(self._engine) as session:
            return tuple(_order_record(row) for row in session.scalars(query))

    def _positions_where(self, *conditions: ColumnElement[bool]) -> tuple[PositionRecord, ...]:
        query = (
            select(PositionRow)
            .where(PositionRow.engine_id == self._engine_id, *conditions)
            .order_by(PositionRow.opened_at, PositionRow.client_order_id)
        )
        with Session(self._engine) as session:
            return tuple(_position_record(row) for row in session.scalars(query))

    def _save_state(self, connection: Connection, state: str) -> None:
        changed = {"state": state, "saved_at": datetime.now(UTC)}
        insert = insert_into(connection, EngineStateRow).values(engine_id=self._engine_id, **changed)
        # The first statement, so that PostgreSQL too lets one commit of an engine wait for the other.
        connection.execute(
            insert.on_conflict_do_update(index_elements=["engine_id"], set_=changed, where=EngineStateRow.state != state)
        )

    def _insert_new(
        self,
        connection: Connection,
        table: type[SignalRow | OrderRow | FillRow],
        values: Mapping[str, Any],
        key: str,
    ) -> None:
        insert = insert_into(connection, table).values(engine_id=self._engine_id, **values)
        connection.execute(insert.on_conflict_do_nothing(index_elements=["engine_id", key]))

    def _check_fill(self, connection: Connection, fill: Fill) -> None:
        which = (FillRow.engine_id == self._engine_id, FillRow.sequence == fill.sequence)
        stored = connection.execute(select(FillRow.__table__).where(*which)).one()
        differing = [name for name, value in _fill_values(fill).items() if getattr(stored, name) != value]
        if differing:
            raise ReconciliationFailed(
                f"fill {fill.sequence} of engine {self._engine_id} is already recorded with another {', '.join(differing)}: "
                f"found order {fill.client_order_id} at {fill.price}, recorded order {stored.client_order_id} at {stored.price}"
            )

    def _save_equity(self, connection: Connection, point: EquityPoint) -> None:
        values = {"balance": point.balance, "open_profit": point.open_profit}
        insert = insert_into(connection, EquityRow).values(engine_id=self._engine_id, at=point.at, **values)
        connection.execute(insert.on_conflict_do_update(index_elements=["engine_id", "at"], set_=values))

    def _save_position(self, connection: Connection, record: PositionRecord) -> None:
        values = _position_values(record)
        insert = insert_into(connection, PositionRow).values(engine_id=self._engine_id, **values)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["engine_id", "client_order_id"], set_=values, where=PositionRow.closed_at.is_(None)
            )
        )


def _signal_values(decided: DecidedSignal) -> dict[str, Any]:
    signal = decided.signal
    return {
        "signal_id": signal.signal_id,
        "symbol": signal.symbol,
        "made_at": signal.made_at,
        "horizon_minutes": signal.horizon_minutes,
        "direction": signal.direction.value,
        "strength": signal.strength,
        "price": signal.price,
        "stop": signal.stop,
        "target": signal.target,
        "uncertainty_pct": signal.uncertainty_pct,
        "regime": signal.regime.value,
        **{f"quality_{name}": getattr(signal.quality, name) for name in QualityScore.__slots__},
        "members": [_member_values(member) for member in signal.members],
        "verdict": decided.verdict.value,
        "reason": decided.reason,
        "base_units": decided.base_units,
        "units": decided.units,
    }


def _member_values(member: Signal) -> dict[str, Any]:
    return {
        "source": member.source.value,
        "symbol": member.symbol,
        "made_at": member.made_at.isoformat(),
        "horizon_minutes": member.horizon_minutes,
        "direction": member.direction.value,
        "strength": member.strength,
        "price": member.price,
        "stop": member.stop,
        "target": member.target,
    }


def _order_values(intent: OrderIntent, place: int) -> dict[str, Any]:
    return {
        "client_order_id": intent.client_order_id,
        "signal_id": intent.signal_id,
        "symbol": intent.symbol,
        "side": intent.side.value,
        "units": intent.units,
        "purpose": intent.purpose.value,
        "stop": intent.stop,
        "target": intent.target,
        "created_at": intent.created_at,
        "place_in_batch": place,
        "status": OrderStatus.INTENT.value,
        "broker_order_id": "",
        "reason": "",
    }


def _fill_values(fill: Fill) -> dict[str, Any]:
    return {
        "sequence": fill.sequence,
        "client_order_id": fill.client_order_id,
        "symbol": fill.symbol,
        "side": fill.side.value,
        "units": fill.units,
        "price": fill.price,
        "reason": fill.reason.value,
        "profit": fill.profit,
        "filled_at": fill.filled_at,
    }


def _position_values(record: PositionRecord) -> dict[str, Any]:
    position = record.position
    return {
        "client_order_id": position.client_order_id,
        "symbol": position.symbol,
        "side": position.side.value,
        "units": position.units,
        "entry_price": position.entry_price,
        "stop": position.stop,
        "target": position.target,
        "opened_at": position.opened_at,
        "closed_at": record.closed_at,
        "exit_price": record.exit_price,
        "profit": record.profit,
    }


def _decided_signal(row: SignalRow) -> DecidedSignal:
    signal = FusedSignal(
        symbol=row.symbol,
        made_at=row.made_at,
        horizon_minutes=row.horizon_minutes,
        direction=Direction(row.direction),
        strength=row.strength,
        price=row.price,
        stop=row.stop,
        target=row.target,
        uncertainty_pct=row.uncertainty_pct,
        regime=Regime(row.regime),
        quality=QualityScore(**{name: getattr(row, f"quality_{name}") for name in QualityScore.__slots__}),
        members=tuple(_member(content) for content in row.members),
    )
    return DecidedSignal(signal=signal, verdict=Verdict(row.verdict), reason=row.reason, base_units=row.base_units, units=row.units)


def _member(content: Mapping[str, Any]) -> Signal:
    return Signal(
        source=SignalSource(content["source"]),
        symbol=content["symbol"],
        made_at=datetime.fromisoformat(content["made_at"]).astimezone(UTC),
        horizon_minutes=content["horizon_minutes"],
        direction=Direction(content["direction"]),
        strength=content["strength"],
        price=content["price"],
        stop=content["stop"],
        target=content["target"],
    )


def _order_record(row: OrderRow) -> OrderRecord:
    intent = OrderIntent(
        client_order_id=row.client_order_id,
        signal_id=row.signal_id,
        symbol=row.symbol,
        side=Side(row.side),
        units=row.units,
        purpose=OrderPurpose(row.purpose),
        stop=row.stop,
        target=row.target,
        created_at=row.created_at,
    )
    return OrderRecord(intent=intent, status=OrderStatus(row.status), broker_order_id=row.broker_order_id, reason=row.reason)


def _fill(row: FillRow) -> Fill:
    return Fill(
        sequence=row.sequence,
        client_order_id=row.client_order_id,
        symbol=row.symbol,
        side=Side(row.side),
        units=row.units,
        price=row.price,
        reason=FillReason(row.reason),
        profit=row.profit,
        filled_at=row.filled_at,
    )


def _position_record(row: PositionRow) -> PositionRecord:
    position = Position(
        client_order_id=row.client_order_id,
        symbol=row.symbol,
        side=Side(row.side),
        units=row.units,
        entry_price=row.entry_price,
        stop=row.stop,
        target=row.target,
        opened_at=row.opened_at,
    )
    return PositionRecord(position=position, closed_at=row.closed_at, exit_price=row.exit_price, profit=row.profit)
