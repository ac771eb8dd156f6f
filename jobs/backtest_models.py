"""The forecasters of a backtest, and whether they have seen the period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fxcast.cluster.batch_forecast import ForecastSource, random_walk_source
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting
from fxcast.models.shipped import shipped_model, shipped_opponent
from fxcast.trading.config import TradingConfig
from jobs.backtest_settings import BenchmarkKey
from jobs.evaluated_model import find_model

SHIPPED = "shipped"
OWN, SSSD, RANDOM_WALK = "own", "sssd", "random-walk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Forecasters by the names that runs know them by: own, sssd, random-walk, and the model versions of further opponents.

    Attributes:
        seen: Those that were fitted to candles, with where these end; None if nothing says so.
    """

    sources: Mapping[str, ForecastSource] = field(default_factory=dict[str, ForecastSource])
    seen: Mapping[str, datetime | None] = field(default_factory=dict[str, datetime | None])

    @property
    def seen_until(self) -> tuple[str, datetime] | None:
        """The model whose candles reach furthest, with their end."""
        known = [(name, moment) for name, moment in self.seen.items() if moment is not None]
        return max(known, key=lambda each: each[1], default=None)

    @property
    def of_unknown_past(self) -> tuple[str, ...]:
        """Those of which nothing says what they were fitted to."""
        return tuple(name for name, moment in self.seen.items() if moment is None)


def find_models(
    trading: TradingConfig,
    timeframe: Timeframe,
    database_url: str,
    *,
    model: str,
    sssd: str,
    benchmarks: Sequence[BenchmarkKey],
) -> Models:
    """Find the forecasters that the settings ask for; none where forecasters are off.

    Args:
        model: A folder, a version of the registry, random-walk, or `shipped` for the one of the timeframe.
        sssd: The same for the opponent; of `shipped` there may be none.

    Raises:
        BadSetting: If one is unknown, or lacks a horizon that is traded, or a horizon is no whole number of candles.
        BadModelFolder: If one can't be loaded or is of another timeframe.
    """
    if not trading.use_ldm4ts:
        if trading.opponents:
            raise BadSetting(
                "trading.opponents: found some, with use_ldm4ts off; allowed: one of them as forecast_source, with it on"
            )
        return Models()
    horizons = trading.ldm4ts_horizons
    uneven = [minutes for minutes in horizons if minutes % timeframe.minutes]
    if uneven:
        raise BadSetting(f"trading.ldm4ts_horizons: found {uneven}; allowed: multiples of a candle, {timeframe.minutes} minutes")
    named = {OWN: find_model(_folder(model, shipped_model(timeframe.name), "model", timeframe), database_url)}
    if "sssd" in benchmarks:
        shipped = shipped_opponent("sssd", timeframe.name)
        if sssd != SHIPPED or shipped is not None:
            named[SSSD] = find_model(_folder(sssd, shipped, "sssd", timeframe), database_url)
    for version in trading.opponents.values():
        named[version] = find_model(version, database_url)
    sources = {name: each.source(timeframe, horizons) for name, each in named.items()}
    if "random-walk" in benchmarks:
        sources[RANDOM_WALK] = random_walk_source(timeframe, horizons)
    for name, source in sources.items():
        lacking = [minutes for minutes in horizons if minutes not in source.horizons_minutes]
        if lacking:
            raise BadSetting(
                f"trading.ldm4ts_horizons: found {lacking}; {source.name} ({name}) knows {list(source.horizons_minutes)} minutes"
            )
    return Models(sources=sources, seen={name: each.seen_until for name, each in named.items() if each.is_learned})


def _folder(name: str, shipped: object, option: str, timeframe: Timeframe) -> str:
    if name != SHIPPED:
        return name
    if shipped is None:
        raise BadSetting(f"{option}: found {SHIPPED}, and fxcast ships none of {timeframe} candles; allowed: a folder or a version")
    return str(shipped)
