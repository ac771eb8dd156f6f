"""Which model answers for a pair, a timeframe and a version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Self

from fxcast.adapters.storage.registry import ANY_SYMBOL, ListedModel, list_models
from fxcast.errors import BadModelFolder, BadRequest, Conflict, ModelUnavailable
from fxcast.models.config import Preset
from fxcast.models.summary import ForecasterSummary, check_forecaster
from fxcast.serving.snapshot import Snapshot

DEFAULT_TIMEFRAME = "1h"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKey:
    """A model folder as one of its timeframes; as text it is the id by which Serve multiplexes."""

    folder: str
    timeframe: str

    def __str__(self) -> str:
        return f"{self.timeframe}:{self.folder}"

    @classmethod
    def parse(cls, text: str) -> Self:
        timeframe, _, folder = text.partition(":")
        return cls(folder=folder, timeframe=timeframe)


class ModelDirectory:
    """Say which model answers; what the registry said last holds while its database does not answer.

    Args:
        folder: The one model to serve; None to serve those of the registry.
        database_url: Where the registry is.
        default_symbol: Whose active model answers for a pair that has none of its own.
        default_timeframe: Of which candles, where nothing else is said; None for the folder's main timeframe, or 1h.
        preset: Of LDM4TS that a model must be of; None for any forecaster.
        refresh_s: How often the registry is read.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        database_url: str,
        default_symbol: str = "EURUSD",
        default_timeframe: str | None = None,
        preset: Preset | None = None,
        clock: Callable[[], datetime],
        refresh_s: float = 1.0,
    ) -> None:
        self._folder = folder
        self._snapshot = Snapshot("model registry", database_url, list_models, clock=clock, refresh_s=refresh_s)
        self._default_symbol = default_symbol
        self._default_timeframe = default_timeframe
        self._preset: Preset | None = preset
        self._check: Callable[[str, str | None], ForecasterSummary] = cache(self._summary)

    def start(self) -> None:
        """Read the registry, and go on reading it."""
        if self._folder is None:
            self._snapshot.refresh()
            self._snapshot.start()

    def refresh(self) -> None:
        """Read the registry now."""
        self._snapshot.refresh()

    def close(self, *, timeout_s: float) -> None:
        """Stop reading; give up after `timeout_s`."""
        self._snapshot.close(timeout_s=timeout_s)

    def read_at(self) -> datetime | None:
        """Return when the registry was read last; None before the first time."""
        return self._snapshot.read_at

    def known(self) -> tuple[ListedModel, ...]:
        """Return the models of the registry, newest first.

        Raises:
            Conflict: If one folder is served, and no registry is used.
            ModelUnavailable: If the registry has never answered.
        """
        if self._folder is not None:
            raise Conflict(f"the service was started with the folder {self._folder}, and uses no registry")
        models = self._snapshot.value
        if models is None:
            raise ModelUnavailable("the model registry has not answered yet")
        return models

    def version_of(self, key: ModelKey) -> str:
        """Return the version that a model's folder names; raises ModelUnavailable if it is broken."""
        return self._summary_of(Path(key.folder), key.timeframe).model_version

    def find(self, symbol: str, timeframe: str, version: str | None = None) -> ModelKey:
        """Return the model that answers.

        Args:
            version: Which; by default the active one.

        Raises:
            BadRequest: If no model has the version, or the one that was asked for forecasts no such candles.
            ModelUnavailable: If no model is active, or its folder is broken; says why.
        """
        if self._folder is not None:
            found = self._summary_of(self._folder, None)
            if version is not None and version != found.model_version:
                raise BadRequest("model_version", version, f"{found.model_version}, the one that is served")
            return self._key(self._folder, timeframe)
        if version is not None:
            return self._key(self.named(version).model.folder, timeframe)
        active = {each.model.symbol: each.model for each in self.known() if each.is_active and each.model.timeframe == timeframe}
        for candidate in (symbol, ANY_SYMBOL, self._default_symbol):
            if candidate in active:
                return self._key(active[candidate].folder, timeframe)
        raise ModelUnavailable(f"no model is active for {symbol} {timeframe}; train one with python -m jobs.train")

    def default(self, timeframe: str | None = None) -> ModelKey:
        """Return the model that answers where nothing but a timeframe, or not even that, is said; raises as `find`."""
        if timeframe is None and self._default_timeframe is None and self._folder is not None:
            timeframe = self._summary_of(self._folder, None).timeframe
        return self.find(self._default_symbol, timeframe or self._default_timeframe or DEFAULT_TIMEFRAME)

    def named(self, version: str) -> ListedModel:
        """Return a model of the registry.

        Raises:
            BadRequest: If none has the version.
            Conflict, ModelUnavailable: As `known`.
        """
        for each in self.known():
            if each.model.version == version:
                return each
        newest = ", ".join(each.model.version for each in self.known()[:5])
        raise BadRequest("model_version", version, f"a version of the registry; the newest are {newest or 'none'}")

    def _key(self, folder: Path, timeframe: str) -> ModelKey:
        main = self._summary_of(folder, None)
        if timeframe not in main.timeframes:
            raise BadRequest("timeframe", timeframe, f"{', '.join(main.timeframes)}, the timeframes of model {main.model_version}")
        return ModelKey(folder=str(folder.absolute()), timeframe=timeframe)

    def _summary_of(self, folder: Path, timeframe: str | None) -> ForecasterSummary:
        try:
            return self._check(str(folder), timeframe)
        except BadModelFolder as error:
            raise ModelUnavailable(str(error)) from error
        except OSError as error:  # a file that went away meanwhile, a disk that fails
            raise ModelUnavailable(f"model folder {folder}: can't be read: {error}") from error

    def _summary(self, folder: str, timeframe: str | None) -> ForecasterSummary:
        return check_forecaster(Path(folder), preset=self._preset, timeframe=timeframe)
