"""RP: the unthresholded recurrence plot, how near the series comes to itself. Source: Eckmann et al. 1987, EPL 4:973."""

from __future__ import annotations

from torch import Tensor


def recurrence_plot(series: Tensor) -> Tensor:
    """Return 1 − |x_i − x_j| of series in [−1, 1]: 1 where the series returns to a value, −1 where it is farthest.

    Args:
        series: (batch, length).

    Returns:
        (batch, length, length), in [−1, 1].
    """
    return 1.0 - (series[:, :, None] - series[:, None, :]).abs()  # (batch, length, length)
