"""What a model folder says of itself, read without torch: for those that only pass it on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, Field, ValidationError
from safetensors import SafetensorError, safe_open

from fxcast.config import Settings, explain
from fxcast.errors import BadModelFolder
from fxcast.models.config import LDM4TSConfig, Preset

PARTS = ("vae", "unet", "conditioner", "temporal_fusion", "width")
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_FILES = (
    "model_index.json",
    "calibration.json",
    "card.md",
    "scheduler/scheduler_config.json",
    *(f"{part}/{name}" for part in PARTS for name in ("config.json", _WEIGHTS)),
)


class ModelIndex(Settings):
    """Content of `model_index.json`."""

    pipeline: Literal["LDM4TSPipeline"] = "LDM4TSPipeline"
    fxcast_version: str
    model_version: str
    data_end: AwareDatetime | None = Field(default=None, description="where the candles of training and validation end")
    config: LDM4TSConfig


def check_folder(folder: Path, *, preset: Preset | None = None, timeframe: str | None = None) -> ModelIndex:
    """Check a model folder without loading its weights; that those are whole is checked too.

    Args:
        timeframe: That the model must have been trained on.

    Raises:
        BadModelFolder: If it is missing, incomplete or unreadable, or of another preset or timeframe.
    """
    if not folder.is_dir():
        raise BadModelFolder(str(folder), "there is no such folder")
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise BadModelFolder(str(folder), f"incomplete, missing {', '.join(missing)}")
    for part in PARTS:
        try:
            with safe_open(folder / part / _WEIGHTS, framework="numpy"):
                pass  # opening reads the header, and compares it with the file's length
        except SafetensorError as error:
            raise BadModelFolder(str(folder), f"component {part!r} can't be loaded: {error}") from error
    index = read_json(folder, "model_index.json", ModelIndex)
    if preset is not None and index.config.preset != preset:
        raise BadModelFolder(str(folder), f"is of preset {index.config.preset!r}, expected {preset!r}")
    if timeframe is not None and timeframe not in index.config.timeframes:
        raise BadModelFolder(str(folder), f"is for {', '.join(index.config.timeframes)} candles, expected {timeframe}")
    return index


ModelT = TypeVar("ModelT", bound=BaseModel)


def read_json(folder: Path, name: str, model: type[ModelT]) -> ModelT:
    """Read one of a model folder's JSON files.

    Raises:
        BadModelFolder: If it is not JSON, or holds an unknown key or a bad value.
    """
    try:
        return model.model_validate(json.loads((folder / name).read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadModelFolder(str(folder), f"{name} is not JSON: {error}") from error
    except ValidationError as error:
        raise BadModelFolder(str(folder), f"{name}: {explain(error, model)}") from error
