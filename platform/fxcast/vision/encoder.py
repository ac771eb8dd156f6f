"""Turn candle windows into three-channel images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fxcast.vision.gramian import gramian_angular_field, resample
from fxcast.vision.recurrence import recurrence_plot
from fxcast.vision.segmentation import allowed_periods, dominant_period, fold, unfold

CLOSE = 3  # column of a candle


class ScaledCloses(NamedTuple):
    """Closes scaled by their own window to [−1, 1]: `series` (batch, length), `low` and `high` (batch, 1)."""

    series: Tensor
    low: Tensor
    high: Tensor


def scale_closes(candles: Tensor) -> ScaledCloses:
    """Scale the log close of each window to [−1, 1] by its own lowest and highest; a flat window becomes zeros.

    Args:
        candles: (batch, length, 5), prices above zero.
    """
    closes = candles[:, :, CLOSE].log()  # (batch, length)
    low, high = closes.amin(dim=1, keepdim=True), closes.amax(dim=1, keepdim=True)
    spread = high - low
    flat = spread <= 0
    series = torch.where(flat, torch.zeros_like(closes), 2.0 * (closes - low) / torch.where(flat, 1.0, spread) - 1.0)
    return ScaledCloses(series, low, high)


class TimeSeriesVisionEncoder(nn.Module):
    """Encode candle windows as RGB images: R = SEG, G = GAF, B = RP.

    Nothing outside a window enters its image. It has no parameters and is differentiable in the prices, except for the
    choice of the period.

    Args:
        image_size: Height and width S of the image.
        period: Bars a row of SEG; None finds each window's strongest by FFT.

    Raises:
        ValueError: If a given period leaves a point of the series without a pixel (at the first call).
    """

    def __init__(self, image_size: int, period: int | None = None) -> None:
        super().__init__()
        self.image_size = image_size
        self.period = period

    def forward(self, candles: Tensor) -> Tensor:
        """Encode windows.

        Args:
            candles: (batch, length, 5), oldest first: open, high, low, close, volume.

        Returns:
            Images in [−1, 1], (batch, 3, S, S).
        """
        series = scale_closes(candles).series.to(torch.float32)
        return self.chart(series, self.periods(series))

    def periods(self, series: Tensor) -> Tensor:
        """Return the period of each series, (batch,) int64."""
        if self.period is None:
            return dominant_period(series, self.image_size)
        shortest, longest = allowed_periods(series.shape[1], self.image_size)
        if not shortest <= self.period <= longest:
            where = f"{series.shape[1]} points at {self.image_size} pixels"
            raise ValueError(f"period {self.period} is outside {shortest} to {longest} for {where}")
        return torch.full((series.shape[0],), self.period, dtype=torch.int64, device=series.device)

    def chart(self, series: Tensor, periods: Tensor) -> Tensor:
        """Draw series in [−1, 1], (batch, length), as images, (batch, 3, S, S)."""
        resampled = resample(series, self.image_size)  # (batch, S)
        channels = [fold(series, periods, self.image_size), gramian_angular_field(resampled), recurrence_plot(resampled)]
        return torch.stack(channels, dim=1)  # (batch, 3, S, S)

    def read_closes(self, images: Tensor, candles: Tensor) -> Tensor:
        """Read the closes of windows back from the SEG channel of their images.

        Args:
            images: (batch, 3, S, S).
            candles: The windows; only their lowest and highest close and their periods are used, (batch, length, 5).

        Returns:
            Closes in quote currency, (batch, length).
        """
        scaled = scale_closes(candles)
        periods = self.periods(scaled.series.to(torch.float32))
        series = unfold(images[:, 0], periods, candles.shape[1]).to(scaled.low.dtype)
        return (scaled.low + (series + 1.0) / 2.0 * (scaled.high - scaled.low)).exp()
