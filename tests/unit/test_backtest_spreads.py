"""Spreads of a backtest: measured from stored quotes, by hour of New York, and charged by symbol and hour."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.backtest.spreads import MeasuredSpreads, candle_side, measured_spreads, with_measured_spreads
from fxcast.data.store import CandleStore
from fxcast.domain.market import DETAILS, MarketCandles, PriceSide, no_details, without_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetup
from fxcast.trading.config import CandleSide, PaperMarketConfig
from fxcast.trading.fill_simulation import observe, open_book
from tests.factories import HOUR, NOON, make_candle, make_intent, make_series
from tests.paper_market import FLAT, configured, d, filled, see

# Wednesday 2017-03-01, 05:00 UTC is midnight in New York; the clocks change on Sunday the 12th.
MIDNIGHT = datetime(2017, 3, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
HOURLY, MINUTE = Timeframe("1h"), Timeframe("1m")


def quoted_candles(
    spread_pips: Callable[[int], tuple[float, float]],
    *,
    bars: int,
    timeframe: str = "1h",
    start: datetime = MIDNIGHT,
    symbol: str = "EURUSD",
    price: float = 1.10,
) -> MarketCandles:
    """Flat candles with bid and ask: each opens and closes with the spreads, in pips, that its position is given."""
    candles = make_series([price] * bars, timeframe=timeframe, start=start, symbol=symbol)
    pip = 0.01 if symbol.endswith("JPY") else 0.0001
    details = no_details(bars).copy()
    for row in range(bars):
        opening, closing = (pips * pip for pips in spread_pips(row))
        for name, value in (
            ("bid_open", price - opening / 2),
            ("ask_open", price + opening / 2),
            ("bid_close", price - closing / 2),
            ("ask_close", price + closing / 2),
            ("spread", closing),
        ):
            details[row, DETAILS.index(name)] = value
    return MarketCandles(candles=candles, side=PriceSide.MID, details=details)


def only_spread(pips: float, *, bars: int, timeframe: str = "1m", start: datetime = MIDNIGHT) -> MarketCandles:
    """Bid candles of which the source says the spread at the close alone, as MetaTrader does."""
    details = no_details(bars).copy()
    details[:, DETAILS.index("spread")] = pips * 0.0001
    return MarketCandles(candles=make_series([1.1] * bars, timeframe=timeframe, start=start), side=PriceSide.BID, details=details)


def store_of(root: Path, *data: MarketCandles) -> CandleStore:
    store = CandleStore(root)
    for each in data:
        store.append(each)
    return store


def measured(
    store: CandleStore, *, symbol: str = "EURUSD", timeframe: Timeframe = HOURLY, start: datetime = MIDNIGHT, days: int = 60
) -> MeasuredSpreads:
    found = measured_spreads(store, symbol, timeframe, start, start + days * DAY)
    assert found is not None
    return found


def test_spread_of_an_hour_is_the_mean_of_what_its_candles_opened_and_closed_with(tmp_path: Path) -> None:
    # Midnight opens at 1 and closes at 2 pips on one day, at 3 and 6 on the next; the other hours have 0.5.
    def pips(row: int) -> tuple[float, float]:
        return (0.5, 0.5) if row % 24 else ((1.0, 2.0), (3.0, 6.0))[row // 24 % 2]

    start = MIDNIGHT - 30 * DAY
    found = measured(store_of(tmp_path, quoted_candles(pips, bars=40 * 24, start=start)), start=start, days=40)
    assert found.pips_by_hour[0] == 3
    assert {found.pips_by_hour[hour] for hour in range(1, 24)} == {d("0.50")}
    assert found.overall == d("0.60")  # (3 + 23 × 0.5) / 24 is 0.604
    assert set(found.candles_by_hour.values()) == {40}
    assert (found.candles, found.crossed, found.thin_hours) == (960, 0, ())


def test_hours_are_of_new_york_when_the_clocks_have_changed_too(tmp_path: Path) -> None:
    rollover = {datetime(2017, 3, day, 22 if day < 12 else 21, tzinfo=UTC) for day in range(1, 32)}  # 17:00 in New York
    candles = quoted_candles(lambda row: (9.0, 9.0) if MIDNIGHT + row * HOUR in rollover else (1.0, 1.0), bars=30 * 24)
    found = measured(store_of(tmp_path, candles), days=30)
    assert {hour for hour, pips in found.pips_by_hour.items() if pips > 1} == {17}
    assert found.pips_by_hour[17] == 9


def test_what_a_candle_closes_with_belongs_to_the_hour_before_its_close(tmp_path: Path) -> None:
    # Candles of 4h open at 17:00, 21:00, 1:00, … and close within 20:00, 0:00, 4:00, …
    start = datetime(2017, 1, 3, 22, tzinfo=UTC)
    candles = quoted_candles(lambda _: (1.0, 3.0), bars=6 * 25, timeframe="4h", start=start)
    found = measured(store_of(tmp_path, candles), timeframe=Timeframe("4h"), start=start)
    assert {hour for hour, pips in found.pips_by_hour.items() if pips == 1} == {1, 5, 9, 13, 17, 21}
    assert {hour for hour, pips in found.pips_by_hour.items() if pips == 3} == {0, 4, 8, 12, 16, 20}
    assert found.candles == 150
    assert (found.candles_by_hour[17], found.candles_by_hour[20], found.candles_by_hour[18]) == (25, 25, 0)
    assert found.pips_by_hour[18] == found.overall == 2


def test_hour_with_few_quotes_has_the_mean_of_all(tmp_path: Path) -> None:
    # Twenty days that begin at 1:00 and lack the last midnight; 1:00 has 25 pips, the other hours one.
    start = MIDNIGHT - 20 * DAY + HOUR
    candles = quoted_candles(lambda row: (1.0, 1.0) if row % 24 else (25.0, 25.0), bars=20 * 24 - 1, start=start)
    found = measured(store_of(tmp_path, candles), start=start, days=20)
    assert (found.candles_by_hour[0], found.candles_by_hour[1]) == (19, 20)
    assert found.thin_hours == (0,)
    assert found.pips_by_hour[0] == found.overall == d("2.00")
    assert (found.pips_by_hour[1], found.pips_by_hour[2]) == (25, 1)


def test_quotes_of_another_timeframe_count_where_the_traded_one_has_none(tmp_path: Path) -> None:
    hourly = without_details(make_series([1.1] * 48, start=MIDNIGHT), PriceSide.BID)
    few, many = only_spread(5.0, bars=20, timeframe="15m"), only_spread(0.8, bars=600)
    found = measured(store_of(tmp_path, hourly, few, many))
    assert (found.timeframe, found.overall, found.candles) == (MINUTE, d("0.80"), 600)
    assert found.pips_by_hour == dict.fromkeys(range(24), d("0.80"))
    assert [found.candles_by_hour[hour] for hour in (0, 9, 10)] == [60, 60, 0]


def test_quotes_of_the_traded_timeframe_come_first(tmp_path: Path) -> None:
    store = store_of(tmp_path, quoted_candles(lambda _: (2.0, 2.0), bars=30), only_spread(0.8, bars=600))
    assert measured(store).overall == 2


def test_only_the_period_counts(tmp_path: Path) -> None:
    store = store_of(tmp_path, quoted_candles(lambda row: (1.0, 1.0) if 24 <= row < 72 else (7.0, 7.0), bars=96))
    found = measured(store, start=MIDNIGHT + DAY, days=2)
    assert (found.overall, found.first, found.last) == (1, MIDNIGHT + DAY, MIDNIGHT + 3 * DAY)


def test_without_a_quote_in_the_period_nothing_is_measured(tmp_path: Path) -> None:
    store = store_of(tmp_path, without_details(make_series(bars=48, start=MIDNIGHT)), only_spread(0.8, bars=60))
    assert measured_spreads(store, "EURUSD", HOURLY, MIDNIGHT + DAY, MIDNIGHT + 2 * DAY) is None
    assert measured_spreads(store, "EURUSD", HOURLY, MIDNIGHT, MIDNIGHT + DAY) is not None


def test_symbol_that_the_store_does_not_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCandles, match="GBPUSD 1h"):
        measured_spreads(store_of(tmp_path, only_spread(0.8, bars=60)), "GBPUSD", HOURLY, MIDNIGHT, MIDNIGHT + DAY)


def test_candle_whose_ask_lies_below_its_bid_is_left_out_and_said(tmp_path: Path) -> None:
    store = store_of(tmp_path, quoted_candles(lambda row: (1.0, -4.0) if row == 5 else (1.0, 1.0), bars=48))
    found = measured(store)
    assert (found.overall, found.candles, found.crossed) == (1, 47, 1)
    assert found.described.endswith("left out, their ask being below the bid: 1 candles.")


def test_pips_of_a_pair_in_yen_are_hundredths(tmp_path: Path) -> None:
    store = store_of(tmp_path, quoted_candles(lambda _: (1.3, 1.3), bars=30, symbol="USDJPY", price=110.0))
    assert measured(store, symbol="USDJPY").overall == d("1.30")


def test_description_says_what_was_measured_and_that_it_is_the_traded_period(tmp_path: Path) -> None:
    candles = quoted_candles(lambda row: (4.0, 4.0) if row // 60 == 1 else (0.5, 0.5), bars=180, timeframe="1m")
    assert measured(store_of(tmp_path, without_details(make_series(bars=24, start=MIDNIGHT)), candles), days=1).described == (
        "EURUSD: mean spread by hour (New York) of the bids and asks of 180 1m candles from 2017-03-01 05:00 to 2017-03-01 08:00 "
        "UTC, measured in the period traded itself (2017-03-01 05:00 to 2017-03-02 05:00 UTC): 1.67 pips overall, "
        "from 0.50 at 0:00 to 4.00 at 1:00; with quotes of fewer than 20 candles, these hours have the overall mean: "
        "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23."
    )


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (PriceSide.BID, CandleSide.BID),
        (PriceSide.ASK, CandleSide.ASK),
        (PriceSide.MID, CandleSide.MID),
        (PriceSide.UNSTATED, None),
    ],
)
def test_side_of_the_stored_candles_is_told_where_it_is_stated(
    tmp_path: Path, side: PriceSide, expected: CandleSide | None
) -> None:
    store = store_of(tmp_path, without_details(make_series(bars=1000), side))  # over two months
    assert candle_side(store, "EURUSD", HOURLY) is expected
    with pytest.raises(BadCandles, match="EURUSD 5m"):
        candle_side(store, "EURUSD", Timeframe("5m"))


# What the paper market does with them

MIDS = PaperMarketConfig(spread_pips=Decimal(1), slippage_pips=Decimal(0))


def closing_spread(config: PaperMarketConfig, symbol: str, hour_utc: int) -> Decimal:
    """The spread that a symbol's flat candle closes with, in pips; March 1st, five hours before UTC."""
    at = datetime(2017, 3, 1, hour_utc, tzinfo=UTC)
    book, _ = observe(open_book(config), symbol, make_candle(*FLAT, open_time=at - HOUR), at)
    return book.marks[symbol].spread * 10_000


def test_most_specific_spread_is_charged() -> None:
    config = configured(MIDS, spread_pips_by_hour={16: 2, 17: 3}, spread_pips_by_symbol={"EURUSD": {17: 5}})
    assert [closing_spread(config, "EURUSD", hour) for hour in (20, 21, 22)] == [1, 2, 5]
    assert [closing_spread(config, "GBPUSD", hour) for hour in (20, 21, 22)] == [1, 2, 3]


def test_symbol_and_hour_need_no_other_setting() -> None:
    config = configured(MIDS, spread_pips_by_symbol={"EURUSD": {17: 5}})
    assert [closing_spread(config, "EURUSD", hour) for hour in (21, 22)] == [1, 5]
    assert closing_spread(config, "GBPUSD", 22) == 1


@pytest.mark.parametrize(("symbol", "stopped"), [("EURUSD", True), ("GBPUSD", False)])
def test_extremes_have_the_widest_of_a_symbols_own_hours(symbol: str, stopped: bool) -> None:
    config = configured(candle_side="mid", spread_pips_by_symbol={"EURUSD": {17: 5}})
    book, _ = see(open_book(config), *FLAT, at=NOON - HOUR, symbol=symbol)
    book, _ = filled(book, make_intent(symbol=symbol, stop="1.09885", target=None))
    # Four hours from 20:00 UTC (15:00 in New York); the low's bid is 1.0990 less 0.00025, or less 0.00005.
    at = NOON + 8 * HOUR
    after, _ = observe(book, symbol, make_candle(1.1, 1.1, 1.0990, 1.1, open_time=at), at + 4 * HOUR)
    assert (after.positions == {}) is stopped


def test_measured_spreads_are_charged_and_leave_the_rest_of_the_market_as_it_was(tmp_path: Path) -> None:
    start = MIDNIGHT - 25 * DAY
    candles = quoted_candles(lambda row: (4.0, 4.0) if row % 24 == 17 else (0.6, 0.6), bars=25 * 24, start=start)
    found = measured(store_of(tmp_path, candles), start=start)
    before = configured(MIDS, commission_per_million=30, spread_pips_by_symbol={"EURUSD": {3: 9}, "GBPUSD": {17: 3}})
    market = with_measured_spreads(before, {"EURUSD": found})
    assert market.spread_pips_by_symbol == {"EURUSD": found.pips_by_hour, "GBPUSD": {17: 3}}
    assert configured(market, spread_pips_by_symbol={}) == configured(before, spread_pips_by_symbol={})
    assert [closing_spread(market, "EURUSD", hour) for hour in (8, 21, 22)] == [d("0.6"), d("0.6"), 4]
    assert with_measured_spreads(before, {}) == before


@pytest.mark.parametrize(
    ("by_symbol", "problem"),
    [
        ({"EUR/USD": {17: 1}}, "found the symbol 'EUR/USD'; allowed: six capital letters, as in EURUSD"),
        ({"EURUSD": {24: 1}}, "found the hour 24; allowed: 0 to 23"),
        ({"EURUSD": {17: -1}}, "found -1 pips at 17; allowed: zero or more"),
    ],
)
def test_spreads_that_make_no_sense_are_refused(by_symbol: dict[str, dict[int, int]], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        configured(spread_pips_by_symbol=by_symbol)


def test_paper_account_from_before_there_were_spreads_by_symbol_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "paper.db"
    PaperBroker(path, MIDS).close()
    with sqlite3.connect(path) as file:
        (content,) = file.execute("SELECT content FROM book").fetchone()
        book = json.loads(content)
        assert book["config"].pop("spread_pips_by_symbol") == {}
        file.execute("UPDATE book SET content = ?", (json.dumps(book),))
    file.close()
    broker = PaperBroker(path, MIDS)
    assert broker.book == open_book(MIDS)
    broker.close()


def test_paper_account_keeps_its_spreads_by_symbol(tmp_path: Path) -> None:
    config = configured(MIDS, spread_pips_by_symbol={"EURUSD": {17: "4.25"}})
    for _ in range(2):
        broker = PaperBroker(tmp_path / "paper.db", config)
        assert broker.book.config.spread_pips_by_symbol == {"EURUSD": {17: d("4.25")}}
        broker.close()
    with pytest.raises(BadSetup, match="was opened with spread_pips_by_symbol"):
        PaperBroker(tmp_path / "paper.db", MIDS)
