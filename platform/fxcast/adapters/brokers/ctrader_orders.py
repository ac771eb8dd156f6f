"""What became of a request to trade, judged by all that came after it.

Events may come late, twice, or in another order than things happened, and not each repeats the request's clientMsgId: they are
told apart by what they are about, and of several the one that is furthest along counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from fxcast.adapters.brokers.ctrader_connection import Message
from fxcast.adapters.brokers.ctrader_messages import (
    ERRORS,
    NOT_UNDERSTOOD,
    DealStatus,
    ExecutionType,
    HeldPosition,
    Order,
    Payload,
    PayloadType,
    Status,
    error_code,
    member,
    read_order,
    read_position,
)

_STATUSES = {
    ExecutionType.ORDER_FILLED: Status.ORDER_STATUS_FILLED,
    ExecutionType.ORDER_CANCELLED: Status.ORDER_STATUS_CANCELLED,
    ExecutionType.ORDER_EXPIRED: Status.ORDER_STATUS_EXPIRED,
    ExecutionType.ORDER_REJECTED: Status.ORDER_STATUS_REJECTED,
}
_PROGRESS = {Status.ORDER_STATUS_ACCEPTED: 0, Status.ORDER_STATUS_FILLED: 2}  # the others: 1
_NOT_DEALT = frozenset({DealStatus.REJECTED, DealStatus.INTERNALLY_REJECTED, DealStatus.ERROR, DealStatus.MISSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is known of a request to trade.

    Attributes:
        order: As far as it got, None if nothing was heard of it.
        position: That it opened or changed, as the broker told it last.
        error: The message that refused it.
        reason: Why it was not filled, or not wholly.
    """

    order: Order | None = None
    position: HeldPosition | None = None
    error: Payload | None = None
    reason: str = ""

    @property
    def is_final(self) -> bool:
        return self.error is not None or (self.order is not None and self.order.status is not Status.ORDER_STATUS_ACCEPTED)


@dataclass(frozen=True, slots=True)
class _Execution:
    order: Order
    position: HeldPosition | None
    reason: str
    client_msg_id: str


def outcome_of(messages: Sequence[Message], client_msg_id: str, is_it: Callable[[Order], bool]) -> Outcome:
    """Judge what came.

    Args:
        is_it: Tells the request's order by what it is about.
    """
    executions = [
        execution
        for message in messages
        if message.payload_type == PayloadType.EXECUTION_EVENT and (execution := _read(message)) is not None
    ]
    numbers = {each.order.order_id for each in executions if each.client_msg_id == client_msg_id or is_it(each.order)}
    own = [each for each in executions if each.order.order_id in numbers]
    error = next(
        (
            each.payload
            for each in messages
            if each.payload_type in ERRORS
            and (each.client_msg_id == client_msg_id or (not each.client_msg_id and _order_number(each.payload) in numbers))
        ),
        None,
    )
    if not own:
        return Outcome(error=error, reason=_explain(error))
    furthest = max(own, key=lambda each: (_PROGRESS.get(each.order.status, 1), each.order.executed))
    executed = max(each.order.executed for each in own)
    position = max(own, key=lambda each: (each.position is not None, each.order.executed)).position
    reason = next((each.reason for each in own if each.reason), _explain(error))
    return Outcome(
        order=replace(furthest.order, executed=executed),
        position=position,
        error=error,
        reason="" if furthest.order.status is Status.ORDER_STATUS_FILLED else reason,
    )


def amendment_of(
    messages: Sequence[Message], client_msg_id: str, position_id: int, protection: tuple[Decimal | None, Decimal | None]
) -> Message | None:
    """Return the answer to a change of stop and target, None until it comes: one that names it, or tells that it is done."""
    for message in messages:
        if message.client_msg_id == client_msg_id:
            return message
        if message.payload_type == PayloadType.EXECUTION_EVENT and not message.client_msg_id:
            execution = _read(message)
            held = None if execution is None else execution.position
            if held is not None and held.position_id == position_id and (held.stop, held.target) == protection:
                return message
    return None


def _read(message: Message) -> _Execution | None:
    """Read an execution event, None if it is not about an order."""
    payload = message.payload
    try:
        kind = member(ExecutionType, payload["executionType"])
        order = read_order(payload["order"])
        status = _STATUSES.get(kind, order.status)
        deal: Payload = payload.get("deal") or {}
        problem = member(DealStatus, deal["dealStatus"]) if deal else DealStatus.FILLED
        held: Payload = payload.get("position") or {}
        position = read_position(held) if held.get("price") else None
    except NOT_UNDERSTOOD:
        return None
    reason = str(payload.get("errorCode") or "")
    if not reason and problem in _NOT_DEALT:
        reason = f"no deal: {problem.name}"
    return _Execution(replace(order, status=status), position, reason, message.client_msg_id)


def _order_number(payload: Payload) -> int | None:
    number = payload.get("orderId")
    return None if number is None else int(number)


def _explain(error: Payload | None) -> str:
    if error is None:
        return ""
    description = error.get("description")
    return error_code(error) + (f": {description}" if description else "")
