"""The parts of a forecaster's folder that diffusers wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, cast

from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from fxcast.errors import BadModelFolder
from fxcast.models.frozen import load_frozen

PartT = TypeVar("PartT", bound=ModelMixin)


def load_part(folder: Path, name: str, kind: type[PartT]) -> PartT:
    """Load a module from its sub-folder, frozen.

    Raises:
        BadModelFolder: If it can't be loaded; names the part.
    """
    try:
        return load_frozen(kind, folder / name)
    except ValueError as error:
        raise BadModelFolder(str(folder), f"component {name!r} {error}") from error


def load_scheduler(folder: Path) -> DPMSolverMultistepScheduler:
    """Load the sampler's settings.

    Raises:
        BadModelFolder: If they can't be loaded.
    """
    try:
        return cast("DPMSolverMultistepScheduler", DPMSolverMultistepScheduler.from_pretrained(folder / "scheduler"))
    except Exception as error:  # diffusers raises OSError, KeyError, TypeError and more for a bad file: raised on as one kind
        raise BadModelFolder(str(folder), f"component 'scheduler' can't be loaded: {error}") from error
