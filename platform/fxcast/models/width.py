"""The width network: how much wider or narrower than its EWMA volatility says the future will be, at each point of the path."""

from __future__ import annotations

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from fxcast.domain.candle import FloatArray
from fxcast.domain.forecaster import WindowBatch
from fxcast.models.config import LDM4TSConfig
from fxcast.models.symbols import symbol_numbers
from fxcast.models.width_features import WIDTH_FEATURES, width_features

_LOG_LIMIT = 1.5  # no forecast is wider or narrower than its EWMA volatility by more than a factor of 4.5


class WidthNetwork(ModelMixin, ConfigMixin):
    """Predict log widths of the standardised path; untrained it predicts zero, the random walk's width.

    The widths are free at the path's points 1, 2, 4 … and straight lines in the logarithm of time between them.

    Args:
        path_points: Points of the path, a power of two.
        symbols: Pairs it knows; any other is one more.
        hidden: Width of the two hidden layers.
        dropout: In training.
    """

    @register_to_config
    def __init__(self, path_points: int, symbols: int, hidden: int = 64, dropout: float = 0.2) -> None:
        super().__init__()
        knots = np.arange(int(np.log2(path_points)) + 1)
        at = np.log2(np.arange(1, path_points + 1))
        basis = np.stack([np.interp(at, knots, np.eye(len(knots))[knot]) for knot in knots])  # (knots, path_points)
        self.register_buffer("basis", torch.from_numpy(basis.astype(np.float32)))
        self.register_buffer("centre", torch.zeros(WIDTH_FEATURES))
        self.register_buffer("scale", torch.ones(WIDTH_FEATURES))
        self.symbol = nn.Embedding(symbols + 1, 4)
        last = nn.Linear(hidden, len(knots))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(
            nn.Linear(WIDTH_FEATURES + 4, hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            last,
        )

    def forward(self, features: Tensor, symbols: Tensor) -> Tensor:
        """Return log widths, (batch, path_points).

        Args:
            features: (batch, WIDTH_FEATURES), as `width_features` gives them.
            symbols: (batch,) int64, as `models.symbols.symbol_numbers` gives them.
        """
        inputs = torch.cat([(features - self.centre) / self.scale, self.symbol(symbols)], dim=1)
        knots = self.layers(inputs)  # (batch, knots)
        return (_LOG_LIMIT * torch.tanh(knots / _LOG_LIMIT)) @ self.basis


@torch.no_grad()
def path_widths(network: WidthNetwork, windows: WindowBatch, config: LDM4TSConfig) -> FloatArray:
    """Return the widths of the standardised path, in units of volatility·√bars, (windows, path_points) float64."""
    features = torch.from_numpy(width_features(windows, config.volatility_span_bars).astype(np.float32)).to(network.device)
    numbers = symbol_numbers(windows.symbols, config.symbols).to(network.device)
    return np.exp(network(features, numbers).cpu().numpy().astype(np.float64))
