"""Which values engines take: promoted by hand, per symbol, timeframe and regime, with history and roll-back."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, Update, func, insert, select, text, update
from sqlalchemy.orm import Session, aliased

from fxcast.adapters.storage.database import writing
from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.tuning_rows import PromotionRecord, promotion_record, promotion_values
from fxcast.adapters.storage.tuning_tables import PromotionRow
from fxcast.errors import BadSetup

__all__ = ["PromotionRecord", "Promotions"]


class Promotions:
    """The promotions of a database; every method is one transaction, and raises DatabaseUnavailable in an outage.

    Args:
        database: From `open_database`.
    """

    def __init__(self, database: Engine) -> None:
        self._database = database

    def promote(self, promotions: Sequence[PromotionRecord]) -> tuple[PromotionRecord, ...]:
        """Make values the active ones, all or nothing; those that were active for the same market and regime are retired.

        Returns:
            The promotions as they are recorded, with their ids, in the same order.
        """
        markets = [(each.symbol, each.timeframe, each.regime) for each in promotions]
        if len(set(markets)) < len(markets):
            raise ValueError("two promotions for one symbol, timeframe and regime")
        if any(each.id or each.retired_at or each.restores for each in promotions):
            raise ValueError("a promotion that is made now has no id, is active, and restores none")
        rows = [promotion_values(each) for each in promotions]
        with self._changing() as session:
            for each in promotions:
                session.execute(_retire(_active(each.symbol, each.timeframe, each.regime), at=each.promoted_at))
            return tuple(_add(session, row) for row in rows)

    def active(self, symbol: str, timeframe: str) -> tuple[PromotionRecord, ...]:
        """Return the active promotions of a market: that for all regimes first, then by regime."""
        which = (PromotionRow.symbol == symbol, PromotionRow.timeframe == timeframe, PromotionRow.retired_at.is_(None))
        return self._found(select(PromotionRow).where(*which).order_by(PromotionRow.regime))

    def history(self, symbol: str | None = None, timeframe: str | None = None) -> tuple[PromotionRecord, ...]:
        """Return every promotion ever made, newest first; only of a symbol or timeframe if one is given."""
        query = select(PromotionRow).order_by(PromotionRow.id.desc())
        query = query if symbol is None else query.where(PromotionRow.symbol == symbol)
        return self._found(query if timeframe is None else query.where(PromotionRow.timeframe == timeframe))

    def roll_back(
        self, symbol: str, timeframe: str, regime: str | None, *, at: datetime, by: str, reason: str
    ) -> PromotionRecord | None:
        """Retire the active promotion, and make the one before it active again, in a row of its own.

        The one before is the last that was active before it and was not itself rolled back, so that rolling back twice goes two
        steps back.

        Returns:
            The new active one, None if nothing is left to go back to: then no promotion is active.

        Raises:
            BadSetup: If none is active.
        """
        return self.roll_back_all((symbol,), timeframe, regime, at=at, by=by, reason=reason)[0]

    def roll_back_all(
        self, symbols: Sequence[str], timeframe: str, regime: str | None, *, at: datetime, by: str, reason: str
    ) -> tuple[PromotionRecord | None, ...]:
        """Roll back the active promotions of several symbols, all or nothing, each as `roll_back` does.

        Raises:
            BadSetup: If none is active for one of them.
        """
        with self._changing() as session:
            return tuple(_roll_back(session, symbol, timeframe, regime, at=at, by=by, reason=reason) for symbol in symbols)

    @contextmanager
    def _changing(self) -> Generator[Session]:
        """One after the other: whoever promotes must see what was promoted before it, also on PostgreSQL."""
        with answered(self._database), writing(self._database).begin() as connection, Session(connection) as session:
            if connection.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE promotions IN SHARE ROW EXCLUSIVE MODE"))  # readers need not wait
            yield session

    def _found(self, query: Select[PromotionRow]) -> tuple[PromotionRecord, ...]:
        with answered(self._database), Session(self._database) as session:
            return tuple(promotion_record(row) for row in session.scalars(query))


def _active(symbol: str, timeframe: str, regime: str | None) -> tuple[ColumnElement[bool], ...]:
    row = PromotionRow
    return (row.symbol == symbol, row.timeframe == timeframe, row.regime == (regime or ""), row.retired_at.is_(None))


def _retire(which: tuple[ColumnElement[bool], ...], *, at: datetime, **told: str) -> Update:
    return update(PromotionRow).where(*which).values(retired_at=at, **told).execution_options(synchronize_session=False)


def _add(session: Session, row: dict[str, Any]) -> PromotionRecord:
    return promotion_record(session.scalars(insert(PromotionRow).returning(PromotionRow), row).one())


def _roll_back(
    session: Session, symbol: str, timeframe: str, regime: str | None, *, at: datetime, by: str, reason: str
) -> PromotionRecord | None:
    active = session.scalar(select(PromotionRow).where(*_active(symbol, timeframe, regime)))
    if active is None:
        words = "all regimes" if regime is None else f"regime {regime}"
        raise BadSetup(f"nothing is promoted for {symbol} {timeframe} in {words}: there is nothing to roll back")
    before = session.scalar(_before(active))
    session.execute(_retire((PromotionRow.id == active.id,), at=at, rolled_back_by=by, rolled_back_because=reason))
    if before is None:
        return None
    again = replace(
        promotion_record(before),
        id=None,
        promoted_at=at,
        retired_at=None,
        by=by,
        reason=reason,
        restores=before.id,
    )
    return _add(session, promotion_values(again))


def _before(active: PromotionRow) -> Select[PromotionRow]:
    """Select the newest promotion older than what is active that was not rolled back, neither itself nor where it was restored."""
    row, other = PromotionRow, aliased(PromotionRow)
    rolled_back = select(func.coalesce(other.restores, other.id)).where(other.rolled_back_by.is_not(None))
    return (
        select(row)
        .where(
            row.symbol == active.symbol,
            row.timeframe == active.timeframe,
            row.regime == active.regime,
            row.restores.is_(None),
            row.id < (active.restores or active.id),
            row.id.not_in(rolled_back),
        )
        .order_by(row.id.desc())
        .limit(1)
    )
