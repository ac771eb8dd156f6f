"""SSSD: diffusion on the future path itself, with structured state spaces; the opponent that is trained like LDM4TS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self, cast

import numpy as np
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor, nn

from fxcast.domain.candle import FloatArray
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import WindowBatch
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadModelFolder
from fxcast.models.baselines.folder import SSSD_FILE, OpponentIndex, Seen, write_index
from fxcast.models.baselines.sssd_config import SSSDConfig
from fxcast.models.baselines.state_space import StateSpaceDenoiser
from fxcast.models.calibration import Calibration
from fxcast.models.denoiser import new_scheduler
from fxcast.models.features import CANDLE_FEATURES, STATE_FEATURES, condition_features
from fxcast.models.frozen import frozen
from fxcast.models.index import read_json
from fxcast.models.parts import load_part, load_scheduler
from fxcast.models.path import ewma_volatility, moves_at_horizons
from fxcast.models.sampler import seeded_noise

_CALIBRATION_FILE = "calibration.json"
_KNOWN_FEATURES = CANDLE_FEATURES + 2  # the mask, and where the place lies in the sequence
_GPU_WINDOWS_AT_ONCE = 64


class KnownWindows(NamedTuple):
    """What the network is told of windows: `sequence` (n, features, CONTEXT_BARS + path_points), `state` (n, STATE_FEATURES)."""

    sequence: Tensor
    state: Tensor

    def repeat(self, times: int) -> KnownWindows:
        """Return each window that many times, one copy after the other."""
        return KnownWindows(*(part.repeat_interleave(times, dim=0) for part in self))

    def to(self, device: torch.device) -> KnownWindows:
        """Return the same on a device."""
        return KnownWindows(*(part.to(device) for part in self))


def known_of(windows: WindowBatch, config: SSSDConfig) -> KnownWindows:
    """Compute what the network is told of windows: scale-free candles, then nothing but the place where the future will be."""
    features = condition_features(windows, config.units)
    past = features.candles.mT  # (n, CANDLE_FEATURES, CONTEXT_BARS)
    count, length = len(past), CONTEXT_BARS + config.path_points
    sequence = torch.zeros(count, _KNOWN_FEATURES, length)
    sequence[:, :CANDLE_FEATURES, :CONTEXT_BARS] = past
    sequence[:, CANDLE_FEATURES, :CONTEXT_BARS] = 1.0
    sequence[:, CANDLE_FEATURES + 1] = torch.linspace(-1.0, 1.0, length)
    state = features.state if config.knows_window else torch.zeros(count, STATE_FEATURES)
    return KnownWindows(sequence, state)


@dataclass(frozen=True, kw_only=True)
class SSSD:
    """Structured state-space diffusion; implements `Forecaster`.

    The network denoises the path in units of sigma·√k. `calibration` None draws raw samples.

    Source: Alcaraz & Strodthoff 2022, arXiv:2208.09399; sampled with DPM-Solver++ instead of the paper's 200 steps.
    """

    config: SSSDConfig
    network: StateSpaceDenoiser
    scheduler: DPMSolverMultistepScheduler
    calibration: Calibration | None = None
    model_version: str = "sssd"

    @classmethod
    def untrained(cls, config: SSSDConfig) -> Self:
        """Return one with random weights."""
        network = StateSpaceDenoiser(
            features=_KNOWN_FEATURES,
            state_features=STATE_FEATURES,
            channels=config.channels,
            blocks=config.blocks,
            states=config.states,
        )
        return cls(config=config, network=frozen(network), scheduler=new_scheduler(config.units))

    @property
    def timeframe(self) -> Timeframe:
        return Timeframe(self.config.timeframe)

    @property
    def horizons_minutes(self) -> tuple[int, ...]:
        return self.config.horizons_minutes

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.device

    def to(self, device: torch.device | str) -> Self:
        """Move the network to a device, in place."""
        nn.Module.to(self.network, device)
        return self

    @torch.no_grad()
    def sample_paths(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        """Draw raw futures, (windows, num_samples, path_points) in [−1, 1]; see `Forecaster.sample`."""
        spectra = self.network.spectra(CONTEXT_BARS + self.config.path_points)
        # On a CPU window by window: that is as fast, and the kernels then add floats in the same order whatever the batch.
        at_once = 1 if self.device.type == "cpu" else _GPU_WINDOWS_AT_ONCE
        paths: list[FloatArray] = []
        for positions in np.array_split(np.arange(len(windows)), range(at_once, len(windows), at_once)):
            part = windows.take(positions)
            known = known_of(part, self.config).to(self.device).repeat(num_samples)
            own = [seeds[int(position)] for position in positions]
            noise = seeded_noise((self.config.path_points,), num_samples, own).to(self.device)  # (windows · samples, points)
            moves = self._denoised(noise, known, spectra).clamp(-self.config.path_clip, self.config.path_clip)
            path = (moves / self.config.path_clip).unflatten(0, (len(part), num_samples))
            paths.append(path.cpu().numpy().astype(np.float64))
        return np.concatenate(paths)

    def sample_moves(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        """Draw raw standardised moves at the horizons, (windows, num_samples, horizons)."""
        return moves_at_horizons(self.sample_paths(windows, num_samples=num_samples, seeds=seeds), self.config.units)

    def sample(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        """Draw log moves, (windows, num_samples, horizons); see `Forecaster.sample`."""
        moves = self.sample_moves(windows, num_samples=num_samples, seeds=seeds)
        if self.calibration is not None:
            moves = self.calibration.apply(moves)
        volatility = ewma_volatility(windows.candles[:, :, 3], self.config.volatility_span_bars)  # (windows,)
        return moves * volatility[:, None, None] * np.sqrt(np.array(self.config.units.horizon_bars, dtype=np.float64))

    def _denoised(self, noise: Tensor, known: KnownWindows, spectra: list[tuple[Tensor, Tensor]]) -> Tensor:
        # A solver keeps state: one of its own for each call.
        solver = cast("DPMSolverMultistepScheduler", DPMSolverMultistepScheduler.from_config(self.scheduler.config))
        solver.set_timesteps(self.config.sampler_steps, device=noise.device)
        moves = noise * solver.init_noise_sigma
        for timestep in solver.timesteps:
            velocity = self.network(moves, timestep.expand(len(moves)), known.sequence, known.state, spectra)
            moves = solver.step(velocity, timestep, moves, return_dict=False)[0]
        return moves


def save_sssd(sssd: SSSD, folder: Path, *, seen: Seen, card: str) -> None:
    """Write a model folder; the index comes last, so that a folder with one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    sssd.network.save_pretrained(folder / "network", safe_serialization=True)
    sssd.scheduler.save_pretrained(folder / "scheduler")
    (folder / SSSD_FILE).write_text(sssd.config.model_dump_json(indent=2) + "\n")
    if sssd.calibration is not None:
        (folder / _CALIBRATION_FILE).write_text(sssd.calibration.model_dump_json(indent=2) + "\n")
    write_index(
        folder,
        pipeline="SSSD",
        model_version=sssd.model_version,
        timeframe=sssd.timeframe,
        horizons_minutes=sssd.horizons_minutes,
        volatility_span_bars=sssd.config.volatility_span_bars,
        seen=seen,
        card=card,
    )


def load_sssd(folder: Path, index: OpponentIndex) -> SSSD:
    """Load an SSSD folder that `check_opponent` has checked.

    Raises:
        BadModelFolder: If a part can't be loaded, or sssd.json, model_index.json and the network don't belong together.
    """
    config = read_json(folder, SSSD_FILE, SSSDConfig)
    if (config.timeframe, config.horizons_minutes) != (index.timeframe, index.horizons_minutes):
        raise BadModelFolder(str(folder), f"{SSSD_FILE} has another timeframe or other horizons than model_index.json")
    calibration = None
    if (folder / _CALIBRATION_FILE).is_file():
        calibration = read_json(folder, _CALIBRATION_FILE, Calibration)
        if tuple(horizon.horizon_minutes for horizon in calibration.horizons) != config.horizons_minutes:
            raise BadModelFolder(str(folder), f"{_CALIBRATION_FILE} has other horizons than model_index.json")
    return SSSD(
        config=config,
        network=load_part(folder, "network", StateSpaceDenoiser),
        scheduler=load_scheduler(folder),
        calibration=calibration,
        model_version=index.model_version,
    )
