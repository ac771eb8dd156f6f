"""A decision can be made again from what is stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from fxcast.domain.candle import to_datetime
from fxcast.trading.config import ManagementConfig, PaperMarketConfig, RiskLimits, SizingConfig, TradingConfig
from fxcast.trading.engine import EngineConfig
from fxcast.trading.ports import DecisionRecord
from fxcast.trading.replay import decide_again
from fxcast.trading.runner import Runner
from tests.factories import make_series, random_walk_prediction
from tests.fakes import MemoryBroker, MemoryLedger, ScriptedForecasts, SeriesFeed, SettableClock

START = datetime(2017, 3, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def ledger() -> MemoryLedger:
    """What three pairs, one of them a cross, and all sources left behind on an account in dollars."""
    series = [
        make_series(bars=200, symbol="EURUSD", price=1.1, seed=4, range_width=0.0003, start=START),
        make_series(bars=200, symbol="GBPUSD", price=1.3, seed=5, range_width=0.0003, start=START),
        make_series(bars=200, symbol="EURGBP", price=0.85, seed=6, range_width=0.0003, start=START),
    ]
    trading = TradingConfig(
        ldm4ts_horizons=(240, 960),
        ldm4ts_min_strength=0.0,
        min_quality=0.3,
        use_pattern=True,
        sizing=SizingConfig.model_validate({"method": "kelly"}),
        risk=RiskLimits(max_positions=2, max_correlation=0.5),
        management=ManagementConfig(break_even_at_r=0.3, trail_at_r=0.5, min_target_change_pips=1.0),
    )
    clock = SettableClock(to_datetime(series[0].open_times[0]))
    broker, ledger = MemoryBroker(PaperMarketConfig()), MemoryLedger()
    Runner(
        EngineConfig(trading=trading),
        feed=SeriesFeed(*series, clock=clock),
        broker=broker,
        ledger=ledger,
        clock=clock,
        forecasts=ScriptedForecasts(lambda window, seed: random_walk_prediction(window, seed, horizons_minutes=(240, 960))),
        observers=[broker],
    ).run()
    return ledger


def records(ledger: MemoryLedger) -> list[DecisionRecord]:
    return list(ledger.decisions.values())


def test_every_recorded_decision_gives_the_same_commands_again(ledger: MemoryLedger) -> None:
    found = records(ledger)
    assert len(found) > 100
    assert {"PlaceOrder", "ChangeProtection", "RecordSignal"} <= {
        name for name in ("PlaceOrder", "ChangeProtection", "RecordSignal") for each in found if f'"{name}"' in each.commands
    }
    for record in found:
        assert decide_again(record, ledger.settings[record.settings_hash]) == record.commands


def test_decision_under_other_settings_is_another_one(ledger: MemoryLedger) -> None:
    placed = next(record for record in records(ledger) if '"PlaceOrder"' in record.commands)
    settings = ledger.settings[placed.settings_hash].replace('"min_quality": 0.3', '"min_quality": 0.99')
    assert '"PlaceOrder"' not in decide_again(placed, settings)


def test_decision_with_a_wider_spread_is_another_one(ledger: MemoryLedger) -> None:
    placed = next(record for record in records(ledger) if '"PlaceOrder"' in record.commands)
    ask = placed.inputs.split('"ask":"')[1].split('"')[0]
    wider = replace(placed, inputs=placed.inputs.replace(f'"ask":"{ask}"', f'"ask":"{Decimal(ask) + 1}"'))
    assert '"PlaceOrder"' not in decide_again(wider, ledger.settings[placed.settings_hash])
