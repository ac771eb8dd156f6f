"""What cTrader's Open API says, and how it says it.

Messages are JSON objects of clientMsgId, payloadType and payload. Whole numbers may come as numbers or as text, enumerations as
numbers or as names; both are read. Prices of orders and positions are prices; those of quotes are in 1/100,000. Volumes are in
1/100 of a unit. Money is in 10^-moneyDigits of the account's currency.

Source: github.com/spotware/openapi-proto-messages, and help.ctrader.com/open-api.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Any, TypeVar

from fxcast.domain.order import Side
from fxcast.errors import BadCredentials, BadSetting, Disconnected, FxcastError, RateLimited

CLIENT_ID = "FXCAST_CTRADER_CLIENT_ID"
CLIENT_SECRET = "FXCAST_CTRADER_CLIENT_SECRET"  # noqa: S105 - the variable's name
ACCESS_TOKEN = "FXCAST_CTRADER_ACCESS_TOKEN"  # noqa: S105 - the variable's name

Payload = Mapping[str, Any]

VENDOR = "cTrader"
# What reading a message of another shape than documented raises.
NOT_UNDERSTOOD = (ValueError, KeyError, TypeError, ArithmeticError, AttributeError)
QUOTE_SCALE = Decimal(100_000)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VOLUME_SCALE = 100
_MONEY_DIGITS = 2  # where a message names none


class PayloadType(IntEnum):
    """Kinds of message, as far as they are used here."""

    COMMON_ERROR_RES = 50
    HEARTBEAT_EVENT = 51
    APPLICATION_AUTH_REQ = 2100
    APPLICATION_AUTH_RES = 2101
    ACCOUNT_AUTH_REQ = 2102
    ACCOUNT_AUTH_RES = 2103
    NEW_ORDER_REQ = 2106
    AMEND_POSITION_SLTP_REQ = 2110
    CLOSE_POSITION_REQ = 2111
    ASSET_LIST_REQ = 2112
    ASSET_LIST_RES = 2113
    SYMBOLS_LIST_REQ = 2114
    SYMBOLS_LIST_RES = 2115
    SYMBOL_BY_ID_REQ = 2116
    SYMBOL_BY_ID_RES = 2117
    SYMBOLS_FOR_CONVERSION_REQ = 2118
    SYMBOLS_FOR_CONVERSION_RES = 2119
    TRADER_REQ = 2121
    TRADER_RES = 2122
    RECONCILE_REQ = 2124
    RECONCILE_RES = 2125
    EXECUTION_EVENT = 2126
    SUBSCRIBE_SPOTS_REQ = 2127
    SUBSCRIBE_SPOTS_RES = 2128
    SPOT_EVENT = 2131
    ORDER_ERROR_EVENT = 2132
    DEAL_LIST_REQ = 2133
    DEAL_LIST_RES = 2134
    ERROR_RES = 2142
    ACCOUNTS_TOKEN_INVALIDATED_EVENT = 2147
    CLIENT_DISCONNECT_EVENT = 2148
    GET_ACCOUNTS_BY_ACCESS_TOKEN_REQ = 2149
    GET_ACCOUNTS_BY_ACCESS_TOKEN_RES = 2150
    ACCOUNT_DISCONNECT_EVENT = 2164
    ORDER_LIST_REQ = 2175
    ORDER_LIST_RES = 2176
    GET_DYNAMIC_LEVERAGE_REQ = 2177
    GET_DYNAMIC_LEVERAGE_RES = 2178
    ORDER_DETAILS_REQ = 2181
    ORDER_DETAILS_RES = 2182
    ORDER_LIST_BY_POSITION_ID_REQ = 2183
    ORDER_LIST_BY_POSITION_ID_RES = 2184
    GET_POSITION_UNREALIZED_PNL_REQ = 2187
    GET_POSITION_UNREALIZED_PNL_RES = 2188


ERRORS = frozenset({PayloadType.COMMON_ERROR_RES, PayloadType.ERROR_RES, PayloadType.ORDER_ERROR_EVENT})


class TradeSide(IntEnum):
    BUY = 1
    SELL = 2


class OrderType(IntEnum):
    MARKET = 1
    LIMIT = 2
    STOP = 3
    STOP_LOSS_TAKE_PROFIT = 4
    MARKET_RANGE = 5
    STOP_LIMIT = 6


class Status(IntEnum):
    """Of an order."""

    ORDER_STATUS_ACCEPTED = 1
    ORDER_STATUS_FILLED = 2
    ORDER_STATUS_REJECTED = 3
    ORDER_STATUS_EXPIRED = 4
    ORDER_STATUS_CANCELLED = 5


class ExecutionType(IntEnum):
    """What an execution event tells."""

    ORDER_ACCEPTED = 2
    ORDER_FILLED = 3
    ORDER_REPLACED = 4
    ORDER_CANCELLED = 5
    ORDER_EXPIRED = 6
    ORDER_REJECTED = 7
    ORDER_CANCEL_REJECTED = 8
    SWAP = 9
    DEPOSIT_WITHDRAW = 10
    ORDER_PARTIAL_FILL = 11
    BONUS_DEPOSIT_WITHDRAW = 12


class DealStatus(IntEnum):
    FILLED = 2
    PARTIALLY_FILLED = 3
    REJECTED = 4
    INTERNALLY_REJECTED = 5
    ERROR = 6
    MISSED = 7


class PermissionScope(IntEnum):
    """What an access token may do."""

    SCOPE_VIEW = 0
    SCOPE_TRADE = 1


class DistanceType(IntEnum):
    """What the least distance of a stop is told in."""

    SYMBOL_DISTANCE_IN_POINTS = 1
    SYMBOL_DISTANCE_IN_PERCENTAGE = 2


_Enumeration = TypeVar("_Enumeration", bound=IntEnum)


def member(enumeration: type[_Enumeration], value: object) -> _Enumeration:
    """Read an enumeration from its number or its name; raises one of NOT_UNDERSTOOD if it is neither."""
    text = str(value)
    return enumeration(int(text)) if text.isdigit() else enumeration[text]


def whole(payload: Payload, name: str, otherwise: int | None = None) -> int:
    """Read a whole number; without `otherwise`, a missing one raises KeyError."""
    value = payload.get(name)
    if value is None:
        if otherwise is None:
            raise KeyError(name)
        return otherwise
    return int(value)


def units(payload: Payload, name: str, otherwise: int | None = None) -> Decimal:
    """Read a volume, in units of the base currency."""
    return Decimal(whole(payload, name, otherwise)) / _VOLUME_SCALE


def volume_of(size: Decimal) -> int:
    """Return a size in units of the base currency as a volume.

    Raises:
        ValueError: If it is no multiple of 1/100 unit.
    """
    volume = size * _VOLUME_SCALE
    if volume != volume.to_integral_value():
        raise ValueError(f"a volume is a multiple of 0.01, found {size}")
    return int(volume)


def money(payload: Payload, name: str, digits: int | None = None) -> Decimal:
    """Read an amount in account currency; zero where it is missing."""
    exponent = whole(payload, "moneyDigits", _MONEY_DIGITS) if digits is None else digits
    return Decimal(whole(payload, name, 0)).scaleb(-exponent)


def price(payload: Payload, name: str) -> Decimal | None:
    """Read a price, None where it is missing or zero, which is how a stop that was taken away may come."""
    value = payload.get(name)
    found = None if value is None else Decimal(str(value))
    return found or None


def moment(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def milliseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as cTrader tells it; `symbol_id` and the like are its own numbers.

    Attributes:
        client_order_id: Empty for orders that were placed without one, as by a person, by a stop, or to close a position.
        is_closing: Whether it closes a position, or a part of one.
    """

    order_id: int
    client_order_id: str
    position_id: int | None
    symbol_id: int
    side: Side
    kind: OrderType
    status: Status
    executed: Decimal
    is_closing: bool
    is_stop_out: bool
    stop_price: Decimal | None
    limit_price: Decimal | None
    updated_ms: int

    @property
    def closes_at_market(self) -> bool:
        """Whether somebody closed a position, or asked to: neither its stop, its target nor the broker."""
        return self.is_closing and self.kind is OrderType.MARKET and not self.is_stop_out


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """An execution at a price; what is realised comes with closing ones only.

    Attributes:
        commission: Booked to the balance, zero or more. cTrader books what opening cost only when the position is closed.
        swap: The interest on the position since it was opened, booked now.
    """

    deal_id: int
    order_id: int
    position_id: int
    symbol_id: int
    side: Side
    units: Decimal
    price: Decimal
    executed_ms: int
    is_closing: bool
    profit: Decimal
    swap: Decimal
    commission: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPosition:
    """An open position as cTrader tells it; `label` is the client order id of the order that opened it, or what a person wrote."""

    position_id: int
    label: str
    symbol_id: int
    side: Side
    units: Decimal
    entry_price: Decimal
    stop: Decimal | None
    target: Decimal | None
    opened_ms: int
    margin: Decimal


def read_side(value: object) -> Side:
    return Side.BUY if member(TradeSide, value) is TradeSide.BUY else Side.SELL


def read_order(payload: Payload) -> Order:
    """Read an order; raises one of NOT_UNDERSTOOD if it is none."""
    trade = payload["tradeData"]
    status = member(Status, payload["orderStatus"])
    filled_volume = units(trade, "volume") if status is Status.ORDER_STATUS_FILLED else Decimal(0)
    position_id = payload.get("positionId")
    return Order(
        order_id=whole(payload, "orderId"),
        client_order_id=str(payload.get("clientOrderId") or ""),
        position_id=None if position_id is None else int(position_id),
        symbol_id=whole(trade, "symbolId"),
        side=read_side(trade["tradeSide"]),
        kind=member(OrderType, payload["orderType"]),
        status=status,
        executed=units(payload, "executedVolume") if payload.get("executedVolume") is not None else filled_volume,
        is_closing=payload.get("closingOrder") is True,
        is_stop_out=payload.get("isStopOut") is True,
        stop_price=price(payload, "stopPrice"),
        limit_price=price(payload, "limitPrice"),
        updated_ms=whole(payload, "utcLastUpdateTimestamp", whole(trade, "openTimestamp", 0)),
    )


def read_deal(payload: Payload) -> Deal | None:
    """Read a deal, None if nothing was executed; raises one of NOT_UNDERSTOOD if it is none."""
    status = member(DealStatus, payload["dealStatus"])
    size = units(payload, "filledVolume")
    if status not in {DealStatus.FILLED, DealStatus.PARTIALLY_FILLED} or not size:
        return None
    closing: Payload = payload.get("closePositionDetail") or {}
    paid = price(payload, "executionPrice")
    if paid is None:
        raise KeyError("executionPrice")
    return Deal(
        deal_id=whole(payload, "dealId"),
        order_id=whole(payload, "orderId"),
        position_id=whole(payload, "positionId"),
        symbol_id=whole(payload, "symbolId"),
        side=read_side(payload["tradeSide"]),
        units=size,
        price=paid,
        executed_ms=whole(payload, "executionTimestamp"),
        is_closing=bool(closing),
        profit=money(closing, "grossProfit"),
        swap=money(closing, "swap"),
        commission=abs(money(closing, "commission")) + abs(money(closing, "pnlConversionFee")),
    )


def read_position(payload: Payload) -> HeldPosition:
    """Read a position; raises one of NOT_UNDERSTOOD if it is none."""
    trade = payload["tradeData"]
    entry = price(payload, "price")
    if entry is None:
        raise KeyError("price")
    return HeldPosition(
        position_id=whole(payload, "positionId"),
        label=str(trade.get("label") or ""),
        symbol_id=whole(trade, "symbolId"),
        side=read_side(trade["tradeSide"]),
        units=units(trade, "volume"),
        entry_price=entry,
        stop=price(payload, "stopLoss"),
        target=price(payload, "takeProfit"),
        opened_ms=whole(trade, "openTimestamp", 0),
        margin=money(payload, "usedMargin"),
    )


_CREDENTIALS = frozenset({"CH_CLIENT_AUTH_FAILURE", "CH_OA_CLIENT_NOT_FOUND", "CH_ACCESS_TOKEN_INVALID", "OA_AUTH_TOKEN_EXPIRED"})
_RATE = frozenset({"REQUEST_FREQUENCY_EXCEEDED", "BLOCKED_PAYLOAD_TYPE", "CONNECTIONS_LIMIT_EXCEEDED"})
_ACCOUNT = frozenset({"CH_CTID_TRADER_ACCOUNT_NOT_FOUND", "RET_NO_SUCH_LOGIN", "RET_ACCOUNT_DISABLED"})
_SYMBOL = frozenset({"SYMBOL_NOT_FOUND", "UNKNOWN_SYMBOL"})
# The session is over; nothing was done, and a new connection may do better.
_SESSION = frozenset(
    {"ACCOUNT_NOT_AUTHORIZED", "CH_CLIENT_NOT_AUTHENTICATED", "SERVER_IS_UNDER_MAINTENANCE", "CH_CLIENT_ALREADY_AUTHENTICATED"}
)
# The proxy does not know what became of what it passed on.
UNSURE = frozenset({"UNKNOWN_ERROR", "CANT_ROUTE_REQUEST", "CH_SERVER_NOT_REACHABLE"})
# A position that is being changed at this moment, as right after it was opened.
BUSY = frozenset({"PENDING_EXECUTION", "POSITION_LOCKED", "CONCURRENT_MODIFICATION"})


def error_code(payload: Payload) -> str:
    return str(payload.get("errorCode") or "UNKNOWN_ERROR")


def refusal(payload: Payload, pause_s: float) -> FxcastError | None:
    """Return what an error means whatever was asked for, None if that depends on it.

    What cTrader says beside the code is not repeated: it may hold what we sent.

    Args:
        pause_s: The pause where it asks for one without saying how long.
    """
    code = error_code(payload)
    if code in _CREDENTIALS:
        return BadCredentials(f"{VENDOR} does not accept {CLIENT_ID}, {CLIENT_SECRET} or {ACCESS_TOKEN} ({code})")
    if code in _RATE:
        return RateLimited(VENDOR, float(payload.get("retryAfter") or pause_s))
    if code in _ACCOUNT:
        return BadSetting(f"account_id: {VENDOR} does not know or serve this account ({code})")
    if code in _SYMBOL:
        return BadSetting(f"{VENDOR} does not know a symbol that was asked for ({code})")
    if code in _SESSION:
        return Disconnected(f"{VENDOR} ended the session ({code})")
    return None


def order_rows(rows: Sequence[Payload]) -> tuple[Order, ...]:
    return tuple(read_order(row) for row in rows)
