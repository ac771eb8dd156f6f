"""An opponent on disk: `model_index.json`, `card.md`, and what was fitted as JSON or safetensors. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from pydantic import AwareDatetime, Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from fxcast import __version__
from fxcast.config import Settings
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadModelFolder
from fxcast.models.baselines.garch import Garch, GarchParameters
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.baselines.time_of_day import TimeOfDayWalk
from fxcast.models.index import read_json

OpponentPipeline = Literal["RandomWalk", "TimeOfDayWalk", "Garch", "SSSD"]
INDEX_FILE, CARD_FILE = "model_index.json", "card.md"
_SIZES_FILE, _GARCH_FILE = "sizes.safetensors", "garch.json"
SSSD_FILE = "sssd.json"

_FILES: Mapping[str, tuple[str, ...]] = {
    "RandomWalk": (),
    "TimeOfDayWalk": (_SIZES_FILE,),
    "Garch": (_GARCH_FILE,),
    "SSSD": (SSSD_FILE, "network/config.json", "network/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"),
}


class OpponentIndex(Settings):
    """Content of an opponent's `model_index.json`."""

    pipeline: OpponentPipeline
    fxcast_version: str
    model_version: str
    timeframe: str
    horizons_minutes: tuple[int, ...] = Field(min_length=1)
    volatility_span_bars: int = Field(ge=1, description="span of the EWMA volatility inside the window")
    symbols: tuple[str, ...] = Field(default=(), description="whose candles it was fitted on; none for one that is never fitted")
    data_start: AwareDatetime | None = Field(default=None, description="open of the first candle that it has seen")
    data_end: AwareDatetime | None = Field(default=None, description="candles that open at or after it were not seen")
    data_hash: str | None = Field(default=None, description="SHA-256 of those candles")

    @model_validator(mode="after")
    def _horizons_fit(self) -> OpponentIndex:
        if list(self.horizons_minutes) != sorted(set(self.horizons_minutes)):
            raise ValueError(f"horizons_minutes must ascend, found {list(self.horizons_minutes)}")
        try:
            for minutes in self.horizons_minutes:
                Timeframe(self.timeframe).bars(minutes)
        except BadCandles as error:
            raise ValueError(str(error)) from error
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The candles that an opponent was fitted on: those that open in [start, end), and a hash of them."""

    symbols: tuple[str, ...]
    start: datetime
    end: datetime
    data_hash: str


class _GarchContent(Settings):
    by_symbol: dict[str, GarchParameters]
    pooled: GarchParameters


FittedWalk: TypeAlias = RandomWalk | TimeOfDayWalk | Garch


def save_opponent(opponent: FittedWalk, folder: Path, *, seen: Seen | None, card: str) -> None:
    """Write a model folder; the index comes last, so that a folder with one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    match opponent:
        case RandomWalk():
            pipeline: OpponentPipeline = "RandomWalk"
        case TimeOfDayWalk():
            pipeline = "TimeOfDayWalk"
            save_file({"sizes": opponent.sizes}, folder / _SIZES_FILE)
        case Garch():
            pipeline = "Garch"
            content = _GarchContent(by_symbol=dict(opponent.by_symbol), pooled=opponent.pooled)
            (folder / _GARCH_FILE).write_text(content.model_dump_json(indent=2) + "\n")
    write_index(
        folder,
        pipeline=pipeline,
        model_version=opponent.model_version,
        timeframe=opponent.timeframe,
        horizons_minutes=opponent.horizons_minutes,
        volatility_span_bars=opponent.volatility_span_bars,
        seen=seen,
        card=card,
    )


def write_index(
    folder: Path,
    *,
    pipeline: OpponentPipeline,
    model_version: str,
    timeframe: Timeframe,
    horizons_minutes: tuple[int, ...],
    volatility_span_bars: int,
    seen: Seen | None,
    card: str,
) -> None:
    """Write what every opponent's folder holds."""
    index = OpponentIndex(
        pipeline=pipeline,
        fxcast_version=__version__,
        model_version=model_version,
        timeframe=timeframe.name,
        horizons_minutes=horizons_minutes,
        volatility_span_bars=volatility_span_bars,
        symbols=() if seen is None else seen.symbols,
        data_start=None if seen is None else seen.start,
        data_end=None if seen is None else seen.end,
        data_hash=None if seen is None else seen.data_hash,
    )
    (folder / CARD_FILE).write_text(card)
    (folder / INDEX_FILE).write_text(index.model_dump_json(indent=2) + "\n")


def check_opponent(folder: Path, *, timeframe: str | None = None) -> OpponentIndex:
    """Check an opponent's folder without loading what was fitted; that safetensors are whole is checked too.

    Raises:
        BadModelFolder: If it is incomplete, unreadable, or of another timeframe.
    """
    index = read_json(folder, INDEX_FILE, OpponentIndex)
    needed = (CARD_FILE, *_FILES[index.pipeline])
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise BadModelFolder(str(folder), f"incomplete, missing {', '.join(missing)}")
    for name in needed:
        if name.endswith(".safetensors"):
            check_safetensors(folder, name)
    if timeframe is not None and index.timeframe != timeframe:
        raise BadModelFolder(str(folder), f"is for {index.timeframe} candles, expected {timeframe}")
    return index


def load_walk(folder: Path, index: OpponentIndex) -> FittedWalk:
    """Load an opponent without weights: a random walk, one by hour of day, or GARCH.

    Raises:
        BadModelFolder: If what was fitted can't be read, or has another shape than the index says.
    """
    walk = RandomWalk(
        timeframe=Timeframe(index.timeframe),
        horizons_minutes=index.horizons_minutes,
        volatility_span_bars=index.volatility_span_bars,
        model_version=index.model_version,
    )
    match index.pipeline:
        case "RandomWalk":
            return walk
        case "TimeOfDayWalk":
            return _time_of_day(folder, walk)
        case "Garch":
            content = read_json(folder, _GARCH_FILE, _GarchContent)
            return Garch(
                timeframe=walk.timeframe,
                horizons_minutes=walk.horizons_minutes,
                by_symbol=content.by_symbol,
                pooled=content.pooled,
                volatility_span_bars=walk.volatility_span_bars,
                model_version=walk.model_version,
            )
        case "SSSD":
            raise AssertionError("SSSD has weights, and models.load loads it")


def check_safetensors(folder: Path, name: str) -> None:
    """Raise BadModelFolder if a safetensors file is cut short or is none; its numbers are not read."""
    try:
        with safe_open(folder / name, framework="numpy"):
            pass  # opening reads the header, and compares it with the file's length
    except SafetensorError as error:
        raise BadModelFolder(str(folder), f"{name} can't be loaded: {error}") from error


def _time_of_day(folder: Path, walk: RandomWalk) -> TimeOfDayWalk:
    try:
        sizes = load_file(folder / _SIZES_FILE)["sizes"].astype(np.float64)
    except (SafetensorError, KeyError) as error:
        raise BadModelFolder(str(folder), f"{_SIZES_FILE} can't be loaded: {error}") from error
    if not np.isfinite(sizes).all() or (sizes < 0).any():
        raise BadModelFolder(
            str(folder), f"{_SIZES_FILE}: found sizes that are negative or no numbers; allowed: finite ones from 0"
        )
    try:
        return TimeOfDayWalk(
            timeframe=walk.timeframe,
            horizons_minutes=walk.horizons_minutes,
            sizes=sizes,
            volatility_span_bars=walk.volatility_span_bars,
            model_version=walk.model_version,
        )
    except ValueError as error:
        raise BadModelFolder(str(folder), f"{_SIZES_FILE}: {error}") from error
