"""What OANDA's v20 interface says of an account, as JSON."""

from __future__ import annotations

from tests.brokers.oanda_account import MARGIN_RATE, Json, OandaAccount, Trade, digits


def summary(account: OandaAccount) -> Json:
    return {
        "account": {
            "id": account.account_id,
            "alias": "Primary",
            "currency": account.currency,
            "hedgingEnabled": True,
            "balance": str(account.balance),
            "unrealizedPL": str(account.open_profit),
            "NAV": str(account.balance + account.open_profit),
            "marginUsed": str(account.margin_used),
            "marginAvailable": str(account.balance + account.open_profit - account.margin_used),
            "openTradeCount": len(account.open_trades),
            "lastTransactionID": account.last_id,
        },
        "lastTransactionID": account.last_id,
    }


def instruments(account: OandaAccount) -> Json:
    return {"instruments": [_instrument(name) for name in account.prices], "lastTransactionID": account.last_id}


def _instrument(name: str) -> Json:
    return {
        "name": name,
        "type": "CURRENCY",
        "displayName": name.replace("_", "/"),
        "pipLocation": 1 - digits(name),
        "displayPrecision": digits(name),
        "tradeUnitsPrecision": 0,
        "minimumTradeSize": "1",
        "maximumTrailingStopDistance": "1.00000",
        "minimumTrailingStopDistance": "0.00050",
        "maximumPositionSize": "0",
        "maximumOrderUnits": "100000000",
        "marginRate": str(MARGIN_RATE),
    }


def pricing(account: OandaAccount, names: list[str], *, conversions: bool) -> Json:
    now = account.clock().strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
    answer: Json = {"time": now, "prices": [_price(account, name, now) for name in names]}
    if conversions:
        worth = account.rates.worth
        answer["homeConversions"] = [
            {"currency": currency, "accountGain": rate, "accountLoss": rate, "positionValue": rate}
            for currency in sorted({part for name in names for part in name.split("_")})
            for rate in [str(worth[currency])]
        ]
    return answer


def _price(account: OandaAccount, name: str, now: str) -> Json:
    bid, ask = account.prices[name]
    tradeable = name not in account.halted
    return {
        "type": "PRICE",
        "time": now,
        "instrument": name,
        "tradeable": tradeable,
        "status": "tradeable" if tradeable else "non-tradeable",
        "bids": [{"price": str(bid), "liquidity": 10_000_000}],
        "asks": [{"price": str(ask), "liquidity": 10_000_000}],
        "closeoutBid": str(bid),
        "closeoutAsk": str(ask),
    }


def trade_message(trade: Trade) -> Json:
    message: Json = {
        "id": trade.id,
        "instrument": trade.instrument,
        "price": str(trade.price),
        "openTime": trade.opened_at,
        "initialUnits": str(trade.initial_units),
        "currentUnits": str(trade.units),
        "state": "OPEN" if trade.is_open else "CLOSED",
        "realizedPL": str(trade.realised),
    }
    if trade.client_id:
        message["clientExtensions"] = {"id": trade.client_id, "tag": "fxcast"}
    if trade.is_open and trade.stop is not None:
        message["stopLossOrder"] = _dependent(trade, "STOP_LOSS", trade.stop_order, str(trade.stop))
    if trade.is_open and trade.target is not None:
        message["takeProfitOrder"] = _dependent(trade, "TAKE_PROFIT", trade.target_order, str(trade.target))
    return message


def _dependent(trade: Trade, kind: str, order_id: str, price: str) -> Json:
    return {"id": order_id, "type": kind, "tradeID": trade.id, "price": price, "timeInForce": "GTC", "state": "PENDING"}


def pending_orders(account: OandaAccount) -> Json:
    """Return the waiting orders, the stops and targets of trades among them."""
    messages = [trade_message(trade) for trade in account.open_trades]
    dependents = [message[kind] for message in messages for kind in ("stopLossOrder", "takeProfitOrder") if kind in message]
    waiting = [{**order, "type": order["type"].removesuffix("_ORDER"), "state": "PENDING"} for order in account.pending]
    return {"orders": [*waiting, *dependents], "lastTransactionID": account.last_id}
