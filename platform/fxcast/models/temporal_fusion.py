"""From a decoded future chart to a path: an explicit reading of SEG, gated with a learned implicit one."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from fxcast.vision.segmentation import unfold


class TemporalFusion(ModelMixin, ConfigMixin):
    """Read the future path from its chart.

    The explicit branch unfolds the SEG channel. The implicit branch reads the path from the latent. A gate, one weight a
    point, chooses between them from what both say.

    Args:
        path_points: Points of the path.
        path_side: Points a row of SEG.
        latent_values: Numbers in a latent (channels · s · s).
        hidden: Width of the hidden layer.
    """

    @register_to_config
    def __init__(self, path_points: int, path_side: int, latent_values: int, hidden: int) -> None:
        super().__init__()
        self.path_points = path_points
        self.path_side = path_side
        self.implicit = nn.Sequential(nn.Linear(latent_values, hidden), nn.SiLU(), nn.Linear(hidden, path_points))
        self.gate = nn.Linear(2 * path_points, path_points)

    def forward(self, charts: Tensor, latents: Tensor) -> Tensor:
        """Return paths in the units of SEG.

        Args:
            charts: Decoded futures, (n, 3, S, S).
            latents: Their latents, (n, latent_channels, s, s).

        Returns:
            (n, path_points).
        """
        periods = torch.full((len(charts),), self.path_side, dtype=torch.int64, device=charts.device)
        explicit = unfold(charts[:, 0], periods, self.path_points)  # (n, path_points)
        implicit = self.implicit(latents.flatten(1))  # (n, path_points)
        weight = torch.sigmoid(self.gate(torch.cat([explicit, implicit], dim=1)))  # (n, path_points)
        return weight * explicit + (1.0 - weight) * implicit
