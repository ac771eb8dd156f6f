"""Times and amounts come back from the database as they went in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, MetaData, Table, create_engine, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import StatementError

from fxcast.adapters.storage.types import ExactDecimal, UtcDateTime

TABLE = Table("kept", MetaData(), Column("at", UtcDateTime()), Column("amount", ExactDecimal()))


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    with create_engine("sqlite://").connect() as connection:
        TABLE.create(connection)
        yield connection


def kept_time(connection: Connection, moment: datetime) -> datetime:
    connection.execute(TABLE.delete())
    connection.execute(insert(TABLE).values(at=moment))
    return connection.execute(select(TABLE.c.at)).scalar_one()


def kept_amount(connection: Connection, amount: Decimal) -> Decimal:
    connection.execute(TABLE.delete())
    connection.execute(insert(TABLE).values(amount=amount))
    return connection.execute(select(TABLE.c.amount)).scalar_one()


def test_a_time_in_another_zone_comes_back_as_the_same_moment_in_utc(connection: Connection) -> None:
    in_tokyo = datetime(2024, 3, 1, 8, 30, tzinfo=timezone(timedelta(hours=9)))

    found = kept_time(connection, in_tokyo)

    assert found == in_tokyo
    assert found.isoformat() == "2024-02-29T23:30:00+00:00"


def test_a_time_without_a_zone_is_refused(connection: Connection) -> None:
    with pytest.raises(StatementError, match="2024-03-01T08:30:00 has no time zone"):
        kept_time(connection, datetime(2024, 3, 1, 8, 30))  # noqa: DTZ001 (a naive time is the point)


def test_times_of_different_zones_sort_by_moment(connection: Connection) -> None:
    earlier = datetime(2024, 3, 1, 9, 0, tzinfo=timezone(timedelta(hours=9)))  # midnight UTC
    later = datetime(2024, 3, 1, 0, 0, 0, 1, tzinfo=UTC)
    connection.execute(TABLE.delete())
    connection.execute(insert(TABLE), [{"at": later}, {"at": earlier}])

    assert list(connection.scalars(select(TABLE.c.at).order_by(TABLE.c.at))) == [earlier, later]
    assert list(connection.scalars(select(TABLE.c.at).where(TABLE.c.at > earlier))) == [later]


@settings(deadline=None, derandomize=True)
@given(amount=st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_comes_back_with_every_digit(connection: Connection, amount: Decimal) -> None:
    assert kept_amount(connection, amount).as_tuple() == amount.as_tuple()


def test_a_decimal_that_no_float_can_hold_is_stored_as_text_on_sqlite(connection: Connection) -> None:
    exact = Decimal("12345678901234567890.1234567890")

    assert str(kept_amount(connection, exact)) == "12345678901234567890.1234567890"
    assert connection.execute(text("select typeof(amount) from kept")).scalar_one() == "text"


def test_a_float_is_no_amount(connection: Connection) -> None:
    with pytest.raises(StatementError, match=r"expected a Decimal, found float 1\.1"):
        kept_amount(connection, 1.1)  # pyright: ignore[reportArgumentType] (what the test is about)


@pytest.mark.parametrize("amount", ["NaN", "Infinity"])
def test_an_amount_that_is_not_finite_is_refused(connection: Connection, amount: str) -> None:
    with pytest.raises(StatementError, match=f"{amount} is not an amount"):
        kept_amount(connection, Decimal(amount))


def test_postgresql_gets_unbounded_numeric_and_time_with_zone() -> None:
    dialect = postgresql.dialect()

    assert ExactDecimal().compile(dialect) == "NUMERIC"
    assert UtcDateTime().compile(dialect) == "TIMESTAMP WITH TIME ZONE"
    moment = datetime(2024, 3, 1, 8, 30, tzinfo=timezone(timedelta(hours=9)))
    assert UtcDateTime().process_bind_param(moment, dialect) == moment.astimezone(UTC)
    assert ExactDecimal().process_bind_param(Decimal("1.10"), dialect) == Decimal("1.10")
