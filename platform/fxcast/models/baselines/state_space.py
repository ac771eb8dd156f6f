"""Diagonal state spaces over a sequence, and the residual network of SSSD that is made of them."""

from __future__ import annotations

import math
from typing import cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import Timesteps
from diffusers.models.modeling_utils import ModelMixin
from scipy.fft import next_fast_len
from torch import Tensor, nn

_STEP_FREQUENCIES = 128
_SHORTEST, _LONGEST = 0.001, 0.1  # time steps at the start, log-uniform, as in S4


class DiagonalStateSpace(nn.Module):
    """x'(t) = A x(t) + u(t), y(t) = Re C x(t) + D u(t) in every channel, run over the sequence in both directions.

    A is diagonal with S4D-Lin's −1/2 + iπn at the start, discretised by zero-order hold with a time step a channel. It is applied
    as a convolution through the Fourier transform.

    Args:
        channels: Each with its own state space.
        states: Complex numbers in a state, one of each conjugate pair.

    Source: Gu et al. 2022, arXiv:2206.11893.
    """

    def __init__(self, channels: int, states: int) -> None:
        super().__init__()
        self.log_step = nn.Parameter(math.log(_SHORTEST) + torch.rand(channels) * math.log(_LONGEST / _SHORTEST))
        self.log_decay = nn.Parameter(torch.full((channels, states), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(states).repeat(channels, 1))
        # Forwards and backwards; as two real tensors, which optimisers and safetensors take everywhere.
        self.readout_real = nn.Parameter(torch.randn(2, channels, states) / math.sqrt(2.0))
        self.readout_imaginary = nn.Parameter(torch.randn(2, channels, states) / math.sqrt(2.0))
        self.skip = nn.Parameter(torch.randn(channels))

    def discrete(self) -> tuple[Tensor, Tensor]:
        """Return the states' transition, (channels, states), and the readout of an input, (2, channels, states), complex."""
        poles = torch.complex(-self.log_decay.exp(), self.frequency)  # (channels, states)
        transition = poles * self.log_step.exp()[:, None]  # its logarithm
        readout = (
            torch.complex(self.readout_real, self.readout_imaginary) * torch.expm1(transition) / poles
        )  # (2, channels, states)
        return transition, readout

    def spectrum(self, length: int) -> Tensor:
        """Return the Fourier transform of both directions' kernel for sequences of a length, (channels, frequencies) complex."""
        transition, readout = self.discrete()
        powers = torch.exp(transition[:, :, None] * torch.arange(length, device=transition.device))  # (channels, states, length)
        kernels = 2.0 * torch.einsum("dcn,cnl->dcl", readout, powers).real  # (2, channels, length)
        # Backwards is what comes after, so its kernel lies at the negative lags, −1 and on, which wrap round to the end.
        between = kernels.new_zeros(len(readout[0]), _transform_length(length) - 2 * length + 1)
        both = torch.cat([kernels[0], between, kernels[1, :, :-1].flip(-1)], dim=-1)  # (channels, transform length)
        return torch.fft.rfft(both)

    def forward(self, sequence: Tensor, spectrum: Tensor) -> Tensor:
        """Filter sequences.

        Args:
            sequence: (batch, channels, length).
            spectrum: Of `spectrum(length)`.

        Returns:
            (batch, channels, length).
        """
        length = sequence.shape[-1]
        padded = _transform_length(length)
        filtered = torch.fft.irfft(torch.fft.rfft(sequence, n=padded) * spectrum, n=padded)[..., :length]
        return filtered + self.skip[:, None] * sequence  # (batch, channels, length)


def _transform_length(length: int) -> int:
    """Return how far a sequence is padded: no lag wraps onto another, and small prime factors make it three times as fast."""
    return cast("int", next_fast_len(2 * length - 1, real=True))


class _ResidualBlock(nn.Module):
    """Diffusion step in, state space, conditioning in, state space, gate; out come the residual and the skip."""

    def __init__(self, channels: int, states: int) -> None:
        super().__init__()
        self.step = nn.Linear(channels, channels)
        self.norm = nn.GroupNorm(1, channels)
        self.first = DiagonalStateSpace(channels, states)
        self.mix = nn.Conv1d(channels, 2 * channels, 1)
        self.known = nn.Conv1d(channels, 2 * channels, 1)
        self.second = DiagonalStateSpace(channels, states)
        self.split = nn.Conv1d(channels, 2 * channels, 1)

    def forward(self, sequence: Tensor, known: Tensor, step: Tensor, spectra: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        hidden = self.norm(sequence) + self.step(step)[:, :, None]  # (batch, channels, length)
        hidden = nn.functional.gelu(self.first(hidden, spectra[0]))
        gate, value = (self.mix(hidden) + self.known(known)).chunk(2, dim=1)  # each (batch, channels, length)
        hidden = nn.functional.gelu(self.second(torch.sigmoid(gate) * torch.tanh(value), spectra[1]))
        residual, skip = self.split(hidden).chunk(2, dim=1)
        return (sequence + residual) / math.sqrt(2.0), skip


class StateSpaceDenoiser(ModelMixin, ConfigMixin):
    """The network of SSSD: the noisy future after the known past, told which is which, filtered in both directions.

    Args:
        features: Channels of the known sequence, the mask among them.
        state_features: What is known of a window as a whole.
        channels: Width.
        blocks: Residual blocks, each with two state spaces.
        states: Complex numbers in a state.

    Source: Alcaraz & Strodthoff 2022, arXiv:2208.09399 (SSSD-S4). There the state spaces are S4's; here its diagonal successor's.
    """

    @register_to_config
    def __init__(self, features: int, state_features: int, channels: int, blocks: int, states: int) -> None:
        super().__init__()
        self.noisy = nn.Conv1d(2, channels, 1)
        self.known = nn.Conv1d(features, channels, 1)
        self.frequencies = Timesteps(_STEP_FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0.0)
        self.step = nn.Sequential(nn.Linear(_STEP_FREQUENCIES, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.window = nn.Linear(state_features, channels)
        self.residuals = nn.ModuleList(_ResidualBlock(channels, states) for _ in range(blocks))
        self.out = nn.Sequential(nn.Conv1d(channels, channels, 1), nn.GELU(), nn.Conv1d(channels, 1, 1))
        last = cast("nn.Conv1d", self.out[2])
        nn.init.zeros_(last.weight)  # the first prediction is zero, the mean of v
        nn.init.zeros_(cast("Tensor", last.bias))

    def spectra(self, length: int) -> list[tuple[Tensor, Tensor]]:
        """Return the kernels of all blocks: they change with the weights alone, so sampling computes them once."""
        blocks = [cast("_ResidualBlock", block) for block in self.residuals]
        return [(block.first.spectrum(length), block.second.spectrum(length)) for block in blocks]

    def forward(
        self, noisy: Tensor, timesteps: Tensor, known: Tensor, state: Tensor, spectra: list[tuple[Tensor, Tensor]] | None = None
    ) -> Tensor:
        """Predict v.

        Args:
            noisy: The future, (batch, points).
            timesteps: (batch,) int64.
            known: What is known at each place of the sequence, (batch, features, context + points), zero where nothing is.
            state: What is known of the window as a whole, (batch, state_features).
            spectra: As `spectra` returns them for this length; computed if None.

        Returns:
            (batch, points).
        """
        points = noisy.shape[1]
        length = known.shape[2]
        spectra = self.spectra(length) if spectra is None else spectra
        padded = nn.functional.pad(noisy, (length - points, 0))  # (batch, context + points)
        place = nn.functional.pad(torch.ones_like(noisy), (length - points, 0))
        sequence = self.noisy(torch.stack([padded, place], dim=1))  # (batch, channels, context + points)
        conditioning = nn.functional.gelu(self.known(known))  # (batch, channels, context + points)
        sequence = sequence + conditioning
        step = self.step(self.frequencies(timesteps).to(noisy.dtype)) + self.window(state)  # (batch, channels)
        skips = torch.zeros_like(sequence)
        for block, own in zip(self.residuals, spectra, strict=True):
            sequence, skip = block(sequence, conditioning, step, own)
            skips = skips + skip
        skips = skips[:, :, length - points :] / math.sqrt(len(self.residuals))  # (batch, channels, points)
        return self.out(skips)[:, 0]
