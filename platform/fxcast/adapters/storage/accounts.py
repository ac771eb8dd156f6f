"""Which accounts have an engine, and what is known of it without asking it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from fxcast.adapters.storage.engine_tables import EngineLeaseRow, EngineStateRow
from fxcast.adapters.storage.outages import answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account that an engine has traded.

    Attributes:
        saved_at: When its engine saved its state last.
    """

    name: str
    saved_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who may trade an account; nobody if the holder is empty or the lease has expired."""

    account: str
    holder: str
    process: str
    expires_at: datetime


def accounts(engine: Engine) -> tuple[Account, ...]:
    """Return the accounts in alphabetical order.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    query = select(EngineStateRow.engine_id, EngineStateRow.saved_at).order_by(EngineStateRow.engine_id)
    with answered(engine), Session(engine) as session:
        return tuple(Account(name=name, saved_at=at) for name, at in session.execute(query))


def leases(engine: Engine) -> tuple[Lease, ...]:
    """Return every lease there ever was, by account.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    with answered(engine), Session(engine) as session:
        rows = session.scalars(select(EngineLeaseRow).order_by(EngineLeaseRow.account))
        return tuple(Lease(account=row.account, holder=row.holder, process=row.process, expires_at=row.expires_at) for row in rows)
