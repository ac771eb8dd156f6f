"""Golden cases of longer candles: the clock's changes, Friday's close, partial candles, gaps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fxcast.data.resample import resample
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.market import DETAILS, MarketCandles, PriceSide, no_details, without_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles
from tests.factories import make_series


def market(*opens: str, timeframe: str = "1h") -> MarketCandles:
    """Candles that open at these times; the first is 1.001 1.101 0.901 1.001, the next 0.001 higher."""
    moments = np.array([to_datetime64(datetime.fromisoformat(moment).replace(tzinfo=UTC)) for moment in opens])
    prices = 1.0 + 0.001 * np.arange(1, len(opens) + 1)
    values = np.column_stack([prices, prices + 0.1, prices - 0.1, prices, np.full(len(opens), 10.0)])
    return without_details(CandleSeries(symbol="EURUSD", timeframe=Timeframe(timeframe), open_times=moments, values=values))


def opens_of(data: MarketCandles) -> list[str]:
    return [to_datetime(moment).strftime("%m-%d %H:%M") for moment in data.open_times]


def hours(first: str, count: int) -> list[str]:
    start = datetime.fromisoformat(first)
    return [(start + timedelta(hours=hour)).isoformat() for hour in range(count)]


@pytest.mark.parametrize(
    ("friday", "sunday", "days"),
    [
        # The week of the American change: Friday still ends at 22:00 UTC, Sunday begins at 21:00.
        ("2024-03-08T00:00", "2024-03-10T21:00", ["03-07 22:00", "03-10 21:00"]),
        # Europe's change is not New York's: 21:00 before and after.
        ("2024-03-29T00:00", "2024-03-31T21:00", ["03-28 21:00", "03-31 21:00"]),
        # And back: Friday ends at 21:00, Sunday begins at 22:00.
        ("2024-11-01T00:00", "2024-11-03T22:00", ["10-31 21:00", "11-03 22:00"]),
    ],
)
def test_day_follows_new_yorks_clock_and_not_europes(friday: str, sunday: str, days: Sequence[str]) -> None:
    data = market(*hours(friday, 20), *hours(sunday, 24))
    made = resample(data, Timeframe("1d"))
    assert opens_of(made.data) == days
    assert made.data.candles.values[:, 4].tolist() == [200.0, 240.0]
    assert not made.last_is_partial


def test_four_hour_candles_are_six_a_day_from_five_in_the_afternoon_in_new_york() -> None:
    data = market(*hours("2024-03-10T21:00", 24))
    made = resample(data, Timeframe("4h")).data
    assert opens_of(made) == ["03-10 21:00", "03-11 01:00", "03-11 05:00", "03-11 09:00", "03-11 13:00", "03-11 17:00"]
    assert made.candles.values[1].tolist() == pytest.approx([1.005, 1.108, 0.905, 1.008, 40.0])


def test_hours_of_the_closed_sunday_on_which_the_clock_jumps_stay_in_order() -> None:
    data = market(*hours("2024-03-09T22:00", 23), "2024-03-10T21:00")
    assert opens_of(resample(data, Timeframe("1d")).data) == ["03-09 22:00", "03-10 21:00"]
    assert opens_of(resample(data, Timeframe("4h")).data) == [
        "03-09 22:00", "03-10 02:00", "03-10 06:00", "03-10 09:00", "03-10 13:00", "03-10 17:00", "03-10 21:00"
    ]  # fmt: skip


def test_hours_of_the_closed_sunday_on_which_the_clock_goes_back_are_complete_at_the_close_of_their_candle() -> None:
    data = market(*hours("2024-11-03T01:00", 6))
    for name, opens in (("4h", ["11-03 01:00", "11-03 05:00", "11-03 06:00"]), ("1d", ["11-02 21:00", "11-02 22:00"])):
        made = resample(data, Timeframe(name), as_of=datetime(2024, 11, 3, 8, 59, tzinfo=UTC))
        assert opens_of(made.data) == opens
        assert (made.growing, opens_of(made.complete)) == (2, opens[:-2]), "the grid starts again before the old candle closes"
    later = resample(data, Timeframe("4h"), as_of=datetime(2024, 11, 3, 9, 0, tzinfo=UTC))
    assert opens_of(later.complete) == ["11-03 01:00", "11-03 05:00"]


def test_friday_five_oclock_ends_the_candles_of_every_timeframe() -> None:
    data = market("2024-03-08T21:58", "2024-03-08T21:59", "2024-03-10T21:00", timeframe="1m")
    for name in ("5m", "15m", "1h", "4h", "1d"):
        friday = resample(data.slice(0, 2), Timeframe(name))
        assert not friday.last_is_partial
        assert to_datetime(friday.data.candles.close_times[-1]) == datetime(2024, 3, 8, 22, tzinfo=UTC)
        whole = resample(data, Timeframe(name))
        assert whole.last_is_partial
        assert opens_of(whole.data)[1] == "03-10 21:00"
        assert whole.data.candles.values[:, 4].tolist() == [20.0, 10.0]


def test_last_candle_is_partial_until_the_moment_reaches_its_close() -> None:
    data = market("2024-03-06T10:00", "2024-03-06T10:01", "2024-03-06T10:05", timeframe="1m")
    five = Timeframe("5m")
    without = resample(data, five)
    assert without.last_is_partial
    assert opens_of(without.data) == ["03-06 10:00", "03-06 10:05"]
    assert opens_of(without.complete) == ["03-06 10:00"]
    # A minute without a quote has no candle: only who knows the time knows that 10:05 to 10:10 is over.
    assert resample(data, five, as_of=datetime(2024, 3, 6, 10, 9, 59, tzinfo=UTC)).last_is_partial
    assert not resample(data, five, as_of=datetime(2024, 3, 6, 10, 10, tzinfo=UTC)).last_is_partial


def test_candles_that_close_after_the_moment_are_left_out() -> None:
    data = market("2024-03-06T10:00", "2024-03-06T10:01", "2024-03-06T10:02", timeframe="1m")
    then = resample(data, Timeframe("5m"), as_of=datetime(2024, 3, 6, 10, 2, 30, tzinfo=UTC))
    assert then.data.candles.values[0].tolist() == pytest.approx([1.001, 1.102, 0.901, 1.002, 20.0])
    assert not len(resample(data, Timeframe("5m"), as_of=datetime(2024, 3, 6, 10, 0, 59, tzinfo=UTC)).data)


def test_gap_stays_a_gap() -> None:
    data = market("2024-03-06T10:00", "2024-03-06T13:59", timeframe="1m")
    assert opens_of(resample(data, Timeframe("1h")).data) == ["03-06 10:00", "03-06 13:00"]


def test_bid_ask_spread_and_volumes_are_what_is_known_of_them() -> None:
    plain = market("2024-03-06T10:00", "2024-03-06T10:01", "2024-03-06T10:02", timeframe="1m")
    details = no_details(3).copy()
    for name, known in {
        "bid_open": (np.nan, 1.2, 1.3), "bid_high": (1.5, np.nan, 1.6), "bid_low": (1.1, 1.0, np.nan),
        "bid_close": (1.2, 1.3, np.nan), "spread": (0.1, 0.2, np.nan), "tick_volume": (3.0, np.nan, 4.0),
    }.items():  # fmt: skip
        details[:, DETAILS.index(name)] = known
    made = resample(MarketCandles(candles=plain.candles, side=PriceSide.MID, details=details), Timeframe("5m")).data
    found = {name: float(made.detail(name)[0]) for name in DETAILS if not np.isnan(made.detail(name)[0])}
    assert found == {"bid_open": 1.2, "bid_high": 1.6, "bid_low": 1.0, "bid_close": 1.3, "spread": 0.2, "tick_volume": 7.0}
    assert made.side is PriceSide.MID


def test_own_timeframe_and_nothing_at_all_stay_as_they_are() -> None:
    data = market("2024-03-06T10:00", "2024-03-06T11:00")
    same = resample(data, Timeframe("1h"))
    assert opens_of(same.data) == opens_of(data)
    assert not same.last_is_partial
    nothing = resample(data.slice(0, 0), Timeframe("4h"))
    assert (len(nothing.data), nothing.data.timeframe, nothing.last_is_partial) == (0, Timeframe("4h"), False)


def test_shorter_timeframe_is_refused_by_both_names() -> None:
    with pytest.raises(BadCandles, match="timeframe: found 5m from candles of 1h; allowed: 1h or a multiple of it"):
        resample(without_details(make_series()), Timeframe("5m"))


def test_candles_that_the_day_would_cut_are_refused() -> None:
    with pytest.raises(BadCandles, match="2024-03-06T20:00:00, a candle of 4h that closes after the 1d candle of 2024-03-05T22"):
        resample(market("2024-03-06T16:00", "2024-03-06T20:00", timeframe="4h"), Timeframe("1d"))
