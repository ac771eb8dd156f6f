"""Records of backtests and walk-forwards, for tests of where they are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from fxcast.adapters.storage.backtests import BacktestRecord, BacktestRecords, FoldRecord, TradeRecord, WalkForwardRecord
from fxcast.adapters.storage.database import open_database
from fxcast.domain.order import Side
from fxcast.domain.signal import SignalSource
from tests.ledger_factories import decided

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2024, 2, 1, tzinfo=UTC)
MARCH = datetime(2024, 3, 1, tzinfo=UTC)
APRIL = datetime(2024, 4, 1, tzinfo=UTC)


def backtest_record() -> BacktestRecord:
    """February of two symbols; two of the measures can't be told."""
    return BacktestRecord(
        variant="run",
        name="sized by uncertainty",
        made_at=datetime(2024, 6, 3, 9, 30, 0, 125_000, tzinfo=UTC),
        symbols=("EURUSD", "USDJPY"),
        timeframe="1h",
        start=FEBRUARY,
        stop=MARCH,
        model_version="tiny-1",
        model_hash="5e1f" * 16,
        data_hash="da7a" * 16,
        settings_hash="c0ffee",
        settings='{"threshold": "0,5 %"}',
        code_version="0.1.0",
        currency="USD",
        starting_balance=Decimal("10000.00"),
        candles=1008,
        trades=2,
        net_profit=-31.7,
        total_return=-0.00317,
        costs=12.25,
        cagr=-0.0393,
        sharpe=-0.61,
        daily_sharpe=-0.0378,
        sortino=-0.8,
        calmar=None,
        max_drawdown=0.0213,
        max_drawdown_days=17.5,
        win_rate=0.5,
        profit_factor=None,
        expectancy=-15.85,
        turnover=31.4,
        exposure=0.12,
        probabilistic_sharpe=0.41,
        deflated_sharpe=0.02,
        findings='{"verdicts": ["not distinguishable from luck"]}',
        report_folder="runs/backtests/demo",
        open_positions=1,
        seen_by_model=True,
    )


def trade_record(number: int = 1) -> TradeRecord:
    """A trade with the signal of two sources behind it."""
    opened_at = FEBRUARY + timedelta(hours=number)
    return TradeRecord(
        order_id=f"EURUSD-{number}-open",
        symbol="EURUSD",
        side=Side.SELL,
        units=Decimal(15_000),
        opened_at=opened_at,
        closed_at=opened_at + timedelta(minutes=241),
        entry_price=Decimal("1.084650000000000000001"),  # no float holds this
        exit_price=Decimal("1.08010"),
        exit_reason="margin_closeout",
        profit=Decimal("68.25"),
        commission=Decimal("0.53"),
        financing=Decimal("-0.4182"),
        spread_cost=Decimal("0.75"),
        slippage_cost=Decimal("0.10"),
        risk=Decimal("100.00"),
        signal=replace(decided(opened_at).signal, uncertainty_pct=None if number == 2 else 0.12),
        base_units=Decimal(20_000),
        source=SignalSource.LDM4TS_FORECAST.value,
    )


def walk_forward_record() -> WalkForwardRecord:
    return WalkForwardRecord(
        name="majors by the month",
        begun_at=datetime(2024, 6, 3, 9, 30, tzinfo=UTC),
        symbols=("EURUSD", "USDJPY"),
        timeframe="1h",
        start=JANUARY,
        stop=APRIL,
        scheme="rolling",
        data_hash="da7a" * 16,
        settings_hash="f01d",
        settings='{"folds": 3}',
        code_version="0.1.0",
    )


def fold_record(number: int = 1) -> FoldRecord:
    """Ten days to learn from, three to stop by and five to be tested on, two days apart."""
    start = JANUARY + timedelta(days=5 * number)
    days = [start + timedelta(days=day) for day in (0, 10, 12, 15, 17, 22)]
    return FoldRecord(
        number=number,
        train_start=days[0],
        train_stop=days[1],
        validation_start=days[2],
        validation_stop=days[3],
        test_start=days[4],
        test_stop=days[5],
    )


def at_once(url: str, arguments: list[float], call: Callable[[BacktestRecords, float], object]) -> list[object]:
    """Call from threads with an engine of their own, all at the same moment."""
    start = threading.Barrier(len(arguments))

    def one(argument: float) -> object:
        engine = open_database(url)
        start.wait()
        try:
            return call(BacktestRecords(engine), argument)
        finally:
            engine.dispose()

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(one, arguments))
