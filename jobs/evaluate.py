"""Measure a model against its opponents over a period that it has not seen: python -m jobs.evaluate."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from pydantic import AwareDatetime, Field
from rich.box import SIMPLE_HEAD
from rich.progress import TaskID
from rich.table import Table

from fxcast.cluster.batch_forecast import BatchForecasts, ForecastSource, WindowRequest, Workers, batch_forecast
from fxcast.cluster.forecast_cache import ForecastCache
from fxcast.cluster.local import ray_session
from fxcast.cluster.train_plan import candles_hash
from fxcast.config import JobSettings
from fxcast.data.store import CandleStore
from fxcast.data.windows import known_at
from fxcast.domain.forecast import CONTEXT_BARS, MAX_SAMPLES
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting
from fxcast.evaluation.assess import Samples, Windows, assess, averages
from fxcast.evaluation.online import ONLINE, calibrated_online
from fxcast.evaluation.report import Evaluation, columns, rows, sentences, write_report
from fxcast.evaluation.rolling import rolling_ends
from fxcast.evaluation.strata import volatility_terciles
from fxcast.models.config import preset_config
from fxcast.terminal import new_console, progress_bar
from jobs.entry import run
from jobs.evaluated_model import NamedModel, find_model

_BEFORE = timedelta(days=366)  # whose volatility says what is calm; a year sees every season


class EvaluateJob(JobSettings):
    """Measure a model against its opponents over a period that it has not seen; what was forecast before is not computed again."""

    model: str = Field(default="random-walk", description="model folder, version in the registry, or random-walk")
    against: tuple[str, ...] = Field(default=("random-walk",), description="opponents, named as the model")
    database_url: str = Field(default="sqlite:///runs/fxcast.db", description="database of the model registry")
    store: str = Field(default="runs/store", description="root of the candle store")
    symbols: tuple[str, ...] = Field(default=("EURUSD",), min_length=1, description="series to forecast")
    timeframe: str = Field(default="1h", description="length of a candle")
    start: AwareDatetime | None = Field(
        default=None, description="first forecast; by default where the training and validation data of all models end"
    )
    stop: AwareDatetime | None = Field(default=None, description="end of the last outcome; by default the end of the store")
    horizons: tuple[int, ...] | None = Field(default=None, description="minutes; by default all that every forecaster knows")
    step_bars: int = Field(default=5, ge=1, description="candles from one forecast to the next")
    num_samples: int = Field(default=50, ge=10, le=MAX_SAMPLES, description="Monte-Carlo samples of a forecast")
    online: bool = Field(
        default=False, description="calibrate the model's forecasts online, each by the outcomes known when it was made"
    )
    spread_pips: float = Field(default=1.0, ge=0, description="a mean nearer to the price than this says no direction")
    forecasts: str = Field(default="runs/forecasts", description="where forecasts are kept, a folder or an object store")
    actors: int | None = Field(default=None, ge=1, description="forecasters at work at once; by default one a CPU, or GPU share")
    gpus_each: float = Field(default=0.0, ge=0, description="GPUs of each of them")
    batch_windows: int = Field(default=16, ge=1, description="windows sampled at once; more take more memory")
    output: Path | None = Field(default=None, description="folder of the report; by default runs/evaluate/MODEL-TIMEFRAME-START")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPlan:
    """What to forecast and score; everything that can be refused has been.

    Attributes:
        sources: The model first.
        random_walks: Names of those that are the built-in random walk.
    """

    sources: tuple[ForecastSource, ...]
    random_walks: frozenset[str]
    windows: tuple[Windows, ...]
    start: datetime
    stop: datetime
    warnings: tuple[str, ...]


def plan_evaluation(settings: EvaluateJob) -> EvaluationPlan:
    """Find models, period and windows; needs no cluster.

    Raises:
        BadSetting: If a forecaster is unknown, its horizons don't fit, or the period overlaps what one was trained or validated on.
        BadModelFolder: If a model can't be loaded or is of another timeframe.
        BadCandles: If there are too few candles.
    """
    timeframe = Timeframe(settings.timeframe)
    named = [find_model(name, settings.database_url) for name in (settings.model, *settings.against)]
    start, stop = period_of(settings, named, timeframe)
    default = settings.horizons or preset_config("tiny", settings.timeframe).horizons_minutes
    first = named[0].source(timeframe, default)
    sources = (first, *(one.source(timeframe, first.horizons_minutes) for one in named[1:]))
    _require_different(sources)
    horizons = _common_horizons(sources, settings.horizons)
    windows = tuple(_windows(settings, symbol, timeframe, horizons, start, stop) for symbol in settings.symbols)
    return EvaluationPlan(
        sources=sources,
        random_walks=frozenset(source.name for source, one in zip(sources, named, strict=True) if one.folder is None),
        windows=windows,
        start=start,
        stop=stop,
        warnings=tuple(_warnings(named, windows, start)),
    )


def evaluate(
    settings: EvaluateJob, plan: EvaluationPlan, *, command: str = "", show: Callable[[str, int, int], None] | None = None
) -> tuple[Evaluation, dict[str, BatchForecasts]]:
    """Forecast on the connected cluster, and score; returns also where the forecasts of each forecaster came from.

    Raises:
        BadCandles: If too few windows have an outcome.
        StoreUnavailable: If stored forecasts can't be read or written.
    """
    requests = [WindowRequest(series=one.series, ends=one.ends) for one in plan.windows]
    forecasts: dict[str, BatchForecasts] = {}
    for source in plan.sources:
        forecasts[source.name] = batch_forecast(
            source,
            requests,
            timeframe=Timeframe(settings.timeframe),
            num_samples=settings.num_samples,
            cache=ForecastCache(settings.forecasts),
            workers=Workers(actors=settings.actors, gpus_each=settings.gpus_each, batch_windows=settings.batch_windows),
            show=None if show is None else partial(show, source.name),
        )

    def samples(source: ForecastSource, position: int) -> Samples:
        chosen = [source.horizons_minutes.index(minutes) for minutes in plan.windows[position].horizons_minutes]
        moves = forecasts[source.name].moves[position][:, :, chosen]
        return Samples(name=source.name, moves=moves, is_random_walk=source.name in plan.random_walks)

    model, *opponents = plan.sources

    def of_model(position: int) -> Samples:
        raw = samples(model, position)
        return calibrated_online(plan.windows[position], raw) if settings.online else raw

    results = tuple(
        assess(
            one,
            of_model(position),
            [samples(source, position) for source in opponents],
            spread_pips=settings.spread_pips,
        )
        for position, one in enumerate(plan.windows)
    )
    candles = [one.series.slice(int(one.ends[0]) - CONTEXT_BARS + 1, len(one.series)) for one in plan.windows]
    evaluation = Evaluation(
        model=model.name + ONLINE if settings.online else model.name,
        opponents=tuple(source.name for source in opponents),
        timeframe=settings.timeframe,
        start=plan.start,
        stop=plan.stop,
        step_bars=settings.step_bars,
        num_samples=settings.num_samples,
        warnings=plan.warnings,
        symbols=results,
        averages=averages(results),
        data_hash=candles_hash(candles),
        model_hashes={source.name: source.model_hash for source in plan.sources},
        command=command,
    )
    return evaluation, forecasts


def period_of(settings: EvaluateJob, named: Sequence[NamedModel], timeframe: Timeframe) -> tuple[datetime, datetime]:
    """Return start and stop of the evaluated period.

    Raises:
        BadSetting: If a model has seen a part of it, or there is no start to be found.
        BadCandles: If the store has no such series.
    """
    seen = max(((one.seen_until, one.name) for one in named if one.seen_until is not None), default=None, key=lambda each: each[0])
    start = settings.start or (None if seen is None else seen[0])
    if start is None:
        raise BadSetting(
            "start: found none, and nothing says what the models were trained on; allowed: a time as 2017-10-26T00:00:00Z"
        )
    if seen is not None and start < seen[0]:
        message = (
            f"start: found {start.isoformat()}, but {seen[1]} was trained and validated on candles up to {seen[0].isoformat()}; "
            "allowed: that moment or later"
        )
        raise BadSetting(message)
    stop = settings.stop or min(_last_close(settings, symbol, timeframe) for symbol in settings.symbols)
    if stop <= start:
        raise BadSetting(f"stop: found {stop.isoformat()}; allowed: later than the start, {start.isoformat()}")
    return start, stop


def _last_close(settings: EvaluateJob, symbol: str, timeframe: Timeframe) -> datetime:
    store = CandleStore(settings.store)
    span = store.span(symbol, timeframe)
    if span is None:
        store.read(symbol, timeframe)  # says what there is
        raise BadSetting(f"symbols: found {symbol}, of which the store holds no {timeframe} candle; allowed: one that it holds")
    return span[1]


def _windows(
    settings: EvaluateJob, symbol: str, timeframe: Timeframe, horizons: tuple[int, ...], start: datetime, stop: datetime
) -> Windows:
    series = known_at(CandleStore(settings.store).read(symbol, timeframe, start - _BEFORE, stop), stop)
    return Windows(
        series=series,
        ends=rolling_ends(series, start, stop, step_bars=settings.step_bars),
        horizons_minutes=horizons,
        step_bars=settings.step_bars,
        terciles=volatility_terciles(known_at(series, start).closes),
    )


def _require_different(sources: Sequence[ForecastSource]) -> None:
    names = [source.name for source in sources]
    for name in names[1:]:
        if names.count(name) > 1:
            raise BadSetting(f"against: found {name} twice among {', '.join(names)}; allowed: forecasters of different names")


def _common_horizons(sources: Sequence[ForecastSource], asked: tuple[int, ...] | None) -> tuple[int, ...]:
    common = sorted(set.intersection(*(set(source.horizons_minutes) for source in sources)))
    wanted = tuple(sorted(set(asked))) if asked is not None else tuple(common)
    if not wanted or not set(wanted) <= set(common):
        known = "; ".join(f"{source.name} knows {list(source.horizons_minutes)}" for source in sources)
        raise BadSetting(f"horizons: found {list(wanted)}; allowed: minutes that all know ({known})")
    return wanted


def _warnings(named: Sequence[NamedModel], windows: Sequence[Windows], start: datetime) -> list[str]:
    said = [
        f"Nothing says what {one.name} was trained on: if it has seen candles after {start:%Y-%m-%d %H:%M} UTC, "
        "these scores are worthless."
        for one in named
        if one.is_of_unknown_past
    ]
    lacking = [one.series.symbol for one in windows if one.terciles is None]
    if lacking:
        said.append(f"No scores by volatility regime for {', '.join(lacking)}: too few candles before the period say what is calm.")
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    given = sys.argv[1:] if arguments is None else arguments
    return run(lambda: _report(EvaluateJob.parse(given), shlex.join(["python", "-m", "jobs.evaluate", *given])))


def _report(settings: EvaluateJob, command: str) -> int:
    plan = plan_evaluation(settings)
    with ray_session(), progress_bar() as progress:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(f"forecasts of {name}", total=total)
            progress.update(tasks[name], completed=done)

        evaluation, forecasts = evaluate(settings, plan, command=command, show=show)
    console = new_console()
    for name, one in forecasts.items():
        console.print(f"{name}: {one.computed:,} forecasts computed, {one.reused:,} read", markup=False)
    period = f"{evaluation.start:%Y-%m-%d} to {evaluation.stop:%Y-%m-%d}"
    table = Table(
        title=f"{evaluation.model}, {period} (brackets: 95 % intervals; p: one-sided)", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name in columns(evaluation):
        table.add_column(name, justify="right")
    for row in rows(evaluation):
        table.add_row(*row)
    console.print(table)
    for sentence in (*evaluation.warnings, *sentences(evaluation)):
        console.print(sentence, markup=False)
    folder = settings.output or Path("runs/evaluate") / f"{evaluation.model}-{evaluation.timeframe}-{evaluation.start:%Y%m%d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(evaluation.to_dict(), indent=2) + "\n", encoding="utf-8")
    write_report(folder / "report.html", evaluation)
    console.print(f"written to {folder}: scores.json, report.html, pictures/", markup=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
