"""The tables of the trading engine; every row belongs to an `engine_id`."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from fxcast.adapters.storage.base import Base, utc_now


class EngineStateRow(Base):
    """The state of an engine after its last candle; what an engine records refers to it."""

    __tablename__ = "engine_states"

    engine_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    state: Mapped[str] = mapped_column(Text)
    saved_at: Mapped[datetime] = mapped_column(default=utc_now)


def _engine_key() -> Mapped[str]:
    return mapped_column(String(128), ForeignKey("engine_states.engine_id"), primary_key=True)


def _broker_sequence() -> Mapped[int]:
    # A broker that counts the transactions of all its accounts may be beyond 32 bits; SQLite's integers have 64 anyway.
    return mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False)


class SignalRow(Base):
    """A fused signal with what was decided about it. Its prices are the model's floats; units are money."""

    __tablename__ = "signals"

    engine_id: Mapped[str] = _engine_key()
    signal_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(16))
    made_at: Mapped[datetime]
    horizon_minutes: Mapped[int]
    direction: Mapped[str] = mapped_column(String(16))
    strength: Mapped[float]
    price: Mapped[float]
    stop: Mapped[float]
    target: Mapped[float]
    uncertainty_pct: Mapped[float | None]
    regime: Mapped[str] = mapped_column(String(16))
    quality_consistency: Mapped[float]
    quality_confirmation: Mapped[float]
    quality_strength: Mapped[float]
    quality_timing: Mapped[float]
    quality_risk_reward: Mapped[float]
    quality_regime_alignment: Mapped[float]
    quality_weighted_mean: Mapped[float]
    quality_uncertainty_penalty: Mapped[float]
    quality_total: Mapped[float]
    quality_weights: Mapped[list[float]] = mapped_column(JSON, server_default=text("'[]'"))
    members: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    verdict: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    base_units: Mapped[Decimal]
    units: Mapped[Decimal]
    explanation: Mapped[list[str]] = mapped_column(JSON, server_default=text("'[]'"))  # which dimension of quality cost what
    arithmetic: Mapped[list[str]] = mapped_column(JSON, server_default=text("'[]'"))  # how the size came about, step by step

    __table_args__ = (
        # The newest signals of an engine (status, dashboard), out of all it ever had.
        Index("ix_signals_made_at", "engine_id", "made_at"),
    )


class OrderRow(Base):
    """An order from intent to its end."""

    __tablename__ = "orders"

    engine_id: Mapped[str] = _engine_key()
    client_order_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    signal_id: Mapped[str] = mapped_column(String(64))
    symbol: Mapped[str] = mapped_column(String(16))
    side: Mapped[str] = mapped_column(String(8))
    units: Mapped[Decimal]
    purpose: Mapped[str] = mapped_column(String(8))
    purpose_reason: Mapped[str] = mapped_column(Text, server_default="")  # why we closed; `reason` is the broker's
    stop: Mapped[Decimal | None]
    target: Mapped[Decimal | None]
    created_at: Mapped[datetime]
    place_in_batch: Mapped[int]  # orders of one candle share created_at; a close may have to go before an open
    status: Mapped[str] = mapped_column(String(16))
    broker_order_id: Mapped[str] = mapped_column(String(128))
    reason: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        # The orders to ask the broker about: read at every candle, out of all that the engine ever placed.
        Index("ix_orders_status", "engine_id", "status"),
    )


class FillRow(Base):
    """An execution at the broker."""

    __tablename__ = "fills"

    engine_id: Mapped[str] = _engine_key()
    sequence: Mapped[int] = _broker_sequence()
    client_order_id: Mapped[str] = mapped_column(String(128))
    symbol: Mapped[str] = mapped_column(String(16))
    side: Mapped[str] = mapped_column(String(8))
    units: Mapped[Decimal]
    price: Mapped[Decimal]
    reason: Mapped[str] = mapped_column(String(16))
    profit: Mapped[Decimal]
    commission: Mapped[Decimal] = mapped_column(server_default="0")
    filled_at: Mapped[datetime]


class FinancingRow(Base):
    """Interest booked by the broker; no fill of the engine has its sequence."""

    __tablename__ = "financings"

    engine_id: Mapped[str] = _engine_key()
    sequence: Mapped[int] = _broker_sequence()
    client_order_id: Mapped[str] = mapped_column(String(128))
    symbol: Mapped[str] = mapped_column(String(16))
    amount: Mapped[Decimal]
    booked_at: Mapped[datetime]


class ProtectionChangeRow(Base):
    """Another stop and target for an open position, from intent to the broker's answer."""

    __tablename__ = "protection_changes"

    engine_id: Mapped[str] = _engine_key()
    change_id: Mapped[str] = mapped_column(String(160), primary_key=True)  # an order's id, and a count
    client_order_id: Mapped[str] = mapped_column(String(128))
    symbol: Mapped[str] = mapped_column(String(16))
    stop: Mapped[Decimal]
    target: Mapped[Decimal | None]
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    status: Mapped[str] = mapped_column(String(16))  # intent, accepted or refused
    answer: Mapped[str] = mapped_column(Text)  # the broker's words


class PositionRow(Base):
    """A position, open while `closed_at` is null."""

    __tablename__ = "positions"

    engine_id: Mapped[str] = _engine_key()
    client_order_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(16))
    side: Mapped[str] = mapped_column(String(8))
    units: Mapped[Decimal]
    entry_price: Mapped[Decimal]
    stop: Mapped[Decimal]
    target: Mapped[Decimal | None]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    exit_price: Mapped[Decimal | None]
    profit: Mapped[Decimal | None]


class EquityRow(Base):
    """The account at a candle's close."""

    __tablename__ = "equity"

    engine_id: Mapped[str] = _engine_key()
    at: Mapped[datetime] = mapped_column(primary_key=True)
    balance: Mapped[Decimal]
    open_profit: Mapped[Decimal]


class RiskEventRow(Base):
    """Something that touched what is at risk."""

    __tablename__ = "risk_events"

    engine_id: Mapped[str] = _engine_key()
    at: Mapped[datetime] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(16), primary_key=True)  # empty where it is none's
    detail: Mapped[str] = mapped_column(Text)


class DecisionRow(Base):
    """What a decision was made from, and what was decided; both are JSON, compressed with zlib."""

    __tablename__ = "decisions"

    engine_id: Mapped[str] = _engine_key()
    symbol: Mapped[str] = mapped_column(String(16), primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    settings_hash: Mapped[str] = mapped_column(String(64))
    inputs: Mapped[bytes] = mapped_column(LargeBinary)
    commands: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (
        # The newest decisions of all symbols, and those past their keeping time.
        Index("ix_decisions_at", "engine_id", "at"),
    )


class EngineSettingsRow(Base):
    """Settings that decisions were made with, by their hash; engines with the same settings share them."""

    __tablename__ = "engine_settings"

    settings_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    content: Mapped[str] = mapped_column(Text)


class SettingsVersionRow(Base):
    """What an engine was to trade with; also set for one that does not run, so `engine_id` refers to nothing."""

    __tablename__ = "settings_versions"

    engine_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[str] = mapped_column(Text)
    by: Mapped[str] = mapped_column(String(128))
    reason: Mapped[str] = mapped_column(Text)
    made_at: Mapped[datetime]
    taken_at: Mapped[datetime | None]
    problem: Mapped[str] = mapped_column(Text)  # why the engine refused it; empty if it did not


class KillSwitchRequestRow(Base):
    """What a person asked for; also of an engine that has not started yet, so `engine_id` refers to nothing."""

    __tablename__ = "kill_switch_requests"

    engine_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kill_switch: Mapped[str] = mapped_column(String(16))
    by: Mapped[str] = mapped_column(String(128))
    reason: Mapped[str] = mapped_column(Text)
    requested_at: Mapped[datetime]


class EngineLeaseRow(Base):
    """Who may trade an account. The row stays when the lease ends, so that its token only ever grows."""

    __tablename__ = "engine_leases"

    account: Mapped[str] = mapped_column(String(256), primary_key=True)
    holder: Mapped[str] = mapped_column(String(256))  # empty once it was given back
    process: Mapped[str] = mapped_column(String(256))  # where the holder runs, for people
    token: Mapped[int]
    acquired_at: Mapped[datetime]
    expires_at: Mapped[datetime]
