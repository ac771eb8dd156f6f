"""What OANDA's messages say, in our words.

Source: developer.oanda.com, v20 REST API, the definitions of Account, Instrument, Pricing, Trade, Order and Transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import reduce

from fxcast.adapters.brokers.oanda_orders import Message, refusal_of
from fxcast.adapters.feeds.rest import vendor_time
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Quote, Rates
from fxcast.domain.order import (
    BrokerOrder,
    ChangeAnswer,
    Fill,
    FillReason,
    Financing,
    OrderIntent,
    OrderPurpose,
    OrderStatus,
    ProtectionChange,
    Side,
    Transaction,
)
from fxcast.domain.portfolio import Account, BrokerPosition

# Our sequence is OANDA's transaction id times this, plus the number of a part: one transaction may close and open several trades,
# or book interest on many. An account may have 1,000 open trades.
PARTS = 10_000

GONE = ChangeAnswer(accepted=False, reason="the position is gone")

_NOT_FOUND, _BAD_REQUEST = 404, 400
_OF_TRADES = ("STOP_LOSS", "TAKE_PROFIT", "TRAILING_STOP_LOSS", "GUARANTEED_STOP_LOSS")
_REASONS = {
    "STOP_LOSS_ORDER": FillReason.STOP,
    "TRAILING_STOP_LOSS_ORDER": FillReason.STOP,
    "GUARANTEED_STOP_LOSS_ORDER": FillReason.STOP,
    "TAKE_PROFIT_ORDER": FillReason.TARGET,
    "MARKET_ORDER_MARGIN_CLOSEOUT": FillReason.MARGIN_CLOSEOUT,
}
_CHANGED = ("stopLossOrder", "takeProfitOrder")


def instrument_name(symbol: str) -> str:
    return f"{symbol[:3]}_{symbol[3:]}"


def symbol_of(message: Message) -> str:
    return message["instrument"].replace("_", "")


def read_instruments(answer: Message) -> dict[str, Instrument]:
    """Read all instruments, by symbol. OANDA wants no distance of usual stops from the price."""
    return {instrument.symbol: instrument for instrument in map(_instrument, answer["instruments"])}


def _instrument(message: Message) -> Instrument:
    return Instrument(
        symbol=message["name"].replace("_", ""),
        pip=Decimal(1).scaleb(message["pipLocation"]),
        tick=Decimal(1).scaleb(-message["displayPrecision"]),
        lot_step=Decimal(1).scaleb(-message["tradeUnitsPrecision"]),
        min_units=Decimal(message["minimumTradeSize"]),
        margin_rate=Decimal(message["marginRate"]),
        max_units=Decimal(message["maximumOrderUnits"]),
    )


def read_account(answer: Message) -> Account:
    account = answer["account"]
    return Account(
        currency=account["currency"],
        balance=Decimal(account["balance"]),
        open_profit=Decimal(account["unrealizedPL"]),
        margin_used=Decimal(account["marginUsed"]),
    )


def read_quotes(answer: Message) -> dict[str, Quote]:
    """Read the prices that can be traded at now; a halted or closed market has none."""
    return {
        symbol_of(price): Quote(
            bid=Decimal(price["bids"][0]["price"]), ask=Decimal(price["asks"][0]["price"]), at=vendor_time(price["time"])
        )
        for price in answer["prices"]
        if price.get("tradeable", True) and price["bids"] and price["asks"]
    }


def read_rates(answer: Message, currency: str) -> Rates:
    """Read what a unit of each currency is worth as (a part of) a position's value."""
    worth = {conversion["currency"]: Decimal(conversion["positionValue"]) for conversion in answer["homeConversions"]}
    return Rates(currency=currency, worth={**worth, currency: Decimal(1)})


def read_positions(answer: Message) -> tuple[BrokerPosition, ...]:
    """Read the open trades: each is a position, those that one order of ours opened are one together."""
    positions: dict[tuple[str, str], list[BrokerPosition]] = {}
    for trade in answer["trades"]:
        position = _position(trade)
        positions.setdefault((position.client_order_id, "" if position.client_order_id else trade["id"]), []).append(position)
    return tuple(reduce(_together, parts) for parts in positions.values())


def _position(trade: Message) -> BrokerPosition:
    units = Decimal(trade["currentUnits"])
    return BrokerPosition(
        client_order_id=client_id(trade),
        symbol=symbol_of(trade),
        side=_side(units),
        units=abs(units),
        entry_price=Decimal(trade["price"]),
        stop=stop_of(trade),
        target=target_of(trade),
        opened_at=vendor_time(trade["openTime"]),
    )


def _together(first: BrokerPosition, second: BrokerPosition) -> BrokerPosition:
    """Merge two parts: of the stops the looser one counts, and none if a part has none."""
    units = first.units + second.units
    stops = [stop for stop in (first.stop, second.stop) if stop is not None]
    looser = min if first.side is Side.BUY else max
    return replace(
        first,
        units=units,
        entry_price=(first.units * first.entry_price + second.units * second.entry_price) / units,
        stop=looser(stops) if len(stops) == 2 else None,
        target=first.target if first.target == second.target else None,
        opened_at=min(first.opened_at, second.opened_at),
    )


def stop_of(trade: Message) -> Decimal | None:
    """Return the price of a trade's stop of any kind; of a trailing one, where it is now."""
    for kind, price in (
        ("stopLossOrder", "price"),
        ("guaranteedStopLossOrder", "price"),
        ("trailingStopLossOrder", "trailingStopValue"),
    ):
        if kind in trade:
            return Decimal(trade[kind][price])
    return None


def target_of(trade: Message) -> Decimal | None:
    return Decimal(trade["takeProfitOrder"]["price"]) if "takeProfitOrder" in trade else None


def client_id(message: Message) -> str:
    """Return the id that the client gave an order or a trade, empty if none."""
    return message.get("clientExtensions", {}).get("id", "")


def read_open_orders(answer: Message) -> tuple[BrokerOrder, ...]:
    return tuple(
        BrokerOrder(client_order_id=client_id(order), broker_order_id=order["id"], status=OrderStatus.ACCEPTED)
        for order in answer["orders"]
        if order["type"] not in _OF_TRADES
    )


def order_request(intent: OrderIntent, instrument: Instrument, time_in_force: str) -> dict[str, object]:
    """Return a market order; entries can only open, and carry their protection, closing ones can only reduce."""
    entry = intent.purpose is OrderPurpose.OPEN
    order: dict[str, object] = {
        "type": "MARKET",
        "instrument": instrument_name(intent.symbol),
        "units": f"{(intent.side.sign * intent.units).normalize():f}",
        "timeInForce": time_in_force,
        "positionFill": "OPEN_ONLY" if entry else "REDUCE_ONLY",
        "clientExtensions": {"id": intent.client_order_id, "tag": "fxcast"},
    }
    if entry:
        order["tradeClientExtensions"] = {"id": intent.client_order_id, "tag": "fxcast"}
        order["stopLossOnFill"] = None if intent.stop is None else _waiting_at(intent.stop, instrument)
        if intent.target is not None:
            order["takeProfitOnFill"] = _waiting_at(intent.target, instrument)
    return {"order": order}


def change_request(change: ProtectionChange, instrument: Instrument, trade: Message) -> dict[str, object]:
    """Return what has to be changed of a trade's protection; empty if it is so already."""
    request: dict[str, object] = {}
    stop = instrument.round_price(change.stop)
    if "stopLossOrder" not in trade or stop_of(trade) != stop:
        request["stopLoss"] = _waiting_at(stop, instrument)
    target = None if change.target is None else instrument.round_price(change.target)
    if target_of(trade) != target:
        request["takeProfit"] = None if target is None else _waiting_at(target, instrument)
    return request


def _waiting_at(price: Decimal, instrument: Instrument) -> dict[str, str]:
    return {"price": f"{instrument.round_price(price):f}", "timeInForce": "GTC"}


def read_change(code: int, answer: Message) -> ChangeAnswer:
    """Read the answer to a `change_request`.

    Raises:
        KeyError: If it is none.
    """
    if code == _NOT_FOUND:
        return GONE
    if code >= _BAD_REQUEST:
        return ChangeAnswer(accepted=False, reason=refusal_of(answer, *(f"{kind}RejectTransaction" for kind in _CHANGED)))
    for kind in _CHANGED:
        undone = answer.get(f"{kind}CreatedCancelTransaction")
        if undone is not None:
            return ChangeAnswer(accepted=False, reason=undone["reason"])
    if "lastTransactionID" not in answer:
        raise KeyError("lastTransactionID")
    return ChangeAnswer(accepted=True)


def opened_trades(messages: Sequence[Message]) -> dict[str, str]:
    """Return the client's ids of the trades that these transactions opened, by the broker's."""
    return {
        message["tradeOpened"]["tradeID"]: message.get("clientOrderID", "")
        for message in messages
        if message["type"] == "ORDER_FILL" and "tradeOpened" in message
    }


def trades_to_look_up(messages: Sequence[Message]) -> set[str]:
    """Return the trades whose client's ids `read_transactions` needs: those closed by nobody's order, and those with interest."""
    trades: set[str] = set()
    for message in messages:
        if message["type"] == "ORDER_FILL" and not _is_ordered(message):
            trades |= {part["tradeID"] for part in _reductions(message)}
        elif message["type"] == "DAILY_FINANCING":
            trades |= {part["tradeID"] for position in message["positionFinancings"] for part in position["openTradeFinancings"]}
    return trades


def read_transactions(message: Message, owners: Mapping[str, str]) -> tuple[Transaction, ...]:
    """Read a transaction's fills and interest, numbered by `PARTS`; none if it is of another kind.

    A fill that closes and opens (netting by hand) has a part for each trade it closes, then one for a trade it reduces, then one
    for a trade it opens. Interest that is settled with a trade follows its part. The commission, which OANDA gives in one sum, is
    on the first part.

    Args:
        owners: The client's ids of trades, by the broker's; empty where there was none.
    """
    parts = ()
    if message["type"] == "ORDER_FILL":
        parts = _fills(message, owners)
    elif message["type"] == "DAILY_FINANCING":
        parts = _interest(message, owners)
    first = int(message["id"]) * PARTS
    return tuple(replace(part, sequence=first + number) for number, part in enumerate(parts))


def _fills(message: Message, owners: Mapping[str, str]) -> Iterator[Transaction]:
    commission = Decimal(message.get("commission", 0))
    reductions = _reductions(message)
    for part in [*reductions, *([message["tradeOpened"]] if "tradeOpened" in message else [])]:
        ordered_by = message.get("clientOrderID", "")
        opens = part is message.get("tradeOpened")
        order = ordered_by if opens or _is_ordered(message) else owners.get(part["tradeID"], "")
        fill = Fill(
            sequence=0,
            client_order_id=order,
            symbol=symbol_of(message),
            side=_side(Decimal(message["units"])),
            units=abs(Decimal(part["units"])),
            price=Decimal(part.get("price", message.get("price"))),
            reason=_REASONS.get(message["reason"], FillReason.MARKET if ordered_by else FillReason.MANUAL),
            profit=Decimal(part.get("realizedPL", 0)),
            filled_at=vendor_time(message["time"]),
            commission=commission + Decimal(part.get("guaranteedExecutionFee", 0)),
        )
        yield fill
        commission = Decimal(0)
        financing = Decimal(part.get("financing", 0))
        if financing:
            yield Financing(sequence=0, client_order_id=order, symbol=fill.symbol, amount=financing, booked_at=fill.filled_at)


def _interest(message: Message, owners: Mapping[str, str]) -> Iterator[Financing]:
    for position in message["positionFinancings"]:
        for part in position["openTradeFinancings"] or [position]:
            yield Financing(
                sequence=0,
                client_order_id=owners.get(part.get("tradeID", ""), ""),
                symbol=symbol_of(position),
                amount=Decimal(part["financing"]),
                booked_at=vendor_time(message["time"]),
            )


def _reductions(message: Message) -> list[Message]:
    return [*message.get("tradesClosed", ()), *([message["tradeReduced"]] if "tradeReduced" in message else [])]


def _is_ordered(message: Message) -> bool:
    """Tell whether a fill is of an order with a client's id, and not of a stop, a target or the broker's own doing."""
    return bool(message.get("clientOrderID")) and message["reason"] not in _REASONS


def _side(units: Decimal) -> Side:
    return Side.BUY if units > 0 else Side.SELL
