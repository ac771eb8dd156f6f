"""Train LDM4TS with Ray Train, calibrate it and register the model: python -m jobs.train."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError
from rich.progress import TaskID

from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.registry import ANY_SYMBOL, RegisteredModel, activate, register_model
from fxcast.cluster.local import ray_session
from fxcast.cluster.train_checkpoint import install_model
from fxcast.cluster.train_driver import TrainOutcome, train_model
from fxcast.cluster.train_plan import WORKERS_PATTERN, TrainPlan
from fxcast.cluster.train_start import check_start
from fxcast.cluster.train_storage import Stage
from fxcast.config import explain
from fxcast.data.store import CandleStore, absolute_location
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting
from fxcast.models.autoencoder import SHIPPED_TINY_VAE
from fxcast.models.config import LDM4TSConfig, Preset, preset_config
from fxcast.models.index import check_folder
from fxcast.models.shipped import shipped_model
from fxcast.terminal import new_console, progress_bar
from fxcast.training.config import TrainingConfig
from jobs.entry import run
from jobs.periods import PeriodSettings


class TrainJob(PeriodSettings):
    """Train LDM4TS on candles of the store, with Ray Train; the same name again resumes a run that was stopped."""

    name: str | None = Field(
        default=None, description="name of the run and version of the model; by default preset, timeframe and time"
    )
    also_timeframes: tuple[str, ...] = Field(
        default=(),
        description="others that the same model learns from what lies before the validation period, as many candles ahead",
    )
    preset: Preset = Field(default="tiny", description="tiny (CPU) or paper (GPU)")
    unet_channels: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="channels of the U-Net's levels; by default the preset's"
    )
    condition_width: int | None = Field(default=None, ge=4, multiple_of=4, description="of its conditions; by default the preset's")
    sampler_steps: int | None = Field(default=None, ge=1, description="denoising steps of a forecast; by default the preset's")
    autoencoder: str = Field(
        default=str(SHIPPED_TINY_VAE), description="folder or hub name of the VAE; paper: stabilityai/sd-vae-ft-mse"
    )
    start_from: str | None = Field(
        default=None,
        description="model folder whose weights the run begins with, or shipped: the one that fxcast ships for the timeframe; "
        "sizes and known pairs are that model's",
    )
    text_encoder: str | None = Field(default=None, description="folder or hub name; without it, the packaged MiniLM")
    training: TrainingConfig = TrainingConfig()
    stage: Stage | Literal["all"] = Field(
        default="all", description="do one stage alone: width, windows, denoiser, fusion or calibration; by default those not done"
    )
    again: bool = Field(default=False, description="do the stage, and those that follow from it, afresh")
    workers: Annotated[str, BeforeValidator(str)] = Field(
        default="2",
        pattern=f"^{WORKERS_PATTERN}$",
        description="Ray Train workers: a number, or MIN:MAX to take what the cluster has",
    )
    use_gpu: bool = Field(default=False, description="one GPU a worker")
    cpus_per_worker: float = Field(default=1.0, gt=0, description="CPUs that Ray reserves for a worker")
    resources_per_worker: dict[str, float] = Field(
        default_factory=dict, description="other resources of a worker, as Ray names them"
    )
    threads_per_worker: int = Field(default=1, ge=1, description="torch threads of a worker")
    max_failures: int = Field(default=2, ge=-1, description="times that workers may die before the run fails; -1 is no limit")
    keep_checkpoints: int = Field(default=2, ge=1, description="checkpoints that are kept: the best ones, and always the last")
    models: Path = Field(
        default=Path("runs/models"), description="folder of the models; the new one is a sub-folder named as the run"
    )
    storage_path: str | None = Field(
        default=None,
        description="where windows, stages and checkpoints are kept, a folder or URI; by default beside the models",
    )
    database_url: str = Field(default="sqlite:///runs/fxcast.db", description="database of the model registry")


def train(settings: TrainJob) -> RegisteredModel:
    """Plan the periods, do the stages that are not done on the connected cluster, and register and activate the model.

    Raises:
        BadCandles: If there are too few candles.
        BadSetting: If a model of that name exists, or a run of that name with another plan, or the stage asked for is not the last.
        BadSetup: If the database is not at the newest schema, or the packaged text encoder is not installed.
        BadModelFolder: If the autoencoder or the text encoder can't be loaded, or the autoencoder is not the preset's.
    """
    model = do_stages(settings)
    if model is None:
        raise BadSetting(f"stage: found {settings.stage}, after which there is no model yet; allowed: all, calibration")
    return model


def do_stages(settings: TrainJob) -> RegisteredModel | None:
    """Do what the settings ask for, as `train`; return the model, None if the stage asked for is not the last one."""
    database = open_database(settings.database_url)
    plan = plan_training(settings)
    folder = settings.models / plan.name
    makes_model = settings.stage in ("all", "calibration")
    if makes_model and folder.exists():
        raise BadSetting(f"name: a model named {plan.name} exists in {settings.models}; choose another name")
    with progress_bar() as progress:
        tasks: dict[str, TaskID] = {}
        waiting = progress.add_task("starting workers", total=1)

        def show(stage: str, done: int, total: int) -> None:
            progress.update(waiting, completed=1)
            if stage not in tasks:  # what an earlier run has done says nothing about the time left
                tasks[stage] = progress.add_task(stage, total=total, completed=done)
            progress.update(tasks[stage], completed=done)

        only = None if settings.stage == "all" else settings.stage
        outcome = train_model(plan, show, stage=only, again=settings.again)
    if not makes_model or outcome.model is None:
        return None
    install_model(outcome.model, folder, preset=settings.preset, timeframe=settings.timeframe)
    model = _registered(plan, outcome, folder)
    register_model(database, model)
    activate(database, model.version)
    return model


def plan_training(settings: TrainJob) -> TrainPlan:
    """Return the run that the settings ask for; folders in it are found from every process of this machine.

    Raises:
        BadCandles: If the first symbol has too few candles to split.
        BadSetting: If a symbol or a timeframe is named twice.
    """
    if len(set(settings.symbols)) < len(settings.symbols):
        raise BadSetting(f"symbols: found {', '.join(settings.symbols)}; allowed: each once")
    sizes = ("unet_channels", "condition_width", "sampler_steps")
    chosen = {name: value for name in sizes if (value := getattr(settings, name)) is not None}
    start = _start_of(settings)
    config = _model_config(settings, start)
    if start is None:
        config = config.model_copy(update=chosen)
    else:
        differing = [f"{name} {value}" for name, value in chosen.items() if getattr(config, name) != value]
        if differing:
            raise BadSetting(f"start_from: {start} is of other sizes than {', '.join(differing)}; allowed: not to give them")
    train_period, validation_period, _ = settings.periods(settings.first_series(), config)
    if start is not None:
        check_start(start, validation_start=validation_period[0])
    name = settings.name or f"ldm4ts-{settings.preset}-{settings.timeframe}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return TrainPlan(
        name=name,
        store=absolute_location(settings.store),
        symbols=settings.symbols,
        train=train_period,
        validation=validation_period,
        model=config,
        training=settings.training,
        also_since=_also_since(settings),
        autoencoder=_absolute_if_folder(settings.autoencoder),
        start_from=None if start is None else str(start),
        text_encoder=None if settings.text_encoder is None else _absolute_if_folder(settings.text_encoder),
        storage_path=absolute_location(settings.storage_path or settings.models.absolute().parent / "train"),
        workers=str(settings.workers),
        use_gpu=settings.use_gpu,
        cpus_per_worker=settings.cpus_per_worker,
        resources_per_worker=settings.resources_per_worker,
        max_failures=settings.max_failures,
        keep_checkpoints=settings.keep_checkpoints,
        threads_per_worker=settings.threads_per_worker,
    )


def _model_config(settings: TrainJob, start: Path | None) -> LDM4TSConfig:
    others = settings.also_timeframes
    try:
        if start is None:
            return preset_config(settings.preset, settings.timeframe, settings.symbols, others)
        config = check_folder(start, preset=settings.preset, timeframe=settings.timeframe).config
        for name in others:  # the units of what it has learned are those of its timeframes
            check_folder(start, timeframe=name)
        return LDM4TSConfig.model_validate({**dict(config.at(settings.timeframe)), "also_timeframes": others})
    except ValidationError as error:
        raise BadSetting(explain(error, LDM4TSConfig)) from None


def _also_since(settings: TrainJob) -> datetime | None:
    """Return where the first of the other timeframes' candles opens; a series that is missing is refused later, by name."""
    store = CandleStore(settings.store)
    spans = [store.span(symbol, Timeframe(name)) for name in settings.also_timeframes for symbol in settings.symbols]
    return min((span[0] for span in spans if span is not None), default=None)


def _start_of(settings: TrainJob) -> Path | None:
    if settings.start_from != "shipped":
        return None if settings.start_from is None else Path(settings.start_from).absolute()
    shipped = shipped_model(settings.timeframe)
    if shipped is None:
        raise BadSetting(f"start_from: none is shipped for {settings.timeframe}; allowed: a model folder")
    return shipped


def _absolute_if_folder(source: str) -> str:
    return str(Path(source).absolute()) if Path(source).is_dir() else source  # else a hub name, or nothing: refused later


def _registered(plan: TrainPlan, outcome: TrainOutcome, folder: Path) -> RegisteredModel:
    """Return what the registry keeps of the model: under its main timeframe alone, whatever others it knows."""
    return RegisteredModel(
        version=plan.name,
        preset=plan.model.preset,
        symbol=plan.symbols[0] if len(plan.symbols) == 1 else ANY_SYMBOL,
        timeframe=plan.model.timeframe,
        folder=folder.absolute(),
        config=plan.model_dump(mode="json"),
        data_hash=outcome.data_hash,
        data_start=plan.data_start,
        data_end=plan.validation[1],
        metrics={name: value for name, value in outcome.metrics.items() if isinstance(value, str | int | float)},
    )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _report(TrainJob.parse(arguments)))


def describe(model: RegisteredModel, training: TrainingConfig) -> list[str]:
    """Say in a few lines what came of a training, and whether time cut it short."""
    names = ("step", "stopped_by", "best_step", "validation_crps_skill", "validation_coverage_90", "seconds")
    lines = [
        f"model {model.version} in {model.folder}",
        ", ".join(f"{name} {_short(model.metrics[name])}" for name in names if name in model.metrics),
    ]
    if model.metrics.get("stopped_by") == "time":
        lines.append(
            f"time was up at step {model.metrics['step']} of {training.steps}: training.max_seconds is {training.max_seconds:g}, "
            "and more may give a better model"
        )
    return lines


def _report(settings: TrainJob) -> int:
    most = plan_workers(settings.workers)
    with ray_session(num_cpus=max(2, most)):
        model = do_stages(settings)
    console = new_console()
    if model is None:
        console.print(f"stage {settings.stage} of run {settings.name} is done; python -m jobs.train goes on with what follows")
        return 0
    for line in describe(model, settings.training):
        console.print(line, markup=False)
    return 0


def plan_workers(workers: str) -> int:
    """Return how many workers there are at most."""
    return int(str(workers).rpartition(":")[2])


if __name__ == "__main__":
    raise SystemExit(main())
