"""Buy and hold, reckoned by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from fxcast.domain.candle import to_datetime
from fxcast.errors import BadSetup
from fxcast.performance.buy_and_hold import buy_and_hold
from fxcast.performance.measure import measure_curve
from fxcast.trading.config import CandleSide, PaperMarketConfig
from tests.factories import make_series

MONDAY = datetime(2017, 3, 6, tzinfo=UTC)
LATER = datetime(2018, 1, 1, tzinfo=UTC)


def market(**changes: object) -> PaperMarketConfig:
    return PaperMarketConfig.model_validate({"starting_balance": Decimal(11_001), "spread_pips": Decimal(2), **changes})


def test_the_balance_buys_at_the_ask_and_is_worth_the_bid() -> None:
    # Mids 1.10, 1.12: bought at 1.1001, so 10,000 euros; worth 1.0999 at once and 1.1199 an hour later.
    curve = buy_and_hold({"EURUSD": make_series([1.10, 1.12], start=MONDAY)}, MONDAY, LATER, market())
    assert curve.balance.tolist() == [11_001, 11_001]
    assert curve.open_profit.tolist() == pytest.approx([-2.0, 198.0])
    assert curve.exposure.tolist() == pytest.approx([11_000.0, 11_200.0])
    assert [to_datetime(each).hour for each in curve.times] == [1, 2]


@pytest.mark.parametrize(("side", "bid"), [(CandleSide.BID, 1.10), (CandleSide.MID, 1.0999), (CandleSide.ASK, 1.0998)])
def test_the_spread_is_paid_once_whichever_side_the_candles_are_of(side: CandleSide, bid: float) -> None:
    curve = buy_and_hold({"EURUSD": make_series([1.10], start=MONDAY)}, MONDAY, LATER, market(candle_side=side))
    assert curve.equity[0] == pytest.approx(11_001 * bid / (bid + 0.0002))


def test_only_candles_that_close_in_the_time_are_seen() -> None:
    series = make_series([1.0, 1.1, 1.2, 1.3, 1.4], start=MONDAY)
    curve = buy_and_hold({"EURUSD": series}, to_datetime(series.close_times[1]), to_datetime(series.close_times[3]), market())
    assert (curve.times == series.close_times[1:3]).all()
    assert curve.exposure.tolist() == pytest.approx([11_001 * 1.1 / 1.1001, 11_001 * 1.2 / 1.1001])


def test_a_pair_of_the_account_s_own_currency_profits_in_the_other() -> None:
    # 11,000 dollars against yen at 110.00: a rise to 121 wins 121,000 yen, which are 1,000 dollars at 121.
    series = {"USDJPY": make_series([110.0, 121.0], symbol="USDJPY", start=MONDAY)}
    curve = buy_and_hold(series, MONDAY, LATER, market(starting_balance=Decimal(11_000), spread_pips=Decimal(0)))
    assert curve.open_profit.tolist() == pytest.approx([0.0, 1_000.0])
    assert curve.exposure.tolist() == pytest.approx([11_000.0, 11_000.0])


def test_symbols_get_equal_shares_and_other_series_only_convert() -> None:
    series = {
        "EURUSD": make_series([1.25, 1.50], start=MONDAY),
        "EURGBP": make_series([0.80, 0.88], symbol="EURGBP", start=MONDAY),
        "GBPUSD": make_series([1.5625, 1.5625], symbol="GBPUSD", start=MONDAY),
    }
    free = market(starting_balance=Decimal(10_000), spread_pips=Decimal(0))
    curve = buy_and_hold(series, MONDAY, LATER, free, symbols=["EURUSD", "EURGBP"])
    # 4,000 euros each way: 0.25 dollars, and 0.08 pounds at 1.5625 dollars, for each.
    assert curve.open_profit.tolist() == pytest.approx([0.0, 4_000 * 0.25 + 4_000 * 0.08 * 1.5625])


def test_a_symbol_that_begins_later_is_bought_later() -> None:
    series = {
        "EURUSD": make_series([1.0, 2.0, 2.0], start=MONDAY),
        "GBPUSD": make_series([1.0, 2.0], symbol="GBPUSD", start=datetime(2017, 3, 6, 1, tzinfo=UTC)),
    }
    curve = buy_and_hold(series, MONDAY, LATER, market(starting_balance=Decimal(200), spread_pips=Decimal(0)))
    assert curve.equity.tolist() == pytest.approx([200.0, 300.0, 400.0])


def test_interest_is_booked_at_five_in_new_york_and_threefold_on_wednesday() -> None:
    # From Tuesday 12:00 UTC, hourly: rolls at 22:00 UTC of Tuesday, Wednesday, Thursday, Friday.
    start = datetime(2017, 3, 7, 12, tzinfo=UTC)
    series = {"EURUSD": make_series([1.0] * 96, start=start)}
    curve = buy_and_hold(
        series,
        start,
        LATER,
        market(starting_balance=Decimal(36_500), spread_pips=Decimal(0), swap_pct_long={"EURUSD": Decimal(-1)}),
    )
    steps = np.diff(curve.balance)
    booked = {str(curve.times[at + 1]): round(float(steps[at]), 6) for at in np.flatnonzero(steps)}
    assert booked == {
        "2017-03-07T22:00:00": -1.0,
        "2017-03-08T22:00:00": -3.0,
        "2017-03-09T22:00:00": -1.0,
        "2017-03-10T22:00:00": -1.0,
    }


def test_the_spread_is_that_of_the_hour() -> None:
    wide = market(spread_pips_by_hour={20: Decimal(20)})  # 20:00 New York is 01:00 UTC
    curve = buy_and_hold({"EURUSD": make_series([1.10, 1.10], start=MONDAY)}, MONDAY, LATER, wide)
    assert curve.equity[0] == pytest.approx(11_001 * 1.0990 / 1.1010)
    assert curve.equity[1] == pytest.approx(11_001 * 1.0999 / 1.1010)


def test_what_is_missing_is_named() -> None:
    euro_pound = {"EURGBP": make_series([0.8], symbol="EURGBP", start=MONDAY)}
    with pytest.raises(BadSetup, match="no candles lead from EUR and GBP to the account's USD"):
        buy_and_hold(euro_pound, MONDAY, LATER, market())
    with pytest.raises(BadSetup, match="no candles of AUDUSD; found: EURGBP"):
        buy_and_hold(euro_pound, MONDAY, LATER, market(), symbols=["AUDUSD"])
    with pytest.raises(BadSetup, match="EURUSD has no candle that closes from 2018"):
        buy_and_hold({"EURUSD": make_series([1.1], start=MONDAY)}, LATER, LATER, market())


def test_conversion_that_only_begins_later_delays_the_purchase_or_is_named() -> None:
    series = {
        "EURGBP": make_series([0.8, 0.8, 0.88], symbol="EURGBP", start=MONDAY),
        "GBPUSD": make_series([1.25, 1.25], symbol="GBPUSD", start=datetime(2017, 3, 6, 1, tzinfo=UTC)),
    }
    free = market(starting_balance=Decimal(1_000), spread_pips=Decimal(0))
    assert buy_and_hold(series, MONDAY, LATER, free, symbols=["EURGBP"]).exposure.tolist() == pytest.approx([0, 1_000, 1_100])
    too_late = {**series, "GBPUSD": make_series([1.25], symbol="GBPUSD", start=LATER)}
    with pytest.raises(BadSetup, match="EURGBP can't be bought"):
        buy_and_hold(too_late, MONDAY, datetime(2017, 6, 1, tzinfo=UTC), free, symbols=["EURGBP"])


def test_it_is_measured_without_trades() -> None:
    curve = buy_and_hold({"EURUSD": make_series(bars=1_000, start=MONDAY)}, MONDAY, LATER, market())
    measures = measure_curve(curve, 11_001.0, draws=100)
    assert measures.trades == 0
    assert measures.exposure == 1.0
    assert measures.sharpe.low is not None
    assert measures.net_profit == pytest.approx(curve.open_profit[-1])
