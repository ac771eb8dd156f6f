"""What cTrader's server answers on being asked, and how it writes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tests.brokers.ctrader_account import ACCEPTED, CTraderAccount, Json, Refused


def answer(account: CTraderAccount, kind: int, payload: Json, *, slashes: bool) -> tuple[int, Json]:
    """Return what is told on being asked: kind and payload."""
    mine = {"ctidTraderAccountId": account.account_id}
    match kind:
        case 2112:
            return 2113, mine | {"asset": [{"assetId": number, "name": name} for name, number in account.assets.items()]}
        case 2114:
            return 2115, mine | {"symbol": [_light(account, symbol, slashes=slashes) for symbol in account.symbols]}
        case 2116:
            return 2117, mine | {"symbol": [_full(account, int(number)) for number in payload["symbolId"]]}
        case 2118:
            return 2119, mine | {"symbol": [_light(account, each, slashes=slashes) for each in _chain(account, payload)]}
        case 2121:
            trader = mine | {"balance": account.balance, "balanceVersion": account.version, "moneyDigits": 2}
            trader |= {"depositAssetId": account.assets["USD"], "leverageInCents": account.leverage * 100, "accountType": 0}
            return 2122, mine | {"trader": trader}
        case 2124:
            held = [each.told(account.margin(each)) for each in account.positions.values()]
            waiting = [each for each in account.orders.values() if each["orderStatus"] == ACCEPTED]
            return 2125, mine | {"position": held, "order": waiting}
        case 2133:
            deals = sorted(account.deals, key=lambda deal: (deal["executionTimestamp"], deal["dealId"]), reverse=True)
            return 2134, mine | _page(account, "deal", deals, "executionTimestamp", payload)
        case 2175 | 2183:
            orders = [] if account.lagging else sorted(account.orders.values(), key=lambda order: order["orderId"], reverse=True)
            if kind == 2183:
                orders = [order for order in orders if order["positionId"] == int(payload["positionId"])]
            return kind + 1, mine | _page(account, "order", orders, "utcLastUpdateTimestamp", payload)
        case 2177:
            tiers = [{"volume": 100_000_000, "leverage": 2000}, {"volume": 500_000_000, "leverage": 1000}]
            return 2178, mine | {"leverage": {"leverageId": payload["leverageId"], "tiers": tiers}}
        case 2181:
            order = account.orders.get(int(payload["orderId"]))
            if order is None:
                raise Refused("ORDER_NOT_FOUND")
            return 2182, mine | {
                "order": order,
                "deal": [each for each in account.deals if each["orderId"] == order["orderId"]],
            }
        case 2187:
            profits = [
                {
                    "positionId": each.position_id,
                    "grossUnrealizedPnL": account.gross(each),
                    "netUnrealizedPnL": account.gross(each) + each.commission + each.swap,
                }
                for each in account.positions.values()
            ]
            return 2188, mine | {"positionUnrealizedPnL": profits, "moneyDigits": 2}
        case _:
            raise Refused("UNSUPPORTED_MESSAGE")


def _page(account: CTraderAccount, name: str, rows: Sequence[Json], time: str, payload: Json) -> Json:
    start, stop = int(payload["fromTimestamp"]), int(payload["toTimestamp"])
    if stop - start > 7 * 24 * 3_600_000 or stop < start:
        raise Refused("INCORRECT_BOUNDARIES")
    most = min(account.page, int(payload.get("maxRows", account.page)))
    found = [row for row in rows if start <= row[time] <= stop]
    return {name: found[:most], "hasMore": len(found) > most}


def _light(account: CTraderAccount, symbol: str, *, slashes: bool) -> Json:
    name = f"{symbol[:3]}/{symbol[3:]}" if slashes else symbol
    assets = {"baseAssetId": account.assets[symbol[:3]], "quoteAssetId": account.assets[symbol[3:]]}
    return {"symbolId": account.symbols[symbol], "symbolName": name, "enabled": True, **assets}


def _full(account: CTraderAccount, symbol_id: int) -> Json:
    is_yen = account.symbol(symbol_id).endswith("JPY")
    full = {"symbolId": symbol_id, "digits": 3 if is_yen else 5, "pipPosition": 2 if is_yen else 4, "slDistance": 5}
    full |= {"minVolume": 100_000, "stepVolume": 100_000, "maxVolume": 1_000_000_000, "distanceSetIn": 1}
    return full | ({"leverageId": 77} if is_yen else {})


def _chain(account: CTraderAccount, payload: Json) -> Iterable[str]:
    """Return a pair of both currencies, or two by way of the dollar's and the pound's."""
    names = {number: name for name, number in account.assets.items()}
    first, last = names[int(payload["firstAssetId"])], names[int(payload["lastAssetId"])]
    direct = [symbol for symbol in account.symbols if {symbol[:3], symbol[3:]} == {first, last}]
    return direct or [symbol for symbol in account.symbols if first in symbol or last in symbol]


def spot(account: CTraderAccount, number: int) -> Json:
    bid, ask = (int(price * 100_000) for price in account.prices[account.symbol(number)])
    told = {"ctidTraderAccountId": account.account_id, "symbolId": number, "bid": bid, "ask": ask}
    return told | {"timestamp": int(account.now().timestamp() * 1000)}


_ENUMERATIONS = {
    "executionType": {2: "ORDER_ACCEPTED", 3: "ORDER_FILLED", 4: "ORDER_REPLACED", 5: "ORDER_CANCELLED", 7: "ORDER_REJECTED"}
    | {11: "ORDER_PARTIAL_FILL"},
    "orderStatus": {
        number: f"ORDER_STATUS_{name}"
        for number, name in enumerate(("ACCEPTED", "FILLED", "REJECTED", "EXPIRED", "CANCELLED"), start=1)
    },
    "orderType": {1: "MARKET", 4: "STOP_LOSS_TAKE_PROFIT"},
    "tradeSide": {1: "BUY", 2: "SELL"},
    "dealStatus": {2: "FILLED", 4: "REJECTED"},
    "permissionScope": {0: "SCOPE_VIEW", 1: "SCOPE_TRADE"},
    "distanceSetIn": {1: "SYMBOL_DISTANCE_IN_POINTS"},
}
_SHORT = {"moneyDigits", "digits", "pipPosition", "slDistance", "positionStatus", "retryAfter", "leverageInCents", "accountType"}


def named(value: Any, name: str = "") -> Any:
    """Tell enumerations by name, and 64-bit numbers as text."""
    if isinstance(value, dict):
        return {key: named(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [named(each, name) for each in value]
    if isinstance(value, bool) or not isinstance(value, int) or name in _SHORT:
        return value
    return _ENUMERATIONS[name][value] if name in _ENUMERATIONS else str(value)
