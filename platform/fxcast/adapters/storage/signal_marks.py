"""The signals of a period as a chart shows them: few columns, and not more than a chart can hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, Engine, func, select

from fxcast.adapters.storage.engine_tables import SignalRow
from fxcast.adapters.storage.outages import answered
from fxcast.domain.signal import Direction, Verdict

COUNTED = 100_000  # signals of a period, and no further: a year of candles of a minute has some 370,000


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalMark:
    """A signal with what was decided about it; `price` is that at the candle's close `made_at`."""

    made_at: datetime
    direction: Direction
    price: float
    verdict: Verdict
    reason: str
    quality_total: float
    uncertainty_pct: float | None
    base_units: Decimal
    units: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalMarks:
    """The newest signals of a period, oldest first.

    Attributes:
        made: How many the period has, counted up to `COUNTED`.
    """

    marks: tuple[SignalMark, ...]
    made: int


def signal_marks(engine: Engine, engine_id: str, *, symbol: str, since: datetime, before: datetime, at_most: int) -> SignalMarks:
    """Return the newest signals on a symbol made from `since` to before `before`, and how many there are.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    row = SignalRow
    wanted: tuple[ColumnElement[bool], ...] = (
        row.engine_id == engine_id,
        row.symbol == symbol,
        row.made_at >= since,
        row.made_at < before,
    )
    counted = select(func.count()).select_from(select(row.signal_id).where(*wanted).limit(COUNTED).subquery())
    columns = (row.made_at, row.direction, row.price, row.verdict, row.reason)
    columns += (row.quality_total, row.uncertainty_pct, row.base_units, row.units)
    newest = select(*columns).where(*wanted).order_by(row.made_at.desc(), row.signal_id.desc()).limit(at_most)
    with answered(engine), engine.connect() as connection:
        made = connection.execute(counted).scalar_one()
        found = connection.execute(newest).all()
    marks = tuple(
        SignalMark(
            made_at=each.made_at,
            direction=Direction(each.direction),
            price=each.price,
            verdict=Verdict(each.verdict),
            reason=each.reason,
            quality_total=each.quality_total,
            uncertainty_pct=each.uncertainty_pct,
            base_units=each.base_units,
            units=each.units,
        )
        for each in reversed(found)
    )
    return SignalMarks(marks=marks, made=made)
