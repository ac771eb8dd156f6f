"""What the log says of decisions and fills; a backtest, which logs no line of them, does not even put the words together."""

from __future__ import annotations

import logging

import structlog

from fxcast.domain.order import Fill
from fxcast.trading.ports import LedgerBatch
from fxcast.trading.state import EngineState

log = structlog.get_logger(__name__)


def log_decided(batch: LedgerBatch) -> None:
    """Log the signals and orders that were committed."""
    if not (batch.signals or batch.intents) or not log.is_enabled_for(logging.INFO):
        return
    for decided in batch.signals:
        log.info(
            "signal decided",
            signal_id=decided.signal.signal_id,
            candle=decided.signal.made_at.isoformat(),
            verdict=decided.verdict.value,
            reason=decided.reason,
            units=str(decided.units),
        )
    for intent in batch.intents:
        log.info(
            "order committed",
            client_order_id=intent.client_order_id,
            signal_id=intent.signal_id,
            purpose=intent.purpose.value,
            side=intent.side.value,
            units=str(intent.units),
        )


def log_fill(fill: Fill, state: EngineState) -> None:
    """Log a fill, with the signal of the order or the position that it belongs to as far as the state knows it."""
    if not log.is_enabled_for(logging.INFO):
        return
    order, held = state.pending.get(fill.client_order_id), state.positions.get(fill.symbol)
    log.info(
        "order filled",
        client_order_id=fill.client_order_id,
        signal_id=order.intent.signal_id if order is not None else held.signal_id if held is not None else "",
        transaction=fill.sequence,
        symbol=fill.symbol,
        side=fill.side.value,
        units=str(fill.units),
        price=str(fill.price),
        reason=fill.reason.value,
        profit=str(fill.profit),
    )
