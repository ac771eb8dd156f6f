"""What a folder says of the forecaster that it holds: `model_index.json` names its pipeline. Nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict

from fxcast.errors import BadModelFolder
from fxcast.models.baselines.folder import INDEX_FILE, OpponentPipeline, check_opponent
from fxcast.models.config import Preset
from fxcast.models.index import check_folder, read_json

LDM4TS = "LDM4TSPipeline"
PIPELINES: tuple[str, ...] = (LDM4TS, *get_args(OpponentPipeline))


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecasterSummary:
    """What a folder says of its forecaster, as one of its timeframes: the one that was asked for, or its main one."""

    pipeline: str
    model_version: str
    timeframe: str
    horizons_minutes: tuple[int, ...]
    timeframes: tuple[str, ...]  # all that it forecasts, the main one first


class _Named(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    pipeline: str
    config: Any = None


def check_forecaster(folder: Path, *, preset: Preset | None = None, timeframe: str | None = None) -> ForecasterSummary:
    """Check a folder of any forecaster without loading it.

    Args:
        preset: Only LDM4TS has presets: a folder of anything else is refused where one is asked for.
        timeframe: That it must forecast; by default its main one.

    Raises:
        BadModelFolder: If it is missing, incomplete, unreadable, of an unknown pipeline, or not what was asked for.
    """
    if _pipeline(folder) == LDM4TS:
        found = check_folder(folder, preset=preset, timeframe=timeframe)
        config = found.config if timeframe is None else found.config.at(timeframe)
        return ForecasterSummary(
            pipeline=found.pipeline,
            model_version=found.model_version,
            timeframe=config.timeframe,
            horizons_minutes=config.horizons_minutes,
            timeframes=found.config.timeframes,
        )
    index = check_opponent(folder, timeframe=timeframe)
    if preset is not None:
        raise BadModelFolder(str(folder), f"holds {index.pipeline}, which has no presets, expected LDM4TS of preset {preset!r}")
    return ForecasterSummary(
        pipeline=index.pipeline,
        model_version=index.model_version,
        timeframe=index.timeframe,
        horizons_minutes=index.horizons_minutes,
        timeframes=(index.timeframe,),
    )


def _pipeline(folder: Path) -> str:
    if not folder.is_dir():
        raise BadModelFolder(str(folder), "there is no such folder")
    if not (folder / INDEX_FILE).is_file():
        raise BadModelFolder(str(folder), f"incomplete, missing {INDEX_FILE}")
    name = read_json(folder, INDEX_FILE, _Named).pipeline
    if name not in PIPELINES:
        raise BadModelFolder(str(folder), f"{INDEX_FILE}: pipeline: found {name!r}; allowed: {', '.join(PIPELINES)}")
    return name
