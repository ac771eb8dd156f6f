"""Small untrained models for tests: seeded, and fast on one core."""

from __future__ import annotations

import torch

from fxcast.models.autoencoder import new_tiny_autoencoder
from fxcast.models.calibration import Calibration, HorizonCalibration
from fxcast.models.config import LDM4TSConfig
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.text import SENTENCES

SMALL_CONFIG = LDM4TSConfig(unet_channels=(16, 16), condition_width=16, sampler_steps=2)


def make_pipeline(*, config: LDM4TSConfig = SMALL_CONFIG, seed: int = 0) -> LDM4TSPipeline:
    """Build a pipeline whose every part is random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LDM4TSPipeline.untrained(config, new_tiny_autoencoder(), torch.randn(len(SENTENCES), 8))


def make_calibration(*, mean_weight: float = 0.5, width: float = 2.0) -> Calibration:
    return Calibration(
        horizons=tuple(
            HorizonCalibration(horizon_minutes=minutes, mean_weight=mean_weight, width=width)
            for minutes in SMALL_CONFIG.horizons_minutes
        ),
        fitted_on="EURUSD 2016",
        windows=100,
    )
