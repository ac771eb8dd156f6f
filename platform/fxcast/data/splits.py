"""Cut a series into training, validation and test, in time order and purged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.errors import BadCandles, BadSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class Periods:
    """Half-open ranges of positions (start, stop); `purge_bars` candles between them belong to none."""

    train: tuple[int, int]
    validation: tuple[int, int]
    test: tuple[int, int]


def split_in_time(series: CandleSeries, *, validation_share: float, test_share: float, purge_bars: int) -> Periods:
    """Split by shares of the whole, the test period last.

    The outcome of the last window of a period lies up to `purge_bars` candles ahead; that many are left out before the next
    period, so no outcome seen in training is scored later.

    Raises:
        BadCandles: If a period is too short for one window and its outcome.
    """
    total = len(series)
    test_start = total - round(total * test_share)
    validation_start = test_start - purge_bars - round(total * validation_share)
    return _checked(series, validation_start, test_start, purge_bars, ("train", "validation", "test"))


def split_at(series: CandleSeries, *, validation_from: datetime, test_from: datetime, purge_bars: int) -> Periods:
    """Split at two moments, likewise purged; the test period may be empty, for whoever tests on other candles.

    Raises:
        BadSetting: If the moments are not in order.
        BadCandles: If the training or the validation period is too short for one window and its outcome.
    """
    if validation_from >= test_from:
        raise BadSetting(
            f"validation_from: found {validation_from.isoformat()}; allowed: before test_from, {test_from.isoformat()}"
        )
    validation_start, test_start = (
        int(np.searchsorted(series.open_times, to_datetime64(moment))) for moment in (validation_from, test_from)
    )
    return _checked(series, validation_start, test_start, purge_bars, ("train", "validation"))


def _checked(series: CandleSeries, validation_start: int, test_start: int, purge_bars: int, needed: tuple[str, ...]) -> Periods:
    total = len(series)
    periods = Periods(
        train=(0, validation_start - purge_bars),
        validation=(validation_start, test_start - purge_bars),
        test=(test_start, total),
    )
    for name in needed:
        start, stop = getattr(periods, name)
        if stop - start < CONTEXT_BARS + purge_bars:
            raise BadCandles(
                "candles",
                f"{max(stop - start, 0)} in the {name} period of {total}",
                f"at least {CONTEXT_BARS + purge_bars} in each period",
            )
    return periods
