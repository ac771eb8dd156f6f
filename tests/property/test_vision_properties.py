"""Whatever the window, its image stays in range and loses no close."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.vision.encoder import TimeSeriesVisionEncoder
from fxcast.vision.segmentation import allowed_periods, dominant_period, fold, unfold
from tests.factories import make_series


@st.composite
def folded(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw (length, image size, allowed period)."""
    length = draw(st.integers(4, 120))
    size = draw(st.integers(2, 64).filter(lambda pixels: max(2, -(-length // pixels)) <= min(pixels, length // 2)))
    shortest, longest = allowed_periods(length, size)
    return length, size, draw(st.integers(shortest, longest))


@settings(deadline=None)  # the first call of torch.fft or scatter is slow
@given(folded(), st.integers(0, 1000))
def test_reading_back_a_folded_series_is_the_identity_at_every_allowed_period(drawn: tuple[int, int, int], seed: int) -> None:
    length, size, period = drawn
    series = torch.randn(2, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    periods = torch.tensor([period, period])
    assert torch.allclose(unfold(fold(series, periods, size), periods, length), series, atol=1e-12)


@settings(deadline=None)  # the first call of torch.fft or scatter is slow
@given(folded(), st.integers(0, 1000))
def test_the_period_found_is_an_allowed_one(drawn: tuple[int, int, int], seed: int) -> None:
    length, size, _ = drawn
    shortest, longest = allowed_periods(length, size)
    series = torch.randn(3, length, generator=torch.Generator().manual_seed(seed)).cumsum(dim=1)
    found = dominant_period(series, size)
    assert ((found >= shortest) & (found <= longest)).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-4, 1e6), min_size=100, max_size=100))
def test_any_window_of_prices_gives_an_image_in_range_from_which_it_can_be_read(closes: list[float]) -> None:
    candles = torch.from_numpy(make_series(closes).values)[None]
    encoder = TimeSeriesVisionEncoder(32)
    images = encoder(candles)
    assert torch.isfinite(images).all()
    assert images.abs().max() <= 1.0 + 1e-6
    spread = float(np.log(max(closes) / min(closes)))
    read = encoder.read_closes(images, candles)
    assert np.allclose(np.log(read.numpy()[0]), np.log(closes), atol=1e-6 * spread + 1e-12)
