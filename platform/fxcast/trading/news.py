"""What of a commit a person is told at once."""

from __future__ import annotations

from fxcast.domain.order import Fill
from fxcast.trading.ports import Alerts, LedgerBatch


def tell(alerts: Alerts, batch: LedgerBatch) -> None:
    """Send a message for each fill and each risk event of a batch."""
    for transaction in batch.transactions:
        if isinstance(transaction, Fill):
            profit = f", profit {transaction.profit:,.2f}" if transaction.profit else ""
            told = f"{transaction.side.value} {transaction.units:,} {transaction.symbol} at {transaction.price}"
            alerts.send("fill", f"{told} ({transaction.reason.value}{profit})", transaction.filled_at)
    for event in batch.risk_events:
        subject = f"{event.symbol}: " if event.symbol else ""
        alerts.send(event.kind.value, f"{subject}{event.detail}", event.at)
