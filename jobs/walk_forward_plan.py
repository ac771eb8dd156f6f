"""What of a walk-forward can be refused before anything is trained: candles, folds, models, an earlier run of the name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from fxcast.backtest.folds import Fold, FoldRule, Scheme, cut_folds
from fxcast.cluster.batch_forecast import folder_hash
from fxcast.cluster.train_checkpoint import refuse_another_run
from fxcast.cluster.train_plan import candles_hash
from fxcast.data.packaged import read_packaged_sample
from fxcast.data.store import CandleStore, absolute_location
from fxcast.domain.candle import CandleSeries, TimeArray
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting
from fxcast.models.config import preset_config
from fxcast.models.index import check_folder
from fxcast.models.shipped import shipped_model, shipped_opponent
from jobs.backtest_candles import last_close
from jobs.backtest_models import OWN, SHIPPED, SSSD, Models, find_models
from jobs.backtest_settings import with_params
from jobs.evaluated_model import RANDOM_WALK, find_model
from jobs.tuned_parameters import Parameters
from jobs.walk_forward_settings import WalkForwardJob

# What a walk-forward is made of besides these must be the same when it goes on. Of candles and models that are given, what they
# hold counts instead of where they lie; of `params` the values that it stands for, which are in `trading`; and a fold that is still
# trained compares its autoencoder itself.
_FREE_TO_CHANGE = {
    *("name", "start", "stop", "store", "sample", "database_url", "forecasts", "models", "storage_path", "walk_forwards"),
    *("actors", "gpus_each", "batch_windows", "train_workers", "use_gpu", "cpus_per_worker", "gpus_per_worker", "concurrency"),
    *("draws", "seed", "force", "autoencoder", "text_encoder", "start_from", "model", "sssd", "params"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkForwardPlan:
    """A walk-forward that may begin, or go on.

    Attributes:
        settings: As given, with the packaged sample in a store, and traded with the values that `params` stands for.
        identity: What an interrupted run must share with the one that goes on, plain JSON types.
        content: All that can change the outcome besides candles and period, as JSON.
        start_from: Folder of the model that the first fold begins with.
        fixed: Models that no fold trains.
        seen: Those of them that have learned from a test period, which is only so if it was forced; with where their candles end.
        parameters: Where values of `params` come from.
    """

    settings: WalkForwardJob
    timeframe: Timeframe
    start: datetime
    stop: datetime
    folds: tuple[Fold, ...]
    data_hash: str
    identity: dict[str, Any]
    content: str
    start_from: Path | None
    fixed: Models
    seen: dict[str, datetime]
    parameters: Parameters

    @property
    def settings_hash(self) -> str:
        """What names the settings; `jobs.backtest_record.Origin` makes the same of `content`."""
        return hashlib.sha256(self.content.encode()).hexdigest()[:16]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before the figures."""
        seen = [
            f"{name} has learned from candles up to {moment:%Y-%m-%d %H:%M} UTC, and candles before that are tested here: what "
            "this report says of them is worth nothing."
            for name, moment in self.seen.items()
        ]
        unknown = [
            f"Nothing says what {self.fixed.sources[name].name} was trained on: if it has seen candles after "
            f"{self.folds[0].test[0]:%Y-%m-%d %H:%M} UTC, these figures are worthless."
            for name in self.fixed.of_unknown_past
        ]
        found = self.parameters
        return (*seen, *unknown, *found.warnings, *found.seen(self.folds[0].test[0], self.folds[-1].test[1]))

    def fold_folder(self, fold: Fold) -> Path:
        """Return where a fold keeps what came of it."""
        return self.settings.folder / f"fold-{fold.number:02}"

    def model_name(self, fold: Fold) -> str:
        """Return the version of the model that a fold trains; its SSSD has `-sssd` behind it."""
        return f"{self.settings.name}-fold-{fold.number:02}"

    def model_folder(self, fold: Fold) -> Path:
        """Return the folder of the model that a fold trains."""
        return self.settings.models / self.model_name(fold)

    def sssd_folder(self, fold: Fold) -> Path:
        """Return the folder of the SSSD that a fold trains."""
        return self.settings.models / f"{self.model_name(fold)}-sssd"


def plan_walk_forward(settings: WalkForwardJob) -> WalkForwardPlan:
    """Cut the folds and check what can be checked; needs no cluster.

    Raises:
        BadCandles: If the store lacks a symbol, or has too few candles of it in a part of a fold.
        BadSetting: If a fold is longer than the data, the purge shorter than the longest horizon, a model has seen what it would be
            tested or validated on, or the name is that of a run with other settings.
        BadModelFolder: If a model that is given can't be loaded.
        BadSetup: If `params` is given and the database can't be read.
    """
    settings, parameters = with_params(settings)
    _check_refit(settings)
    settings = _with_store(settings)
    timeframe = Timeframe(settings.timeframe)
    store = CandleStore(settings.store)
    stop = settings.stop or last_close(store, settings.followed, timeframe)
    series = [store.read(symbol, timeframe, stop=stop) for symbol in settings.followed]
    start = settings.start or _first_open(store, settings, timeframe)
    if stop <= start:
        raise BadSetting(f"stop: found {stop.isoformat()}; allowed: later than the start, {start.isoformat()}")
    _require_candles(store, series, start, stop)
    fixed = _fixed_models(settings, timeframe)
    horizon = _longest_horizon_bars(settings, timeframe)
    purge = settings.purge_bars or horizon
    folds = _cut(settings, {each.symbol: each.open_times for each in series}, timeframe, start, stop, purge, horizon)
    start_from = _start_from(settings, folds)
    _check_fine_tuning(settings, folds)
    data_hash = candles_hash(series)
    given = _given_hashes(settings)
    chosen = settings.model_dump(mode="json", exclude=_FREE_TO_CHANGE, by_alias=True)
    content = {
        **chosen,
        "purge_bars": purge,
        "given_models": given,
        "start_from": None if start_from is None else folder_hash(start_from),
    }
    plan = WalkForwardPlan(
        settings=settings,
        timeframe=timeframe,
        start=start,
        stop=stop,
        folds=folds,
        data_hash=data_hash,
        identity={**content, "start": start.isoformat(), "stop": stop.isoformat(), "data_hash": data_hash},
        content=json.dumps(content, sort_keys=True),
        start_from=start_from,
        fixed=fixed,
        seen=_seen(settings, fixed, folds),
        parameters=parameters,
    )
    refuse_another_run(plan.identity, storage_path=absolute_location(settings.walk_forwards), name=settings.name)
    _require_free_names(plan)
    return plan


def has_begun(settings: WalkForwardJob) -> bool:
    """Tell whether a run of this name was begun before."""
    return (settings.folder / "run.json").is_file()


def _check_refit(settings: WalkForwardJob) -> None:
    if settings.trains and not settings.trading.use_ldm4ts:
        raise BadSetting(
            f"refit: found {settings.refit}, with trading.use_ldm4ts off; allowed: none, for nothing asks for forecasts"
        )
    if not settings.trains and settings.start_from is not None:
        raise BadSetting("start_from: found one, with refit none; allowed: the model that trades all folds, as `model`")
    if settings.refit == "fine-tune" and (settings.concurrency or 1) > 1:
        raise BadSetting(
            f"concurrency: found {settings.concurrency}; allowed: 1 with refit fine-tune, whose folds wait for each other"
        )


def _with_store(settings: WalkForwardJob) -> WalkForwardJob:
    """Return settings that name a store; the packaged sample is put into one of the run's own."""
    if not settings.sample:
        return settings
    root = settings.folder / "sample"
    CandleStore(root).append(read_packaged_sample().data)
    return settings.model_copy(update={"store": str(root), "sample": False})


def _first_open(store: CandleStore, settings: WalkForwardJob, timeframe: Timeframe) -> datetime:
    spans = [store.span(symbol, timeframe) for symbol in settings.followed]
    return max(span[0] for span in spans if span is not None)  # that none is missing, reading them has told


def _require_candles(store: CandleStore, series: list[CandleSeries], start: datetime, stop: datetime) -> None:
    for each in series:
        held = store.span(each.symbol, each.timeframe)
        if not len(each) or each.close_time(len(each) - 1) < start:
            found = f"none of {each.symbol} {each.timeframe} from {start.isoformat()} to {stop.isoformat()}"
            holds = "no candle of it" if held is None else f"{held[0]:%Y-%m-%d %H:%M} to {held[1]:%Y-%m-%d %H:%M}"
            raise BadCandles("candles", found, f"a period with candles; the store holds {holds}")


def _longest_horizon_bars(settings: WalkForwardJob, timeframe: Timeframe) -> int:
    """Return how far what is learned or traded looks ahead.

    Raises:
        BadSetting: If a horizon is traded that the folds' models will not have.
    """
    traded = settings.trading.ldm4ts_horizons
    if not settings.trains:
        return timeframe.bars(traded[-1]) if settings.trading.use_ldm4ts else 1
    config = preset_config(settings.preset, timeframe.name, settings.symbols)
    lacking = [minutes for minutes in traded if minutes not in config.horizons_minutes]
    if lacking:
        raise BadSetting(
            f"trading.ldm4ts_horizons: found {lacking}; models of {timeframe} candles know {list(config.horizons_minutes)} minutes"
        )
    return config.future_bars


def _cut(
    settings: WalkForwardJob,
    open_times: dict[str, TimeArray],
    timeframe: Timeframe,
    start: datetime,
    stop: datetime,
    purge: int,
    horizon: int,
) -> tuple[Fold, ...]:
    rule = FoldRule(
        scheme=Scheme(settings.scheme),
        train=timedelta(days=settings.train_days),
        validation=timedelta(days=settings.validation_days),
        test=timedelta(days=settings.test_days),
        purge_bars=purge,
        embargo_bars=settings.embargo_bars,
        max_folds=settings.max_folds,
    )
    least = CONTEXT_BARS + horizon if settings.trains else 1  # one window and its outcome
    return cut_folds(rule, open_times, timeframe, start=start, stop=stop, longest_horizon_bars=horizon, least_bars=least)


def _fixed_models(settings: WalkForwardJob, timeframe: Timeframe) -> Models:
    """Return the models that no fold trains; what a fold will train is not there yet, and a random walk stands in its place."""
    found = find_models(
        settings.trading,
        timeframe,
        settings.database_url,
        model=RANDOM_WALK if settings.trains else settings.model,
        sssd=RANDOM_WALK if settings.trains_sssd else settings.sssd or SHIPPED,
        benchmarks=settings.benchmarks,
    )
    return Models(sources={name: found.sources[name] for name in found.seen}, seen=found.seen)


def _given_hashes(settings: WalkForwardJob) -> dict[str, str]:
    """Return what the models that no fold trains are made of, by what they are for."""
    named = {version: version for version in settings.trading.opponents.values()}
    if not settings.trains and settings.trading.use_ldm4ts:
        named[OWN] = _shipped(shipped_model(settings.timeframe), settings.model)
    if "sssd" in settings.benchmarks and not settings.trains_sssd:
        named[SSSD] = _shipped(shipped_opponent("sssd", settings.timeframe), settings.sssd or SHIPPED)
    found = {name: find_model(each, settings.database_url).folder for name, each in named.items() if each}
    return {name: RANDOM_WALK if folder is None else folder_hash(folder) for name, folder in found.items()}


def _shipped(folder: Path | None, name: str) -> str:
    """Return a model's name, with that of the shipped one's folder; empty where none is shipped."""
    return name if name != SHIPPED else "" if folder is None else str(folder)


def _seen(settings: WalkForwardJob, fixed: Models, folds: tuple[Fold, ...]) -> dict[str, datetime]:
    first = folds[0].test[0]
    late = {fixed.sources[name].name: moment for name, moment in fixed.seen.items() if moment is not None and moment > first}
    if late and not settings.force:
        name, moment = max(late.items(), key=lambda each: each[1])
        raise BadSetting(
            f"the first test begins at {first.isoformat()}, but {name} was trained and validated on candles up to "
            f"{moment.isoformat()}; allowed: tests from that moment on, or --force, and the report says in red that it is worth "
            "nothing"
        )
    return late


def _start_from(settings: WalkForwardJob, folds: tuple[Fold, ...]) -> Path | None:
    if settings.start_from is None:
        return None
    folder = shipped_model(settings.timeframe) if settings.start_from == SHIPPED else Path(settings.start_from).absolute()
    if folder is None:
        raise BadSetting(f"start_from: none is shipped for {settings.timeframe}; allowed: a model folder")
    seen = check_folder(folder, preset=settings.preset, timeframe=settings.timeframe).data_end
    if seen is None:
        raise BadSetting(f"start_from: {folder} doesn't say until when it has seen candles; allowed: a model with a data_end")
    fold = folds[0]
    if seen > fold.validation[0]:
        raise BadSetting(
            f"start_from: {folder} has seen candles up to {seen.isoformat()}, and the first fold validates from "
            f"{fold.validation[0].isoformat()} and tests from {fold.test[0].isoformat()}; allowed: an older model, or none"
        )
    return folder


def _check_fine_tuning(settings: WalkForwardJob, folds: tuple[Fold, ...]) -> None:
    if settings.refit != "fine-tune":
        return
    for before, fold in pairwise(folds):
        if before.validation[1] > fold.validation[0]:
            raise BadSetting(
                f"validation_days: found {settings.validation_days:g}, with test_days {settings.test_days:g}: fold {fold.number} "
                f"begins with the model of fold {before.number}, which has seen candles up to {before.validation[1].isoformat()}, "
                f"and validates from {fold.validation[0].isoformat()} on; allowed: a shorter validation, or longer tests"
            )


def _require_free_names(plan: WalkForwardPlan) -> None:
    """Raise BadSetting if there are models under the folds' names which no earlier part of this run can have made."""
    if has_begun(plan.settings) or not plan.settings.trains:
        return
    for fold in plan.folds:
        for folder in (plan.model_folder(fold), plan.sssd_folder(fold)):
            if folder.exists():
                raise BadSetting(f"name: a model named {folder.name} exists in {folder.parent}; choose another name")
