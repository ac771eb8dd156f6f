"""What an engine does when clocks jump, when New York changes its clocks, and when a weekend's gap jumps over a stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.domain.calendar import is_open
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.order import FillReason, OrderPurpose
from fxcast.domain.signal import Verdict
from fxcast.trading.config import PaperMarketConfig
from fxcast.trading.engine import EngineConfig
from fxcast.trading.runner import Runner
from tests.factories import HOUR, make_series
from tests.fakes import ScriptedForecasts, SeriesFeed, SettableClock
from tests.fault_worlds import HORIZON_BARS, TRADING, OandaWorld, oanda_world, rising
from tests.state import job_database

FRIDAY = datetime(2017, 3, 10, 20, tzinfo=UTC)  # two hours before New York closes the week, and changes its clocks
SUNDAY_OPEN = datetime(2017, 3, 12, 21, tzinfo=UTC)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OandaWorld]:
    with oanda_world(tmp_path, monkeypatch) as opened:
        yield opened


# Clocks jump.


@pytest.mark.parametrize(
    ("jump", "reason"),
    [
        (HOUR, "the candle closed 3600 s ago, more than 120"),
        (-HOUR, "the clock stands 3600 s before the candle's close"),
    ],
)
def test_a_clock_that_jumped_opens_nothing_lets_go_of_what_is_open_and_trades_again_when_it_is_right(
    world: OandaWorld, jump: timedelta, reason: str
) -> None:
    stop = world.open_position().stop
    for _ in range(HORIZON_BARS):
        assert world.trade.stop == stop
        world.close_candle(clock_off=jump)
    world.close_candle(clock_off=jump)
    assert not world.account.open_trades, "its horizon counts candles"
    assert {signal.reason for signal in world.ledger.signals()[1:]} == {reason}
    assert world.server.calls("POST orders") == 2
    world.close_candle()
    assert len(world.account.open_trades) == 1


# New York changes its clocks.


class PaperWeek:
    """An engine that trades one pair at the paper broker over a weekend; closes are 1.10, or what `closes` says from a time on."""

    def __init__(self, folder: Path, first_close: datetime, last_close: datetime, closes: Mapping[datetime, float]) -> None:
        opens = [first_close - n * HOUR for n in range(CONTEXT_BARS, 0, -1)]
        opens += [first_close + n * HOUR for n in range(int((last_close - first_close) / HOUR))]
        opens = [moment for moment in opens if moment < first_close or is_open(moment)]
        values = make_series([_close_at(moment, closes) for moment in opens], range_width=0.00001).values.copy()
        for position, moment in enumerate(opens):
            if moment in closes:  # a gap
                values[position, :4] = closes[moment]
        times = np.array([moment.replace(tzinfo=None) for moment in opens], dtype="datetime64[s]")
        self.series = CandleSeries(symbol="EURUSD", timeframe=make_series().timeframe, open_times=times, values=values)
        self.clock = SettableClock(first_close)
        market = PaperMarketConfig(swap_pct_long={"EURUSD": Decimal("-3.65")})
        self.broker = PaperBroker(None, market)
        url = job_database(folder, "ledger")
        migrate(url)
        self.ledger = SqlLedger(open_database(url), "paper")
        self.days: dict[datetime, date | None] = {}

    def run(self, *, exit_at_horizon: bool = False) -> Runner:
        management = TRADING.management.model_copy(update={"exit_at_horizon": exit_at_horizon})
        runner = Runner(
            EngineConfig(trading=TRADING.model_copy(update={"management": management})),
            feed=SeriesFeed(self.series, clock=self.clock),
            broker=self.broker,
            ledger=self.ledger,
            clock=self.clock,
            forecasts=ScriptedForecasts(rising),
            observers=[self.broker],
        )
        runner.start()
        for closed in runner.closed_candles():
            runner.handle(closed)
            self.days[closed[0].closed_at] = runner.state.day
        return runner


def _close_at(moment: datetime, closes: Mapping[datetime, float]) -> float:
    return next((close for since, close in sorted(closes.items(), reverse=True) if moment >= since), 1.10)


@pytest.mark.parametrize(
    ("thursday", "turn_before", "turn_after"),
    [(datetime(2017, 3, 9, tzinfo=UTC), 22, 21), (datetime(2017, 11, 2, tzinfo=UTC), 21, 22)],
    ids=["an hour is lost", "an hour is won"],
)
def test_days_weekends_and_interest_follow_new_york_when_it_changes_its_clocks(
    tmp_path: Path, thursday: datetime, turn_before: int, turn_after: int
) -> None:
    friday, monday = thursday + timedelta(days=1), thursday + timedelta(days=4)
    week = PaperWeek(tmp_path, thursday + 12 * HOUR, monday + 24 * HOUR, {})

    week.run()

    turns = [at for at, before in zip(list(week.days)[1:], week.days, strict=False) if week.days[at] != week.days[before]]
    sunday_open = monday - timedelta(days=1) + turn_after * HOUR
    assert turns == [
        thursday + turn_before * HOUR,
        friday + turn_before * HOUR,  # when Monday's day begins
        monday + turn_after * HOUR,
    ]
    booked = [each.booked_at for each in week.ledger.financings()]
    assert booked == [thursday + turn_before * HOUR, friday + turn_before * HOUR, monday + turn_after * HOUR]
    refused = {each.signal.made_at: each.reason for each in week.ledger.signals() if each.verdict is Verdict.REJECTED}
    close = friday + turn_before * HOUR
    assert refused[close - HOUR] == "the week closes in 60 minutes, cut-off 60"
    assert refused[close] == "the market is closed"
    assert "week" not in refused[close - 2 * HOUR]
    assert "market" not in refused[sunday_open + HOUR]


# The weekend's gap.


def test_a_gap_through_the_stop_is_filled_at_the_open_and_its_whole_loss_counts_for_the_day(tmp_path: Path) -> None:
    week = PaperWeek(tmp_path, FRIDAY, SUNDAY_OPEN + 6 * HOUR, {SUNDAY_OPEN: 1.05})

    runner = week.run()

    (closed,) = week.ledger.positions()
    fill = week.ledger.fills()[-1]
    assert (fill.reason, fill.filled_at) == (FillReason.STOP, SUNDAY_OPEN)
    assert fill.price < Decimal("1.05000") < closed.position.stop, "the bid at the open, less the slippage"
    assert closed.profit is not None
    assert fill.profit == (fill.price - closed.position.entry_price) * fill.units
    assert closed.profit <= fill.profit < -3_000
    after = [each for each in week.ledger.signals() if each.signal.made_at > SUNDAY_OPEN]
    assert len(after) == 6
    assert all("% lost today, limit 2 %" in each.reason for each in after)
    assert runner.state.day_first_equity is not None
    assert runner.state.day_first_equity > 99_900, "what the account was worth when the week closed"
    assert len(week.ledger.orders()) == 1


def test_nothing_is_sent_at_a_close_that_ends_the_week(tmp_path: Path) -> None:
    opened_at = FRIDAY + 2 * HOUR - HORIZON_BARS * HOUR  # its horizon passes when the week closes
    week = PaperWeek(tmp_path, opened_at, SUNDAY_OPEN + 3 * HOUR, {})

    week.run(exit_at_horizon=True)

    exits = [each.intent for each in week.ledger.orders() if each.intent.purpose is OrderPurpose.CLOSE]
    assert [each.created_at for each in exits] == [SUNDAY_OPEN + HOUR]
    assert all(is_open(each.intent.created_at) for each in week.ledger.orders())


def test_a_market_that_is_closed_gets_no_order_and_a_gap_is_in_the_books_when_it_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with oanda_world(tmp_path, monkeypatch, first_close=FRIDAY) as world:
        trade = world.open_position()
        world.close_candle()
        closed = world.next_closed()  # at 17:00 New York
        world.account.halted.add("EUR_USD")
        stop = trade.stop
        world.account.set_stop_by_hand(trade.id, None)
        signals = len(world.ledger.signals())
        world.runner.handle(closed)
        assert len(world.ledger.signals()) == signals, "without a price nothing is decided"
        for _ in range(47):
            world.runner.handle(())
            world.clock.time += HOUR
        assert trade.stop == stop, "what is open is looked after also while the market is closed"
        world.account.halted.clear()
        world.account.set_price("EUR_USD", "1.05000", "1.05020")
        assert not trade.is_open
        world.runner.handle(())
        assert world.ledger.fills()[-1].price == Decimal("1.05000")
        assert world.ledger.positions()[0].profit == trade.realised < -3_000
        world.series = replace(world.series, values=np.full_like(world.series.values, 1.05))
        world.candle += 47
        world.close_candle()
        assert "% lost today, limit 2 %" in world.ledger.signals()[-1].reason
        assert world.server.calls("POST orders") == 1
