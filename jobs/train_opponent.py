"""Fit one of the forecasters that LDM4TS is measured against: python -m jobs.train_opponent --kind garch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import Field
from rich.progress import TaskID

from fxcast.adapters.storage.database import Database, open_database
from fxcast.adapters.storage.registry import ANY_SYMBOL, RegisteredModel, activate, register_model
from fxcast.cluster.local import ray_session
from fxcast.cluster.train_checkpoint import install_model
from fxcast.cluster.train_plan import candles_hash
from fxcast.cluster.train_sssd import SSSDPlan, train_sssd
from fxcast.config import Settings
from fxcast.data.store import CandleStore, absolute_location
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting
from fxcast.models.baselines.card import opponent_card
from fxcast.models.baselines.folder import FittedWalk, OpponentPipeline, Seen, save_opponent
from fxcast.models.baselines.garch import Garch, Innovations
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.baselines.sssd_config import SSSDConfig
from fxcast.models.baselines.time_of_day import TimeOfDayWalk
from fxcast.models.config import preset_config
from fxcast.terminal import new_console, progress_bar
from fxcast.training.config import TrainingConfig
from jobs.entry import run
from jobs.periods import PeriodSettings

Kind = Literal["random-walk", "time-of-day", "garch", "sssd"]
_PIPELINES: Mapping[Kind, OpponentPipeline] = {
    "random-walk": "RandomWalk",
    "time-of-day": "TimeOfDayWalk",
    "garch": "Garch",
    "sssd": "SSSD",
}


class SSSDOptions(Settings):
    """SSSD alone."""

    channels: int = Field(default=48, ge=8, description="width of the network")
    blocks: int = Field(default=4, ge=1, description="residual blocks, each with two state spaces")
    states: int = Field(default=16, ge=1, description="complex numbers in the state of a channel")
    sampler_steps: int = Field(default=20, ge=1, description="steps of DPM-Solver++")
    knows_window: bool = Field(default=True, description="is told the clock and the recent volatility, as LDM4TS is")
    calibrate: bool = Field(default=True, description="fit the calibration of LDM4TS on its samples too; without it, they stay raw")


class TrainOpponentJob(PeriodSettings):
    """Fit an opponent on the training period that LDM4TS gets for the same options, and register it.

    A random walk is fitted to nothing, time of day and GARCH to the training period. SSSD is trained with Ray Train, and the same
    name again resumes a run that was stopped.
    """

    kind: Kind = Field(description="random-walk (EWMA), time-of-day, garch or sssd")
    name: str | None = Field(default=None, description="version of the model; by default kind, timeframe and time")
    use_validation: bool = Field(
        default=False, description="time-of-day and garch: fit on the validation period too, which LDM4TS calibrates on"
    )
    innovations: Innovations = Field(default="t", description="garch: Student's t or the normal law")
    sssd: SSSDOptions = SSSDOptions()
    training: TrainingConfig = TrainingConfig()
    workers: int = Field(default=2, ge=1, description="sssd: Ray Train workers")
    use_gpu: bool = Field(default=False, description="sssd: one GPU a worker")
    models: Path = Field(default=Path("runs/models"), description="folder of the models; the new one is a sub-folder named as it")
    storage_path: str | None = Field(
        default=None, description="sssd: where Ray Train keeps checkpoints; by default beside the models"
    )
    database_url: str = Field(default="sqlite:///runs/fxcast.db", description="database of the model registry")
    activate: bool = Field(default=False, description="put it to use for its symbol and timeframe, in place of LDM4TS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Periods:
    """Half-open ranges of open times, as LDM4TS gets them for the same options."""

    train: tuple[datetime, datetime]
    validation: tuple[datetime, datetime]


def train_opponent(settings: TrainOpponentJob) -> RegisteredModel:
    """Fit, write the folder, and register the model; SSSD needs a connected cluster.

    Raises:
        BadCandles: If there are too few candles.
        BadSetting: If a model of that name exists, or a run of that name with another plan.
        BadSetup: If the database is not at the newest schema.
    """
    database = open_database(settings.database_url)
    name = settings.name or f"{settings.kind}-{settings.timeframe}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    folder = settings.models / name
    if folder.exists():
        raise BadSetting(f"name: a model named {name} exists in {settings.models}; choose another name")
    periods = _periods(settings)
    model = _train_sssd(settings, name, folder, periods) if settings.kind == "sssd" else _fit_walk(settings, name, folder, periods)
    _register(database, model, put_to_use=settings.activate)
    return model


def _periods(settings: TrainOpponentJob) -> Periods:
    config = preset_config("tiny", settings.timeframe)  # horizons, and with them the purge, are the same in every preset
    train, validation, _ = settings.periods(settings.first_series(), config)
    return Periods(train=train, validation=validation)


def _fit_walk(settings: TrainOpponentJob, name: str, folder: Path, periods: Periods) -> RegisteredModel:
    timeframe, horizons = Timeframe(settings.timeframe), preset_config("tiny", settings.timeframe).horizons_minutes
    store = CandleStore(settings.store)
    start, end = periods.train[0], (periods.validation if settings.use_validation else periods.train)[1]
    figures: dict[str, float | str | None] = {}
    walk: FittedWalk
    if settings.kind == "random-walk":
        walk, seen, end, data_hash = RandomWalk(timeframe=timeframe, horizons_minutes=horizons), None, start, candles_hash(())
    else:
        series = [store.read(symbol, timeframe, start=start, stop=end) for symbol in settings.symbols]
        data_hash = candles_hash(series)
        seen = Seen(symbols=settings.symbols, start=start, end=end, data_hash=data_hash)
        if settings.kind == "garch":
            walk = Garch.fit(series, horizons, innovations=settings.innovations)
            for symbol, law in walk.by_symbol.items():
                figures |= {f"{symbol} {what}": value for what, value in law.model_dump().items()}
        else:
            walk = TimeOfDayWalk.fit_series(series, horizons)
    walk = replace(walk, model_version=name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{name}.") as temporary:  # the folder appears whole or not at all
        card = opponent_card(walk, _PIPELINES[settings.kind], seen, figures)
        save_opponent(walk, Path(temporary) / "model", seen=seen, card=card)
        (Path(temporary) / "model").rename(folder)
    return _registered(
        settings,
        name,
        folder,
        data=(start, end, data_hash),
        config=_options(settings, "innovations", "use_validation"),
        metrics=figures,
    )


def _train_sssd(settings: TrainOpponentJob, name: str, folder: Path, periods: Periods) -> RegisteredModel:
    shape = settings.sssd.model_dump(exclude={"calibrate"})
    horizons = preset_config("tiny", settings.timeframe).horizons_minutes
    plan = SSSDPlan(
        name=name,
        store=absolute_location(settings.store),
        symbols=settings.symbols,
        train=periods.train,
        validation=periods.validation,
        model=SSSDConfig(timeframe=settings.timeframe, horizons_minutes=horizons, **shape),
        training=settings.training,
        calibrate=settings.sssd.calibrate,
        storage_path=absolute_location(settings.storage_path or settings.models.absolute().parent / "train"),
        workers=settings.workers,
        use_gpu=settings.use_gpu,
    )
    with progress_bar() as progress:
        tasks: dict[str, TaskID] = {}
        waiting = progress.add_task("starting workers", total=1)

        def show(stage: str, done: int, total: int) -> None:
            progress.update(waiting, completed=1)
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        outcome = train_sssd(plan, show)
    install_model(outcome.checkpoint, folder, timeframe=settings.timeframe)
    metrics = {key: value for key, value in outcome.metrics.items() if isinstance(value, str | int | float)}
    data = (plan.train[0], plan.validation[1], outcome.data_hash)
    return _registered(settings, name, folder, data=data, config=plan.model_dump(mode="json"), metrics=metrics)


def _options(settings: TrainOpponentJob, *names: str) -> dict[str, Any]:
    always = ("kind", "symbols", "timeframe", "validation_share", "test_share", "until")
    return settings.model_dump(mode="json", include={*always, *names})


def _registered(
    settings: TrainOpponentJob,
    name: str,
    folder: Path,
    *,
    data: tuple[datetime, datetime, str],
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> RegisteredModel:
    return RegisteredModel(
        version=name,
        preset=settings.kind,
        symbol=settings.symbols[0] if len(settings.symbols) == 1 else ANY_SYMBOL,
        timeframe=settings.timeframe,
        folder=folder.absolute(),
        config=config,
        data_hash=data[2],
        data_start=data[0],
        data_end=data[1],
        metrics=metrics,
    )


def _register(database: Database, model: RegisteredModel, *, put_to_use: bool) -> None:
    register_model(database, model)
    if put_to_use:
        activate(database, model.version)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _report(TrainOpponentJob.parse(arguments)))


def _report(settings: TrainOpponentJob) -> int:
    if settings.kind == "sssd":
        with ray_session(num_cpus=max(2, settings.workers)):
            model = train_opponent(settings)
    else:
        model = train_opponent(settings)
    console = new_console()
    console.print(
        f"model {model.version} in {model.folder}" + ("" if settings.activate else " (registered, not activated)"), markup=False
    )
    if model.metrics:
        console.print(", ".join(f"{name} {value}" for name, value in model.metrics.items()), markup=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
