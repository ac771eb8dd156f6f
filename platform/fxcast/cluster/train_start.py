"""Begin a run with the weights of a finished model, instead of noise."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import torch
from torch import nn

from fxcast.cluster.train_plan import TrainPlan
from fxcast.errors import BadModelFolder, BadSetting
from fxcast.models.autoencoder import weights_hash
from fxcast.models.folder import from_pretrained
from fxcast.models.index import check_folder
from fxcast.models.pipeline import LDM4TSPipeline

_LEARNED = ("width", "unet", "conditioner", "fusion")


def check_start(folder: Path, *, validation_start: datetime) -> None:
    """Check that nothing which the model has seen is validated on.

    Raises:
        BadModelFolder: If the folder is no complete model.
        BadSetting: If the model has seen candles of the validation period, or doesn't say what it has seen.
    """
    seen = check_folder(folder).data_end
    if seen is None:
        raise BadSetting(f"start_from: {folder} doesn't say until when it has seen candles; allowed: a model with a data_end")
    if seen > validation_start:
        raise BadSetting(
            f"start_from: {folder} has seen candles up to {seen.isoformat()}, and validation begins at "
            f"{validation_start.isoformat()}; allowed: a model that ends before, or a later validation_from"
        )


def check_same_autoencoder(plan: TrainPlan, vae_hash: str) -> None:
    """Check that the latents mean the same to both.

    Raises:
        BadModelFolder: If the model's autoencoder is not the run's.
    """
    if plan.start_from is not None and weights_hash(from_pretrained(Path(plan.start_from)).vae) != vae_hash:
        raise BadModelFolder(plan.start_from, f"has another autoencoder than {plan.autoencoder}, which this run is to use")


def begin(plan: TrainPlan, pipeline: LDM4TSPipeline, parts: tuple[str, ...] = _LEARNED) -> None:
    """Load what the plan's `start_from` has learned into parts of an untrained pipeline of the same config, in place."""
    if plan.start_from is None:
        return
    start = from_pretrained(Path(plan.start_from))
    for part in parts:
        module, learned = (getattr(one, part) for one in (pipeline, start))
        with torch.no_grad():
            nn.Module.load_state_dict(module, nn.Module.state_dict(learned))
