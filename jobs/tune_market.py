"""What the trials of a search share: candles, regimes and forecasts in the object store, computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import ray
from numpy.typing import NDArray

from fxcast.backtest.folds import Fold, Span
from fxcast.backtest.forecasts import PreparedForecasts
from fxcast.cluster.backtests import asked_windows, prepare_forecasts, prepare_regimes
from fxcast.cluster.batch_forecast import BatchForecasts, ForecastSource, folder_source
from fxcast.cluster.forecast_cache import ForecastCache
from fxcast.cluster.tune_driver import room_for
from fxcast.cluster.tune_sampling import ForecastRequest, SamplingEvaluator
from fxcast.cluster.tune_trading import FoldForecasts, TradingEvaluator, TunedMarket
from fxcast.models.load import load_forecaster
from fxcast.signals.regime import RegimeModel
from fxcast.tuning.space import Level
from fxcast.tuning.trial import FoldEvaluator, Resources
from jobs.backtest_candles import MarketData
from jobs.backtest_models import OWN
from jobs.tune_model import ModelEvaluator
from jobs.tune_parameters import largest_samples, shortest_interval
from jobs.tune_plan import TunePlan
from jobs.walk_forward_training import train_fold

Show = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What trials are run with.

    Attributes:
        resources: Of a trial's actor.
        cpus: That a trial needs in all.
        gpus: The same.
        prepared: Forecasts of the own model by fold, where they are computed before the search.
        computed: Forecasts that were computed for it; the others were read.
        reused: Those that were read.
    """

    evaluator: FoldEvaluator
    resources: Resources
    cpus: float
    gpus: float
    prepared: tuple[PreparedForecasts | None, ...]
    computed: int
    reused: int

    @property
    def at_once(self) -> int:
        """How many folds are evaluated side by side on the connected cluster, beside the search."""
        return room_for(cpus=max(self.cpus, self.resources.cpus), gpus=max(self.gpus, self.resources.gpus))


@dataclass(slots=True, kw_only=True)
class _Counted:
    computed: int = 0
    reused: int = 0


def share(plan: TunePlan, *, show: Show) -> Shared:
    """Prepare the folds of a search on the connected cluster: models, regimes, forecasts, as far as the level shares them."""
    return share_spans(plan, plan.data, plan.folds, first_fold=1, show=show)


def share_spans(plan: TunePlan, data: MarketData, spans: Sequence[Span], *, first_fold: int, show: Show) -> Shared:
    """Prepare some folds.

    Args:
        data: Candles up to the end of the last of them.
        first_fold: Number of the first in the walk-forward, whose model forecasts it.
    """
    settings, level = plan.settings, plan.settings.level
    ends = [_ends(plan, data, span) for span in spans]
    market = _market(plan, data, spans, show)
    request = partial(ForecastRequest, num_samples=largest_samples(settings), cache=settings.forecasts, workers=settings.workers)
    requests = tuple(request(ends=each) for each in ends)
    counted = _Counted()
    others = [_others(plan, data, each, counted, show) for each in ends]
    if level is Level.MODEL:
        assert plan.walk is not None, "level model has folds that are trained"
        workers = settings.fewest_workers
        return Shared(
            evaluator=ModelEvaluator(
                settings=settings,
                walk=plan.walk,
                market=market,
                others=tuple(others),
                requests=requests,
                first_fold=first_fold,
            ),
            resources=Resources(cpus=0.0),
            cpus=workers * settings.cpus_per_worker,
            gpus=workers * settings.gpus_per_worker if settings.use_gpu else 0.0,
            prepared=(None,) * len(spans),
            computed=counted.computed,
            reused=counted.reused,
        )
    sources = [own_source(plan, number, show) for number in range(first_fold, first_fold + len(spans))]
    if level is Level.SAMPLING:
        assert all(source is not None for source in sources), "the level was refused without a forecaster"
        return Shared(
            evaluator=SamplingEvaluator(
                market=market,
                sources=tuple(source for source in sources if source is not None),
                others=tuple(others),
                requests=requests,
            ),
            resources=Resources(cpus=0.0),
            cpus=1.0,
            gpus=settings.gpus_each,
            prepared=(None,) * len(spans),
            computed=counted.computed,
            reused=counted.reused,
        )
    own_forecasts = [
        None if source is None else _prepared(plan, source, data, each, counted, show, f"forecasts of fold {number}")
        for number, (source, each) in enumerate(zip(sources, ends, strict=True), start=first_fold)
    ]
    forecasts = tuple(
        FoldForecasts(own=None if own is None else ray.put(own), others=each.others)
        for own, each in zip(own_forecasts, others, strict=True)
    )
    return Shared(
        evaluator=TradingEvaluator(market=market, forecasts=forecasts),
        resources=Resources(cpus=1.0),
        cpus=1.0,
        gpus=0.0,
        prepared=tuple(own_forecasts),
        computed=counted.computed,
        reused=counted.reused,
    )


def _market(plan: TunePlan, data: MarketData, spans: Sequence[Span], show: Show) -> TunedMarket:
    settings = plan.settings
    fits: dict[tuple[str, datetime], RegimeModel | None] = {}
    for number, (start, stop) in enumerate(spans, start=1):
        fits |= prepare_regimes(
            data.series,
            start,
            stop,
            refit_bars=settings.trading.regime_refit_bars,
            show=partial(show, f"regimes of {number} of {len(spans)} folds"),
        )
    return TunedMarket(
        symbols=settings.symbols,
        followed=settings.followed,
        folds=tuple(spans),
        base=settings.trading,
        regime=settings.regime,
        market=data.market,
        series={symbol: ray.put(data.series[symbol]) for symbol in settings.followed},
        inner=ray.put(dict(data.inner)),
        fits=ray.put(fits),
    )


def _ends(plan: TunePlan, data: MarketData, span: Span) -> dict[str, NDArray[np.int64]]:
    interval = shortest_interval(plan.settings)
    return {symbol: asked_windows(data.series[symbol], *span, interval_bars=interval) for symbol in plan.settings.symbols}


def own_source(plan: TunePlan, number: int, show: Show) -> ForecastSource | None:
    """Return the own model of a fold; where each fold has its own, it is trained if it is not there."""
    if plan.walk is None:
        return plan.models.sources.get(OWN)
    fold = plan.walk.folds[number - 1]
    train_fold(plan.walk, fold, _begins_with(plan, fold), lambda stage, done, all_: show(f"fold {number}: {stage}", done, all_))
    folder = plan.walk.model_folder(fold)
    return folder_source(folder, partial(load_forecaster, folder, timeframe=plan.timeframe.name))


def _begins_with(plan: TunePlan, fold: Fold) -> Path | None:
    assert plan.walk is not None, "asked of a walk-forward's fold"
    if plan.settings.refit == "fine-tune" and fold.number > 1:
        return plan.walk.model_folder(plan.walk.folds[fold.number - 2])
    return plan.walk.start_from


def _others(
    plan: TunePlan, data: MarketData, ends: Mapping[str, NDArray[np.int64]], counted: _Counted, show: Show
) -> FoldForecasts:
    versions = plan.settings.trading.opponents.values()
    forecasts = {
        version: ray.put(_prepared(plan, plan.models.sources[version], data, ends, counted, show, f"forecasts of {version}"))
        for version in versions
    }
    return FoldForecasts(others=forecasts)


def _prepared(
    plan: TunePlan,
    source: ForecastSource,
    data: MarketData,
    ends: Mapping[str, NDArray[np.int64]],
    counted: _Counted,
    show: Show,
    name: str,
) -> PreparedForecasts:
    forecasts, came = prepared(plan, source, data, ends, partial(show, name))
    counted.computed += came.computed
    counted.reused += came.reused
    return forecasts


def prepared(
    plan: TunePlan,
    source: ForecastSource,
    data: MarketData,
    ends: Mapping[str, NDArray[np.int64]],
    show: Callable[[int, int], None],
) -> tuple[PreparedForecasts, BatchForecasts]:
    """Forecast windows with as many samples as any trial asks for, on the connected cluster; what is stored is read."""
    settings = plan.settings
    return prepare_forecasts(
        source,
        data.series,
        ends,
        num_samples=largest_samples(settings),
        cache=ForecastCache(settings.forecasts),
        workers=settings.workers,
        show=show,
    )
