"""The widths that online calibrations have come to, for the forecasts that are given out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from fxcast.adapters.storage.database import Database
from fxcast.adapters.storage.quality import ModelQuality, newest_quality
from fxcast.serving.snapshot import Snapshot

_REFRESH_S = 10.0
_Series = tuple[str, str, str]  # version, symbol, timeframe


class OnlineWidths:
    """What `python -m jobs.outcomes` has learned; a database that does not answer leaves the widths as they are.

    Args:
        database_url: Where `ldm4ts_model_quality` is.
        clock: Tells the time, in UTC.
    """

    def __init__(self, database_url: str, *, clock: Callable[[], datetime], refresh_s: float = _REFRESH_S) -> None:
        self._snapshot = Snapshot("online widths", database_url, _by_series, clock=clock, refresh_s=refresh_s)

    def start(self) -> None:
        """Start to read, now and again."""
        self._snapshot.start()

    def refresh(self) -> None:
        """Read now."""
        self._snapshot.refresh()

    def close(self, *, timeout_s: float) -> None:
        """Stop to read; give up after `timeout_s`."""
        self._snapshot.close(timeout_s=timeout_s)

    def read_at(self) -> datetime | None:
        """Return when the widths were read last; None before the first time."""
        return self._snapshot.read_at

    def factors(self, model_version: str, symbol: str, timeframe: str, made_at: datetime) -> dict[int, float]:
        """Return by horizon what to multiply the spread of a model's log moves by; a horizon that is not there stays.

        Args:
            made_at: When the forecast is made, the close of its last candle. A width that has learned from what came later is left
                out: a forecast of the past is answered as the model makes it.
        """
        known: Sequence[ModelQuality] = (self._snapshot.value or {}).get((model_version, symbol, timeframe), ())
        return {
            each.horizon_minutes: each.learned.factor
            for each in known
            if each.learned.learned_until is not None and each.learned.learned_until <= made_at
        }


def _by_series(database: Database) -> Mapping[_Series, Sequence[ModelQuality]]:
    found: dict[_Series, list[ModelQuality]] = {}
    for each in newest_quality(database):
        found.setdefault((each.model_version, each.symbol, each.timeframe), []).append(each)
    return found
