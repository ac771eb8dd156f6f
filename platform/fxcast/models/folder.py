"""A model on disk, in the diffusers manner: `model_index.json`, one sub-folder a component, `calibration.json`, `card.md`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from fxcast.errors import BadModelFolder
from fxcast.models.calibration import CalibrationFile
from fxcast.models.conditioning import CandleConditioner
from fxcast.models.config import LDM4TSConfig, Preset
from fxcast.models.index import ModelIndex, check_folder, read_json
from fxcast.models.parts import load_part, load_scheduler
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.temporal_fusion import TemporalFusion
from fxcast.models.width import WidthNetwork


def save_pretrained(
    pipeline: LDM4TSPipeline, folder: Path, *, card: str, fxcast_version: str, data_end: datetime | None = None
) -> None:
    """Write a model folder; weights as safetensors, everything else as JSON or text.

    Args:
        pipeline: Its timeframe becomes the folder's main one.
        data_end: Where the candles of training and validation end, aware; what evaluates the model refuses earlier ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pipeline.vae.save_pretrained(folder / "vae", safe_serialization=True)
    pipeline.unet.save_pretrained(folder / "unet", safe_serialization=True)
    pipeline.conditioner.save_pretrained(folder / "conditioner", safe_serialization=True)
    pipeline.fusion.save_pretrained(folder / "temporal_fusion", safe_serialization=True)
    pipeline.width.save_pretrained(folder / "width", safe_serialization=True)
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    index = ModelIndex(
        fxcast_version=fxcast_version, model_version=pipeline.model_version, data_end=data_end, config=pipeline.config
    )
    calibrations = CalibrationFile.of(pipeline.calibration, pipeline.other_calibrations)
    (folder / "calibration.json").write_text(calibrations.model_dump_json(indent=2) + "\n")
    (folder / "card.md").write_text(card)
    (folder / "model_index.json").write_text(index.model_dump_json(indent=2) + "\n")


def from_pretrained(folder: Path, *, preset: Preset | None = None, timeframe: str | None = None) -> LDM4TSPipeline:
    """Load a model folder.

    Args:
        timeframe: Which of the timeframes that the model was trained on to forecast; by default its main one.

    Raises:
        BadModelFolder: As `check_folder`, or if a component can't be loaded.
    """
    index = check_folder(folder, preset=preset, timeframe=timeframe)
    calibrations = read_json(folder, "calibration.json", CalibrationFile)
    _check_calibrations(folder, calibrations, index.config)
    pipeline = LDM4TSPipeline(
        config=index.config,
        vae=load_part(folder, "vae", AutoencoderKL),
        unet=load_part(folder, "unet", UNet2DConditionModel),
        scheduler=load_scheduler(folder),
        conditioner=load_part(folder, "conditioner", CandleConditioner),
        fusion=load_part(folder, "temporal_fusion", TemporalFusion),
        width=load_part(folder, "width", WidthNetwork),
        calibration=calibrations.main,
        other_calibrations=calibrations.also_timeframes,
        model_version=index.model_version,
    )
    return pipeline if timeframe is None else pipeline.at(timeframe)


def _check_calibrations(folder: Path, calibrations: CalibrationFile, config: LDM4TSConfig) -> None:
    unknown = sorted(calibrations.also_timeframes.keys() - set(config.also_timeframes))
    if unknown:
        raise BadModelFolder(str(folder), f"calibration.json has {', '.join(unknown)}, which model_index.json has not")
    for timeframe, calibration in {config.timeframe: calibrations.main, **calibrations.also_timeframes}.items():
        if tuple(horizon.horizon_minutes for horizon in calibration.horizons) != config.at(timeframe).horizons_minutes:
            raise BadModelFolder(str(folder), f"calibration.json has other horizons than model_index.json for {timeframe} candles")
