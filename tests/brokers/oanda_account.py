"""An account at OANDA, in memory: what v20 does to it, and what a person does to it by hand.

Amounts are rounded to four digits, as OANDA's are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from fxcast.domain.money import Rates, rates_from_prices

ACCOUNT = "101-004-1234567-001"
LIVE_ACCOUNT = "001-004-1234567-001"
PRICES = {"EUR_USD": ("1.10000", "1.10010"), "GBP_USD": ("1.27000", "1.27012"), "USD_JPY": ("150.000", "150.010")}
_CENT = Decimal("0.0001")
MARGIN_RATE = Decimal("0.02")
_MOST_UNITS = Decimal(100_000_000)

Json = dict[str, Any]


class OrderRefused(Exception):  # noqa: N818 - named by what happened
    """An order that OANDA does not even take in; the reason is its reject reason."""


@dataclass(kw_only=True)
class Trade:
    """A trade, open or closed; units are signed."""

    id: str
    instrument: str
    units: Decimal
    initial_units: Decimal
    price: Decimal
    opened_at: str
    client_id: str = ""
    stop: Decimal | None = None
    stop_order: str = ""
    target: Decimal | None = None
    target_order: str = ""
    realised: Decimal = Decimal(0)

    @property
    def is_open(self) -> bool:
        return self.units != 0


@dataclass(kw_only=True)
class OandaAccount:
    """What tests look at and set: prices, trades, transactions, balance; its methods are what happens.

    Attributes:
        transactions: In the order of their ids, which begin at 1.
        halted: Instruments that can't be traded now.
        clock: Where the times of transactions come from.
    """

    account_id: str = ACCOUNT
    currency: str = "USD"
    balance: Decimal = Decimal(100_000)
    prices: dict[str, tuple[Decimal, Decimal]] = field(
        default_factory=lambda: {name: (Decimal(bid), Decimal(ask)) for name, (bid, ask) in PRICES.items()}
    )
    trades: dict[str, Trade] = field(default_factory=dict[str, Trade])
    pending: list[Json] = field(default_factory=list[Json])
    transactions: list[Json] = field(default_factory=list[Json])
    halted: set[str] = field(default_factory=set[str])
    clock: Callable[[], datetime] = lambda: datetime.now(tz=UTC)
    commission: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        self.add("CREATE", homeCurrency=self.currency)
        self.add("TRANSFER_FUNDS", amount=str(self.balance), accountBalance=str(self.balance))

    # What is so.

    @property
    def last_id(self) -> str:
        return str(len(self.transactions))

    @property
    def open_trades(self) -> list[Trade]:
        return [trade for trade in self.trades.values() if trade.is_open]

    @property
    def fills(self) -> list[Json]:
        return [message for message in self.transactions if message["type"] == "ORDER_FILL"]

    @property
    def rates(self) -> Rates:
        middles = {name.replace("_", ""): (bid + ask) / 2 for name, (bid, ask) in self.prices.items()}
        return rates_from_prices(middles, self.currency)

    @property
    def open_profit(self) -> Decimal:
        return sum((self._profit(trade, trade.units, self._closing(trade)) for trade in self.open_trades), Decimal(0))

    @property
    def margin_used(self) -> Decimal:
        return sum((self._margin(trade.instrument, trade.units) for trade in self.open_trades), Decimal(0))

    def find_trade(self, specifier: str) -> Trade | None:
        """Return a trade by the broker's id, or an open one by @ and the client's."""
        if specifier.startswith("@"):
            return next((trade for trade in self.open_trades if trade.client_id == specifier[1:]), None)
        return self.trades.get(specifier)

    # What the market and persons do.

    def set_price(self, instrument: str, bid: str, ask: str) -> None:
        """Move a price; stops and targets that it reaches are filled at it, however far beyond."""
        self.prices[instrument] = Decimal(bid), Decimal(ask)
        for trade in self.open_trades:
            self._trigger(trade)

    def open_by_hand(self, instrument: str, units: int) -> Json:
        """Trade without a client's id; it nets against what is open, oldest first."""
        return self.order({"type": "MARKET", "instrument": instrument, "units": str(units), "positionFill": "DEFAULT"})

    def close_by_hand(self, trade_id: str, reason: str = "MARKET_ORDER_TRADE_CLOSE") -> None:
        """Close a trade as its own button does, or as the broker does for another reason."""
        trade = self.trades[trade_id]
        create = self.add(
            "MARKET_ORDER", instrument=trade.instrument, units=str(-trade.units), timeInForce="FOK", reason="TRADE_CLOSE"
        )
        self._fill(create["id"], "", trade.instrument, -trade.units, reason, [(trade, trade.units)], None)

    def close_out(self) -> None:
        """Close everything for want of margin."""
        for trade in self.open_trades:
            self.close_by_hand(trade.id, "MARKET_ORDER_MARGIN_CLOSEOUT")

    def set_stop_by_hand(self, trade_id: str, stop: str | None) -> None:
        self.protect(self.trades[trade_id], {"stopLoss": None if stop is None else {"price": stop}})

    def wait_by_hand(self, instrument: str, units: int, price: str) -> Json:
        """Place a limit order, which is never reached."""
        order = self.add("LIMIT_ORDER", instrument=instrument, units=str(units), price=price, timeInForce="GTC")
        self.pending.append(order)
        return order

    def book_interest(self, amounts: Mapping[str, str]) -> None:
        """Book daily financing, by the broker's trade ids."""
        positions: dict[str, list[Json]] = {}
        for trade_id, amount in amounts.items():
            positions.setdefault(self.trades[trade_id].instrument, []).append({"tradeID": trade_id, "financing": amount})
        total = sum(map(Decimal, amounts.values()), Decimal(0))
        self.balance += total
        self.add(
            "DAILY_FINANCING",
            financing=str(total),
            accountBalance=str(self.balance),
            positionFinancings=[
                {
                    "instrument": instrument,
                    "financing": str(sum((Decimal(part["financing"]) for part in parts), Decimal(0))),
                    "openTradeFinancings": parts,
                }
                for instrument, parts in positions.items()
            ],
        )

    # What v20 does.

    def order(self, request: Json, *, refuse: str = "", cancel: str = "", most: Decimal | None = None) -> Json:
        """Take a market order, and return the answer's transactions; a client's id that was used before does not matter.

        Args:
            refuse: The reason to reject it for.
            cancel: The reason to cancel it for at once.
            most: The units that there are, if there are not enough.
        """
        details = {key: value for key, value in request.items() if key not in {"type", "id"}}
        reason = refuse or self._refusal(request)
        if reason:
            reject = self.add("MARKET_ORDER_REJECT", **details, reason="CLIENT_ORDER", rejectReason=reason)
            raise OrderRefused(reject)
        units, instrument = Decimal(request["units"]), request["instrument"]
        create = self.add("MARKET_ORDER", **details, reason="CLIENT_ORDER")
        answer: Json = {"orderCreateTransaction": create}
        reductions, opened = self._split(request, units if most is None else most.copy_sign(units))
        short = abs(sum((part for _, part in reductions), Decimal(0))) + abs(opened) < abs(units)
        reason = cancel or self._cancellation(request, opened)
        if not reason and (not (reductions or opened) or (short and request.get("timeInForce") == "FOK")):
            reason = "INSUFFICIENT_LIQUIDITY" if most is not None else "REDUCE_ONLY_POSITION_DOESNT_EXIST"  # the latter is invented
        if reason:
            answer["orderCancelTransaction"] = self._cancel(create, reason)
            return answer
        client_id = request.get("clientExtensions", {}).get("id", "")
        filled = opened - sum((part for _, part in reductions), Decimal(0))
        fill = self._fill(create["id"], client_id, instrument, filled, "MARKET_ORDER", reductions, (opened, request))
        answer["orderFillTransaction"] = fill
        if short:
            answer["orderCancelTransaction"] = self._cancel(create, "INSUFFICIENT_LIQUIDITY")
        return answer

    def protect(self, trade: Trade, request: Json) -> Json:
        """Replace a trade's stop and target; one that the price has reached already is filled at once."""
        answer: Json = {}
        for key, kind, name in (("stopLoss", "STOP_LOSS", "stop"), ("takeProfit", "TAKE_PROFIT", "target")):
            if key not in request:
                continue
            old = getattr(trade, f"{name}_order")
            if old:
                answer[f"{key}OrderCancelTransaction"] = self.add("ORDER_CANCEL", orderID=old, reason="CLIENT_REQUEST_REPLACED")
            setattr(trade, name, None)
            setattr(trade, f"{name}_order", "")
            if request[key] is not None:
                answer[f"{key}OrderTransaction"] = self._protect(trade, kind, name, request[key]["price"], "REPLACEMENT")
        self._trigger(trade)
        return answer

    def add(self, kind: str, **details: Any) -> Json:
        """Add a transaction."""
        number = str(len(self.transactions) + 1)
        time = self.clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
        message = {"id": number, "batchID": number, "userID": 1, "accountID": self.account_id, "time": time, "type": kind}
        self.transactions.append({**message, **{key: value for key, value in details.items() if value is not None}})
        return self.transactions[-1]

    def _refusal(self, request: Json) -> str:
        """Return why an order can't be taken in, empty if it can."""
        units = Decimal(request["units"])
        if units == 0:
            return "UNITS_INVALID"
        if units != units.to_integral_value():
            return "UNITS_PRECISION_EXCEEDED"
        if abs(units) > _MOST_UNITS:
            return "UNITS_LIMIT_EXCEEDED"
        for key, name in (("stopLossOnFill", "STOP_LOSS"), ("takeProfitOnFill", "TAKE_PROFIT")):
            if key in request and -Decimal(request[key]["price"]).as_tuple().exponent > digits(request["instrument"]):  # pyright: ignore[reportOperatorIssue]  # a price is finite
                return f"{name}_ON_FILL_PRICE_PRECISION_EXCEEDED"
        return ""

    def _cancellation(self, request: Json, opened: Decimal) -> str:
        """Return why an order that was taken can't be filled, empty if it can."""
        instrument = request["instrument"]
        if instrument in self.halted:
            return "MARKET_HALTED"
        if not opened:
            return ""
        trade_id = request.get("tradeClientExtensions", {}).get("id")
        if trade_id and any(trade.client_id == trade_id for trade in self.open_trades):
            return "CLIENT_TRADE_ID_ALREADY_EXISTS"
        if self.margin_used + self._margin(instrument, opened) > self.balance + self.open_profit:
            return "INSUFFICIENT_MARGIN"
        sign, (bid, ask) = (1 if opened > 0 else -1), self.prices[instrument]
        closing = bid if opened > 0 else ask
        if "stopLossOnFill" in request and sign * (Decimal(request["stopLossOnFill"]["price"]) - closing) >= 0:
            return "STOP_LOSS_ON_FILL_LOSS"
        if "takeProfitOnFill" in request and sign * (Decimal(request["takeProfitOnFill"]["price"]) - closing) <= 0:
            return "TAKE_PROFIT_ON_FILL_LOSS"
        return ""

    def _split(self, request: Json, units: Decimal) -> tuple[list[tuple[Trade, Decimal]], Decimal]:
        """Return how much of which trades an order closes, oldest first, and the units that it opens; all signed."""
        reductions: list[tuple[Trade, Decimal]] = []
        rest = units
        if request.get("positionFill") != "OPEN_ONLY":
            for trade in self.open_trades:
                if trade.instrument == request["instrument"] and trade.units * units < 0 and rest:
                    part = min(abs(trade.units), abs(rest)).copy_sign(trade.units)
                    reductions.append((trade, part))
                    rest += part
        return reductions, Decimal(0) if request.get("positionFill") == "REDUCE_ONLY" else rest

    def _fill(
        self,
        order_id: str,
        client_id: str,
        instrument: str,
        units: Decimal,
        reason: str,
        reductions: Sequence[tuple[Trade, Decimal]],
        opening: tuple[Decimal, Json] | None,
    ) -> Json:
        bid, ask = self.prices[instrument]
        price = ask if units > 0 else bid
        number = str(len(self.transactions) + 1)
        parts: Json = {}
        profit = Decimal(0)
        for trade, part in reductions:
            realised = self._profit(trade, part, price)
            profit += realised
            trade.units -= part
            trade.realised += realised
            report = {
                "tradeID": trade.id,
                "units": str(-part),
                "price": str(price),
                "realizedPL": str(realised),
                "financing": "0.0000",
            }
            if trade.is_open:
                parts["tradeReduced"] = report
            else:
                parts.setdefault("tradesClosed", []).append(report)
        opened = None
        if opening is not None and opening[0]:
            extensions = opening[1].get("tradeClientExtensions")
            opened = Trade(
                id=number,
                instrument=instrument,
                units=opening[0],
                initial_units=opening[0],
                price=price,
                opened_at="",
                client_id=(extensions or {}).get("id", ""),
            )
            parts["tradeOpened"] = {"tradeID": number, "units": str(opened.units), "price": str(price)}
            if extensions:
                parts["tradeOpened"]["clientExtensions"] = extensions
        self.balance += profit - self.commission
        fill = self.add(
            "ORDER_FILL",
            orderID=order_id,
            clientOrderID=client_id or None,
            instrument=instrument,
            units=str(units),
            price=str(price),
            fullVWAP=str(price),
            reason=reason,
            pl=str(profit),
            financing="0.0000",
            commission=str(self.commission),
            accountBalance=str(self.balance),
            **parts,
        )
        if opened is not None and opening is not None:
            opened.opened_at = fill["time"]
            self.trades[number] = opened
            for key, kind, name in (("stopLossOnFill", "STOP_LOSS", "stop"), ("takeProfitOnFill", "TAKE_PROFIT", "target")):
                if opening[1].get(key):
                    self._protect(opened, kind, name, opening[1][key]["price"], "ON_FILL")
        for trade, _ in reductions:
            for dependent in (trade.stop_order, trade.target_order) if not trade.is_open else ():
                if dependent and dependent != order_id:
                    self.add("ORDER_CANCEL", orderID=dependent, reason="LINKED_TRADE_CLOSED")
        return fill

    def _protect(self, trade: Trade, kind: str, name: str, price: str, reason: str) -> Json:
        client_id = trade.client_id or None
        order = self.add(f"{kind}_ORDER", tradeID=trade.id, clientTradeID=client_id, price=price, timeInForce="GTC", reason=reason)
        setattr(trade, name, Decimal(price))
        setattr(trade, f"{name}_order", order["id"])
        return order

    def _trigger(self, trade: Trade) -> None:
        price, sign = self._closing(trade), (1 if trade.units > 0 else -1)
        if trade.stop is not None and sign * (price - trade.stop) <= 0:
            self._fill(trade.stop_order, "", trade.instrument, -trade.units, "STOP_LOSS_ORDER", [(trade, trade.units)], None)
        elif trade.target is not None and sign * (price - trade.target) >= 0:
            self._fill(trade.target_order, "", trade.instrument, -trade.units, "TAKE_PROFIT_ORDER", [(trade, trade.units)], None)

    def _cancel(self, create: Json, reason: str) -> Json:
        client_id = create.get("clientExtensions", {}).get("id")
        return self.add("ORDER_CANCEL", orderID=create["id"], clientOrderID=client_id, reason=reason)

    def _closing(self, trade: Trade) -> Decimal:
        bid, ask = self.prices[trade.instrument]
        return bid if trade.units > 0 else ask

    def _profit(self, trade: Trade, units: Decimal, price: Decimal) -> Decimal:
        return self.rates.convert(units * (price - trade.price), trade.instrument[4:]).quantize(_CENT)

    def _margin(self, instrument: str, units: Decimal) -> Decimal:
        return (self.rates.convert(abs(units), instrument[:3]) * MARGIN_RATE).quantize(_CENT)


def digits(instrument: str) -> int:
    """Return how many digits the prices of an instrument have."""
    return 3 if instrument.endswith("JPY") else 5
