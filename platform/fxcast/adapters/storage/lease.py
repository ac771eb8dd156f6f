"""Who may trade an account: one engine at a time.

A lease runs out `ttl_s` seconds after it was taken or last renewed; then another engine may take it. Each time it is taken its
token grows by one, and a ledger that was given the lease checks the token in the transaction of everything it saves: an engine
that slept through its own lease can save, and therefore send, nothing more.

Times are those of the callers' clocks, not the database's: `ttl_s` must exceed the greatest difference between the clocks of the
machines that may trade the account, else one of them can take a lease that is still being renewed. Two engines then still do not
trade at once, but the first is stopped for nothing.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Engine, or_, select, update

from fxcast.adapters.storage.database import insert_into, writing
from fxcast.adapters.storage.engine_tables import EngineLeaseRow
from fxcast.adapters.storage.outages import answered
from fxcast.errors import AccountTaken, LeaseLost


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLease:
    """The right to trade an account, from `acquire`.

    Attributes:
        holder: Whose right it is: stays the same when an engine is restarted.
        token: Grows each time the lease is taken.
        ttl_s: How long it lasts without being renewed.
    """

    engine: Engine
    account: str
    holder: str
    token: int
    ttl_s: float

    def renew(self, now: datetime) -> None:
        """Let the lease run for another `ttl_s`; also one that has run out, if nobody has taken it since.

        Raises:
            LeaseLost: If another one has taken it.
            DatabaseUnavailable: If the database does not answer; the lease runs out when it would have.
        """
        changed = {"expires_at": now + timedelta(seconds=self.ttl_s)}
        with answered(self.engine), writing(self.engine).begin() as connection:
            if not connection.execute(update(EngineLeaseRow).where(*self._mine()).values(changed)).rowcount:
                raise self._lost(connection)

    def check(self, connection: Connection) -> None:
        """Make sure inside a transaction that the lease is still held; nobody else can take it before the transaction ends.

        Raises:
            LeaseLost: If another one has taken it.
        """
        # On PostgreSQL the row is locked, so that who would take the lease waits; SQLite has one writer at a time anyway.
        query = select(EngineLeaseRow.token).where(*self._mine()).with_for_update(read=True)
        if connection.scalar(query) is None:
            raise self._lost(connection)

    def release(self) -> None:
        """Give the lease back, so that another engine need not wait for its end; one that was lost stays with who has it.

        Raises:
            DatabaseUnavailable: If the database does not answer; the lease runs out by itself.
        """
        with answered(self.engine), writing(self.engine).begin() as connection:
            connection.execute(update(EngineLeaseRow).where(*self._mine()).values(holder=""))

    def _mine(self) -> tuple[ColumnElement[bool], ...]:
        return (
            EngineLeaseRow.account == self.account,
            EngineLeaseRow.holder == self.holder,
            EngineLeaseRow.token == self.token,
        )

    def _lost(self, connection: Connection) -> LeaseLost:
        row = connection.execute(select(EngineLeaseRow.__table__).where(EngineLeaseRow.account == self.account)).one_or_none()
        if row is None or row.holder == "":
            return LeaseLost(f"the lease of account {self.account} was given back; {self.holder} may trade it no more")
        return LeaseLost(
            f"account {self.account} was taken over by {row.holder} ({row.process}) at {row.acquired_at.isoformat()}; "
            f"{self.holder} may trade it no more"
        )


def acquire(engine: Engine, account: str, holder: str, *, ttl_s: float, now: datetime) -> HeldLease:
    """Take the lease of an account.

    Args:
        engine: From `open_database`; all engines that may trade the account must use the same database.
        account: Of which broker, and which of its accounts: "oanda:101-004-1234567-001".
        holder: Who takes it. The same holder may take it again at once, as an engine that was restarted does; two engines that
            can run at the same time need two names.
        ttl_s: Seconds that it lasts without being renewed; renew it several times as often.
        now: By the caller's clock.

    Raises:
        AccountTaken: If another one holds it: names it, where it runs, since when, and until when the lease runs.
        DatabaseUnavailable: If the database does not answer.
    """
    if not holder:
        raise ValueError("a lease needs a holder")
    taken = {
        "holder": holder,
        "process": f"host {socket.gethostname()}, pid {os.getpid()}",
        "acquired_at": now,
        "expires_at": now + timedelta(seconds=ttl_s),
    }
    free = or_(EngineLeaseRow.holder.in_(("", holder)), EngineLeaseRow.expires_at <= now)
    with answered(engine), writing(engine).begin() as connection:
        # One statement, so that of several who try at once the database lets one through; the row is locked for the rest.
        insert = insert_into(connection, EngineLeaseRow).values(account=account, token=1, **taken)
        token = connection.scalar(
            insert.on_conflict_do_update(
                index_elements=["account"], set_={**taken, "token": EngineLeaseRow.token + 1}, where=free
            ).returning(EngineLeaseRow.token)
        )
        if token is None:
            row = connection.execute(select(EngineLeaseRow.__table__).where(EngineLeaseRow.account == account)).one()
            raise AccountTaken(
                f"account {account} is traded by {row.holder} ({row.process}, since {row.acquired_at.isoformat()}); its lease runs "
                f"until {row.expires_at.isoformat()}, and longer if that engine is alive: stop it first"
            )
    return HeldLease(engine=engine, account=account, holder=holder, token=token, ttl_s=ttl_s)
