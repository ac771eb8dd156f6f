"""Periods follow each other in time, apart by the purge."""

from __future__ import annotations

import numpy as np
import pytest

from fxcast.data.splits import Periods, split_at, split_in_time
from fxcast.data.windows import window_ends
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting

PURGE = 64


def hourly(bars: int) -> CandleSeries:
    return CandleSeries(
        symbol="EURUSD",
        timeframe=Timeframe("1h"),
        open_times=np.datetime64("2017-03-06T00:00:00", "s") + np.arange(bars) * np.timedelta64(3600, "s"),
        values=np.tile([1.10, 1.12, 1.09, 1.11, 5.0], (bars, 1)),
    )


def test_periods_are_in_order_and_a_purge_apart() -> None:
    periods = split_in_time(hourly(2000), validation_share=0.15, test_share=0.2, purge_bars=PURGE)
    assert periods.train[0] == 0
    assert periods.validation[0] - periods.train[1] == PURGE
    assert periods.test[0] - periods.validation[1] == PURGE
    assert periods.test == (1600, 2000)
    assert periods.validation[1] - periods.validation[0] == 300


def test_no_outcome_of_a_period_reaches_into_the_next() -> None:
    series = hourly(2000)
    periods = split_in_time(series, validation_share=0.15, test_share=0.2, purge_bars=PURGE)
    for (start, stop), later in ((periods.train, periods.validation), (periods.validation, periods.test)):
        ends = window_ends(series, future_bars=PURGE, start=start, stop=stop)
        assert len(ends) > 0
        assert ends.max() + PURGE < later[0]


def test_a_longer_test_share_only_takes_from_the_past() -> None:
    short = split_in_time(hourly(2000), validation_share=0.15, test_share=0.2, purge_bars=PURGE)
    longer = split_in_time(hourly(2000), validation_share=0.15, test_share=0.3, purge_bars=PURGE)
    assert longer.test[0] < short.test[0]
    assert longer.test[1] == short.test[1] == 2000


@pytest.mark.parametrize(
    ("bars", "validation_share", "test_share", "period"),
    [(2000, 0.6, 0.4, "train"), (2000, 0.05, 0.2, "validation"), (2000, 0.2, 0.05, "test"), (0, 0.2, 0.2, "train")],
)
def test_a_period_too_short_for_one_window_is_named(bars: int, validation_share: float, test_share: float, period: str) -> None:
    with pytest.raises(BadCandles, match=f"in the {period} period of {bars}"):
        split_in_time(hourly(bars), validation_share=validation_share, test_share=test_share, purge_bars=PURGE)


def test_a_period_of_exactly_one_window_is_long_enough() -> None:
    needed = CONTEXT_BARS + PURGE
    periods = split_in_time(hourly(1000), validation_share=needed / 1000, test_share=needed / 1000, purge_bars=PURGE)
    assert periods.test[1] - periods.test[0] == needed


def test_moments_split_as_shares_do() -> None:
    series = hourly(2000)
    by_share = split_in_time(series, validation_share=0.15, test_share=0.2, purge_bars=PURGE)
    moments = [to_datetime(series.open_times[period[0]]) for period in (by_share.validation, by_share.test)]
    assert split_at(series, validation_from=moments[0], test_from=moments[1], purge_bars=PURGE) == by_share


def test_candles_may_end_where_testing_begins() -> None:
    series = hourly(1000)
    begins = to_datetime(series.open_times[700])
    periods = split_at(series, validation_from=begins, test_from=to_datetime(series.close_times[-1]), purge_bars=PURGE)
    assert periods == Periods(train=(0, 700 - PURGE), validation=(700, 1000 - PURGE), test=(1000, 1000))


def test_moments_out_of_order_and_periods_too_short_are_refused() -> None:
    series = hourly(1000)
    early, late = to_datetime(series.open_times[100]), to_datetime(series.open_times[900])
    with pytest.raises(
        BadSetting, match="validation_from: found 2017-04-12T12:00:00\\+00:00; allowed: before test_from, 2017-03-10"
    ):
        split_at(series, validation_from=late, test_from=early, purge_bars=PURGE)
    with pytest.raises(BadCandles, match="in the train period of 1000"):
        split_at(series, validation_from=early, test_from=late, purge_bars=PURGE)
