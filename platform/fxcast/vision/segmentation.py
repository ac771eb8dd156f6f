"""SEG: fold a series row by row into a square, and read it back.

Source: the segmentation channel of LDM4TS, arXiv:2502.14887; the period by FFT as in TimesNet, arXiv:2210.02186.
"""

from __future__ import annotations

import torch
from torch import Tensor


def allowed_periods(length: int, image_size: int) -> tuple[int, int]:
    """Return the shortest and the longest period at which every point of a series has a pixel of its own.

    Raises:
        ValueError: If the image is too small for the series at any period.
    """
    shortest, longest = max(2, -(-length // image_size)), min(image_size, length // 2)
    if shortest > longest:
        raise ValueError(f"a series of {length} points does not fit an image of {image_size} × {image_size}")
    return shortest, longest


def dominant_period(series: Tensor, image_size: int) -> Tensor:
    """Find each series' strongest period by FFT, after taking out the line from its first to its last point.

    Args:
        series: (batch, length).

    Returns:
        Periods in bars, (batch,) int64, within `allowed_periods`; a series without any swing gets the shortest.
    """
    length = series.shape[1]
    shortest, longest = allowed_periods(length, image_size)
    line = torch.linspace(0.0, 1.0, length, dtype=series.dtype, device=series.device)  # (length,)
    first, last = series[:, :1], series[:, -1:]
    amplitudes = torch.fft.rfft(series - first - (last - first) * line).abs()  # (batch, length // 2 + 1)
    frequencies = torch.arange(amplitudes.shape[1], device=series.device)
    periods = torch.round(length / frequencies.clamp(min=1).to(torch.float64)).to(torch.int64)
    allowed = (frequencies >= 1) & (periods >= shortest) & (periods <= longest)
    strongest = amplitudes.masked_fill(~allowed, -1.0).argmax(dim=1)
    swings = (amplitudes * allowed).amax(dim=1) > 0
    return torch.where(swings, periods[strongest], torch.full_like(strongest, shortest))


def _pixel_to_time(length: int, periods: Tensor, image_size: int) -> Tensor:
    """Return which point of the series each pixel shows, (batch, image_size²); the first row is filled up with the oldest point."""
    rows = -(-length // periods)  # (batch,)
    pixel = torch.arange(image_size, device=periods.device)
    row = pixel[None, :] * rows[:, None] // image_size  # (batch, image_size)
    column = pixel[None, :] * periods[:, None] // image_size  # (batch, image_size)
    padding = (rows * periods - length)[:, None, None]
    time = row[:, :, None] * periods[:, None, None] + column[:, None, :] - padding  # (batch, image_size, image_size)
    return time.clamp(min=0).flatten(1)


def fold(series: Tensor, periods: Tensor, image_size: int) -> Tensor:
    """Fold series into squares, one period a row, oldest at the top left.

    Args:
        series: (batch, length).
        periods: Bars a row, (batch,) int64, within `allowed_periods`.

    Returns:
        (batch, image_size, image_size).
    """
    time = _pixel_to_time(series.shape[1], periods, image_size)
    return series.gather(1, time).unflatten(1, (image_size, image_size))  # (batch, image_size, image_size)


def unfold(image: Tensor, periods: Tensor, length: int) -> Tensor:
    """Read a series back: each point is the mean of its pixels. The inverse of `fold`.

    Args:
        image: (batch, image_size, image_size).
        periods: As given to `fold`, (batch,).

    Returns:
        (batch, length).
    """
    time = _pixel_to_time(length, periods, image.shape[-1])
    pixels = image.flatten(1)  # (batch, image_size²)
    total = torch.zeros(image.shape[0], length, dtype=image.dtype, device=image.device)
    total = total.scatter_add(1, time, pixels)
    count = torch.zeros_like(total).scatter_add(1, time, torch.ones_like(pixels))
    return total / count
