"""A broker that is a file: the paper market's book, each operation one atomic commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import cache
from itertools import islice
from pathlib import Path
from sqlite3 import Connection as SqliteConnection

from filelock import FileLock, Timeout
from pydantic import TypeAdapter
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    event,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from fxcast.domain.candle import Candle
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Quote, Rates
from fxcast.domain.order import (
    BrokerOrder,
    ChangeAnswer,
    Fill,
    OrderIntent,
    OrderPurpose,
    OrderStatus,
    ProtectionChange,
    Transaction,
)
from fxcast.domain.portfolio import Account, BrokerPosition
from fxcast.errors import BadSetup
from fxcast.trading import fill_simulation
from fxcast.trading.config import PaperMarketConfig
from fxcast.trading.fill_simulation import Book, book_from_json, open_book

_METADATA = MetaData()
# The book without its settled orders, which only ever grow and have a table of their own.
_BOOK = Table("book", _METADATA, Column("id", Integer, primary_key=True), Column("content", String, nullable=False))
_SETTLED = Table(
    "settled_orders",
    _METADATA,
    Column("place", Integer, primary_key=True),
    Column("client_order_id", String, nullable=False, unique=True),
    Column("broker_order_id", String, nullable=False),
    Column("status", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("filled_units", String, nullable=False),  # decimals are text: SQLite's NUMERIC is a float
)
_TRANSACTIONS = Table(
    "transactions",
    _METADATA,
    Column("sequence", Integer, primary_key=True),
    Column("kind", String, nullable=False),  # fill or financing, for a person who looks
    Column("content", String, nullable=False),  # JSON
)

# Kept as SQLite's user_version. 1 (which left it at zero) had fills only, and no interest.
_FORMAT = 2

_LOCK_TIMEOUT_S = 10.0  # a killed engine may take a moment to be gone when its successor starts

# Built once: SQLAlchemy compiles a statement that it knows no more than once.
_SAVE_BOOK = update(_BOOK).values(content=bindparam("content"))


class PaperBroker:
    """Implements `trading.ports.Broker` and `MarketObserver`; survives a kill at any point, as a real broker would.

    A file has one user at a time: it is locked until `close`, or until the process ends, however it ends.

    Args:
        path: SQLite file, made if it is missing; None keeps the book in memory.

    Raises:
        BadSetup: If the file is not a paper broker's, is in use, or its account was opened with other settings.
    """

    def __init__(self, path: Path | None, config: PaperMarketConfig) -> None:
        with ExitStack() as opened:
            if path is not None:
                opened.callback(_lock(path).release)
            self._engine = _open(path)
            opened.callback(self._engine.dispose)
            try:
                with self._engine.begin() as connection:
                    _check_format(connection, path)
                    _METADATA.create_all(connection)
                    self._book = _load(connection) or _create(connection, config)
            except DatabaseError as error:
                raise BadSetup(f"{path} is not the file of a paper broker: {error.orig}") from None
            if self._book.config != config:
                raise BadSetup(
                    f"the paper account in {path} was opened with {_difference(self._book.config, config)}; use another file"
                )
            self._opened = opened.pop_all()

    @property
    def book(self) -> Book:
        """The book as it was committed last."""
        return self._book

    def close(self) -> None:
        """Close the file, and let others use it."""
        self._opened.close()

    def instruments(self, symbols: Sequence[str]) -> Mapping[str, Instrument]:
        """Return pip, tick, lot and margin of each symbol; the paper market trades every pair."""
        return fill_simulation.instruments(self._book, symbols)

    def account(self) -> Account:
        return fill_simulation.account(self._book)

    def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """Return what each symbol's last candle closed at; one that was never observed is missing."""
        return fill_simulation.quotes(self._book, symbols)

    def rates(self) -> Rates:
        """Return what each currency of the symbols observed is worth in the account's."""
        return fill_simulation.rates(self._book)

    def place_order(self, intent: OrderIntent) -> BrokerOrder:
        """Take an order, or reject it with a reason; the same client_order_id again returns the first one's state."""
        book, answer = fill_simulation.place(self._book, intent)
        self._commit(book, ())
        return answer

    def close_position(self, intent: OrderIntent) -> BrokerOrder:
        """Take an order to close (a part of) a position, as `place_order` does."""
        assert intent.purpose is OrderPurpose.CLOSE, f"order {intent.client_order_id} opens a position"
        return self.place_order(intent)

    def modify_order(self, change: ProtectionChange) -> ChangeAnswer:
        """Set stop and target of an open position, or say why not."""
        book, answer = fill_simulation.modify(self._book, change)
        self._commit(book, ())
        return answer

    def observe(self, symbol: str, candle: Candle, closed_at: datetime) -> None:
        """Fill what a closed candle fills, and book the interest due; one that was taken before changes nothing."""
        self._commit(*fill_simulation.observe(self._book, symbol, candle, closed_at))

    def order(self, client_order_id: str) -> BrokerOrder | None:
        return fill_simulation.order(self._book, client_order_id)

    def open_orders(self) -> tuple[BrokerOrder, ...]:
        return fill_simulation.open_orders(self._book)

    def positions(self) -> tuple[BrokerPosition, ...]:
        return fill_simulation.positions(self._book)

    def newest_sequence(self) -> int:
        return self._book.sequence

    def transactions_since(self, sequence: int) -> tuple[Transaction, ...]:
        """Return the fills and the interest with a higher sequence, in order."""
        if sequence >= self._book.sequence:
            return ()
        query = select(_TRANSACTIONS.c.content).where(_TRANSACTIONS.c.sequence > sequence).order_by(_TRANSACTIONS.c.sequence)
        with self._engine.connect() as connection:
            return tuple(_adapter().validate_json(row.content) for row in connection.execute(query))

    def _commit(self, book: Book, transactions: tuple[Transaction, ...]) -> None:
        if book is self._book:
            return
        with self._engine.begin() as connection:
            known = len(self._book.settled)
            for place, settled in enumerate(islice(book.settled.values(), known, None), start=known):
                connection.execute(insert(_SETTLED).values(place=place, **_order_values(settled)))
            for transaction in transactions:
                connection.execute(insert(_TRANSACTIONS).values(**_transaction_values(transaction)))
            connection.execute(_SAVE_BOOK, {"content": _without_settled(book)})
        self._book = book


def require_unused(path: Path) -> None:
    """Raise BadSetup if an engine, of whatever cluster on this machine, has a paper broker's file in use."""
    _lock(path).release()


def _lock(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=_LOCK_TIMEOUT_S)
    except Timeout:
        raise BadSetup(
            f"another engine trades the paper account in {path}; stop it with python -m jobs.control --stop, or choose "
            "another engine.account"
        ) from None
    return lock


def _open(path: Path | None) -> Engine:
    if path is not None:
        engine = create_engine(f"sqlite:///{path}")
    else:  # one connection, or every thread would get a database of its own
        engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: SqliteConnection, _: ConnectionPoolEntry) -> None:
    # The driver would begin transactions only before INSERT and the like; `_begin` does.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    # Safe against a killed process; only a power cut may lose the last commits, and a paper account can bear that.
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _check_format(connection: Connection, path: Path | None) -> None:
    """Refuse a file whose tables this version would not understand; mark a new one as its own."""
    tables = inspect(connection).get_table_names()
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if not tables:
        connection.exec_driver_sql(f"PRAGMA user_version = {_FORMAT}")
    elif _BOOK.name not in tables:
        raise BadSetup(f"{path} is not the file of a paper broker: it has the tables {', '.join(tables)}; use another file")
    elif found != _FORMAT:
        raise BadSetup(
            f"the paper account in {path} was kept by another version of fxcast (format {found or 1}, this one reads {_FORMAT}); "
            "use another file"
        )


def _load(connection: Connection) -> Book | None:
    content = connection.execute(select(_BOOK.c.content)).scalar()
    if content is None:
        return None
    rows = connection.execute(select(_SETTLED).order_by(_SETTLED.c.place)).mappings()
    settled = {
        row["client_order_id"]: BrokerOrder(
            client_order_id=row["client_order_id"],
            broker_order_id=row["broker_order_id"],
            status=OrderStatus(row["status"]),
            reason=row["reason"],
            filled_units=Decimal(row["filled_units"]),
        )
        for row in rows
    }
    return replace(book_from_json(content), settled=settled)


def _create(connection: Connection, config: PaperMarketConfig) -> Book:
    book = open_book(config)
    connection.execute(insert(_BOOK).values(id=1, content=_without_settled(book)))
    return book


def _without_settled(book: Book) -> str:
    return replace(book, settled={}).to_json()


def _order_values(order: BrokerOrder) -> dict[str, str]:
    return {
        "client_order_id": order.client_order_id,
        "broker_order_id": order.broker_order_id,
        "status": order.status.value,
        "reason": order.reason,
        "filled_units": str(order.filled_units),
    }


def _transaction_values(transaction: Transaction) -> dict[str, str | int]:
    kind = "fill" if isinstance(transaction, Fill) else "financing"
    return {"sequence": transaction.sequence, "kind": kind, "content": _adapter().dump_json(transaction).decode()}


@cache
def _adapter() -> TypeAdapter[Transaction]:
    return TypeAdapter(Transaction)


def _difference(found: PaperMarketConfig, wanted: PaperMarketConfig) -> str:
    pairs = zip(found, wanted, strict=True)
    return ", ".join(f"{name} {old}, not {new}" for (name, old), (_, new) in pairs if old != new)
