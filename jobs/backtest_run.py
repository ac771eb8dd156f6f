"""Run a strategy and what it is compared with over one period, on the connected cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_DOWN, Decimal

from fxcast.backtest.engine import BacktestSetup
from fxcast.backtest.forecasts import PreparedForecasts
from fxcast.backtest.merge import merged
from fxcast.backtest.regimes import FitTable
from fxcast.backtest.result import BacktestResult, EquityCurve
from fxcast.cluster.backtests import Run, asked_windows, prepare_forecasts, prepare_regimes, run_backtests
from fxcast.cluster.batch_forecast import BatchForecasts, ForecastSource
from fxcast.cluster.forecast_cache import ForecastCache
from fxcast.domain.signal import SignalSource
from fxcast.performance.buy_and_hold import buy_and_hold
from fxcast.trading.config import TradingConfig
from jobs.backtest_candles import MarketData
from jobs.backtest_models import OWN, RANDOM_WALK, SSSD, Models
from jobs.backtest_settings import TradedSettings

STRATEGY = "strategy"
TITLES = {
    "no-scaling": "the same without sizing by uncertainty",
    "sssd": "the same with SSSD as the forecaster",
    "random-walk": "the same with a random walk as the forecaster",
    "buy-and-hold": "buy and hold, in equal shares, without leverage",
}

Show = Callable[[str, int, int], None]

_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a period.

    Attributes:
        results: The strategy first, then what it is compared with, by key.
        held: Buy and hold, where it was asked for.
        forecasts: By name, as the engine had them.
        computed: How many forecasts were computed, by name; the others were read.
        reused: How many were read.
    """

    results: Mapping[str, BacktestResult]
    held: EquityCurve | None
    forecasts: Mapping[str, PreparedForecasts]
    computed: Mapping[str, int]
    reused: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What every run of a period needs beforehand; `came` says by name how many forecasts were computed and how many read."""

    forecasts: Mapping[str, PreparedForecasts]
    came: Mapping[str, BatchForecasts]
    fits: FitTable


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    key: str
    trading: TradingConfig
    own: str | None


def run_period(
    settings: TradedSettings, data: MarketData, models: Models, start: datetime, stop: datetime, *, show: Show
) -> Outcome:
    """Forecast, fit regimes, and trade the period in every way asked for.

    Args:
        show: Called with what is being done, how much of it is done, and all.

    Raises:
        StoreUnavailable: If stored forecasts can't be read or written.
        BadSetup: If a currency can't be converted to the account's.
    """
    prepared = prepare(settings, data, models.sources, start, stop, show=show)
    variants = _variants(settings, models)
    runs = [run for variant in variants for run in _runs(settings, data, variant, start, stop)]
    results = run_backtests(runs, data.series, prepared.forecasts, inner=data.inner, fits=prepared.fits, show=show)
    each = len(runs) // len(variants)
    held = None
    if "buy-and-hold" in settings.benchmarks:
        held = buy_and_hold(data.series, start, stop, data.market, symbols=settings.symbols)
    together = {
        variant.key: merged(variant.key, results[first : first + each])
        for variant, first in zip(variants, range(0, len(results), each), strict=True)
    }
    return Outcome(
        results=together,
        held=held,
        forecasts=prepared.forecasts,
        computed={name: came.computed for name, came in prepared.came.items()},
        reused={name: came.reused for name, came in prepared.came.items()},
    )


def strategy_runs(settings: TradedSettings, data: MarketData, models: Models, start: datetime, stop: datetime) -> list[Run]:
    """Return the runs of the strategy itself: one for all symbols, or one for each."""
    return _runs(settings, data, _variants(settings, models)[0], start, stop)


def prepare(
    settings: TradedSettings,
    data: MarketData,
    sources: Mapping[str, ForecastSource],
    start: datetime,
    stop: datetime,
    *,
    show: Show,
) -> Prepared:
    """Forecast every window that the engine will ask about, by each of some sources, and fit the regimes.

    Raises:
        StoreUnavailable: If stored forecasts can't be read or written.
    """
    forecasts: dict[str, PreparedForecasts] = {}
    came: dict[str, BatchForecasts] = {}
    ends = {
        symbol: asked_windows(data.series[symbol], start, stop, interval_bars=settings.trading.forecast_interval_bars)
        for symbol in settings.symbols
    }
    for name, source in sources.items():
        forecasts[name], came[name] = prepare_forecasts(
            source,
            data.series,
            ends,
            num_samples=settings.trading.ldm4ts_num_samples,
            cache=ForecastCache(settings.forecasts),
            workers=settings.workers,
            show=lambda done, total, name=source.name: show(f"forecasts of {name}", done, total),
        )
    fits = prepare_regimes(
        data.series,
        start,
        stop,
        refit_bars=settings.trading.regime_refit_bars,
        show=lambda done, total: show("regimes", done, total),
    )
    return Prepared(forecasts=forecasts, came=came, fits=fits)


def _variants(settings: TradedSettings, models: Models) -> list[_Variant]:
    trading = settings.trading
    own = OWN if OWN in models.sources else None
    variants = [_Variant(key=STRATEGY, trading=trading, own=own)]
    if own is None:
        return variants
    if "no-scaling" in settings.benchmarks:
        variants.append(_Variant(key="no-scaling", trading=_changed(trading, ldm4ts_position_scaling=False), own=own))
    for key, name, source in (
        ("sssd", SSSD, SignalSource.SSSD_FORECAST),
        ("random-walk", RANDOM_WALK, SignalSource.RANDOM_WALK_FORECAST),
    ):
        if key in settings.benchmarks and name in models.sources:
            variants.append(_Variant(key=key, trading=_changed(trading, forecast_source=source), own=name))
    return variants


def _changed(trading: TradingConfig, **changes: object) -> TradingConfig:
    return trading.model_copy(update=changes)


def _runs(settings: TradedSettings, data: MarketData, variant: _Variant, start: datetime, stop: datetime) -> list[Run]:
    """One engine for all symbols, or one for each with its share of the balance."""
    groups = [(symbol,) for symbol in settings.symbols] if settings.separately else [settings.symbols]
    balance = (data.market.starting_balance / len(groups)).quantize(_CENT, rounding=ROUND_DOWN)
    return [
        Run(
            setup=BacktestSetup(
                name=variant.key if len(groups) == 1 else f"{variant.key} {symbols[0]}",
                symbols=symbols,
                followed=tuple(dict.fromkeys((*symbols, *settings.conversion_symbols))),
                start=start,
                stop=stop,
                trading=variant.trading,
                market=data.market.model_copy(update={"starting_balance": balance}),
            ),
            own=variant.own,
            others={version: version for version in variant.trading.opponents.values()},
        )
        for symbols in groups
    ]
