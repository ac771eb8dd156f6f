"""Sends what was committed, and finds out what became of what may or may not have arrived."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from fxcast import tracing
from fxcast.domain.order import BrokerOrder, ChangeAnswer, OrderIntent, OrderPurpose, OrderStatus, ProtectionChange
from fxcast.errors import Unavailable
from fxcast.trading.events import ChangeAnswered, OrderUpdated
from fxcast.trading.execution import is_held
from fxcast.trading.ports import Broker, Clock, Ledger
from fxcast.trading.state import EngineState, KillSwitch

log = structlog.get_logger(__name__)

DEAD = (OrderStatus.REJECTED, OrderStatus.CANCELLED)


class OrderDesk:
    """The only place that sends orders.

    Args:
        state: The state committed last.
        take: Steps through an event and commits.
    """

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger,
        clock: Clock,
        *,
        state: Callable[[], EngineState],
        take: Callable[[OrderUpdated | ChangeAnswered], None],
    ) -> None:
        self._broker = broker
        self._ledger = ledger
        self._clock = clock
        self._state = state
        self._take = take

    def resolve(self) -> None:
        """Ask the broker about every order that may or may not have reached it; send it if it did not and is still valid.

        Raises:
            Unavailable: If the broker does not answer.
        """
        for record in self._ledger.unresolved_orders():
            client_order_id = record.intent.client_order_id
            known = self._broker.order(client_order_id)
            if known is not None:
                self._settle(known)
            elif self._may_send(record.intent):
                self.send(record.intent)
            else:
                reason = "it never reached the broker and is no longer valid"
                self._settle(
                    BrokerOrder(client_order_id=client_order_id, broker_order_id="", status=OrderStatus.CANCELLED, reason=reason)
                )

    def send(self, intent: OrderIntent) -> None:
        """Send an order that was committed. One whose answer does not come is asked about before anything else is done."""
        self._ledger.mark_order(intent.client_order_id, OrderStatus.SENT)
        place = self._broker.place_order if intent.purpose is OrderPurpose.OPEN else self._broker.close_position
        about = {"client_order_id": intent.client_order_id, "signal_id": intent.signal_id}
        log.info("order sent", **about)
        try:
            with tracing.span("send order", "client", **about):
                answer = place(intent)
        except Unavailable as error:
            log.warning("order outcome unknown", client_order_id=intent.client_order_id, problem=str(error))
            answer = self._ask(intent.client_order_id)
        if answer is not None:
            self._settle(answer)

    def send_changes(self) -> None:
        """Send each change of protection that the broker has not answered; being absolute, it may be sent again."""
        if self._state().kill_switch is KillSwitch.HALTED:
            return
        for change in [held.change for held in self._state().positions.values() if held.change is not None]:
            answer = self._changed(change)
            if answer is not None:
                self._ledger.mark_change(change.change_id, answer)
                self._take(ChangeAnswered(change=change, answer=answer, at=self._clock.now()))
                self._send_what_follows(change.symbol)

    def mark(self, order: BrokerOrder) -> None:
        """Save what the broker says of an order."""
        self._ledger.mark_order(order.client_order_id, order.status, broker_order_id=order.broker_order_id, reason=order.reason)
        level = log.warning if order.status in DEAD else log.info
        level(
            "order taken",
            client_order_id=order.client_order_id,
            broker_order_id=order.broker_order_id,
            status=order.status.value,
            reason=order.reason,
        )

    def _send_what_follows(self, symbol: str) -> None:
        """Send the close that was decided because a lost stop was not taken back."""
        unsent = {
            record.intent.client_order_id for record in self._ledger.unresolved_orders() if record.status is OrderStatus.INTENT
        }
        for order in self._state().pending_of(symbol, OrderPurpose.CLOSE):
            if order.intent.client_order_id in unsent:
                self.send(order.intent)

    def _changed(self, change: ProtectionChange) -> ChangeAnswer | None:
        try:
            return self._broker.modify_order(change)
        except Unavailable as error:
            log.warning("change outcome unknown", change_id=change.change_id, problem=str(error))
            return None

    def _may_send(self, intent: OrderIntent) -> bool:
        state, switches = self._state(), self._kill_switches()
        if KillSwitch.HALTED in switches:
            return False
        if intent.purpose is OrderPurpose.CLOSE:
            return intent.client_order_id in state.pending and is_held(state, intent)
        pending = state.pending.get(intent.client_order_id)
        return switches == {KillSwitch.ACTIVE} and pending is not None and self._clock.now() < pending.valid_until

    def _kill_switches(self) -> set[KillSwitch]:
        """Return where the kill switch stands, and where a person has asked for it since: until that is taken in, both bind."""
        state, request = self._state(), self._ledger.kill_switch_request()
        if request is None or request.sequence <= state.control_sequence:
            return {state.kill_switch}
        return {state.kill_switch, KillSwitch(request.kill_switch)}

    def _ask(self, client_order_id: str) -> BrokerOrder | None:
        try:
            return self._broker.order(client_order_id)
        except Unavailable:
            return None  # it stays sent, and is asked about again before the next candle

    def _settle(self, order: BrokerOrder) -> None:
        """Save what the broker says of an order; one that is dead leaves the state too, once its fills are taken in.

        The state goes first: an order that never came is known to the ledger alone, which is asked again after a crash in between.
        """
        if order.status in DEAD and not order.filled_units:
            self._take(OrderUpdated(order=order, at=self._clock.now()))
        self.mark(order)
