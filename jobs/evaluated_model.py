"""Find the forecasters that an evaluation names, and what they were trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from fxcast.adapters.storage.database import Database, open_database, revision_of
from fxcast.adapters.storage.registry import registered_model
from fxcast.cluster.batch_forecast import ForecastSource, folder_source, random_walk_source
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting
from fxcast.models.load import load_forecaster

RANDOM_WALK = "random-walk"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedModel:
    """A forecaster as a user named it.

    Attributes:
        name: As it was given.
        folder: None for the built-in random walk.
        seen_until: Where the candles that it was trained and validated on end; None if nothing says so.
        is_learned: Whether it was fitted to candles at all; a random walk was not.
    """

    name: str
    folder: Path | None
    seen_until: datetime | None
    is_learned: bool = True

    @property
    def is_of_unknown_past(self) -> bool:
        """Whether nobody can say if it has seen a period."""
        return self.is_learned and self.seen_until is None

    def source(self, timeframe: Timeframe, horizons_minutes: tuple[int, ...]) -> ForecastSource:
        """Return it as a source; the horizons are the random walk's, a folder has its own.

        Raises:
            BadModelFolder: If the folder can't be loaded or is of another timeframe.
        """
        if self.folder is None:
            return random_walk_source(timeframe, horizons_minutes)
        return folder_source(self.folder, partial(load_forecaster, self.folder, timeframe=timeframe.name))


def find_model(name: str, database_url: str) -> NamedModel:
    """Find a forecaster: `random-walk`, a model folder, or a version of the registry.

    Raises:
        BadSetting: If it is none of them, or the folder's `data_end` is no time.
        BadSetup: If the database can't be reached or has another schema.
    """
    if name == RANDOM_WALK:
        return NamedModel(name=name, folder=None, seen_until=None, is_learned=False)
    # Without a database there is no registry: a folder can still be evaluated.
    database = open_database(database_url) if revision_of(database_url) is not None else None
    folder = Path(name).expanduser().absolute()
    if folder.is_dir():
        index = _index(folder)
        registered = None if database is None or index.version is None else _seen_until(database, index.version)
        known = [moment for moment in (index.data_end, registered) if moment is not None]
        return NamedModel(name=name, folder=folder, seen_until=max(known, default=None), is_learned=index.pipeline != "RandomWalk")
    model = None if database is None else registered_model(database, name)
    if model is None:
        registry = f"a version in the registry {database_url}" + ("" if database is not None else " (which is not there)")
        raise BadSetting(f"model: found {name!r}; allowed: {RANDOM_WALK}, a model folder, or {registry}")
    return NamedModel(name=name, folder=model.folder, seen_until=model.data_end.astimezone(UTC))


def _seen_until(database: Database, version: str) -> datetime | None:
    model = registered_model(database, version)
    return None if model is None else model.data_end.astimezone(UTC)


class _Index(NamedTuple):
    version: str | None = None
    pipeline: str | None = None
    data_end: datetime | None = None


def _index(folder: Path) -> _Index:
    """Return what a folder's model_index.json says of its past; whether all else is sound, loading it will tell."""
    path = folder / "model_index.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return _Index()
    if not isinstance(content, dict):
        return _Index()
    found = cast("dict[str, Any]", content)
    said, moment = found.get("data_end"), None
    if said is not None:
        try:
            moment = datetime.fromisoformat(said)
        except (TypeError, ValueError):
            raise BadSetting(f"{path}: data_end: found {said!r}; allowed: a time as 2017-10-26T00:00:00Z") from None
        moment = moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return _Index(version=found.get("model_version"), pipeline=found.get("pipeline"), data_end=moment)
