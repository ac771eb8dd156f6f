"""Which settings an engine was to trade with, one version after the other: who set them, when, and whether it took them.

An engine's start adds a version if its settings differ from those of the start before, so that a changed file counts from the next
start; the page adds the others. The newest one that no engine has refused is in force.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from fxcast.adapters.storage.database import insert_into, writing
from fxcast.adapters.storage.engine_tables import SettingsVersionRow
from fxcast.adapters.storage.outages import answered
from fxcast.config import explain
from fxcast.errors import BadSetting, Conflict, NotFound
from fxcast.trading.config import TradingConfig

STARTED = "(start)"  # who set those that an engine was started with; no token has such a name


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsVersion:
    """One version of an engine's settings.

    Attributes:
        version: Counted from 1 in each account.
        content: A `TradingConfig` as JSON.
        by: Who set them; `STARTED` if they came with a start.
        reason: Why, in that person's words.
        taken_at: When an engine first traded with them, None if none has yet.
        problem: Why the engine refused them; empty if it did not.
    """

    version: int
    content: str
    by: str
    reason: str
    made_at: datetime
    taken_at: datetime | None
    problem: str

    def trading(self) -> TradingConfig:
        """Return the settings.

        Raises:
            BadSetting: If this fxcast does not know them as they are.
        """
        try:
            return TradingConfig.model_validate_json(self.content)
        except ValidationError as error:
            raise BadSetting(f"version {self.version}: {explain(error, TradingConfig)}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an engine trades with: a version, and its settings; `is_taken` if an engine has traded with them before."""

    version: int
    by: str
    is_taken: bool
    trading: TradingConfig


def content_of(trading: TradingConfig) -> str:
    """Return settings as a version keeps them: JSON, with infinite numbers as Python's json writes and reads them."""
    return json.dumps(trading.model_dump(mode="json", by_alias=True))


def accounts_with_settings(engine: Engine) -> tuple[str, ...]:
    """Return the accounts that have a version, in alphabetical order.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    query = select(SettingsVersionRow.engine_id).distinct().order_by(SettingsVersionRow.engine_id)
    with answered(engine), Session(engine) as session:
        return tuple(session.scalars(query))


class SettingsVersions:
    """The versions of one account's settings."""

    def __init__(self, engine: Engine, engine_id: str) -> None:
        self._engine = engine
        self._engine_id = engine_id

    def newest(self, limit: int) -> tuple[SettingsVersion, ...]:
        """Return so many versions, the newest first.

        Raises:
            DatabaseUnavailable: If the database does not answer.
        """
        return self._read(limit)

    def in_use(self) -> SettingsVersion | None:
        """Return the newest version that an engine has taken, None if there is none.

        Raises:
            DatabaseUnavailable: If the database does not answer.
        """
        row = SettingsVersionRow
        return next(iter(self._read(1, row.problem == "", row.taken_at.is_not(None))), None)

    def get(self, version: int) -> SettingsVersion:
        """Return a version.

        Raises:
            NotFound: If there is no such.
            DatabaseUnavailable: If the database does not answer.
        """
        found = self._read(1, SettingsVersionRow.version == version)
        if not found:
            raise NotFound("version", str(version), f"one of the settings of account {self._engine_id!r}")
        return found[0]

    def add(self, trading: TradingConfig, *, by: str, reason: str, after: int, now: datetime) -> int:
        """Add a version; return its number.

        Args:
            trading: The settings.
            by: Who sets them.
            reason: Why.
            after: Number of the version that this one was made from, 0 if there was none.
            now: By the caller's clock.

        Raises:
            Conflict: If somebody has set others meanwhile.
            DatabaseUnavailable: If the database does not answer; nothing was set.
        """
        newest = select(func.max(SettingsVersionRow.version)).where(SettingsVersionRow.engine_id == self._engine_id)
        values = {"content": content_of(trading), "by": by, "reason": reason, "made_at": now, "problem": ""}
        with answered(self._engine), writing(self._engine).begin() as connection:
            found = connection.scalar(newest) or 0
            insert = insert_into(connection, SettingsVersionRow).values(engine_id=self._engine_id, version=after + 1, **values)
            added = None
            if found == after:  # on PostgreSQL somebody may still take the number in between
                added = connection.scalar(insert.on_conflict_do_nothing().returning(SettingsVersionRow.version))
            if added is None:
                found = connection.scalar(newest) or 0
                raise Conflict(f"the settings were changed meanwhile: found version {found}, expected {after}; look at them again")
        return added

    def in_force(self, started: TradingConfig, now: datetime, *, without: Collection[int] = ()) -> Terms:
        """Return what an engine that starts, or looks again, is to trade with.

        What can't be read any more is marked as refused. Sources of one's own are those of the start, whatever a version says.

        Args:
            started: The settings that it was started with; a version is made of them if they are not those of the start before.
            now: By the caller's clock.
            without: Versions that are passed over.

        Raises:
            BadSetting: If settings of the start can't be kept.
            DatabaseUnavailable: If the database does not answer.
        """
        self._note_start(started, now)
        while True:
            found = self._read(1, SettingsVersionRow.problem == "", SettingsVersionRow.version.not_in(without))[0]
            try:
                trading = started if found.by == STARTED else found.trading().model_copy(update={"sources": started.sources})
                return Terms(version=found.version, by=found.by, is_taken=found.taken_at is not None, trading=trading)
            except BadSetting as error:
                self._mark(found.version, problem=str(error))

    def has_newer(self, version: int, *, without: Collection[int] = ()) -> bool:
        """Tell whether settings that nobody has refused came after a version.

        Args:
            version: The version.
            without: Versions that are passed over.

        Raises:
            DatabaseUnavailable: If the database does not answer.
        """
        row = SettingsVersionRow
        which = (row.engine_id == self._engine_id, row.problem == "", row.version.not_in(without))
        with answered(self._engine), Session(self._engine) as session:
            return (session.scalar(select(func.max(row.version)).where(*which)) or 0) > version

    def mark_taken(self, version: int, now: datetime) -> None:
        """Keep that an engine trades with a version; the first time counts.

        Raises:
            DatabaseUnavailable: If the database does not answer.
        """
        self._mark(version, SettingsVersionRow.taken_at.is_(None), taken_at=now)

    def refuse(self, version: int, problem: str) -> None:
        """Keep why an engine can't trade with a version.

        Raises:
            DatabaseUnavailable: If the database does not answer.
        """
        self._mark(version, problem=problem or "refused")

    def _note_start(self, started: TradingConfig, now: datetime) -> None:
        """Make a version of an engine's own settings, unless they are those of the start before."""
        while True:
            before = self._read(1, SettingsVersionRow.by == STARTED)
            if before and _says(before[0], started):
                return
            newest = self._read(1)
            try:
                self.add(started, by=STARTED, reason="", after=newest[0].version if newest else 0, now=now)
            except Conflict:
                continue  # somebody set others at this moment: these come after them
            return

    def _mark(self, version: int, *which: Any, **values: Any) -> None:
        row = SettingsVersionRow
        where = (row.engine_id == self._engine_id, row.version == version, *which)
        with answered(self._engine), writing(self._engine).begin() as connection:
            connection.execute(update(row).where(*where).values(values))

    def _read(self, limit: int, *which: Any) -> tuple[SettingsVersion, ...]:
        row = SettingsVersionRow
        query = select(row).where(row.engine_id == self._engine_id, *which).order_by(row.version.desc()).limit(limit)
        with answered(self._engine), Session(self._engine) as session:
            return tuple(
                SettingsVersion(
                    version=each.version,
                    content=each.content,
                    by=each.by,
                    reason=each.reason,
                    made_at=each.made_at,
                    taken_at=each.taken_at,
                    problem=each.problem,
                )
                for each in session.scalars(query)
            )


def _says(version: SettingsVersion, trading: TradingConfig) -> bool:
    """Tell whether a version holds these settings; one of an older fxcast lacks what has been added since, at its default."""
    try:
        return content_of(version.trading()) == content_of(trading)
    except BadSetting:
        return False
