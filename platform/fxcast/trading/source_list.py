"""The sources that the trader's settings switch on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fxcast.domain.signal import Signal
from fxcast.errors import BadSetting
from fxcast.signals.ldm4ts import ForecastSource
from fxcast.signals.mean_reversion import MeanReversionSource
from fxcast.signals.multi_timeframe import MultiTimeframeSource
from fxcast.signals.pattern import PatternSource
from fxcast.signals.sources import MarketView, Source, check_signals, load_sources
from fxcast.signals.trend import TrendSource
from fxcast.trading.config import TradingConfig


@dataclass(frozen=True, slots=True)
class _Checked:
    """A user's source, of which nothing reaches the engine unchecked, nor any error but one."""

    source: Source

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def timeframes(self) -> tuple[str, ...]:
        return tuple(self.source.timeframes)

    def signals(self, view: MarketView) -> tuple[Signal, ...]:
        try:
            return check_signals(self.source, self.source.signals(view), view)
        except BadSetting:
            raise
        except Exception as error:  # a user's code may raise anything: raised on as one kind, which becomes a risk event
            raise BadSetting(f"source {self.source.name}: {type(error).__name__}: {error}") from error


def build_sources(trading: TradingConfig, *, loaded: Sequence[Source] | None = None) -> tuple[Source, ...]:
    """Return the sources that are on, fxcast's own first.

    Args:
        loaded: Sources of an engine that has the same ones of the user's own, which are taken from these; None: they are loaded.

    Raises:
        BadSetting: If a source of the user's own can't be loaded; names its class.
    """
    forecasters = [trading.forecast_source] if trading.use_ldm4ts else []
    forecasters += [source for source in trading.opponents if source not in forecasters]
    own: list[Source] = [
        ForecastSource(name=source, spread_pips=trading.spread_pips, min_strength=trading.ldm4ts_min_strength)
        for source in forecasters
    ]
    own += [TrendSource()] if trading.use_trend else []
    own += [MeanReversionSource()] if trading.use_mean_reversion else []
    own += [PatternSource()] if trading.use_pattern else []
    own += [MultiTimeframeSource()] if trading.use_multi_timeframe else []
    if loaded is not None:
        return (*own, *(source for source in loaded if isinstance(source, _Checked)))
    return (*own, *(_Checked(source) for source in load_sources(trading.sources)))


def wanted_timeframes(sources: tuple[Source, ...]) -> tuple[str, ...]:
    """Return the longer timeframes that sources want to see, each once."""
    return tuple(dict.fromkeys(name for source in sources for name in source.timeframes))
