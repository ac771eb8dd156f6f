"""The models of a fold: LDM4TS and its opponent SSSD, trained by Ray Train on the fold's periods and nothing later."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fxcast.adapters.storage.database import open_database, revision_of
from fxcast.adapters.storage.registry import ANY_SYMBOL, RegisteredModel, register_model
from fxcast.backtest.folds import Fold
from fxcast.cluster.batch_forecast import folder_hash
from fxcast.cluster.train_checkpoint import install_model
from fxcast.cluster.train_driver import train_model
from fxcast.cluster.train_plan import TrainPlan
from fxcast.cluster.train_sssd import SSSDPlan, train_sssd
from fxcast.data.store import absolute_location
from fxcast.errors import BadModelFolder, BadSetting
from fxcast.models.baselines.sssd_config import SSSDConfig
from fxcast.models.config import preset_config
from jobs.backtest_models import OWN, SSSD
from jobs.train import TrainJob, plan_training
from jobs.walk_forward_files import mark_trained, trained
from jobs.walk_forward_plan import WalkForwardPlan
from jobs.walk_forward_settings import WalkForwardJob

Show = Callable[[str, int, int], None]

_AS_GIVEN = (
    *("preset", "unet_channels", "condition_width", "sampler_steps", "autoencoder", "text_encoder", "training"),
    *("symbols", "timeframe", "store", "use_gpu", "cpus_per_worker", "models"),
)


def train_fold(
    plan: WalkForwardPlan, fold: Fold, start_from: Path | None, show: Show, *, registers: bool = True
) -> Mapping[str, str]:
    """Train what a fold lacks, on the connected cluster; return the hashes of its models by what they are for.

    A training that was stopped goes on from its last checkpoint; models that are there are not trained again.

    Args:
        registers: Put them into the registry, if there is one.

    Raises:
        BadCandles: If a period has too few candles.
        BadSetting: If a training of the fold was begun with other settings.
        BadModelFolder: If the autoencoder, the text encoder or the model that the fold begins with can't be loaded.
        Unavailable: If workers died too often, or the storage does not answer; the same command goes on.
    """
    if not plan.settings.trains:
        return {}
    folder = plan.fold_folder(fold)
    wanted = trained_models(plan, fold)
    if wanted is not None:
        return wanted
    _train_ldm4ts(plan, fold, start_from, show, registers=registers)
    if plan.settings.trains_sssd:
        _train_sssd(plan, fold, show, registers=registers)
    made = _hashes(plan, fold)
    mark_trained(folder, made)
    return made


def trained_models(plan: WalkForwardPlan, fold: Fold) -> dict[str, str] | None:
    """Return the hashes of the models that a fold has trained, None if one is missing or is not what was trained."""
    if not plan.settings.trains:
        return {}
    known = trained(plan.fold_folder(fold))
    return known if known and known == _hashes(plan, fold) else None


def _hashes(plan: WalkForwardPlan, fold: Fold) -> dict[str, str]:
    folders = {OWN: plan.model_folder(fold), **({SSSD: plan.sssd_folder(fold)} if plan.settings.trains_sssd else {})}
    return {name: folder_hash(folder) if folder.is_dir() else "" for name, folder in folders.items()}


def _train_ldm4ts(plan: WalkForwardPlan, fold: Fold, start_from: Path | None, show: Show, *, registers: bool) -> None:
    settings, folder = plan.settings, plan.model_folder(fold)
    training = _training_plan(plan, fold, start_from)
    outcome = train_model(training, show)
    if outcome.model is None:
        raise BadModelFolder(str(folder), "the training run ended without a model")
    _remove(folder)
    install_model(outcome.model, folder, preset=settings.preset, timeframe=settings.timeframe)
    if registers:
        _register(settings, folder, training, settings.preset, outcome.data_hash, outcome.metrics)


def _training_plan(plan: WalkForwardPlan, fold: Fold, start_from: Path | None) -> TrainPlan:
    settings = plan.settings
    job = TrainJob(
        **{name: getattr(settings, name) for name in _AS_GIVEN},
        name=plan.model_name(fold),
        start_from=None if start_from is None else str(start_from),
        validation_from=fold.validation[0],
        test_from=fold.test[0],
        until=fold.test[0],
        workers=settings.train_workers,
        resources_per_worker={"GPU": settings.gpus_per_worker} if settings.use_gpu else {},
        storage_path=_storage(settings),
    )
    # The job's periods begin with the store and have the shortest purge; the fold's may begin later, and be further apart.
    return plan_training(job).model_copy(update={"train": fold.train, "validation": fold.validation})


def _train_sssd(plan: WalkForwardPlan, fold: Fold, show: Show, *, registers: bool) -> None:
    settings, folder = plan.settings, plan.sssd_folder(fold)
    shape = settings.sssd_options.model_dump(exclude={"calibrate"})
    horizons = preset_config(settings.preset, settings.timeframe).horizons_minutes
    training = SSSDPlan(
        name=folder.name,
        store=absolute_location(settings.store),
        symbols=settings.symbols,
        train=fold.train,
        validation=fold.validation,
        model=SSSDConfig(timeframe=settings.timeframe, horizons_minutes=horizons, **shape),
        training=settings.sssd_training or settings.training,
        calibrate=settings.sssd_options.calibrate,
        storage_path=_storage(settings),
        workers=settings.fewest_workers,
        use_gpu=settings.use_gpu,
    )
    outcome = train_sssd(training, show)
    _remove(folder)
    install_model(outcome.checkpoint, folder, timeframe=settings.timeframe)
    if registers:
        _register(settings, folder, training, "sssd", outcome.data_hash, outcome.metrics)


def _storage(settings: WalkForwardJob) -> str:
    return absolute_location(settings.storage_path or settings.folder.absolute() / "train")


def _remove(folder: Path) -> None:
    """Remove a model that the run installed and was stopped before it said so: names of other models were refused at its start."""
    if folder.exists():
        shutil.rmtree(folder)


def _register(
    settings: WalkForwardJob,
    folder: Path,
    training: TrainPlan | SSSDPlan,
    preset: str,
    data_hash: str,
    metrics: Mapping[str, Any],
) -> None:
    """Put a fold's model into the registry, if there is one; it is not put to use, for newer candles make better ones."""
    if revision_of(settings.database_url) is None:
        return
    model = RegisteredModel(
        version=training.name,
        preset=preset,
        symbol=settings.symbols[0] if len(settings.symbols) == 1 else ANY_SYMBOL,
        timeframe=settings.timeframe,
        folder=folder.absolute(),
        config=training.model_dump(mode="json"),
        data_hash=data_hash,
        data_start=training.train[0],
        data_end=training.validation[1],
        metrics={name: value for name, value in metrics.items() if isinstance(value, str | int | float)},
    )
    try:
        register_model(open_database(settings.database_url), model)
    except BadSetting as error:
        raise BadSetting(f"name: {error}; choose another name for the walk-forward") from error
