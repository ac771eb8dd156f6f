"""Load whatever forecaster a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from fxcast.domain.forecaster import Forecaster
from fxcast.models.baselines.folder import check_opponent, load_walk
from fxcast.models.config import Preset
from fxcast.models.summary import LDM4TS, check_forecaster


@runtime_checkable
class _Movable(Protocol):
    def to(self, device: str) -> object: ...


def move_to_gpu(forecaster: Forecaster) -> None:
    """Move a forecaster that computes with torch to the GPU, in place, if there is one: Ray's GPUs may be logical ones."""
    if isinstance(forecaster, _Movable):
        import torch

        if torch.cuda.is_available():
            forecaster.to("cuda")


def load_forecaster(folder: Path, *, preset: Preset | None = None, timeframe: str | None = None) -> Forecaster:
    """Load a folder of any forecaster.

    Args:
        preset: Of LDM4TS that it must be of.
        timeframe: Which to forecast, of those it was trained on; by default its main one.

    Raises:
        BadModelFolder: As `check_forecaster`, or if a part can't be loaded.
    """
    summary = check_forecaster(folder, preset=preset, timeframe=timeframe)
    if summary.pipeline == LDM4TS:
        from fxcast.models.folder import from_pretrained

        return from_pretrained(folder, preset=preset, timeframe=timeframe)
    index = check_opponent(folder, timeframe=timeframe)
    if index.pipeline == "SSSD":
        from fxcast.models.baselines.sssd import load_sssd

        return load_sssd(folder, index)
    return load_walk(folder, index)
