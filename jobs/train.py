"""Train LDM4TS with Ray Train, calibrate it and register the model: python -m jobs.train."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, Field
from rich.progress import TaskID

from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.registry import ANY_SYMBOL, RegisteredModel, activate, register_model
from fxcast.cluster.local import ray_session
from fxcast.cluster.train_checkpoint import install_model
from fxcast.cluster.train_driver import TrainOutcome, train_model
from fxcast.cluster.train_plan import TrainPlan, plan_periods
from fxcast.config import JobSettings
from fxcast.data.store import CandleStore, absolute_location
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting
from fxcast.models.autoencoder import SHIPPED_TINY_VAE
from fxcast.models.config import Preset, preset_config
from fxcast.terminal import new_console, progress_bar
from fxcast.training.config import TrainingConfig
from jobs.entry import run


class TrainJob(JobSettings):
    """Train LDM4TS on candles of the store, with Ray Train; the same name again resumes a run that was stopped."""

    name: str | None = Field(
        default=None, description="name of the run and version of the model; by default preset, timeframe and time"
    )
    store: str = Field(default="runs/store", description="root of the candle store")
    symbols: tuple[str, ...] = Field(default=("EURUSD",), min_length=1, description="series to train on")
    timeframe: str = Field(default="1h", description="length of a candle")
    preset: Preset = Field(default="tiny", description="tiny (CPU) or paper (GPU)")
    validation_share: float = Field(default=0.17, gt=0, lt=1, description="share of the candles for early stopping and calibration")
    test_share: float = Field(default=0.18, gt=0, lt=1, description="share of the candles, the newest, that training never sees")
    until: AwareDatetime | None = Field(default=None, description="candles that open later do not exist for this run")
    autoencoder: str = Field(
        default=str(SHIPPED_TINY_VAE), description="folder or hub name of the VAE; paper: stabilityai/sd-vae-ft-mse"
    )
    text_encoder: str | None = Field(default=None, description="folder or hub name; without it, the packaged MiniLM")
    training: TrainingConfig = TrainingConfig()
    workers: int = Field(default=2, ge=1, description="Ray Train workers")
    use_gpu: bool = Field(default=False, description="one GPU a worker")
    models: Path = Field(
        default=Path("runs/models"), description="folder of the models; the new one is a sub-folder named as the run"
    )
    storage_path: str | None = Field(default=None, description="where Ray Train keeps checkpoints; by default beside the models")
    database_url: str = Field(default="sqlite:///runs/fxcast.db", description="database of the model registry")


def train(settings: TrainJob) -> RegisteredModel:
    """Plan the periods, train on the connected cluster, and register and activate the model.

    Raises:
        BadCandles: If there are too few candles.
        BadSetting: If a model of that name exists, or a run of that name with another plan.
        BadSetup: If the database is not at the newest schema, or the packaged text encoder is not installed.
        BadModelFolder: If the autoencoder or the text encoder can't be loaded, or the autoencoder is not the preset's.
    """
    database = open_database(settings.database_url)
    plan = plan_training(settings)
    folder = settings.models / plan.name
    if folder.exists():
        raise BadSetting(f"name: a model named {plan.name} exists in {settings.models}; choose another name")
    with progress_bar() as progress:
        tasks: dict[str, TaskID] = {}
        waiting = progress.add_task("starting workers", total=1)

        def show(stage: str, done: int, total: int) -> None:
            progress.update(waiting, completed=1)
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        outcome = train_model(plan, show)
    install_model(outcome.checkpoint, folder, preset=settings.preset, timeframe=settings.timeframe)
    model = _registered(plan, outcome, folder)
    register_model(database, model)
    activate(database, model.version)
    return model


def plan_training(settings: TrainJob) -> TrainPlan:
    """Return the run that the settings ask for; folders in it are found from every process of this machine.

    Raises:
        BadCandles: If the first symbol has too few candles to split.
    """
    config = preset_config(settings.preset, settings.timeframe)
    series = CandleStore(settings.store).read(settings.symbols[0], Timeframe(settings.timeframe), stop=settings.until)
    train_period, validation_period, _ = plan_periods(
        series, config, validation_share=settings.validation_share, test_share=settings.test_share
    )
    name = settings.name or f"ldm4ts-{settings.preset}-{settings.timeframe}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return TrainPlan(
        name=name,
        store=absolute_location(settings.store),
        symbols=settings.symbols,
        train=train_period,
        validation=validation_period,
        model=config,
        training=settings.training,
        autoencoder=_absolute_if_folder(settings.autoencoder),
        text_encoder=None if settings.text_encoder is None else _absolute_if_folder(settings.text_encoder),
        storage_path=absolute_location(settings.storage_path or settings.models.absolute().parent / "train"),
        workers=settings.workers,
        use_gpu=settings.use_gpu,
    )


def _absolute_if_folder(source: str) -> str:
    return str(Path(source).absolute()) if Path(source).is_dir() else source  # else a hub name, or nothing: refused later


def _registered(plan: TrainPlan, outcome: TrainOutcome, folder: Path) -> RegisteredModel:
    return RegisteredModel(
        version=plan.name,
        preset=plan.model.preset,
        symbol=plan.symbols[0] if len(plan.symbols) == 1 else ANY_SYMBOL,
        timeframe=plan.model.timeframe,
        folder=folder.absolute(),
        config=plan.model_dump(mode="json"),
        data_hash=outcome.data_hash,
        data_start=plan.train[0],
        data_end=plan.validation[1],
        metrics={name: value for name, value in outcome.metrics.items() if isinstance(value, str | int | float)},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _report(TrainJob.parse(arguments)))


def describe(model: RegisteredModel, training: TrainingConfig) -> list[str]:
    """Say in a few lines what came of a training, and whether time cut it short."""
    names = ("step", "stopped_by", "best_loss", "seconds")
    lines = [
        f"model {model.version} in {model.folder}",
        ", ".join(f"{name} {model.metrics[name]}" for name in names if name in model.metrics),
    ]
    if model.metrics.get("stopped_by") == "time":
        lines.append(
            f"time was up at step {model.metrics['step']} of {training.steps}: training.max_seconds is {training.max_seconds:g}, "
            "and more may give a better model"
        )
    return lines


def _report(settings: TrainJob) -> int:
    with ray_session(num_cpus=max(2, settings.workers)):
        model = train(settings)
    console = new_console()
    for line in describe(model, settings.training):
        console.print(line, markup=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
