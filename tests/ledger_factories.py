"""What an engine records, for tests of ledgers: one of everything."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, text

from fxcast.domain.forecast import HorizonForecast, LDM4TSPrediction
from fxcast.domain.order import Fill, FillReason, Financing, OrderIntent, OrderPurpose, ProtectionChange, Side
from fxcast.domain.portfolio import EquityPoint, Position
from fxcast.domain.signal import Direction, FusedSignal, QualityScore, Regime, Signal, SignalKind, SignalSource, Verdict
from fxcast.domain.timeframe import Timeframe
from fxcast.trading.ports import DecidedSignal, DecisionRecord, LedgerBatch, PositionRecord, RiskEvent, RiskEventKind

NOON = datetime(2024, 3, 4, 12, 0, tzinfo=UTC)
PRICE = Decimal("1.084650000000000000001")  # no float holds this
RECORDED = (
    "ldm4ts_predictions",
    "signals",
    "orders",
    "protection_changes",
    "fills",
    "financings",
    "positions",
    "equity",
    "risk_events",
    "decisions",
)


def decided(at: datetime = NOON) -> DecidedSignal:
    member = Signal(
        source=SignalSource.LDM4TS_FORECAST,
        kind=SignalKind.FORECAST,
        symbol="EURUSD",
        made_at=at,
        horizon_minutes=240,
        direction=Direction.BULL,
        strength=0.61,
        price=1.0846,
        stop=1.0801,
        target=1.0899,
    )
    own = replace(member, source="my_rule", kind=SignalKind.PATTERN, direction=Direction.NEUTRAL, strength=0.1)
    quality = QualityScore(
        consistency=0.1,
        confirmation=0.2,
        strength=0.3,
        timing=0.4,
        risk_reward=0.5,
        regime_alignment=0.6,
        weighted_mean=0.35,
        uncertainty_penalty=0.2,
        total=0.28,
        weights=(0.25, 0.15, 0.1, 0.25, 0.15, 0.1),
    )
    fused = FusedSignal(
        symbol="EURUSD",
        made_at=at,
        horizon_minutes=240,
        direction=Direction.BULL,
        strength=0.55,
        price=1.0846,
        stop=1.0801,
        target=1.0899,
        uncertainty_pct=0.12,
        regime=Regime.TRENDING,
        quality=quality,
        members=(member, own),
    )
    return DecidedSignal(
        signal=fused,
        verdict=Verdict.ACCEPTED,
        reason="within limits",
        base_units=Decimal(20_000),
        units=Decimal(15000),
        explanation=("timing cost 0.12: (1 − 0.52) × weight 0.25",),
        arithmetic=("1 % of 100000 to the stop: 22222 units", "× 0.76 for uncertainty"),
    )


def intent(client_order_id: str = "EURUSD-open", at: datetime = NOON) -> OrderIntent:
    return OrderIntent(
        client_order_id=client_order_id,
        signal_id="EURUSD-20240304T1200",
        symbol="EURUSD",
        side=Side.BUY,
        units=Decimal(15000),
        purpose=OrderPurpose.OPEN,
        stop=Decimal("1.08010"),
        target=None,
        created_at=at,
    )


def fill(sequence: int = 1, *, price: Decimal = PRICE) -> Fill:
    return Fill(
        sequence=sequence,
        client_order_id="EURUSD-open",
        symbol="EURUSD",
        side=Side.BUY,
        units=Decimal(15000),
        price=price,
        reason=FillReason.MARKET,
        profit=Decimal("0.00"),
        filled_at=NOON,
        commission=Decimal("0.53"),
    )


def financing(sequence: int = 2, *, amount: Decimal = Decimal("-0.4182")) -> Financing:
    return Financing(sequence=sequence, client_order_id="EURUSD-open", symbol="EURUSD", amount=amount, booked_at=NOON)


def change(number: int = 1, at: datetime = NOON) -> ProtectionChange:
    return ProtectionChange(
        change_id=f"EURUSD-open-p{number}",
        client_order_id="EURUSD-open",
        symbol="EURUSD",
        stop=Decimal("1.08450"),
        target=None,
        reason="trailing stop",
        created_at=at,
    )


def risk_event(symbol: str = "EURUSD") -> RiskEvent:
    return RiskEvent(kind=RiskEventKind.STOP_MISSING, at=NOON, symbol=symbol, detail="found 1.07, set 1.08010 again")


def decision(symbol: str = "EURUSD", at: datetime = NOON) -> DecisionRecord:
    return DecisionRecord(symbol=symbol, at=at, settings_hash="c0ffee", inputs='{"price": "1,0846 €"}', commands="[]")


def position() -> Position:
    return Position(
        client_order_id="EURUSD-open",
        symbol="EURUSD",
        side=Side.BUY,
        units=Decimal(15000),
        entry_price=PRICE,
        stop=Decimal("1.08010"),
        target=Decimal("1.08990"),
        opened_at=NOON,
    )


def opened() -> PositionRecord:
    return PositionRecord(position=position(), closed_at=None, exit_price=None, profit=None)


def closed() -> PositionRecord:
    return PositionRecord(
        position=position(), closed_at=NOON + timedelta(hours=4), exit_price=Decimal("1.08990"), profit=Decimal("78.75")
    )


def forecast() -> LDM4TSPrediction:
    horizon = HorizonForecast(mean=1.0899, std=0.0013, q05=1.0801, q50=1.0898, q95=1.0990, samples=(1.08, 1.1))
    return LDM4TSPrediction(
        symbol="EURUSD",
        timeframe=Timeframe("1h"),
        made_at=NOON,
        price=1.0846,
        horizons={240: horizon, 960: horizon},
        inference_time_ms=124.0,
        num_samples=50,
        model_version="tiny-1",
    )


def equity(at: datetime = NOON) -> EquityPoint:
    return EquityPoint(at=at, balance=Decimal("10000.10"), open_profit=Decimal("-3.20"))


def full_batch() -> LedgerBatch:
    return LedgerBatch(
        predictions=(forecast(),),
        signals=(decided(),),
        intents=(intent(),),
        changes=(change(),),
        transactions=(fill(), financing()),
        positions=(opened(),),
        equity=equity(),
        risk_events=(risk_event(),),
        decisions=(decision(),),
    )


def contents(engine: Engine) -> dict[str, list[Any]]:
    """Every row of every table that an engine writes."""
    with engine.connect() as connection:
        return {
            table: list(connection.execute(text(f"SELECT * FROM {table}")).all())  # noqa: S608 (names above)
            for table in ("engine_states", *RECORDED)
        }
