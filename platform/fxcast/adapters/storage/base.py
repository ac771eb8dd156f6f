"""What all tables share: the models' base, and the names of constraints."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import Boolean, Double, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase

from fxcast.adapters.storage.types import ExactDecimal, UtcDateTime


def utc_now() -> datetime:
    """Return when a row was made, for columns that say so."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """Base of every table; constraints get predictable names, so that later migrations can refer to them."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        Decimal: ExactDecimal(),
        float: Double(),
        bool: Boolean(),
        int: Integer(),
    }
