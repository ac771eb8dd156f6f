"""Tables as Parquet that says the same on every database: exact decimals, moments in UTC, JSON as text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Double,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    inspect,
    select,
)
from sqlalchemy.types import TypeEngine

from fxcast.adapters.storage.tables import Base
from fxcast.adapters.storage.types import ExactDecimal, UtcDateTime

ROWS_AT_ONCE = 5_000
_KIND = b"fxcast.kind"
_REVISION_OF_STUDIES = "alembic_version"  # see adapters.storage.revision


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """How values of a column are written and read.

    Attributes:
        column: Its type for SQLAlchemy, wherever it is restored to.
        write: Makes what Parquet holds of what SQLAlchemy returns; None where they are the same.
    """

    arrow: pa.DataType
    column: TypeEngine[Any]
    write: Callable[[Any], Any] | None = None
    read: Callable[[Any], Any] | None = None


_KINDS = {
    "moment": _Kind(arrow=pa.timestamp("us", tz="UTC"), column=UtcDateTime()),
    "local time": _Kind(arrow=pa.timestamp("us"), column=DateTime()),  # Optuna's have no zone
    "decimal": _Kind(arrow=pa.string(), column=ExactDecimal(), write=str, read=Decimal),  # Arrow's have all the same digits
    "json": _Kind(arrow=pa.string(), column=JSON(none_as_null=True), write=json.dumps, read=json.loads),
    "boolean": _Kind(arrow=pa.bool_(), column=Boolean()),
    "integer": _Kind(arrow=pa.int64(), column=BigInteger()),
    "float": _Kind(arrow=pa.float64(), column=Double()),
    "bytes": _Kind(arrow=pa.binary(), column=LargeBinary()),
    "text": _Kind(arrow=pa.string(), column=Text()),
}
_KIND_OF: tuple[tuple[type[TypeEngine[Any]], str], ...] = (  # the first that fits
    (UtcDateTime, "moment"),
    (ExactDecimal, "decimal"),
    (DateTime, "local time"),
    (JSON, "json"),
    (Boolean, "boolean"),
    (Integer, "integer"),
    (Float, "float"),
    (LargeBinary, "bytes"),
    (String, "text"),  # also enumerations, which are their names
)


def our_tables() -> list[Table]:
    """Return the tables of this code's schema, none before one that it refers to."""
    return Base.metadata.sorted_tables


def study_tables(connection: Connection) -> list[Table]:
    """Return Optuna's tables as they are there, none before one that it refers to; none where no search ever ran."""
    if not inspect(connection).has_table("version_info"):  # Optuna itself takes a second to import
        return []
    from fxcast.adapters.storage.studies import OPTUNA_TABLES

    found = MetaData()
    found.reflect(connection, only=sorted(OPTUNA_TABLES - {_REVISION_OF_STUDIES}))
    return found.sorted_tables


def write_table(connection: Connection, table: Table, sink: IO[bytes]) -> tuple[int, str]:
    """Write the rows of a table, in the order of its key; return how many there are, and the file's SHA-256."""
    kinds = {column.name: _kind_of(column) for column in table.columns}
    schema = pa.schema([pa.field(name, _KINDS[kind].arrow, metadata={_KIND: kind.encode()}) for name, kind in kinds.items()])
    hashed, rows = _Hashed(sink), 0
    query: Select[Any] = select(table).order_by(*table.primary_key.columns)
    result = connection.execution_options(stream_results=True, max_row_buffer=ROWS_AT_ONCE).execute(query)
    with pq.ParquetWriter(hashed, schema, compression="zstd") as writer:
        for part in result.partitions(ROWS_AT_ONCE):
            rows += len(part)
            columns = [_arrow_column(values, kind) for values, kind in zip(zip(*part, strict=True), kinds.values(), strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    return rows, hashed.sha256


def read_table(file: IO[bytes]) -> tuple[dict[str, str], Iterator[list[dict[str, Any]]]]:
    """Return the kinds of a table's columns, and its rows, some at a time."""
    parquet = pq.ParquetFile(file)
    kinds = {field.name: (field.metadata or {})[_KIND].decode() for field in parquet.schema_arrow}
    return kinds, (_rows(batch, kinds) for batch in parquet.iter_batches(ROWS_AT_ONCE))


def column_type(kind: str, found: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type to write a kind with into a column of the database: an enumeration is written as what it is there."""
    return found if kind == "text" else _KINDS[kind].column


def is_known_kind(kind: str) -> bool:
    """Tell whether this code can restore such a column."""
    return kind in _KINDS


def _kind_of(column: Column[Any]) -> str:
    for type_, kind in _KIND_OF:
        if isinstance(column.type, type_):
            return kind
    raise TypeError(f"{column}: a backup knows no column of type {column.type!r}")


def _arrow_column(values: tuple[Any, ...], kind: str) -> object:
    write = _KINDS[kind].write
    written = values if write is None else [None if value is None else write(value) for value in values]
    return pa.array(written, type=_KINDS[kind].arrow)


def _rows(batch: pa.RecordBatch, kinds: dict[str, str]) -> list[dict[str, Any]]:  # pyright: ignore[reportUnknownParameterType]  # pyarrow is untyped
    columns: list[list[Any]] = []
    for name, kind in kinds.items():
        read = _KINDS[kind].read
        values: list[Any] = batch.column(name).to_pylist()
        columns.append(values if read is None else [None if value is None else read(value) for value in values])
    return [dict(zip(kinds, row, strict=True)) for row in zip(*columns, strict=True)]


class _Hashed:
    """A file that is written once, from its beginning to its end, and knows its SHA-256."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self._summed = hashlib.sha256()
        self._position = 0
        self.closed = False

    @property
    def sha256(self) -> str:
        return self._summed.hexdigest()

    def write(self, content: bytes) -> int:
        self._summed.update(content)
        self._sink.write(content)
        self._position += len(content)
        return len(content)

    def tell(self) -> int:
        return self._position

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Leave that to who closes the file."""

    def close(self) -> None:
        self.closed = True


def utc(moment: datetime) -> str:
    """Return a moment as the name of a backup begins: so that names sort by time, also within a second."""
    return moment.strftime("%Y%m%dT%H%M%S.%fZ")
