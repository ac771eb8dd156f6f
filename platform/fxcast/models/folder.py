"""A model on disk, in the diffusers manner: `model_index.json`, one sub-folder a component, `calibration.json`, `card.md`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, TypeVar, cast

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open

from fxcast.config import Settings, explain
from fxcast.errors import BadModelFolder
from fxcast.models.calibration import Calibration
from fxcast.models.conditioning import CandleConditioner
from fxcast.models.config import LDM4TSConfig, Preset
from fxcast.models.frozen import load_frozen
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.temporal_fusion import TemporalFusion

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_PARTS = ("vae", "unet", "conditioner", "temporal_fusion")
_FILES = (
    "model_index.json",
    "calibration.json",
    "card.md",
    "scheduler/scheduler_config.json",
    *(f"{part}/{name}" for part in _PARTS for name in ("config.json", _WEIGHTS)),
)


class ModelIndex(Settings):
    """Content of `model_index.json`."""

    pipeline: Literal["LDM4TSPipeline"] = "LDM4TSPipeline"
    fxcast_version: str
    model_version: str
    config: LDM4TSConfig


def save_pretrained(pipeline: LDM4TSPipeline, folder: Path, *, card: str, fxcast_version: str) -> None:
    """Write a model folder; weights as safetensors, everything else as JSON or text."""
    folder.mkdir(parents=True, exist_ok=True)
    pipeline.vae.save_pretrained(folder / "vae", safe_serialization=True)
    pipeline.unet.save_pretrained(folder / "unet", safe_serialization=True)
    pipeline.conditioner.save_pretrained(folder / "conditioner", safe_serialization=True)
    pipeline.fusion.save_pretrained(folder / "temporal_fusion", safe_serialization=True)
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    index = ModelIndex(fxcast_version=fxcast_version, model_version=pipeline.model_version, config=pipeline.config)
    (folder / "calibration.json").write_text(pipeline.calibration.model_dump_json(indent=2) + "\n")
    (folder / "card.md").write_text(card)
    (folder / "model_index.json").write_text(index.model_dump_json(indent=2) + "\n")


def check_folder(folder: Path, *, preset: Preset | None = None, timeframe: str | None = None) -> ModelIndex:
    """Check a model folder without loading its weights; that those are whole is checked too.

    Raises:
        BadModelFolder: If it is missing, incomplete or unreadable, or of another preset or timeframe.
    """
    if not folder.is_dir():
        raise BadModelFolder(str(folder), "there is no such folder")
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise BadModelFolder(str(folder), f"incomplete, missing {', '.join(missing)}")
    for part in _PARTS:
        try:
            with safe_open(folder / part / _WEIGHTS, framework="pt"):
                pass  # opening reads the header, and compares it with the file's length
        except SafetensorError as error:
            raise BadModelFolder(str(folder), f"component {part!r} can't be loaded: {error}") from error
    index = _read_json(folder, "model_index.json", ModelIndex)
    if preset is not None and index.config.preset != preset:
        raise BadModelFolder(str(folder), f"is of preset {index.config.preset!r}, expected {preset!r}")
    if timeframe is not None and index.config.timeframe != timeframe:
        raise BadModelFolder(str(folder), f"is for {index.config.timeframe} candles, expected {timeframe}")
    return index


def from_pretrained(folder: Path, *, preset: Preset | None = None, timeframe: str | None = None) -> LDM4TSPipeline:
    """Load a model folder.

    Raises:
        BadModelFolder: As `check_folder`, or if a component can't be loaded.
    """
    index = check_folder(folder, preset=preset, timeframe=timeframe)
    calibration = _read_json(folder, "calibration.json", Calibration)
    if tuple(horizon.horizon_minutes for horizon in calibration.horizons) != index.config.horizons_minutes:
        raise BadModelFolder(str(folder), "calibration.json has other horizons than model_index.json")
    return LDM4TSPipeline(
        config=index.config,
        vae=_module(folder, "vae", AutoencoderKL),
        unet=_module(folder, "unet", UNet2DConditionModel),
        scheduler=_scheduler(folder),
        conditioner=_module(folder, "conditioner", CandleConditioner),
        fusion=_module(folder, "temporal_fusion", TemporalFusion),
        calibration=calibration,
        model_version=index.model_version,
    )


ModuleT = TypeVar("ModuleT", bound=ModelMixin)
ModelT = TypeVar("ModelT", bound=BaseModel)


def _module(folder: Path, name: str, kind: type[ModuleT]) -> ModuleT:
    try:
        return load_frozen(kind, folder / name)
    except ValueError as error:
        raise BadModelFolder(str(folder), f"component {name!r} {error}") from error


def _scheduler(folder: Path) -> DPMSolverMultistepScheduler:
    try:
        return cast("DPMSolverMultistepScheduler", DPMSolverMultistepScheduler.from_pretrained(folder / "scheduler"))
    except Exception as error:  # diffusers raises many kinds; all of them mean a broken folder
        raise BadModelFolder(str(folder), f"component 'scheduler' can't be loaded: {error}") from error


def _read_json(folder: Path, name: str, model: type[ModelT]) -> ModelT:
    try:
        return model.model_validate(json.loads((folder / name).read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadModelFolder(str(folder), f"{name} is not JSON: {error}") from error
    except ValidationError as error:
        raise BadModelFolder(str(folder), f"{name}: {explain(error, model)}") from error
