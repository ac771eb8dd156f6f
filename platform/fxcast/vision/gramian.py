"""GAF: the Gramian angular summation field, cos(φ_i + φ_j) over time. Source: Wang & Oates 2015, arXiv:1506.00327."""

from __future__ import annotations

import torch
from torch import Tensor


def gramian_angular_field(series: Tensor) -> Tensor:
    """Return the summation field of series in [−1, 1].

    Args:
        series: (batch, length).

    Returns:
        (batch, length, length), in [−1, 1].
    """
    cosine = series.clamp(-1.0, 1.0)
    # The floor keeps the gradient finite where a series touches ±1.
    sine = (1.0 - cosine.square()).clamp(min=1e-12).sqrt()
    return cosine[:, :, None] * cosine[:, None, :] - sine[:, :, None] * sine[:, None, :]  # (batch, length, length)


def resample(series: Tensor, points: int) -> Tensor:
    """Bring series to a number of points: means of pieces if there are fewer, straight lines between points if more.

    Args:
        series: (batch, length).

    Returns:
        (batch, points).
    """
    length = series.shape[1]
    if points == length:
        return series
    if points < length:
        return torch.nn.functional.adaptive_avg_pool1d(series[:, None], points)[:, 0]
    return torch.nn.functional.interpolate(series[:, None], size=points, mode="linear", align_corners=True)[:, 0]
