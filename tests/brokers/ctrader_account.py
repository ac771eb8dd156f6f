"""An account at cTrader: what its server keeps. Everything is told as the Open API's JSON has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from fxcast.domain.money import rates_from_prices
from fxcast.domain.order import Side

Json = dict[str, Any]

BUY, SELL = 1, 2
MARKET, STOP_LOSS_TAKE_PROFIT = 1, 4
ACCEPTED, FILLED, REJECTED, EXPIRED, CANCELLED = 1, 2, 3, 4, 5
EVENT_ACCEPTED, EVENT_FILLED, EVENT_REPLACED, EVENT_CANCELLED, EVENT_REJECTED, EVENT_PARTIAL = 2, 3, 4, 5, 7, 11
DEAL_FILLED, DEAL_REJECTED = 2, 4
_PRICE_SCALE = 100_000
_DEPOSIT_ASSET = "USD"


class Refused(Exception):  # noqa: N818 - named by what happened
    """A request that the server does not execute."""

    def __init__(self, code: str, description: str = "") -> None:
        super().__init__(code, description)
        self.code = code
        self.description = description


@dataclass(kw_only=True)
class Held:
    """An open position; `volume` is in 1/100 of a unit, money in cents."""

    position_id: int
    symbol_id: int
    side: Side
    volume: int
    entry: Decimal
    stop: Decimal | None
    target: Decimal | None
    label: str
    opened_ms: int
    commission: int = 0
    swap: int = 0

    def told(self, margin: int, status: int = 1) -> Json:
        trade = {"symbolId": self.symbol_id, "volume": self.volume, "tradeSide": _number(self.side)}
        trade |= {"openTimestamp": self.opened_ms, "label": self.label}
        told = {"positionId": self.position_id, "tradeData": trade, "positionStatus": status, "swap": self.swap}
        told |= {"price": float(self.entry), "commission": self.commission, "usedMargin": margin, "moneyDigits": 2}
        told |= {"stopLoss": float(self.stop)} if self.stop is not None else {}
        return told | ({"takeProfit": float(self.target)} if self.target is not None else {})


@dataclass(kw_only=True)
class CTraderAccount:
    """Keeps positions, orders, deals and the balance.

    Attributes:
        prices: Bid and ask by symbol.
        commission_per_million: Of account currency, for each deal; booked when a position is closed.
        fill_share: Of the next order, in per cent; the rest is cancelled.
        slippage: That the next order loses, in price.
        page: Rows that an answer about the past holds at most.
        lagging: Whether orders are missing in the list of orders.
    """

    prices: dict[str, tuple[Decimal, Decimal]] = field(
        default_factory=lambda: {
            "EURUSD": (Decimal("1.10000"), Decimal("1.10010")),
            "USDJPY": (Decimal("150.000"), Decimal("150.010")),
            "EURGBP": (Decimal("0.85000"), Decimal("0.85012")),
            "GBPUSD": (Decimal("1.29400"), Decimal("1.29412")),
        }
    )
    now: Callable[[], datetime] = lambda: datetime.now(tz=UTC)
    account_id: int = 20_123_456
    login: int = 5_012_345
    is_live: bool = False
    balance: int = 10_000_000
    leverage: int = 30
    commission_per_million: int = 0
    is_market_open: bool = True
    fill_share: int = 100
    slippage: Decimal = Decimal(0)
    page: int = 1000
    lagging: bool = False
    positions: dict[int, Held] = field(default_factory=dict[int, Held])
    orders: dict[int, Json] = field(default_factory=dict[int, Json])
    deals: list[Json] = field(default_factory=list[Json])
    version: int = 1
    number: int = 1000

    @property
    def assets(self) -> dict[str, int]:
        names = sorted({name for symbol in self.prices for name in (symbol[:3], symbol[3:])})
        return {name: number for number, name in enumerate(names, start=1)}

    @property
    def symbols(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.prices, start=101)}

    def symbol(self, symbol_id: int) -> str:
        found = next((symbol for symbol, number in self.symbols.items() if number == symbol_id), None)
        if found is None:
            raise Refused("SYMBOL_NOT_FOUND")
        return found

    def margin(self, held: Held) -> int:
        base = self.symbol(held.symbol_id)[:3]
        return _cents(Decimal(held.volume) / 100 * self._worth(base) / self.leverage)

    def gross(self, held: Held, price: Decimal | None = None) -> int:
        """Return the profit of a position in cents, at a price or at the one it could be closed at now."""
        symbol = self.symbol(held.symbol_id)
        bid, ask = self.prices[symbol]
        closing = price if price is not None else (bid if held.side is Side.BUY else ask)
        return _cents(held.side.sign * (closing - held.entry) * held.volume / 100 * self._worth(symbol[3:]))

    def place(self, request: Mapping[str, Any]) -> list[Json]:
        """Execute a market order; return the events, in the order in which things happened."""
        if request.get("stopLoss") is not None or request.get("takeProfit") is not None:
            allowed = "SL/TP in absolute values are allowed only for order types: [LIMIT, STOP, STOP_LIMIT]"
            raise Refused("INVALID_REQUEST", allowed)
        if len(request.get("clientOrderId", "")) > 50 or len(request.get("label", "")) > 100:
            raise Refused("INVALID_REQUEST", "too long")
        symbol = self.symbol(int(request["symbolId"]))
        side, volume = Side.BUY if request["tradeSide"] in {BUY, "BUY"} else Side.SELL, int(request["volume"])
        self._check(symbol, volume)
        bid, ask = self.prices[symbol]
        price = (ask if side is Side.BUY else bid) + side.sign * self.slippage
        share, self.fill_share, self.slippage = self.fill_share, 100, Decimal(0)
        held = Held(
            position_id=self._next(),
            symbol_id=self.symbols[symbol],
            side=side,
            volume=volume * share // 100,
            entry=price,
            stop=_at_distance(price, request.get("relativeStopLoss"), -side.sign, symbol),
            target=_at_distance(price, request.get("relativeTakeProfit"), side.sign, symbol),
            label=str(request.get("label", "")),
            opened_ms=self._ms(),
        )
        equity = self.balance + sum(self.gross(each) + each.commission + each.swap for each in self.positions.values())
        if self.margin(held) > equity - sum(self.margin(each) for each in self.positions.values()):
            raise Refused("NOT_ENOUGH_MONEY", "Not enough funds to allocate margin")
        order = self._order(held, side, volume, str(request.get("clientOrderId", "")), MARKET)
        accepted = self._event(EVENT_ACCEPTED, order, None, None)
        self.positions[held.position_id] = held
        held.commission = self._commission(symbol, held.volume)
        deal = self._deal(order, held, side, held.volume, price, held.commission)
        if share == 100:
            self._settle(order, FILLED, held.volume, price)
            return [accepted, self._event(EVENT_FILLED, order, held, deal)]
        self._settle(order, ACCEPTED, held.volume, price)
        part = self._event(EVENT_PARTIAL, order, held, deal)
        self._settle(order, CANCELLED, held.volume, price)
        return [accepted, part, self._event(EVENT_CANCELLED, order, held, None)]

    def refuse_deal(self, request: Mapping[str, Any]) -> list[Json]:
        """Take a market order that no one deals at the price: it is cancelled."""
        side, volume = Side.BUY if request["tradeSide"] == BUY else Side.SELL, int(request["volume"])
        held = Held(
            position_id=self._next(),
            symbol_id=int(request["symbolId"]),
            side=side,
            volume=volume,
            entry=Decimal(0),
            stop=None,
            target=None,
            label=str(request.get("label", "")),
            opened_ms=self._ms(),
        )
        order = self._order(held, side, volume, str(request.get("clientOrderId", "")), MARKET)
        accepted = self._event(EVENT_ACCEPTED, order, None, None)
        self._settle(order, CANCELLED, 0, None)
        deal = {**self._deal_row(order, held, side, volume), "filledVolume": 0, "dealStatus": DEAL_REJECTED}
        self.deals.append(deal)
        return [accepted, self._event(EVENT_CANCELLED, order, None, deal)]

    def close(
        self, position_id: int, volume: int, *, kind: int = MARKET, price: Decimal | None = None, is_stop_out: bool = False
    ) -> list[Json]:
        """Close a position or a part of it; return the events."""
        held = self.positions.get(position_id)
        if held is None:
            raise Refused("POSITION_NOT_FOUND", f"Position with id {position_id} is not found")
        symbol = self.symbol(held.symbol_id)
        if volume > held.volume:
            raise Refused("TRADING_BAD_VOLUME", "more than the position")
        bid, ask = self.prices[symbol]
        paid = price if price is not None else (bid if held.side is Side.BUY else ask)
        order = self._order(held, held.side.opposite, volume, "", kind)
        order |= {"closingOrder": True, "isStopOut": is_stop_out}
        if kind == STOP_LOSS_TAKE_PROFIT:
            order |= {"stopPrice": float(held.stop)} if held.stop is not None else {}
            order |= {"limitPrice": float(held.target)} if held.target is not None else {}
        accepted = self._event(EVENT_ACCEPTED, order, held, None)
        part = replace(held, volume=volume)
        gross, own = self.gross(part, paid), self._commission(symbol, volume)
        opened, swap = held.commission * volume // held.volume, held.swap * volume // held.volume
        self.balance += gross + opened + own + swap
        self.version += 1
        deal = self._deal(order, held, held.side.opposite, volume, paid, own)
        detail = {"entryPrice": float(held.entry), "grossProfit": gross, "swap": swap, "commission": opened + own}
        deal["closePositionDetail"] = detail | {"balance": self.balance, "closedVolume": volume, "moneyDigits": 2}
        held.volume, held.commission, held.swap = held.volume - volume, held.commission - opened, held.swap - swap
        if not held.volume:
            del self.positions[position_id]
        self._settle(order, FILLED, volume, paid)
        return [accepted, self._event(EVENT_FILLED, order, held, deal)]

    def amend(self, position_id: int, stop: float | None, target: float | None) -> list[Json]:
        """Set stop and target; one that is not given is taken away."""
        held = self.positions.get(position_id)
        if held is None:
            raise Refused("POSITION_NOT_FOUND", f"Position with id {position_id} is not found")
        symbol = self.symbol(held.symbol_id)
        bid, ask = self.prices[symbol]
        price = bid if held.side is Side.BUY else ask
        new_stop, new_target = (None if each is None else Decimal(repr(each)) for each in (stop, target))
        wrong = (new_stop is not None and held.side.sign * (price - new_stop) <= 0) or (
            new_target is not None and held.side.sign * (new_target - price) <= 0
        )
        if wrong:
            raise Refused("TRADING_BAD_STOPS", "on the wrong side of the market")
        if any(each is not None and each != each.quantize(_tick(symbol)) for each in (new_stop, new_target)):
            raise Refused("INVALID_REQUEST", "Order price has more digits than symbol allows")
        held.stop, held.target = new_stop, new_target
        order = self._order(held, held.side.opposite, held.volume, "", STOP_LOSS_TAKE_PROFIT) | {"closingOrder": True}
        del self.orders[int(order["orderId"])]  # protection is not among the orders of the past until it is executed
        return [self._event(EVENT_REPLACED, order, held, None)]

    def move(self, symbol: str, bid: Decimal, ask: Decimal) -> list[Json]:
        """Set a price, and execute the stops and targets that it reaches; return the events."""
        self.prices[symbol] = (bid, ask)
        events: list[Json] = []
        for held in [each for each in self.positions.values() if each.symbol_id == self.symbols[symbol]]:
            price = bid if held.side is Side.BUY else ask
            is_stopped = held.stop is not None and held.side.sign * (price - held.stop) <= 0
            is_at_target = held.target is not None and held.side.sign * (price - held.target) >= 0
            if is_stopped or is_at_target:
                paid = price if is_stopped else held.target
                events += self.close(held.position_id, held.volume, kind=STOP_LOSS_TAKE_PROFIT, price=paid)
        return events

    def _check(self, symbol: str, volume: int) -> None:
        if not self.is_market_open:
            raise Refused("MARKET_CLOSED", "Market is closed")
        if volume <= 0 or volume % 100_000:
            raise Refused("TRADING_BAD_VOLUME", f"{symbol} is traded in steps of 1000 units")

    def _worth(self, currency: str) -> Decimal:
        mids = {symbol: (bid + ask) / 2 for symbol, (bid, ask) in self.prices.items()}
        return rates_from_prices(mids, _DEPOSIT_ASSET).convert(Decimal(1), currency)

    def _commission(self, symbol: str, volume: int) -> int:
        return -_cents(Decimal(volume) / 100 * self._worth(symbol[:3]) * self.commission_per_million / 1_000_000)

    def _order(self, held: Held, side: Side, volume: int, client_order_id: str, kind: int) -> Json:
        number = self._next()
        trade = {"symbolId": held.symbol_id, "volume": volume, "tradeSide": _number(side)}
        trade |= {"openTimestamp": self._ms(), "label": held.label}
        order: Json = {"orderId": number, "tradeData": trade, "orderType": kind, "orderStatus": ACCEPTED, "executedVolume": 0}
        order |= {"utcLastUpdateTimestamp": self._ms(), "positionId": held.position_id, "closingOrder": False}
        order |= {"clientOrderId": client_order_id} if client_order_id else {}
        self.orders[number] = order
        return order

    def _settle(self, order: Json, status: int, executed: int, price: Decimal | None) -> None:
        order |= {"orderStatus": status, "executedVolume": executed, "utcLastUpdateTimestamp": self._ms()}
        order |= {} if price is None else {"executionPrice": float(price)}

    def _deal_row(self, order: Json, held: Held, side: Side, volume: int) -> Json:
        deal = {"dealId": self._next(), "orderId": order["orderId"], "positionId": held.position_id, "volume": volume}
        deal |= {"symbolId": held.symbol_id, "createTimestamp": self._ms(), "executionTimestamp": self._ms()}
        return deal | {"utcLastUpdateTimestamp": self._ms(), "tradeSide": _number(side), "moneyDigits": 2}

    def _deal(self, order: Json, held: Held, side: Side, volume: int, price: Decimal, commission: int) -> Json:
        deal = self._deal_row(order, held, side, volume)
        deal |= {"filledVolume": volume, "executionPrice": float(price), "dealStatus": DEAL_FILLED, "commission": commission}
        self.deals.append(deal)
        return deal

    def _event(self, kind: int, order: Json, held: Held | None, deal: Json | None) -> Json:
        event: Json = {"ctidTraderAccountId": self.account_id, "executionType": kind, "order": dict(order)}
        event |= {} if held is None else {"position": held.told(self.margin(held), 1 if held.volume else 2)}
        return event | ({} if deal is None else {"deal": dict(deal)})

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _ms(self) -> int:
        return int(self.now().timestamp() * 1000)


def _number(side: Side) -> int:
    return BUY if side is Side.BUY else SELL


def _tick(symbol: str) -> Decimal:
    return Decimal("0.001") if symbol.endswith("JPY") else Decimal("0.00001")


def _at_distance(price: Decimal, distance: int | None, sign: int, symbol: str) -> Decimal | None:
    if distance is None:
        return None
    found = price + sign * Decimal(int(distance)) / _PRICE_SCALE
    if found != found.quantize(_tick(symbol)):
        raise Refused("INVALID_REQUEST", "Relative stop loss has invalid precision")
    return found


def _cents(amount: Decimal) -> int:
    return int((amount * 100).to_integral_value(rounding=ROUND_HALF_EVEN))
