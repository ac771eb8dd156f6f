"""Backtests on the cluster: forecasts and regimes beforehand, then every run of the engine as a task of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import ray
import structlog
from numpy.typing import NDArray
from ray import ObjectRef

from fxcast.backtest.engine import BacktestEngine, BacktestSetup
from fxcast.backtest.forecasts import CalibratedForecasts, PreparedForecasts, PreparedService, SymbolForecasts
from fxcast.backtest.inner import InnerCandles
from fxcast.backtest.regimes import FitTable, first_candle, fit_moments
from fxcast.backtest.result import BacktestResult
from fxcast.cluster.batch_forecast import BatchForecasts, ForecastSource, WindowRequest, Workers, batch_forecast
from fxcast.cluster.forecast_cache import ForecastCache
from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.signals.regime import RegimeModel
from fxcast.trading.regime_fitting import regimes_known_at

_LOOK_S = 0.5  # between two looks at how far the runs are
_FITS_A_TASK = 20

Show = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the engine.

    Attributes:
        own: Name of the forecasts that the service itself gives; None where forecasters are off.
        others: Names of those asked for by model version, by that version.
    """

    setup: BacktestSetup
    own: str | None = None
    others: Mapping[str, str] = field(default_factory=dict[str, str])


def asked_windows(series: CandleSeries, start: datetime, stop: datetime, *, interval_bars: int) -> NDArray[np.int64]:
    """Return the positions of the last candles of the windows that the engine asks forecasts of, ascending, (n,)."""
    last = int(np.searchsorted(series.close_times, to_datetime64(stop)))
    return np.arange(first_candle(series, start), last, interval_bars, dtype=np.int64)


def prepare_forecasts(
    source: ForecastSource,
    series: Mapping[str, CandleSeries],
    ends: Mapping[str, NDArray[np.int64]],
    *,
    num_samples: int,
    cache: ForecastCache,
    workers: Workers,
    show: Callable[[int, int], None] | None = None,
) -> tuple[PreparedForecasts, BatchForecasts]:
    """Forecast the windows that end at positions of each series, on the connected cluster; what is stored is read.

    Raises:
        StoreUnavailable: If stored forecasts can't be read or written.
    """
    symbols = list(ends)
    timeframe = series[symbols[0]].timeframe
    forecasts = batch_forecast(
        source,
        [WindowRequest(series=series[symbol], ends=ends[symbol]) for symbol in symbols],
        timeframe=timeframe,
        num_samples=num_samples,
        cache=cache,
        workers=workers,
        show=show,
    )
    known = {
        symbol: SymbolForecasts.of(series[symbol], ends[symbol], moves)
        for symbol, moves in zip(symbols, forecasts.moves, strict=True)
    }
    named: dict[str, Any] = {"model_version": source.name, "horizons_minutes": source.horizons_minutes, "symbols": known}
    if source.kept_means is None:
        return PreparedForecasts(**named), forecasts
    return CalibratedForecasts(**named, kept_means=source.kept_means), forecasts


def prepare_regimes(
    series: Mapping[str, CandleSeries],
    start: datetime,
    stop: datetime,
    *,
    refit_bars: int,
    show: Callable[[int, int], None] | None = None,
) -> FitTable:
    """Fit the regimes of every symbol at each moment at which an engine will ask for them, spread over the cluster."""
    moments = {symbol: fit_moments(each, start, stop, refit_bars=refit_bars) for symbol, each in series.items()}
    total, fits = sum(len(each) for each in moments.values()), dict[tuple[str, datetime], RegimeModel | None]()
    tasks: dict[ObjectRef[Any], tuple[str, tuple[datetime, ...]]] = {}
    for symbol, each in series.items():
        candles = ray.put(each)
        for first in range(0, len(moments[symbol]), _FITS_A_TASK):
            some = moments[symbol][first : first + _FITS_A_TASK]
            tasks[_fit_task.remote(candles, some)] = (symbol, some)
    while tasks:
        done, _ = ray.wait(list(tasks))
        for answer in done:
            symbol, some = tasks.pop(answer)
            fits |= {(symbol, at): model for at, model in zip(some, ray.get(answer), strict=True)}
        if show is not None:
            show(len(fits), total)
    return fits


def run_backtests(
    runs: Sequence[Run],
    series: Mapping[str, CandleSeries],
    forecasts: Mapping[str, PreparedForecasts],
    *,
    inner: Mapping[str, InnerCandles] | None = None,
    fits: FitTable | None = None,
    show: Show | None = None,
) -> list[BacktestResult]:
    """Run engines side by side on the connected cluster, each on one CPU; return their results in the order of the runs.

    Args:
        forecasts: By name, as the runs speak of them.
        show: Called with a run's name, the candles done and all.
    """
    progress: Any = _Progress.remote() if show is not None else None
    shared = {name: ray.put(each) for name, each in forecasts.items()}
    candles = {symbol: ray.put(each) for symbol, each in series.items()}
    shorter = ray.put(dict(inner or {}))
    regimes = ray.put(dict(fits or {}))
    tasks = [
        _run_task.remote(
            run.setup,
            {symbol: candles[symbol] for symbol in run.setup.followed or candles},
            None if run.own is None else [shared[run.own]],
            {version: shared[name] for version, name in run.others.items()},
            shorter,
            regimes,
            position,
            progress,
        )
        for position, run in enumerate(runs)
    ]
    waiting = list(tasks)
    while waiting:
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_LOOK_S)
        if show is not None:
            seen: dict[int, tuple[int, int]] = ray.get(progress.seen.remote())
            for position, (done, total) in seen.items():
                show(runs[position].setup.name, done, total)
    return [ray.get(task) for task in tasks]


@ray.remote(num_cpus=0)
class _Progress:
    """How far each run is."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, int]] = {}

    def tell(self, position: int, done: int, total: int) -> None:
        self._seen[position] = (done, total)

    def seen(self) -> dict[int, tuple[int, int]]:
        return self._seen


@ray.remote(num_cpus=1, max_retries=3)
def _run_task(
    setup: BacktestSetup,
    series: dict[str, ObjectRef[CandleSeries]],
    own: list[ObjectRef[PreparedForecasts]] | None,
    others: dict[str, ObjectRef[PreparedForecasts]],
    inner: dict[str, InnerCandles],
    fits: dict[tuple[str, datetime], RegimeModel | None],
    position: int,
    progress: Any,  # noqa: ANN401  # an actor handle
) -> BacktestResult:
    quieten()
    service = None
    if own is not None or others:
        further = {version: ray.get(each) for version, each in others.items()}
        service = PreparedService(None if own is None else ray.get(own[0]), further)
    candles = {symbol: ray.get(each) for symbol, each in series.items()}
    engine = BacktestEngine(setup, candles, forecasts=service, inner=inner, fits=fits)
    told_at = 0.0

    def show(done: int, total: int) -> None:
        nonlocal told_at
        if progress is not None and (time.monotonic() - told_at > _LOOK_S or done == total):
            told_at = time.monotonic()
            progress.tell.remote(position, done, total)

    return engine.run(show)


@ray.remote(num_cpus=1, max_retries=3)
def _fit_task(series: CandleSeries, moments: tuple[datetime, ...]) -> list[RegimeModel | None]:
    return [regimes_known_at(series, at) for at in moments]


def quieten() -> None:
    """Log no line for each order of a backtest: there may be a hundred thousand."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR), cache_logger_on_first_use=False)
