"""What an engine says of itself, in plain types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from fxcast.trading.ports import DecidedSignal, RiskEvent
from fxcast.trading.state import EngineState, HeldPosition


class PositionStatus(TypedDict):
    """An open position; prices and units are decimals as text."""

    symbol: str
    side: str
    units: str
    entry_price: str
    last_price: str
    stop: str
    target: str
    opened_at: str
    bars_held: int
    horizon_bars: int
    r: float | None  # open profit in first risks
    waits_for_broker: bool  # a change of its stop or target has not been answered yet


class DecisionStatus(TypedDict):
    """A decided signal."""

    symbol: str
    at: str
    direction: str
    verdict: str
    reason: str
    units: str
    quality: float
    uncertainty_pct: float | None
    sources: dict[str, str]


class EngineStatus(TypedDict):
    """What the engine says of itself; times are ISO 8601 in UTC, empty where there is none yet."""

    account: str
    describe: str
    pid: int
    state: str  # starting, running, waiting (for what does not answer), finished, stopped, failed
    problem: str
    refused: bool  # it failed because the input is wrong: mending that is all it takes
    candles_done: int
    candles_total: int
    last_candle: str
    lag_s: float | None  # from the last candle's close until it was handled
    kill_switch: str
    forecasts_missed: int
    equity: str
    positions: list[PositionStatus]
    orders_waiting: list[str]
    decisions: list[DecisionStatus]  # the newest last
    risk_events: list[str]  # the newest last
    losses_in_row: int
    cool_off_until: str
    foreign: list[str]  # symbols in which the broker holds a position that is not ours
    settings_version: int  # which of the account's it trades with, 0 before it has opened
    settings_by: str  # who set them; "start": whoever started the engine


def position_status(held: HeldPosition, state: EngineState) -> PositionStatus:
    """Return a position as the status shows it."""
    position, price = held.position, state.prices.get(held.position.symbol)
    r = None
    if price is not None and held.risk:
        r = round(float(position.side.sign * (price - position.entry_price) / held.risk), 2)
    return PositionStatus(
        symbol=position.symbol,
        side=position.side.value,
        units=str(position.units),
        entry_price=str(position.entry_price),
        last_price="" if price is None else str(price),
        stop=str(position.stop),
        target="" if position.target is None else str(position.target),
        opened_at=position.opened_at.isoformat(),
        bars_held=held.bars_held,
        horizon_bars=held.horizon_bars,
        r=r,
        waits_for_broker=held.change is not None,
    )


def decision_status(decided: DecidedSignal) -> DecisionStatus:
    """Return a decided signal as the status shows it."""
    signal = decided.signal
    return DecisionStatus(
        symbol=signal.symbol,
        at=signal.made_at.isoformat(),
        direction=signal.direction.value,
        verdict=decided.verdict.value,
        reason=decided.reason,
        units=str(decided.units),
        quality=round(signal.quality.total, 3),
        uncertainty_pct=signal.uncertainty_pct,
        sources={source: direction.value for source, direction in signal.sources.items()},
    )


def told(events: Sequence[RiskEvent]) -> list[str]:
    """Return risk events in words."""
    return [f"{event.at.isoformat()} {event.kind.value} {event.symbol} {event.detail}".replace("  ", " ") for event in events]
