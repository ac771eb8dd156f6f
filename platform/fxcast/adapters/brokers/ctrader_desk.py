"""Sends orders to cTrader, and finds out what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_UP, Decimal

import structlog

from fxcast.adapters.brokers.ctrader_connection import CTraderBrokerSettings, CTraderConnection, Heard
from fxcast.adapters.brokers.ctrader_history import History, Memory, Reconciled, broker_order, opening_named_by
from fxcast.adapters.brokers.ctrader_market import Catalogue
from fxcast.adapters.brokers.ctrader_messages import (
    BUSY,
    ERRORS,
    QUOTE_SCALE,
    UNSURE,
    VENDOR,
    HeldPosition,
    Order,
    OrderType,
    Payload,
    PayloadType,
    Status,
    TradeSide,
    error_code,
    milliseconds,
    volume_of,
)
from fxcast.adapters.brokers.ctrader_orders import Outcome, amendment_of, outcome_of
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Quote
from fxcast.domain.order import BrokerOrder, ChangeAnswer, OrderIntent, OrderStatus, ProtectionChange
from fxcast.errors import Disconnected, OutcomeUnknown, Unavailable
from fxcast.trading.ports import Clock

log = structlog.get_logger(__name__)

_LONGEST_ID = 50  # of a clientOrderId; a label may have 100
_AMEND_TRIES = 4
_AMEND_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Session:
    """A connection and what is read over it."""

    connection: CTraderConnection
    catalogue: Catalogue
    history: History


class OrderDesk:
    """Places orders, closes positions and moves their stops, over whichever session is given.

    It remembers, as long as the process lives, what was refused and what was sent without an answer.
    """

    def __init__(self, settings: CTraderBrokerSettings, memory: Memory, clock: Clock) -> None:
        self._settings = settings
        self._memory = memory
        self._clock = clock
        self._refused: dict[str, BrokerOrder] = {}
        self._sent: set[str] = set()
        self._began_s = time.monotonic()
        self._knows_the_past = False
        self._unanswered: dict[str, float] = {}  # client order ids by the time of sending

    def may_have_come(self, client_order_id: str) -> bool:
        """Whether an order must be asked about before it is sent.

        It need not if this process never sent it, and has looked through the past since a predecessor's last order must have come.
        """
        is_new = client_order_id not in self._sent and client_order_id not in self._refused
        return not (is_new and self._knows_the_past and not self._memory.has_come(client_order_id))

    def place(self, session: Session, intent: OrderIntent, quote: Quote | None, instrument: Instrument) -> BrokerOrder:
        """Place an order of which `order` knows nothing."""
        if len(intent.client_order_id) > _LONGEST_ID:
            problem = f"the id has {len(intent.client_order_id)} characters; allowed: {_LONGEST_ID}"
            return self._refuse(intent.client_order_id, problem)
        if quote is None:
            return self._refuse(intent.client_order_id, f"NO_QUOTES: no price of {intent.symbol}")
        assert intent.stop is not None  # an intent to open has one
        price = quote.opening(intent.side)
        stop_distance = intent.side.sign * (price - intent.stop)
        target_distance = None if intent.target is None else intent.side.sign * (intent.target - price)
        if stop_distance <= 0 or (target_distance is not None and target_distance <= 0):
            found = f"TRADING_BAD_STOPS: the price is {price}, the stop {intent.stop}, the target {intent.target}"
            return self._refuse(intent.client_order_id, found)
        request = {
            "symbolId": session.catalogue.require(intent.symbol).symbol_id,
            "orderType": int(OrderType.MARKET),
            "tradeSide": int(TradeSide[intent.side.name]),
            "volume": volume_of(intent.units),
            "clientOrderId": intent.client_order_id,
            "label": intent.client_order_id,
            "relativeStopLoss": _relative(stop_distance, instrument),
        }
        if target_distance is not None:
            request["relativeTakeProfit"] = _relative(target_distance, instrument)

        def is_it(order: Order) -> bool:
            return order.client_order_id == intent.client_order_id

        self._note_sending(intent.client_order_id)
        heard = self._trade(session, PayloadType.NEW_ORDER_REQ, request, is_it, intent.client_order_id)
        outcome = outcome_of(heard.messages, heard.client_msg_id, is_it)
        answer = self._answer(session, intent.client_order_id, heard, outcome)
        if outcome.order is not None and outcome.order.executed and outcome.position is not None:
            self._protect_exactly(session, outcome.position, intent.stop, intent.target)
        return answer

    def close(self, session: Session, intent: OrderIntent) -> BrokerOrder:
        """Close a position, or a part; of several of the symbol, one that the engine opened."""
        known = self._refused.get(intent.client_order_id)
        is_sent = self._memory.position_closed_by(intent.client_order_id) is not None
        if known is None and (is_sent or self._memory.order_that_closed(intent.client_order_id) is not None):
            known = self.order(session, intent.client_order_id)
        if known is not None:
            return known
        number = session.catalogue.require(intent.symbol).symbol_id
        held = [
            each for each in session.history.reconcile().positions if each.symbol_id == number and each.side is intent.side.opposite
        ]
        if not held:
            return self._refuse(intent.client_order_id, f"POSITION_NOT_FOUND: no {intent.side.opposite} of {intent.symbol} is open")
        opening = opening_named_by(intent.client_order_id)
        position = max(held, key=lambda each: (each.label == opening, bool(each.label)))
        request = {"positionId": position.position_id, "volume": volume_of(min(intent.units, position.units))}

        def is_it(order: Order) -> bool:
            return order.position_id == position.position_id and order.closes_at_market

        self._note_sending(intent.client_order_id)
        self._memory.note_sent_closing(intent.client_order_id, position.position_id, milliseconds(self._clock.now()))
        heard = self._trade(session, PayloadType.CLOSE_POSITION_REQ, request, is_it, intent.client_order_id)
        outcome = outcome_of(heard.messages, heard.client_msg_id, is_it)
        if outcome.order is not None:
            self._memory.note_closing(outcome.order.order_id, intent.client_order_id)
        return self._answer(session, intent.client_order_id, heard, outcome)

    def modify(self, session: Session, change: ProtectionChange) -> ChangeAnswer:
        """Set stop and target of the position that an order opened."""
        held = session.history.reconcile().positions
        position = next((each for each in held if each.label == change.client_order_id), None)
        if position is None:
            return ChangeAnswer(accepted=False, reason=f"POSITION_NOT_FOUND: {change.client_order_id} has none")
        if (position.stop, position.target) == (change.stop, change.target):
            return ChangeAnswer(accepted=True)
        problem = self._amend(session, position.position_id, change.stop, change.target)
        return ChangeAnswer(accepted=not problem, reason=problem)

    def order(self, session: Session, client_order_id: str) -> BrokerOrder | None:
        """Return what is known of an order: for `order_history_days`, and of a rejected one as long as this process lives.

        Raises:
            OutcomeUnknown: If it is not there, but was sent so recently that it may still come.
        """
        known = self._refused.get(client_order_id)
        if known is not None:
            return known
        open_now = session.history.reconcile()
        is_settled = time.monotonic() - self._began_s >= self._settings.settle_s
        found = self._find(session, client_order_id, open_now)
        if found is None and is_settled:
            self._knows_the_past = True
        sent_s = self._unanswered.get(client_order_id)
        if found is None and sent_s is not None and time.monotonic() - sent_s < self._settings.settle_s:
            raise OutcomeUnknown(f"{VENDOR}: {client_order_id} is not there, but it is too early to say that it never came")
        self._forget_sending(client_order_id)
        return found

    def _trade(
        self, session: Session, kind: PayloadType, request: Payload, is_it: Callable[[Order], bool], client_order_id: str
    ) -> Heard:
        try:
            return session.connection.exchange(
                kind,
                {"ctidTraderAccountId": session.connection.account_id, **request},
                lambda messages, client_msg_id: outcome_of(messages, client_msg_id, is_it).is_final,
                timeout_s=self._settings.order_timeout_s,
            )
        except Disconnected:  # before anything was sent
            self._forget_sending(client_order_id)
            raise

    def _answer(self, session: Session, client_order_id: str, heard: Heard, outcome: Outcome) -> BrokerOrder:
        """Turn what became of an order into an answer, or an error."""
        order, error = outcome.order, outcome.error
        if order is not None and (error is None or order.status is not Status.ORDER_STATUS_ACCEPTED):
            self._forget_sending(client_order_id)
            self._memory.note_order(order)
            return broker_order(order, client_order_id, outcome.reason)
        if error is None:
            session.connection.close()  # an answer that comes late is not waited for: it is asked about
            raise OutcomeUnknown(f"{VENDOR}: {client_order_id}: {heard.problem}")
        if error_code(error) in UNSURE:
            raise OutcomeUnknown(f"{VENDOR}: {client_order_id}: {error_code(error)}")
        self._forget_sending(client_order_id)
        meaning = session.connection.error_of(error)
        if isinstance(meaning, Unavailable):
            raise meaning
        return self._refuse(client_order_id, outcome.reason)

    def _note_sending(self, client_order_id: str) -> None:
        self._sent.add(client_order_id)
        self._unanswered[client_order_id] = time.monotonic()

    def _forget_sending(self, client_order_id: str) -> None:
        """Note that it is known what became of an order: it came, or it certainly did not."""
        self._unanswered.pop(client_order_id, None)
        self._memory.forget_sent_closing(client_order_id)

    def _refuse(self, client_order_id: str, reason: str) -> BrokerOrder:
        refused = BrokerOrder(client_order_id=client_order_id, broker_order_id="", status=OrderStatus.REJECTED, reason=reason)
        self._refused[client_order_id] = refused
        return refused

    def _find(self, session: Session, client_order_id: str, open_now: Reconciled) -> BrokerOrder | None:
        pending = next((each for each in open_now.orders if each.client_order_id == client_order_id), None)
        if pending is not None:
            return broker_order(pending, client_order_id)
        closed = self._memory.order_that_closed(client_order_id)
        if closed is not None:
            return broker_order(self._memory.order(closed) or session.history.order(closed), client_order_id)
        now, days = self._clock.now(), self._settings.order_history_days
        for order in session.history.orders_between(now - timedelta(days=days), now):
            if order.client_order_id == client_order_id:
                return broker_order(order, client_order_id)
        held = next((each for each in open_now.positions if each.label == client_order_id), None)
        if held is not None:  # the list of orders lags behind
            return BrokerOrder(
                client_order_id=client_order_id, broker_order_id="", status=OrderStatus.FILLED, filled_units=held.units
            )
        return self._find_closing(session, client_order_id, open_now)

    def _find_closing(self, session: Session, client_order_id: str, open_now: Reconciled) -> BrokerOrder | None:
        """Find the order that came of a request to close: see the module's text."""
        now, days = self._clock.now(), self._settings.order_history_days
        asked = self._memory.position_closed_by(client_order_id)
        if asked is not None:
            for order in session.history.orders_of_position(asked, now, days):
                if self._memory.closing(order) == client_order_id:
                    return broker_order(order, client_order_id)
            return None
        still_open = {each.position_id for each in open_now.positions}
        for position_id in self._memory.positions_opened_by(opening_named_by(client_order_id)):
            if position_id in still_open:
                continue
            closings = [order for order in session.history.orders_of_position(position_id, now, days) if order.is_closing]
            done = [order for order in closings if order.executed]
            if done and done[-1].closes_at_market and self._memory.closing(done[-1]) is None:
                self._memory.note_closing(done[-1].order_id, client_order_id)
                return broker_order(done[-1], client_order_id)
        return None

    def _protect_exactly(self, session: Session, position: HeldPosition, stop: Decimal, target: Decimal | None) -> None:
        """Set stop and target of a new position to the prices asked for; until then they hold distances from the fill."""
        if (position.stop, position.target) == (stop, target):
            return
        try:
            problem = self._amend(session, position.position_id, stop, target)
        except Unavailable as error:  # the order is filled whatever comes of this, and the stop it came with holds
            problem = str(error)
        if problem:
            log.warning("stop and target are off by the slippage", position=position.label, problem=problem)

    def _amend(self, session: Session, position_id: int, stop: Decimal, target: Decimal | None) -> str:
        """Set stop and target of a position; return why that was refused, empty if it was not.

        Raises:
            OutcomeUnknown: If no answer came.
            RateLimited, Disconnected: If it certainly was not done.
        """
        request: dict[str, object] = {
            "ctidTraderAccountId": session.connection.account_id,
            "positionId": position_id,
            "stopLoss": stop,
        }
        if target is not None:
            request["takeProfit"] = target
        code = ""
        for attempt in range(_AMEND_TRIES):
            if attempt:
                time.sleep(_AMEND_PAUSE_S)  # the position is busy, and cTrader announces no end of that: asked again
            heard = session.connection.exchange(
                PayloadType.AMEND_POSITION_SLTP_REQ,
                request,
                lambda messages, client_msg_id: amendment_of(messages, client_msg_id, position_id, (stop, target)) is not None,
                timeout_s=self._settings.request_timeout_s,
            )
            answer = amendment_of(heard.messages, heard.client_msg_id, position_id, (stop, target))
            if answer is None:
                session.connection.close()
                raise OutcomeUnknown(f"{VENDOR}: stop and target of position {position_id}: {heard.problem}")
            if answer.payload_type not in ERRORS:
                code = "" if not answer.payload.get("errorCode") else error_code(answer.payload)
                break
            code = error_code(answer.payload)
            error = session.connection.error_of(answer.payload)
            if isinstance(error, Unavailable):
                raise error
            if code in UNSURE:
                raise OutcomeUnknown(f"{VENDOR}: stop and target of position {position_id}: {code}")
            if code not in BUSY:
                break
        return code


def _relative(distance: Decimal, instrument: Instrument) -> int:
    """Return a distance as cTrader takes it, in whole ticks and at least one."""
    whole_ticks = max(instrument.round_price(distance), instrument.tick)
    return int((whole_ticks * QUOTE_SCALE).to_integral_value(rounding=ROUND_UP))
