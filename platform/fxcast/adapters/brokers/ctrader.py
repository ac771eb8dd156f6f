"""Trades on a cTrader account, over its Open API.

What cTrader does not promise, and how it is made up for:
    A client order id may be used twice. Before an order is sent, the adapter asks whether it came before. It does not ask again for
    ids that this process never sent, once it has looked through the past when a predecessor's last order must have come: that
    nobody else sends orders meanwhile is the engine's lease to see to.
    Market orders can't carry prices of stop and target, only distances from the fill. They carry the distances, so that there is a
    stop from the first moment, and both are set to the exact prices right after the fill. If that fails, the stop is off by the
    slippage, and who looks at `positions` sees it.
    The request to close a position carries no client order id. The adapter remembers which order came of it; after a restart,
    `order` takes the market order that closed a position for the one that was to close it.
    Sequences are made of the millisecond of execution, since the numbers of deals say in which order they were begun.
    Swaps and commissions are booked when a position is closed; until then they are part of the open profit.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from decimal import Decimal

import structlog

from fxcast.adapters.brokers.ctrader_connection import CTraderBrokerSettings, CTraderConnection
from fxcast.adapters.brokers.ctrader_desk import OrderDesk, Session
from fxcast.adapters.brokers.ctrader_history import History, Memory, broker_order
from fxcast.adapters.brokers.ctrader_market import Catalogue, Spots, read_instrument, read_leverage
from fxcast.adapters.brokers.ctrader_messages import (
    NOT_UNDERSTOOD,
    VENDOR,
    HeldPosition,
    Payload,
    PayloadType,
    moment,
    money,
    whole,
)
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Quote, Rates, rates_from_prices
from fxcast.domain.order import BrokerOrder, ChangeAnswer, OrderIntent, OrderPurpose, ProtectionChange, Transaction
from fxcast.domain.portfolio import Account, BrokerPosition
from fxcast.errors import BadSetting, Disconnected
from fxcast.trading.ports import Clock

log = structlog.get_logger(__name__)

_LOOKS = 3  # at an account that changes while it is looked at


class CTraderBroker:
    """Implements `trading.ports.Broker`. Connects when first used, and anew when the connection was lost; every call is tried once.

    Args:
        symbols: Whose currencies `rates` tells.
        clock: Tells which part of the past to ask for.

    Raises:
        BadSetting: If no account is named, or a live one without `allow_live`.
    """

    def __init__(self, settings: CTraderBrokerSettings, symbols: Sequence[str], clock: Clock) -> None:
        check_account(settings)
        self._settings = settings
        self._symbols = tuple(symbols)
        self._clock = clock
        self._connecting = threading.Lock()
        self._connection: CTraderConnection | None = None
        self._catalogue: Catalogue | None = None
        self._spots = Spots(clock)
        self._memory = Memory()
        self._desk = OrderDesk(settings, self._memory, clock)
        self._instruments: dict[str, Instrument] = {}
        self._account_asset = 0  # the number of the account's currency, as soon as it is known
        self._conversions: dict[str, tuple[int, ...]] = {}  # symbols that lead from a currency to the account's

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands, as far as is known without asking."""
        return self._connection is not None and self._connection.is_open

    def describe(self) -> str:
        """Return which account this trades, for a person to read before anything is sent."""
        return _description(self._settings, self._session().connection)

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()

    def instruments(self, symbols: Sequence[str]) -> Mapping[str, Instrument]:
        """See `ports.Broker.instruments`; the margin is that of small positions."""
        new = [symbol for symbol in symbols if symbol not in self._instruments]
        if new:
            session = self._session()
            listed = {each.symbol_id: each for each in map(session.catalogue.require, new)}
            answer = session.connection.ask(PayloadType.SYMBOL_BY_ID_REQ, symbolId=list(listed))
            trader = self._trader(session)
            try:
                rows = {whole(row, "symbolId"): row for row in answer.get("symbol", ())}
            except NOT_UNDERSTOOD as error:
                raise _unreadable("SYMBOL_BY_ID", error) from None
            for symbol in new:
                found = session.catalogue.require(symbol)
                if found.symbol_id not in rows:
                    raise BadSetting(f"{VENDOR} does not trade {symbol} on this account")
                row = rows[found.symbol_id]
                try:
                    leverage = read_leverage(trader, self._tiers(session, row))
                    self._instruments[symbol] = read_instrument(found, row, leverage)
                except NOT_UNDERSTOOD as error:
                    raise _unreadable(f"details of {symbol}", error) from None
        return {symbol: self._instruments[symbol] for symbol in symbols}

    def account(self) -> Account:
        """See `ports.Broker.account`; the open profit is net of what the positions have cost so far."""
        session = self._session()
        before, looks = self._trader(session), 0
        while True:
            profits = session.connection.ask(PayloadType.GET_POSITION_UNREALIZED_PNL_REQ)
            held = session.history.reconcile().positions
            after, looks = self._trader(session), looks + 1
            if before == after or looks == _LOOKS:
                break
            before = after
        try:
            digits = whole(profits, "moneyDigits", 2)
            return Account(
                currency=session.catalogue.currency(whole(after, "depositAssetId")),
                balance=money(after, "balance"),
                open_profit=sum(
                    (money(row, "netUnrealizedPnL", digits) for row in profits.get("positionUnrealizedPnL", ())), Decimal(0)
                ),
                margin_used=sum((each.margin for each in held), Decimal(0)),
            )
        except NOT_UNDERSTOOD as error:
            raise _unreadable("the account", error) from None

    def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """See `ports.Broker.quotes`; a symbol's first price is waited for a little."""
        session = self._session()
        numbers = {symbol: session.catalogue.require(symbol).symbol_id for symbol in symbols}
        self._spots.follow(session.connection, numbers.values(), self._settings.quote_timeout_s)
        found = {symbol: self._spots.quote(number) for symbol, number in numbers.items()}
        return {symbol: quote for symbol, quote in found.items() if quote is not None}

    def rates(self) -> Rates:
        """See `ports.Broker.rates`; through the pairs that cTrader names for it."""
        session = self._session()
        account_asset = self._account_asset = self._account_asset or self._deposit_asset(session)
        currency = session.catalogue.currency(account_asset)
        listed = [session.catalogue.require(symbol) for symbol in self._symbols]
        for asset in {asset for each in listed for asset in (each.base_asset_id, each.quote_asset_id)} - {account_asset}:
            if session.catalogue.currency(asset) not in self._conversions:
                chain = session.connection.ask(
                    PayloadType.SYMBOLS_FOR_CONVERSION_REQ, firstAssetId=asset, lastAssetId=account_asset
                )
                try:
                    numbers = tuple(whole(row, "symbolId") for row in chain.get("symbol", ()))
                except NOT_UNDERSTOOD as error:
                    raise _unreadable("SYMBOLS_FOR_CONVERSION", error) from None
                self._conversions[session.catalogue.currency(asset)] = numbers
        followed = {each.symbol_id for each in listed}.union(*self._conversions.values())
        self._spots.follow(session.connection, followed, self._settings.quote_timeout_s)
        prices = {session.catalogue.symbol(number): self._spots.quote(number) for number in followed}
        return rates_from_prices({symbol: quote.mid for symbol, quote in prices.items() if quote is not None}, currency)

    def place_order(self, intent: OrderIntent) -> BrokerOrder:
        """See `ports.Broker.place_order`; an id that is longer than cTrader's 50 characters is rejected."""
        if intent.purpose is OrderPurpose.CLOSE:
            return self.close_position(intent)
        session = self._session()
        if self._desk.may_have_come(intent.client_order_id):
            known = self._desk.order(session, intent.client_order_id)
            if known is not None:
                return known
        quote = self.quotes([intent.symbol]).get(intent.symbol)
        return self._desk.place(session, intent, quote, self.instruments([intent.symbol])[intent.symbol])

    def close_position(self, intent: OrderIntent) -> BrokerOrder:
        """See `ports.Broker.close_position`; of several positions of the symbol, it closes one that the engine opened."""
        return self._desk.close(self._session(), intent)

    def modify_order(self, change: ProtectionChange) -> ChangeAnswer:
        """See `ports.Broker.modify_order`."""
        return self._desk.modify(self._session(), change)

    def order(self, client_order_id: str) -> BrokerOrder | None:
        """See `ports.Broker.order`, and `OrderDesk.order` for how long it knows one."""
        return self._desk.order(self._session(), client_order_id)

    def open_orders(self) -> tuple[BrokerOrder, ...]:
        """See `ports.Broker.open_orders`."""
        orders = self._session().history.reconcile().orders
        return tuple(broker_order(order, order.client_order_id) for order in orders)

    def positions(self) -> tuple[BrokerPosition, ...]:
        """See `ports.Broker.positions`."""
        session = self._session()
        return tuple(_position(each, session.catalogue) for each in session.history.reconcile().positions)

    def newest_sequence(self) -> int:
        """See `ports.Broker.newest_sequence`; of the last `first_history_days`."""
        return max((transaction.sequence for transaction in self.transactions_since(0)), default=0)

    def transactions_since(self, sequence: int) -> tuple[Transaction, ...]:
        """See `ports.Broker.transactions_since`; since zero, the last `first_history_days`."""
        return self._session().history.transactions(sequence, self._clock.now(), self._settings.first_history_days)

    def _session(self) -> Session:
        with self._connecting:
            connection = self._connection
            if connection is None or not connection.is_open:
                connection = self._connection = CTraderConnection(self._settings, self._spots.take)
                log.warning("connected to ctrader", account=_description(self._settings, connection))
            if self._catalogue is None:
                self._catalogue = Catalogue.load(connection)
            return Session(connection, self._catalogue, History(connection, self._memory, self._catalogue))

    def _trader(self, session: Session) -> Payload:
        try:
            trader: Payload = session.connection.ask(PayloadType.TRADER_REQ)["trader"]
        except NOT_UNDERSTOOD as error:
            raise _unreadable("TRADER", error) from None
        if trader.get("isLimitedRisk") is True:
            raise BadSetting("account_id: accounts of limited risk, which need guaranteed stops, are not supported")
        return trader

    def _deposit_asset(self, session: Session) -> int:
        try:
            return whole(self._trader(session), "depositAssetId")
        except NOT_UNDERSTOOD as error:
            raise _unreadable("TRADER", error) from None

    def _tiers(self, session: Session, symbol: Payload) -> Sequence[Payload]:
        if symbol.get("leverageId") is None:
            return ()
        answer = session.connection.ask(PayloadType.GET_DYNAMIC_LEVERAGE_REQ, leverageId=whole(symbol, "leverageId"))
        return tuple(answer["leverage"].get("tiers", ()))


def check_account(settings: CTraderBrokerSettings) -> None:
    """Raise BadSetting unless settings say clearly which account is traded."""
    if settings.account_id is None:
        raise BadSetting("account_id must be given (the ctidTraderAccountId of the account), found none")
    if settings.environment == "live" and not settings.allow_live:
        raise BadSetting("environment is live, which trades real money: allow_live must be true as well, found false")


def _description(settings: CTraderBrokerSettings, connection: CTraderConnection) -> str:
    account = f"account {connection.account_id}" + (f" ({connection.title})" if connection.title else "")
    if settings.environment == "live":
        return f"LIVE {account} at cTrader: REAL MONEY"
    return f"demo {account} at cTrader: no real money"


def _position(held: HeldPosition, catalogue: Catalogue) -> BrokerPosition:
    return BrokerPosition(
        client_order_id=held.label,
        symbol=catalogue.symbol(held.symbol_id),
        side=held.side,
        units=held.units,
        entry_price=held.entry_price,
        stop=held.stop,
        target=held.target,
        opened_at=moment(held.opened_ms),
    )


def _unreadable(what: str, error: Exception) -> Disconnected:
    return Disconnected(f"{VENDOR}: {what} could not be read ({type(error).__name__})")
