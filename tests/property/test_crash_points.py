"""A kill at any call ends in the same orders, fills and equity as an undisturbed run."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.order import FillReason, OrderPurpose
from fxcast.trading.config import PaperMarketConfig, TradingConfig
from fxcast.trading.engine import EngineConfig
from fxcast.trading.runner import Runner
from tests.factories import make_prediction, make_series
from tests.fakes import CallCounter, Crash, MemoryBroker, MemoryLedger, ScriptedForecasts, SeriesFeed, SettableClock

SERIES = make_series(bars=125, seed=11, range_width=0.0003, volatility=0.0008, start=datetime(2017, 3, 2, tzinfo=UTC))
TRADING = TradingConfig(ldm4ts_horizons=(120,), ldm4ts_min_strength=0.0, min_quality=0.0, use_trend=False, use_mean_reversion=False)


def wavering(window: CandleSeries, seed: int) -> LDM4TSPrediction:
    price = float(window.closes[-1])
    mean = price + (0.0010 if seed % 3 else -0.0010)
    return make_prediction({120: (mean, 0.0012)}, price=price, made_at=to_datetime(window.close_times[-1]))


class World:
    """What survives a kill: the ledger's database and the broker."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()
        self.broker = MemoryBroker(PaperMarketConfig())

    def run(self, counter: CallCounter) -> None:
        """Run a fresh process to the end of the series, or to its crash."""
        clock = SettableClock(to_datetime(SERIES.open_times[0]))
        broker = counter.watched(self.broker)
        Runner(
            EngineConfig(trading=TRADING),
            feed=SeriesFeed(SERIES, clock=clock),
            broker=broker,
            ledger=counter.watched(self.ledger),
            clock=clock,
            forecasts=counter.watched(ScriptedForecasts(wavering)),
            observers=[broker],
        ).run()


@pytest.fixture(scope="module")
def undisturbed() -> tuple[World, int]:
    world, counter = World(), CallCounter()
    world.run(counter)
    return world, counter.calls


def same_end(world: World, undisturbed: World) -> bool:
    assert world.ledger.state is not None
    assert undisturbed.ledger.state is not None
    assert world.ledger.state == undisturbed.ledger.state
    assert world.broker.fills == undisturbed.broker.fills
    assert world.broker.book == undisturbed.broker.book
    assert world.ledger == undisturbed.ledger
    return True


def test_the_undisturbed_run_opens_closes_and_stops_out(undisturbed: tuple[World, int]) -> None:
    world, calls = undisturbed
    assert calls > 150
    assert {record.intent.purpose for record in world.ledger.orders()} == set(OrderPurpose)
    assert {fill.reason for fill in world.broker.fills} >= {FillReason.MARKET, FillReason.STOP}
    assert len({equity.balance for equity in world.ledger.equity.values()}) > 3


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_a_kill_at_any_call_changes_nothing_in_the_end(undisturbed: tuple[World, int], after: bool) -> None:
    expected, calls = undisturbed
    for crash_at in range(1, calls + 1):
        world = World()
        with pytest.raises(Crash):
            world.run(CallCounter(crash_at=crash_at, after=after))
        world.run(CallCounter())
        assert same_end(world, expected), f"killed at call {crash_at}"


@pytest.mark.parametrize("every", [7, 23, 61])
def test_a_process_that_is_killed_again_and_again_gets_there_too(undisturbed: tuple[World, int], every: int) -> None:
    expected, calls = undisturbed
    world = World()
    for attempt in range(calls):
        try:
            # Each life is a little longer, or the start alone could use it up for ever.
            world.run(CallCounter(crash_at=every + attempt, after=attempt % 2 == 1))
        except Crash:
            continue
        break
    assert same_end(world, expected)
