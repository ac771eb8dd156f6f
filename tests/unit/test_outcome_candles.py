"""Which candles say what became of a forecast: those up to its outcome, without an outage between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from fxcast.data.outcome_candles import outcome_candles, unbroken
from fxcast.data.store import CandleStore
from fxcast.data.windows import stored_candles
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles
from tests.factories import HOUR, make_series

HOURLY = Timeframe("1h")
MONDAY = datetime(2017, 3, 6, tzinfo=UTC)


def without(series: CandleSeries, missing: list[int]) -> CandleSeries:
    kept = np.setdiff1d(np.arange(len(series)), missing)
    return taken(series, kept)


def taken(series: CandleSeries, kept: np.ndarray[tuple[int], np.dtype[np.int64]]) -> CandleSeries:
    return CandleSeries(
        symbol=series.symbol, timeframe=series.timeframe, open_times=series.open_times[kept], values=series.values[kept]
    )


def lengths(series: CandleSeries) -> list[int]:
    return [len(part) for part in unbroken(series)]


def test_a_weekend_breaks_no_series() -> None:
    whole = make_series(bars=400, start=MONDAY)
    week = taken(whole, np.flatnonzero(open_mask(whole.open_times)))
    assert len(week) < len(whole)
    assert lengths(week) == [len(week)]


@pytest.mark.parametrize(("missing", "expected"), [([10], [29]), ([10, 11], [28]), ([10, 11, 12], [10, 17]), ([10, 20], [28])])
def test_a_market_at_rest_breaks_no_series_and_an_outage_does(missing: list[int], expected: list[int]) -> None:
    assert lengths(without(make_series(bars=30, start=MONDAY), missing)) == expected


def test_an_outage_that_ends_after_the_weekend_is_one() -> None:
    whole = make_series(bars=200, start=MONDAY)
    week = taken(whole, np.flatnonzero(open_mask(whole.open_times)))
    friday = int(np.flatnonzero(np.diff(week.open_times) > np.timedelta64(24, "h"))[0])
    assert lengths(without(week, [friday - 1, friday])) == [len(week) - 2]
    assert lengths(without(week, [friday - 1, friday, friday + 1])) == [friday - 1, len(week) - friday - 2]


def test_only_what_has_closed_and_what_is_needed_is_read(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    store.append(make_series(bars=24 * 200, start=datetime(2017, 1, 1, tzinfo=UTC)))
    made_at, now = datetime(2017, 6, 1, tzinfo=UTC), datetime(2017, 6, 3, 10, 30, tzinfo=UTC)
    (series,) = outcome_candles(store, "EURUSD", HOURLY, [(made_at, 240)], now)
    assert made_at in {to_datetime(moment) for moment in series.close_times}
    assert to_datetime(series.close_times[-1]) == datetime(2017, 6, 3, 10, tzinfo=UTC)
    assert len(series) < 24 * 6
    assert list(outcome_candles(store, "EURUSD", HOURLY, [(now + timedelta(days=9), 240)], now)) == []


def test_forecasts_far_apart_are_read_apart_and_near_ones_together(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    series = make_series(bars=24 * 200, start=datetime(2017, 1, 1, tzinfo=UTC))
    store.append(taken(series, np.flatnonzero(open_mask(series.open_times))))
    january, june = datetime(2017, 1, 10, tzinfo=UTC), datetime(2017, 6, 1, tzinfo=UTC)
    asked = [(june, 960), (january, 240), (january + HOUR, 240)]
    first, second = outcome_candles(store, "EURUSD", HOURLY, asked, datetime(2018, 1, 1, tzinfo=UTC))
    assert to_datetime(first.close_times[-1]) < datetime(2017, 1, 20, tzinfo=UTC) < to_datetime(second.open_times[0])


@pytest.mark.parametrize("horizon", [1440, 7200, 28_800])
@pytest.mark.parametrize("made_at", [datetime(2016, 12, 22, 21, tzinfo=UTC), datetime(2017, 3, 10, 20, tzinfo=UTC)])
def test_what_is_read_reaches_the_outcome_over_weekends_and_holidays(tmp_path: Path, made_at: datetime, horizon: int) -> None:
    store = CandleStore(tmp_path)
    whole = make_series(bars=24 * 140, start=datetime(2016, 12, 1, tzinfo=UTC))
    store.append(taken(whole, np.flatnonzero(open_mask(whole.open_times))))
    (series,) = outcome_candles(store, "EURUSD", HOURLY, [(made_at, horizon)], datetime(2018, 1, 1, tzinfo=UTC))
    closes = [to_datetime(moment) for moment in series.close_times]
    assert closes.index(made_at) + HOURLY.bars(horizon) < len(closes)


def test_candles_are_made_of_shorter_ones_where_only_those_are_stored(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    quarters = make_series(bars=4 * 24, timeframe="15m", start=MONDAY)
    store.append(quarters)
    found = stored_candles(store, "EURUSD", HOURLY, MONDAY + 2 * HOUR, MONDAY + 5 * HOUR + timedelta(minutes=20))
    assert [to_datetime(moment) for moment in found.open_times] == [MONDAY + hour * HOUR for hour in (2, 3, 4)]
    assert (found.closes == quarters.closes[[11, 15, 19]]).all()
    nothing = stored_candles(store, "EURUSD", HOURLY, MONDAY - 9 * HOUR, MONDAY - 5 * HOUR)
    assert (len(nothing), nothing.timeframe) == (0, HOURLY)


def test_a_series_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(BadCandles, match="found EURUSD 1h"):
        list(outcome_candles(CandleStore(tmp_path), "EURUSD", HOURLY, [(MONDAY, 240)], MONDAY + 9 * HOUR))
