"""The record of one backtest, in memory."""

from __future__ import annotations

from fxcast.domain.order import ChangeAnswer, OrderStatus, Transaction
from fxcast.trading.ports import DecidedSignal, KillSwitchRequest, LedgerBatch, OrderRecord, PositionRecord, RiskEvent
from fxcast.trading.state import EngineState

_UNRESOLVED = (OrderStatus.INTENT, OrderStatus.SENT)


class BacktestLedger:
    """Implements `trading.ports.Ledger` for a run that begins anew each time: nothing survives it but what it is asked for."""

    def __init__(self) -> None:
        self.state: EngineState | None = None
        self.signals: list[DecidedSignal] = []
        self.transactions: list[Transaction] = []
        self.risk_events: list[RiskEvent] = []
        self._orders: dict[str, OrderRecord] = {}
        self._unresolved: dict[str, None] = {}
        self._positions: dict[str, PositionRecord] = {}

    def load_state(self) -> EngineState | None:
        return self.state

    def commit(self, state: EngineState, batch: LedgerBatch) -> None:
        """Keep the state and what changed; equity is kept by who runs the engine, forecasts and decisions are not."""
        self.state = state
        self.signals += batch.signals
        self.transactions += batch.transactions
        self.risk_events += batch.risk_events
        for intent in batch.intents:
            self._orders[intent.client_order_id] = OrderRecord(
                intent=intent, status=OrderStatus.INTENT, broker_order_id="", reason=""
            )
            self._unresolved[intent.client_order_id] = None
        for record in batch.positions:
            self._positions[record.position.client_order_id] = record

    def unresolved_orders(self) -> tuple[OrderRecord, ...]:
        return tuple(self._orders[client_order_id] for client_order_id in self._unresolved)

    def mark_order(self, client_order_id: str, status: OrderStatus, *, broker_order_id: str = "", reason: str = "") -> None:
        known = self._orders[client_order_id]
        self._orders[client_order_id] = OrderRecord(
            intent=known.intent,
            status=status,
            broker_order_id=broker_order_id or known.broker_order_id,
            reason=reason or known.reason,
        )
        if status not in _UNRESOLVED:
            self._unresolved.pop(client_order_id, None)

    def mark_change(self, change_id: str, answer: ChangeAnswer) -> None:
        """Forget it: what came of a change is seen at the position."""

    def orders(self) -> tuple[OrderRecord, ...]:
        return tuple(self._orders.values())

    def positions(self) -> tuple[PositionRecord, ...]:
        """Return every position, open or closed, by when it was opened."""
        return tuple(self._positions.values())

    def kill_switch_request(self) -> KillSwitchRequest | None:
        return None

    def keep_settings(self, settings_hash: str, content: str) -> None:
        """Forget them: they are whoever's who runs the engine."""
