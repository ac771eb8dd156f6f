"""A window becomes an image, from that window alone, and its closes can be read back."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from fxcast.vision.encoder import TimeSeriesVisionEncoder, scale_closes
from fxcast.vision.gramian import gramian_angular_field, resample
from fxcast.vision.recurrence import recurrence_plot
from fxcast.vision.segmentation import allowed_periods, dominant_period, fold, unfold
from tests.factories import make_series

SIZES = pytest.mark.parametrize("size", [32, 224])


def windows(count: int = 3) -> Tensor:
    return torch.from_numpy(np.stack([make_series(seed=seed, range_width=1e-4).values for seed in range(count)]))


def series(count: int = 2, length: int = 16) -> Tensor:
    return torch.rand(count, length, generator=torch.Generator().manual_seed(0)) * 2 - 1


@SIZES
def test_an_image_has_three_channels_within_one_of_zero(size: int) -> None:
    images = TimeSeriesVisionEncoder(size)(windows())
    assert images.shape == (3, 3, size, size)
    assert images.dtype == torch.float32
    assert torch.isfinite(images).all()
    assert images.abs().max() <= 1.0 + 1e-6
    assert (images.amax(dim=(2, 3)) - images.amin(dim=(2, 3)) > 1.0).all()  # every channel shows something


@SIZES
@pytest.mark.parametrize("period", [None, 4, 10, 20, 25])
def test_the_close_can_be_read_back_from_seg(size: int, period: int | None) -> None:
    encoder = TimeSeriesVisionEncoder(size, period)
    candles = windows()
    read = encoder.read_closes(encoder(candles), candles)
    assert torch.allclose(read, candles[:, :, 3], rtol=1e-6)  # a thousandth of a pip; float32 pixels


def test_reading_back_takes_the_closes_from_the_image() -> None:
    encoder = TimeSeriesVisionEncoder(32)
    candles = windows(1)
    assert (encoder.read_closes(-encoder(candles), candles) - candles[:, :, 3]).abs().max() > 1e-3


@pytest.mark.parametrize("period", [5, 10, 20, 25])
def test_the_fft_finds_a_planted_period_under_trend_and_noise(period: int) -> None:
    time = torch.arange(100, dtype=torch.float64)
    noise = torch.randn(1, 100, generator=torch.Generator().manual_seed(period), dtype=torch.float64)
    planted = torch.sin(2 * torch.pi * time / period)[None] + 0.03 * time + 0.3 * noise
    assert dominant_period(planted, 32).tolist() == [period]


def test_a_straight_line_has_no_swing_and_gets_the_shortest_period() -> None:
    assert dominant_period(torch.zeros(1, 100), 32).tolist() == [4]


def test_an_encoder_without_a_period_folds_each_window_by_its_own() -> None:
    time = np.arange(100)
    closes = [1.1 + 0.01 * np.sin(2 * np.pi * time / period) for period in (10, 25)]
    candles = torch.from_numpy(np.stack([make_series(close.tolist()).values for close in closes]))
    assert TimeSeriesVisionEncoder(32).periods(scale_closes(candles).series).tolist() == [10, 25]


def test_a_row_of_seg_is_one_period() -> None:
    image = fold(torch.arange(16.0)[None], torch.tensor([4]), 4)
    assert image.tolist() == [[[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], [8.0, 9.0, 10.0, 11.0], [12.0, 13.0, 14.0, 15.0]]]


def test_an_incomplete_first_row_is_filled_with_the_oldest_point() -> None:
    image = fold(torch.arange(6.0)[None], torch.tensor([4]), 4)
    assert image[0, 0].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert image[0, 3].tolist() == [2.0, 3.0, 4.0, 5.0]


def test_reading_back_averages_the_pixels_of_a_point() -> None:
    image = torch.zeros(1, 8, 8)
    image[0, 0, 0] = 1.0  # one of the four pixels of the first point
    read = unfold(image, torch.tensor([4]), 16)
    assert read[0, 0] == pytest.approx(0.25)
    assert read[0, 1:].abs().max() == 0.0


@pytest.mark.parametrize("period", [1, 3, 33, 50])
def test_a_period_that_leaves_a_point_without_a_pixel_is_refused(period: int) -> None:
    with pytest.raises(ValueError, match=f"period {period} is outside 4 to 32"):
        TimeSeriesVisionEncoder(32, period)(windows(1))


def test_an_image_too_small_for_its_window_is_refused() -> None:
    with pytest.raises(ValueError, match="100 points does not fit an image of 8 × 8"):
        TimeSeriesVisionEncoder(8)(windows(1))


def test_the_allowed_periods_of_a_window_depend_on_the_image() -> None:
    assert allowed_periods(100, 32) == (4, 32)
    assert allowed_periods(100, 224) == (2, 50)


def test_gaf_is_the_cosine_of_the_sum_of_angles() -> None:
    values = series()
    angles = torch.arccos(values.double())
    expected = torch.cos(angles[:, :, None] + angles[:, None, :])
    assert torch.allclose(gramian_angular_field(values).double(), expected, atol=1e-5)


def test_rp_is_symmetric_with_ones_on_its_diagonal() -> None:
    plot = recurrence_plot(series())
    assert torch.equal(plot, plot.mT)
    assert torch.equal(plot.diagonal(dim1=1, dim2=2), torch.ones(2, 16))


def test_rp_falls_with_the_distance_between_two_values() -> None:
    plot = recurrence_plot(torch.tensor([[-1.0, 0.0, 1.0, -1.0]]))
    assert plot[0, 0].tolist() == [1.0, 0.0, -1.0, 1.0]


def test_resampling_to_fewer_points_takes_means_and_to_more_takes_lines() -> None:
    values = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    assert resample(values, 2).tolist() == [[0.5, 2.5]]
    assert torch.allclose(resample(values, 7), torch.arange(0, 3.5, 0.5)[None])
    assert resample(values, 4) is values


def test_an_image_does_not_depend_on_the_other_windows_of_its_batch() -> None:
    encoder = TimeSeriesVisionEncoder(32)
    candles = windows(3)
    wild = candles.clone()
    wild[1:, :, :4] *= 1000.0
    assert torch.equal(encoder(candles)[0], encoder(candles[:1])[0])
    assert torch.equal(encoder(candles)[0], encoder(wild)[0])


def test_an_image_does_not_depend_on_the_price_level_or_the_volume() -> None:
    encoder = TimeSeriesVisionEncoder(32, 10)
    candles = windows()
    scaled = candles * torch.tensor([100.0, 100.0, 100.0, 100.0, 7.0])
    assert torch.allclose(encoder(scaled), encoder(candles), atol=1e-5)


def test_a_flat_window_gives_a_flat_image_and_reads_back_flat() -> None:
    encoder = TimeSeriesVisionEncoder(32)
    flat = torch.from_numpy(make_series([1.25] * 100).values)[None]
    images = encoder(flat)
    assert torch.equal(images[0, 0], torch.zeros(32, 32))
    assert torch.allclose(images[0, 1], -torch.ones(32, 32))  # cos(π/2 + π/2)
    assert torch.equal(images[0, 2], torch.ones(32, 32))
    assert torch.allclose(encoder.read_closes(images, flat), flat[:, :, 3])


@SIZES
def test_gradients_reach_every_close_and_nothing_else(size: int) -> None:
    candles = windows().requires_grad_()
    images = cast("Tensor", TimeSeriesVisionEncoder(size)(candles))
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    (images * weights).sum().backward()  # pyright: ignore[reportUnknownMemberType] - torch leaves backward partly untyped
    gradient = candles.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert (gradient[:, :, 3] != 0).all()
    assert (gradient[:, :, [0, 1, 2, 4]] == 0).all()


def test_gradients_of_a_flat_window_are_finite() -> None:
    flat = torch.from_numpy(make_series([1.25] * 100).values)[None].requires_grad_()
    cast("Tensor", TimeSeriesVisionEncoder(32)(flat)).sum().backward()  # pyright: ignore[reportUnknownMemberType] - as above
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()
