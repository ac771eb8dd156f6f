"""What survives the engine's process, and what can be read back from it: in memory, or in real files."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.storage.controls import request_kill_switch
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.engine_tables import (
    EquityRow,
    FillRow,
    FinancingRow,
    OrderRow,
    PositionRow,
    RiskEventRow,
    SignalRow,
)
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.ledger_rows import decided_signal, fill_of, financing_of, order_record
from fxcast.domain.order import Transaction
from fxcast.domain.portfolio import EquityPoint, Position
from fxcast.trading.config import PaperMarketConfig
from fxcast.trading.ports import Broker, DecidedSignal, DecisionRecord, KillSwitchRequest, Ledger, MarketObserver, OrderRecord
from fxcast.trading.simulation.book import Book
from fxcast.trading.state import KillSwitch
from tests.fakes import MemoryBroker, MemoryLedger

ENGINE_ID = "soak"


class PaperAccount(Broker, MarketObserver, Protocol):
    """A paper broker whose book can be changed behind the engine's back, as a person at the broker would."""

    @property
    def book(self) -> Book: ...

    def edit(self, book: Book, transactions: tuple[Transaction, ...]) -> None: ...


class Kept(Protocol):
    """The broker and the ledger, and questions about what the ledger holds."""

    @property
    def broker(self) -> PaperAccount: ...

    @property
    def ledger(self) -> Ledger: ...

    def reopen(self) -> None:
        """Open everything anew, as the next process does."""
        ...

    def close(self) -> None: ...

    def ask_kill_switch(self, kill_switch: KillSwitch, now: datetime) -> KillSwitchRequest: ...

    def transactions_after(self, sequence: int) -> tuple[Transaction, ...]: ...

    def open_positions(self) -> tuple[Position, ...]: ...

    def signals_after(self, at: datetime) -> tuple[DecidedSignal, ...]: ...

    def order(self, client_order_id: str) -> OrderRecord | None: ...

    def newest_margin_event(self) -> datetime | None: ...

    def equity_at(self, at: datetime) -> EquityPoint | None: ...

    def closed_profit(self) -> Decimal: ...

    def decision(self, symbol: str, at: datetime) -> DecisionRecord | None: ...

    def settings(self, settings_hash: str) -> str | None: ...

    def prune(self, before: datetime) -> None:
        """Forget the inputs of decisions that are too old."""
        ...


class _MemoryPaper(MemoryBroker):
    def edit(self, book: Book, transactions: tuple[Transaction, ...]) -> None:
        self.book = book
        self.transactions += transactions


class _FilePaper(PaperBroker):
    def edit(self, book: Book, transactions: tuple[Transaction, ...]) -> None:
        self._commit(book, transactions)


class KeptInMemory:
    """A ledger and a broker in dictionaries."""

    def __init__(self, market: PaperMarketConfig) -> None:
        self.broker = _MemoryPaper(market)
        self.ledger = MemoryLedger()

    def reopen(self) -> None:
        """Nothing to open: dictionaries survive."""

    def close(self) -> None:
        """Nothing to close."""

    def ask_kill_switch(self, kill_switch: KillSwitch, now: datetime) -> KillSwitchRequest:
        sequence = len(self.ledger.requests) + 1
        request = KillSwitchRequest(
            sequence=sequence, kill_switch=kill_switch.value, by="a person", reason="a soak", requested_at=now
        )
        self.ledger.requests.append(request)
        return request

    def transactions_after(self, sequence: int) -> tuple[Transaction, ...]:
        found = sorted(number for number in self.ledger.transactions if number > sequence)
        return tuple(self.ledger.transactions[number] for number in found)

    def open_positions(self) -> tuple[Position, ...]:
        return tuple(record.position for record in self.ledger.positions.values() if record.closed_at is None)

    def signals_after(self, at: datetime) -> tuple[DecidedSignal, ...]:
        return tuple(decided for decided in self.ledger.signals.values() if decided.signal.made_at > at)

    def order(self, client_order_id: str) -> OrderRecord | None:
        return self.ledger.order_records.get(client_order_id)

    def newest_margin_event(self) -> datetime | None:
        return max((event.at for event in self.ledger.risk_events.values() if event.kind.value == "margin"), default=None)

    def equity_at(self, at: datetime) -> EquityPoint | None:
        return self.ledger.equity.get(at)

    def closed_profit(self) -> Decimal:
        return sum((record.profit or Decimal(0) for record in self.ledger.positions.values()), Decimal(0))

    def decision(self, symbol: str, at: datetime) -> DecisionRecord | None:
        return self.ledger.decisions.get((at, symbol))

    def settings(self, settings_hash: str) -> str | None:
        return self.ledger.settings.get(settings_hash)

    def prune(self, before: datetime) -> None:
        for key in [key for key in self.ledger.decisions if key[0] < before]:
            del self.ledger.decisions[key]


class KeptInFiles:
    """The real ledger on SQLite, and the real paper broker's file."""

    def __init__(self, folder: Path, market: PaperMarketConfig) -> None:
        self._url = f"sqlite:///{folder / 'ledger.db'}"
        self._broker_file = folder / "broker.db"
        self._market = market
        migrate(self._url)
        self._open()

    def reopen(self) -> None:
        before = self.broker.book
        self.close()
        self._open()
        assert self.broker.book == before, "the paper broker's file does not hold what the broker had committed"

    def close(self) -> None:
        self.broker.close()
        self._database.dispose()

    def ask_kill_switch(self, kill_switch: KillSwitch, now: datetime) -> KillSwitchRequest:
        return request_kill_switch(self._database, ENGINE_ID, kill_switch, "a person", "a soak", now)

    def transactions_after(self, sequence: int) -> tuple[Transaction, ...]:
        with Session(self._database) as session:
            fills = session.scalars(select(FillRow).where(FillRow.engine_id == ENGINE_ID, FillRow.sequence > sequence))
            interest = session.scalars(
                select(FinancingRow).where(FinancingRow.engine_id == ENGINE_ID, FinancingRow.sequence > sequence)
            )
            found: list[Transaction] = [*map(fill_of, fills), *map(financing_of, interest)]
        return tuple(sorted(found, key=lambda each: each.sequence))

    def open_positions(self) -> tuple[Position, ...]:
        return self.ledger.open_positions()

    def signals_after(self, at: datetime) -> tuple[DecidedSignal, ...]:
        with Session(self._database) as session:
            rows = session.scalars(select(SignalRow).where(SignalRow.engine_id == ENGINE_ID, SignalRow.made_at > at))
            return tuple(map(decided_signal, rows))

    def order(self, client_order_id: str) -> OrderRecord | None:
        with Session(self._database) as session:
            row = session.get(OrderRow, (ENGINE_ID, client_order_id))
            return None if row is None else order_record(row)

    def newest_margin_event(self) -> datetime | None:
        newest = select(func.max(RiskEventRow.at)).where(RiskEventRow.engine_id == ENGINE_ID, RiskEventRow.kind == "margin")
        with Session(self._database) as session:
            return session.scalar(newest)

    def equity_at(self, at: datetime) -> EquityPoint | None:
        with Session(self._database) as session:
            row = session.get(EquityRow, (ENGINE_ID, at))
            return None if row is None else EquityPoint(at=row.at, balance=row.balance, open_profit=row.open_profit)

    def closed_profit(self) -> Decimal:
        closed = select(PositionRow).where(PositionRow.engine_id == ENGINE_ID, PositionRow.closed_at.is_not(None))
        with Session(self._database) as session:
            return sum((row.profit or Decimal(0) for row in session.scalars(closed)), Decimal(0))

    def decision(self, symbol: str, at: datetime) -> DecisionRecord | None:
        return self.ledger.decision(symbol, at)

    def settings(self, settings_hash: str) -> str | None:
        return self.ledger.settings(settings_hash)

    def prune(self, before: datetime) -> None:
        self.ledger.prune_decisions(before)

    def _open(self) -> None:
        self._database = open_database(self._url)
        self.ledger = SqlLedger(self._database, ENGINE_ID)
        self.broker = _FilePaper(self._broker_file, self._market)
