"""What people ask of an engine, left in the database for it to find: also while it does not run."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from fxcast.adapters.storage.database import insert_into, writing
from fxcast.adapters.storage.engine_tables import KillSwitchRequestRow
from fxcast.adapters.storage.ledger_rows import kill_switch_request
from fxcast.adapters.storage.outages import answered
from fxcast.trading.ports import KillSwitchRequest
from fxcast.trading.state import KillSwitch


def request_kill_switch(
    engine: Engine, engine_id: str, kill_switch: KillSwitch, by: str, reason: str, now: datetime
) -> KillSwitchRequest:
    """Ask an engine to set its kill switch; it takes the newest request in before it does anything else.

    Args:
        by: Who asks.

    Raises:
        DatabaseUnavailable: If the database does not answer; nothing was asked.
    """
    values = {"kill_switch": kill_switch.value, "by": by, "reason": reason, "requested_at": now}
    newest = select(func.coalesce(func.max(KillSwitchRequestRow.sequence), 0)).where(KillSwitchRequestRow.engine_id == engine_id)
    with answered(engine), writing(engine).begin() as connection:
        added = None
        while added is None:  # on PostgreSQL somebody may have taken the number in between: then the next one
            sequence = (connection.scalar(newest) or 0) + 1
            insert = insert_into(connection, KillSwitchRequestRow).values(engine_id=engine_id, sequence=sequence, **values)
            added = connection.scalar(insert.on_conflict_do_nothing().returning(KillSwitchRequestRow.sequence))
    return KillSwitchRequest(sequence=added, kill_switch=kill_switch.value, by=by, reason=reason, requested_at=now)


def kill_switch_requests(engine: Engine, engine_id: str) -> tuple[KillSwitchRequest, ...]:
    """Return every request ever made of an engine, oldest first.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    query = select(KillSwitchRequestRow).where(KillSwitchRequestRow.engine_id == engine_id).order_by(KillSwitchRequestRow.sequence)
    with answered(engine), Session(engine) as session:
        return tuple(kill_switch_request(row) for row in session.scalars(query))
