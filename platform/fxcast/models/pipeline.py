"""LDM4TS as one object: candles in, calibrated predictions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor, nn

from fxcast.domain.candle import FloatArray
from fxcast.domain.forecaster import WindowBatch
from fxcast.domain.timeframe import Timeframe
from fxcast.models.autoencoder import decode, encode, latent_size
from fxcast.models.calibration import Calibration, no_calibration
from fxcast.models.conditioning import CandleConditioner
from fxcast.models.config import LDM4TSConfig
from fxcast.models.denoiser import new_scheduler, new_unet
from fxcast.models.features import condition_features
from fxcast.models.frozen import frozen
from fxcast.models.path import ewma_volatility, moves_at_horizons
from fxcast.models.sampler import sample_latents, seeded_noise
from fxcast.models.temporal_fusion import TemporalFusion
from fxcast.models.width import WidthNetwork, path_widths
from fxcast.vision.encoder import TimeSeriesVisionEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class FuturePaths:
    """Raw samples of windows: `paths` (windows, samples, path_points) in [−1, 1], in units of the
    width network's width, and their decoded `charts`
    (windows, samples, 3, S, S), on the pipeline's device."""

    paths: FloatArray
    charts: Tensor


@dataclass(frozen=True, kw_only=True)
class LDM4TSPipeline:
    """The trained parts of LDM4TS; implements `Forecaster` for one of the timeframes that they were trained on, the config's.

    `other_calibrations` are those of the others, by name; one that has none takes over this one's.

    Source: LDM4TS, arXiv:2502.14887. There the history is denoised; here the target is the chart of the future, so that the
    samples are a predictive distribution.
    """

    config: LDM4TSConfig
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: DPMSolverMultistepScheduler
    conditioner: CandleConditioner
    fusion: TemporalFusion
    width: WidthNetwork
    calibration: Calibration
    model_version: str
    other_calibrations: Mapping[str, Calibration] = field(default_factory=dict[str, Calibration])

    @classmethod
    def untrained(cls, config: LDM4TSConfig, vae: AutoencoderKL, sentence_embeddings: Tensor) -> Self:
        """Return a pipeline around a trained autoencoder whose other parts are still random.

        Args:
            sentence_embeddings: Frozen text embeddings, (sentences, width).
        """
        side = latent_size(vae, config.image_size)
        conditioner = CandleConditioner(
            width=config.condition_width,
            text_width=sentence_embeddings.shape[1],
            sentences=sentence_embeddings.shape[0],
            symbols=len(config.symbols),
            patch_bars=config.candle_patch_bars,
        )
        conditioner.sentence_embeddings.copy_(sentence_embeddings)
        fusion = TemporalFusion(
            path_points=config.path_points,
            path_side=config.path_side,
            latent_values=config.latent_channels * side**2,
            hidden=128,
        )
        return cls(
            config=config,
            vae=frozen(vae),
            unet=frozen(new_unet(config, side)),
            scheduler=new_scheduler(config),
            conditioner=frozen(conditioner),
            fusion=frozen(fusion),
            width=frozen(WidthNetwork(path_points=config.path_points, symbols=len(config.symbols))),
            calibration=no_calibration(config.horizons_minutes),
            model_version="untrained",
        )

    @property
    def timeframe(self) -> Timeframe:
        return Timeframe(self.config.timeframe)

    @property
    def horizons_minutes(self) -> tuple[int, ...]:
        return self.config.horizons_minutes

    def at(self, timeframe: str) -> Self:
        """Return the forecaster of another timeframe that the model was trained on, made of the same parts.

        Raises:
            BadSetting: If it wasn't.
        """
        config = self.config.at(timeframe)
        calibrations = {self.config.timeframe: self.calibration, **self.other_calibrations}
        own = calibrations.pop(timeframe, None)
        calibration = self.calibration.at(config.horizons_minutes) if own is None else own
        return replace(self, config=config, calibration=calibration, other_calibrations=calibrations)

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return self.unet.device

    def to(self, device: torch.device | str) -> Self:
        """Move the parts to a device, in place. Noise is drawn on the CPU, so a seed means the same everywhere."""
        for part in (self.vae, self.unet, self.conditioner, self.fusion, self.width):
            nn.Module.to(part, device)
        return self

    @torch.no_grad()
    def sample_paths(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FuturePaths:
        """Sample raw futures of many windows in one batch.

        Args:
            seeds: One for each window; a window's samples depend on its own seed and candles alone.
        """
        images = TimeSeriesVisionEncoder(self.config.image_size)(torch.from_numpy(windows.candles))  # (windows, 3, S, S)
        past = encode(self.vae, images.to(self.device, memory_format=torch.channels_last))  # (windows, latent_channels, s, s)
        condition = self.conditioner(condition_features(windows, self.config).to(self.device))
        noise = seeded_noise(past.shape[1:], num_samples, seeds).to(self.device)  # (windows · samples, latent_channels, s, s)
        latents = sample_latents(
            self.unet,
            self.scheduler,
            past.repeat_interleave(num_samples, dim=0),
            condition.repeat(num_samples),
            noise,
            self.config.sampler_steps,
        )  # (windows · samples, latent_channels, s, s)
        charts = decode(self.vae, latents)  # (windows · samples, 3, S, S)
        paths = self.fusion(charts, latents).clamp(-1.0, 1.0)  # (windows · samples, path_points)
        return FuturePaths(
            paths=paths.unflatten(0, (len(windows), num_samples)).cpu().numpy().astype(np.float64),
            charts=charts.unflatten(0, (len(windows), num_samples)),
        )

    def sample_moves(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        """Sample raw moves at the horizons in units of the width network's width, (windows, samples, horizons)."""
        return moves_at_horizons(self.sample_paths(windows, num_samples=num_samples, seeds=seeds).paths, self.config)

    def horizon_widths(self, windows: WindowBatch) -> FloatArray:
        """Return the width of the log move over each horizon as the width network has it, (windows, horizons)."""
        volatility = ewma_volatility(windows.candles[:, :, 3], self.config.volatility_span_bars)  # (windows,)
        widths = path_widths(self.width, windows, self.config)[:, list(self.config.horizon_points)]  # (windows, horizons)
        return widths * volatility[:, None] * np.sqrt(np.array(self.config.horizon_bars, dtype=np.float64))

    def sample(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        """Draw calibrated log moves, (windows, num_samples, horizons); see `Forecaster.sample`."""
        raw = self.sample_moves(windows, num_samples=num_samples, seeds=seeds)
        return self.calibration.apply(raw) * self.horizon_widths(windows)[:, None, :]
