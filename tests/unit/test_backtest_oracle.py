"""The backtest engine beside raptorbt, a public backtesting library: the same strategy, trade by trade, on real hourly candles.

Where the rules agree (entry at the next open, stop and target inside a candle, the stop first, gaps, the exit after N candles) the
trades are equal to the tick. Where they differ, each difference is one of `Difference`, told from the candles alone, and what the
engine does instead is worked out here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum, auto

import numpy as np
import pytest

from fxcast.backtest.result import BacktestResult
from fxcast.data.packaged import read_packaged_sample
from fxcast.domain.calendar import is_open
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.order import Fill, FillReason
from fxcast.domain.signal import Verdict
from fxcast.trading.config import CandleSide, PaperMarketConfig
from fxcast.trading.ports import DecidedSignal
from tests.backtest_factories import CrossRule, cross_source, only_source, run_backtest
from tests.factories import HOUR
from tests.oracle import OracleExit, OracleTrade, run_oracle

TICK = Decimal("0.00001")
REASONS = {OracleExit.STOP: FillReason.STOP, OracleExit.TARGET: FillReason.TARGET, OracleExit.TIME: FillReason.MARKET}


class Difference(Enum):
    """Why a trade of the engine is not the library's."""

    NONE = auto()
    ENTRY_CANDLE = auto()  # the engine watches stop and target from the entry on, the library from the next candle on
    CLOSED_AT_SIGNAL = auto()  # the engine opens nothing while the market is closed; the library has no calendar
    CLOSED_AT_END = auto()  # likewise, the engine sends no order to close then, but at the first close at which it is open


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What trading costs, and how the settings of both sides say so."""

    spread_pips: Decimal
    slippage_pips: Decimal
    commission_per_million: Decimal

    @property
    def slippage(self) -> Decimal:
        return self.slippage_pips * 10 * TICK

    @property
    def config(self) -> PaperMarketConfig:
        return PaperMarketConfig(
            spread_pips=self.spread_pips,
            slippage_pips=self.slippage_pips,
            commission_per_million=self.commission_per_million,
            candle_side=CandleSide.ASK,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Both sides' trades on the same candles."""

    series: CandleSeries
    rule: CrossRule
    market: Market
    result: BacktestResult
    oracle: tuple[OracleTrade, ...]
    engine: dict[datetime, tuple[Fill, Fill]]  # entry and exit by the close that the trade was decided at

    @property
    def decided(self) -> list[DecidedSignal]:
        """The engine's decisions; what is decided at the last close of all nobody fills."""
        last = to_datetime(self.series.close_times[-1])
        return [each for each in self.result.signals if each.signal.made_at < last]

    @property
    def differences(self) -> list[tuple[OracleTrade, Difference]]:
        return [(trade, self._difference(trade)) for trade in self.oracle]

    def position(self, opened_at: datetime) -> int:
        return int(np.searchsorted(self.series.open_times, to_datetime64(opened_at)))

    def levels(self, trade: OracleTrade) -> tuple[Decimal, Decimal]:
        """Return stop and target, counted from the close that the trade was decided at."""
        close, pip = tick(self.series.closes[self.position(trade.entry_at) - 1]), 10 * TICK
        stop = close - trade.sign * Decimal(str(self.rule.stop_pips)) * pip
        return stop, close + trade.sign * Decimal(str(self.rule.target_pips)) * pip

    def closing(self, trade: OracleTrade, price: float) -> Decimal:
        """Return what the trade could be closed at when the candles, which are of the ask, stand at a price."""
        return tick(price) - (self.market.spread_pips * 10 * TICK if trade.sign > 0 else 0)

    def gapped(self, trade: OracleTrade, at: int) -> bool:
        """Tell whether a candle opens at or beyond the stop or the target."""
        opening, (stop, target) = self.closing(trade, self.series.values[at, 0]), self.levels(trade)
        return not trade.sign * stop < trade.sign * opening < trade.sign * target

    def ended(self, trade: OracleTrade, at: int) -> tuple[datetime, FillReason, Decimal] | None:
        """Return when, why and at what price a candle ends an open trade (rules 6 to 9 of the paper market), None if not."""
        opening, high, low = (self.closing(trade, price) for price in self.series.values[at, :3])
        best, worst = (high, low) if trade.sign > 0 else (low, high)
        opened_at, (stop, target) = to_datetime(self.series.open_times[at]), self.levels(trade)
        slip = trade.sign * self.market.slippage
        if trade.sign * opening <= trade.sign * stop:
            return opened_at, FillReason.STOP, opening - slip
        if trade.sign * opening >= trade.sign * target:
            return opened_at, FillReason.TARGET, target
        if trade.sign * worst <= trade.sign * stop:
            return opened_at + HOUR, FillReason.STOP, stop - slip
        return (opened_at + HOUR, FillReason.TARGET, target) if trade.sign * best >= trade.sign * target else None

    def _difference(self, trade: OracleTrade) -> Difference:
        if not is_open(trade.signal_at):
            return Difference.CLOSED_AT_SIGNAL
        if self.ended(trade, self.position(trade.entry_at)) is not None:
            return Difference.ENTRY_CANDLE
        if trade.reason is OracleExit.TIME and not is_open(to_datetime(self.series.close_times[self.position(trade.exit_at) - 1])):
            return Difference.CLOSED_AT_END
        return Difference.NONE


def tick(price: float) -> Decimal:
    return Decimal(repr(float(price))).quantize(TICK)


def compared(rule: CrossRule, market: Market) -> Compared:
    series = read_packaged_sample().series
    start = to_datetime(series.close_times[CONTEXT_BARS - 1])
    trading = only_source(cross_source(rule), regime_refit_bars=100_000)  # regimes decide nothing here, and take time to fit
    result = run_backtest(
        [series], trading=trading, market=market.config, start=start, stop=to_datetime(series.close_times[-1]) + HOUR
    )
    fills = [each for each in result.transactions if isinstance(each, Fill)]
    assert len(fills) % 2 == 0, "every trade is over"
    made_at = {record.intent.client_order_id: record.intent.created_at for record in result.orders}
    pairs = zip(fills[::2], fills[1::2], strict=True)
    # How much is bought is the engine's own affair: the library is told.
    units = {decided.signal.made_at: float(decided.base_units) for decided in result.signals}
    oracle = run_oracle(series, rule, units=units, fees_per_million=float(market.commission_per_million), start=start)
    return Compared(
        series=series,
        rule=rule,
        market=market,
        result=result,
        oracle=tuple(oracle),
        engine={made_at[entry.client_order_id]: (entry, exit_) for entry, exit_ in pairs},
    )


@pytest.fixture(scope="module", params=["free", "costly"])
def both(request: pytest.FixtureRequest) -> Compared:
    """A slow rule where nothing costs anything, and a quick one that pays spread, slippage and commission."""
    if request.param == "free":
        return compared(CrossRule(), Market(spread_pips=Decimal(0), slippage_pips=Decimal(0), commission_per_million=Decimal(0)))
    return compared(
        CrossRule(fast_bars=3, slow_bars=10, hold_bars=5, stop_pips=15.0, target_pips=20.0, spread_pips=1.2),
        Market(spread_pips=Decimal("1.2"), slippage_pips=Decimal("0.3"), commission_per_million=Decimal(35)),
    )


def test_both_decide_the_same_trades_and_all_but_few_are_equal(both: Compared) -> None:
    decided = [each.signal for each in both.decided]
    assert [each.made_at for each in decided] == [trade.signal_at for trade in both.oracle]
    assert [each.direction.sign for each in decided] == [trade.sign for trade in both.oracle]
    counted = Counter(difference for _, difference in both.differences)
    # Of 243 and 432 trades.
    assert counted == (
        {Difference.NONE: 225, Difference.ENTRY_CANDLE: 17, Difference.CLOSED_AT_END: 1}
        if both.rule == CrossRule()
        else {Difference.NONE: 350, Difference.ENTRY_CANDLE: 76, Difference.CLOSED_AT_SIGNAL: 3, Difference.CLOSED_AT_END: 3}
    )


def test_where_the_rules_agree_trades_are_equal_in_time_price_reason_and_profit(both: Compared) -> None:
    seen: Counter[tuple[OracleExit, bool]] = Counter()
    slip = both.market.slippage
    for trade, difference in both.differences:
        if difference is not Difference.NONE:
            continue
        entry, exit_ = both.engine[trade.signal_at]
        gapped = both.gapped(trade, both.position(trade.exit_at))
        seen[trade.reason, gapped] += 1
        assert (entry.filled_at, entry.side.sign, float(entry.units)) == (trade.entry_at, trade.sign, trade.units)
        # The library has no slippage of so many pips: market orders and stops are that much worse, targets are not.
        assert entry.price == tick(trade.entry_price) + trade.sign * slip
        assert exit_.price == tick(trade.exit_price) - (0 if trade.reason is OracleExit.TARGET else trade.sign * slip)
        assert exit_.reason is REASONS[trade.reason]
        # The library names the candle; so does the engine where the open filled it, else it says when the candle had closed.
        at_open = gapped or trade.reason is OracleExit.TIME
        assert exit_.filled_at == (trade.exit_at if at_open else trade.exit_at + HOUR)
        _assert_money_agrees(both, trade, entry, exit_)
    assert seen[OracleExit.STOP, False] >= 50
    assert seen[OracleExit.TARGET, False] >= 25
    assert seen[OracleExit.STOP, True] + seen[OracleExit.TARGET, True] >= 1
    assert seen[OracleExit.TIME, False] >= 80


def _assert_money_agrees(both: Compared, trade: OracleTrade, entry: Fill, exit_: Fill) -> None:
    slips = 1 if trade.reason is OracleExit.TARGET else 2
    slipped = float(entry.units * both.market.slippage) * slips
    assert float(exit_.profit) == pytest.approx(trade.profit + trade.fees - slipped, abs=1e-6)
    # Of the ask's worth in the library, of that of the price dealt at here, each fill rounded to a hundredth of a cent.
    rate, moved = float(both.market.commission_per_million) / 1e6, both.market.spread_pips * 10 * TICK + 2 * both.market.slippage
    paid = float(entry.commission + exit_.commission)
    assert paid == pytest.approx(trade.fees, abs=rate * trade.units * float(moved) + 1e-4)


def test_the_engine_watches_stop_and_target_in_the_candle_of_the_entry(both: Compared) -> None:
    for trade, difference in both.differences:
        if difference is not Difference.ENTRY_CANDLE:
            continue
        entry, exit_ = both.engine[trade.signal_at]
        assert entry.price == tick(trade.entry_price) + trade.sign * both.market.slippage
        assert (exit_.filled_at, exit_.reason, exit_.price) == both.ended(trade, both.position(trade.entry_at))
        assert trade.exit_at > trade.entry_at, "the library watches from the next candle on"


def test_the_engine_opens_nothing_while_the_market_is_closed(both: Compared) -> None:
    refused = [each for each in both.decided if each.verdict is Verdict.REJECTED]
    assert {each.reason for each in refused} <= {"the market is closed"}
    closed = [trade.signal_at for trade, difference in both.differences if difference is Difference.CLOSED_AT_SIGNAL]
    assert [each.signal.made_at for each in refused] == closed


def test_the_engine_closes_after_the_first_close_of_an_open_market_unless_stop_or_target_come_first(both: Compared) -> None:
    for trade, difference in both.differences:
        if difference is not Difference.CLOSED_AT_END:
            continue
        at = both.position(trade.exit_at)
        while both.ended(trade, at) is None and not is_open(to_datetime(both.series.close_times[at])):
            at += 1
        ended = both.ended(trade, at)
        if ended is None:
            at += 1
            opening = both.closing(trade, both.series.values[at, 0])
            ended = to_datetime(both.series.open_times[at]), FillReason.MARKET, opening - trade.sign * both.market.slippage
        _, exit_ = both.engine[trade.signal_at]
        assert (exit_.filled_at, exit_.reason, exit_.price) == ended
        assert exit_.filled_at > trade.exit_at or both.gapped(trade, both.position(trade.exit_at))
