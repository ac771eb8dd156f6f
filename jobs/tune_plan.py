"""What of a search can be refused before anything is computed: folds, candles, models, space, an earlier search of the name."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from fxcast.backtest.folds import Span
from fxcast.backtest.regimes import first_candle
from fxcast.cluster.train_plan import candles_hash
from fxcast.data.store import CandleStore, absolute_location
from fxcast.domain.candle import to_datetime, to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting
from fxcast.models.config import preset_config
from fxcast.tuning.space import Level, SearchSpace
from fxcast.tuning.trial import Values
from jobs.backtest_candles import MarketData, last_close, open_store, read_market_data
from jobs.backtest_models import OWN, SHIPPED, Models, find_models
from jobs.backtest_settings import with_params
from jobs.tune_parameters import check_intervals, check_of, default_of, walk_forward_with
from jobs.tune_settings import TuneJob
from jobs.walk_forward_plan import WalkForwardPlan, plan_walk_forward

_LEAST_FOLDS = 2  # to search on: of one alone nobody knows whether the next would agree

# All that can change a trial's outcome is in a search's identity but these: where things are kept, and how fast it goes.
_FREE_TO_CHANGE = {
    *("name", "start", "stop", "store", "sample", "database_url", "forecasts", "models", "storage_path", "walk_forwards", "tunes"),
    *("actors", "gpus_each", "batch_windows", "train_workers", "use_gpu", "cpus_per_worker", "gpus_per_worker", "concurrency"),
    *("force", "autoencoder", "text_encoder", "start_from", "model", "sssd", "benchmarks", "max_failures", "resume", "rerun"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TunePlan:
    """A search that may begin, or go on.

    Attributes:
        folds: Test periods that trials are judged by, oldest first.
        hold_out: What no trial sees.
        walk: The walk-forward whose folds these are, where each fold has a model of its own.
        data: Candles up to the end of the last fold, and nothing behind it.
        models: That no fold trains.
        defaults: Of the parameters of the space.
        content: All that can change the outcome, as JSON.
    """

    settings: TuneJob
    timeframe: Timeframe
    folds: tuple[Span, ...]
    hold_out: Span
    walk: WalkForwardPlan | None
    data: MarketData
    models: Models
    space: SearchSpace
    defaults: Values
    data_hash: str
    content: str
    warnings: tuple[str, ...]

    @property
    def settings_hash(self) -> str:
        """What names the settings."""
        return hashlib.sha256(self.content.encode()).hexdigest()[:16]

    @property
    def start(self) -> datetime:
        """Where the first fold begins."""
        return self.folds[0][0]

    @property
    def stop(self) -> datetime:
        """Where the last fold ends that is searched on."""
        return self.folds[-1][1]


def plan_tune(settings: TuneJob) -> TunePlan:
    """Cut the folds and check what can be checked; needs no cluster.

    Raises:
        BadCandles: If the store lacks a symbol, or has no candle of it in a fold.
        BadSetting: If the space or a fold can't be, or a model has learned from what it would be judged on.
        BadModelFolder: If a model can't be loaded.
        BadSetup: If `params` is given and the database can't be read.
    """
    settings, parameters = with_params(settings)
    _check_together(settings)
    settings = _absolute(settings)
    check_intervals(settings)
    timeframe = Timeframe(settings.timeframe)
    store = open_store(settings)
    walk = _walk(settings)
    models = _models(settings, timeframe, walk)
    spans, warnings = _spans(settings, models, store, timeframe) if walk is None else (_tests(walk), walk.warnings)
    held = settings.hold_out_folds
    if len(spans) < held + _LEAST_FOLDS:
        raise BadSetting(
            f"test_days: found {settings.test_days:g}, which makes {len(spans)} folds of {spans[0][0]:%Y-%m-%d} to "
            f"{spans[-1][1]:%Y-%m-%d}; allowed: at least {held + _LEAST_FOLDS}, {held} of them held out"
        )
    folds = tuple(spans[:-held])
    # The hold-out's candles are hashed, for they decide the verdict, and let go: what trials are given ends with the last fold.
    everything = read_market_data(settings, store, spans[-held][0], spans[-1][1])
    _require_candles(everything, spans)
    hold_out = (_embargoed(settings, everything, spans[-held][0]), spans[-1][1])
    data = read_market_data(settings, store, folds[0][0], folds[-1][1])
    source = models.sources.get(OWN)
    horizons = () if not settings.trading.use_ldm4ts else _horizons(settings, models)
    default = default_of(settings, source)
    space = SearchSpace.checked(settings.space, level=settings.level, defaults=default, check=check_of(settings, horizons))
    content: dict[str, Any] = {
        **settings.model_dump(mode="json", exclude=_FREE_TO_CHANGE, by_alias=True),
        "models": {name: each.model_hash for name, each in models.sources.items()},
        "walk_forward": None if walk is None else walk.settings_hash,
        "folds": [[moment.isoformat() for moment in span] for span in (*folds, hold_out)],
    }
    return TunePlan(
        settings=settings,
        timeframe=timeframe,
        folds=folds,
        hold_out=hold_out,
        walk=walk,
        data=data,
        models=models,
        space=space,
        defaults={path: default(path) for path in space.ranges},
        data_hash=candles_hash([everything.series[symbol] for symbol in settings.followed]),
        content=json.dumps(content, sort_keys=True),
        warnings=(*warnings, *parameters.warnings, *parameters.seen(folds[0][0], hold_out[1])),
    )


def _check_together(settings: TuneJob) -> None:
    if settings.separately:
        raise BadSetting("separately: found true; allowed: false, for a search judges one account; or a search for each symbol")
    if settings.level is Level.MODEL and settings.refit != "scratch":
        raise BadSetting(f"refit: found {settings.refit}, with level model; allowed: scratch, for each trial trains its own models")
    if settings.level is not Level.TRADING and not settings.trading.use_ldm4ts:
        raise BadSetting(f"level: found {settings.level.value}, with trading.use_ldm4ts off; allowed: trading")
    if settings.objective.kind == "pareto" and settings.searcher == "random":
        raise BadSetting("searcher: found random, with objective.kind pareto; allowed: tpe, gp or nsga2")


def _absolute(settings: TuneJob) -> TuneJob:
    """Return settings whose places are found from every process of this machine."""
    return settings.model_copy(
        update={
            "store": absolute_location(settings.store),
            "forecasts": absolute_location(settings.forecasts),
            "tunes": settings.tunes.absolute(),
            "storage_path": None if settings.storage_path is None else absolute_location(settings.storage_path),
            "autoencoder": _absolute_if_folder(settings.autoencoder),
            "text_encoder": None if settings.text_encoder is None else _absolute_if_folder(settings.text_encoder),
        }
    )


def _absolute_if_folder(name: str) -> str:
    """Return a folder's absolute path; a name of the hub as it is."""
    return str(Path(name).absolute()) if Path(name).is_dir() else name


def _walk(settings: TuneJob) -> WalkForwardPlan | None:
    if not settings.trains:
        return None
    return plan_walk_forward(
        walk_forward_with(
            settings, {}, walk_forwards=settings.folder / "walk_forward", models=settings.folder / "models", benchmarks=()
        )
    )


def _models(settings: TuneJob, timeframe: Timeframe, walk: WalkForwardPlan | None) -> Models:
    if walk is not None:
        return walk.fixed
    return find_models(settings.trading, timeframe, settings.database_url, model=settings.model, sssd=SHIPPED, benchmarks=())


def _tests(walk: WalkForwardPlan) -> list[Span]:
    return [fold.test for fold in walk.folds]


def _spans(settings: TuneJob, models: Models, store: CandleStore, timeframe: Timeframe) -> tuple[list[Span], list[str]]:
    """Return the folds of a fixed model, one after the other, and what a reader must know of it."""
    end = settings.stop or last_close(store, settings.followed, timeframe)
    seen = models.seen_until
    start = settings.start or (None if seen is None else seen[1])
    if start is None:
        raise BadSetting("start: found none, and no model whose candles would say it; allowed: a time as 2017-01-02T00:00:00Z")
    if end <= start:
        raise BadSetting(f"stop: found {end.isoformat()}; allowed: later than the start, {start.isoformat()}")
    warnings: list[str] = []
    if seen is not None and seen[1] > start:
        name = models.sources[seen[0]].name
        if not settings.force:
            raise BadSetting(
                f"start: found {start.isoformat()}, but {name} was trained and validated on candles up to {seen[1].isoformat()}; "
                "allowed: that moment or later, or --force, and the report says in red that it is worth nothing"
            )
        warnings.append(
            f"{name} has learned from candles up to {seen[1]:%Y-%m-%d %H:%M} UTC, and candles before that are traded here: what "
            "this report says of them is worth nothing."
        )
    warnings += [
        f"Nothing says what {models.sources[name].name} was trained on: if it has seen candles after {start:%Y-%m-%d %H:%M} UTC, "
        "these figures are worthless."
        for name in models.of_unknown_past
    ]
    length, spans = timedelta(days=settings.test_days), list[Span]()
    while start < end and len(spans) < (settings.max_folds or math.inf):
        last = end - start < 1.5 * length  # less than half a fold is none of its own
        spans.append((start, end if last else start + length))
        start = spans[-1][1]
    return spans, warnings


def _require_candles(data: MarketData, spans: list[Span]) -> None:
    for start, stop in spans:
        for symbol, each in data.series.items():
            if first_candle(each, start) >= int(np.searchsorted(each.close_times, to_datetime64(stop))):
                held = f"{to_datetime(each.open_times[0]):%Y-%m-%d %H:%M} to {to_datetime(each.close_times[-1]):%Y-%m-%d %H:%M}"
                raise BadCandles(
                    "candles",
                    f"none of {symbol} that could be traded in the fold from {start:%Y-%m-%d} to {stop:%Y-%m-%d}",
                    f"folds with candles, and a window of them before the first; there are some from {held}",
                )


def _embargoed(settings: TuneJob, data: MarketData, start: datetime) -> datetime:
    """Return where the hold-out begins: so many candles of every symbol after the last fold."""
    if not settings.embargo_bars:
        return start
    moments: list[datetime] = []
    for each in data.series.values():
        first = int(np.searchsorted(each.close_times, to_datetime64(start))) + settings.embargo_bars
        if first >= len(each):  # of the candles up to the hold-out's end
            raise BadSetting(f"embargo_bars: found {settings.embargo_bars}; allowed: fewer than the hold-out has candles")
        moments.append(to_datetime(each.close_times[first]))
    return max(moments)


def _horizons(settings: TuneJob, models: Models) -> tuple[int, ...]:
    own = models.sources.get(OWN)
    return own.horizons_minutes if own is not None else preset_config(settings.preset, settings.timeframe).horizons_minutes
