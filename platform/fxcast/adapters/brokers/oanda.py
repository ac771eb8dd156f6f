"""OANDA as a broker: practice and live accounts over the v20 REST interface.

Source: developer.oanda.com, v20 REST API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal

from pydantic import Field

from fxcast.adapters.brokers.oanda_calls import OandaCalls, specifier
from fxcast.adapters.brokers.oanda_orders import TAKEN, Message, OrderLog, messages_since, newest_transaction, placed_order
from fxcast.adapters.brokers.oanda_read import (
    GONE,
    PARTS,
    change_request,
    client_id,
    instrument_name,
    opened_trades,
    order_request,
    read_account,
    read_change,
    read_instruments,
    read_open_orders,
    read_positions,
    read_quotes,
    read_rates,
    read_transactions,
    trades_to_look_up,
)
from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN, read_credential
from fxcast.config import Settings
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Quote, Rates
from fxcast.domain.order import BrokerOrder, ChangeAnswer, OrderIntent, ProtectionChange, Transaction
from fxcast.domain.portfolio import Account, BrokerPosition
from fxcast.errors import BadSetting

_URLS = {"practice": "https://api-fxpractice.oanda.com", "live": "https://api-fxtrade.oanda.com"}
_TRADES_A_CALL = 100  # one may ask for 500, but the address grows


class OandaBrokerSettings(Settings):
    """Which account is traded; the token comes from the environment variable FXCAST_OANDA_TOKEN.

    Attributes:
        environment: practice (no real money) or live.
        allow_live: Has to be true for live.
        account_id: Has to be given for live; a practice account may come from FXCAST_OANDA_ACCOUNT.
        rest_url: Another host than the environment's.
        time_in_force: FOK: all of an order or nothing; IOC: as much as there is.
        connect_timeout_s: Within which a connection must come about.
        request_timeout_s: Silence within an answer that ends the waiting.
        rate_limit_pause_s: The pause after a 429 that names none.
        lookback_transactions: How far back an order is looked for.
    """

    environment: Literal["practice", "live"] = "practice"
    allow_live: bool = False
    account_id: str | None = Field(default=None, pattern=r"^\d{3}-\d{3}-\d+-\d{3}$")
    rest_url: str | None = Field(default=None, pattern=r"^https?://[^/]+(/.*)?[^/]$")
    time_in_force: Literal["FOK", "IOC"] = "FOK"
    connect_timeout_s: float = Field(default=10.0, gt=0)
    request_timeout_s: float = Field(default=20.0, gt=0)
    rate_limit_pause_s: float = Field(default=1.0, gt=0)
    lookback_transactions: int = Field(default=1000, ge=1)


class OandaBroker:
    """Implements `ports.Broker` on one OANDA account; every call is tried once.

    Before an order is sent, the account's transactions are asked for its id: OANDA itself would execute it twice
    (`oanda_orders`). Of a halted market there is no quote. A closing order reduces the oldest trades of the symbol first, also
    ones opened by hand. A trailing stop set by hand counts as a stop, but does not replace ours.

    Args:
        symbols: Whose currencies `rates` tells.

    Raises:
        BadCredentials: If the token, or the account's id, is missing in the environment.
        BadSetting: If the live environment is not explicitly allowed, with an account's id.
    """

    def __init__(self, settings: OandaBrokerSettings, symbols: Sequence[str]) -> None:
        url = settings.rest_url or _URLS[settings.environment]
        _check_live(settings, url)
        self._settings = settings
        self._symbols = tuple(symbols)
        self._account_id = settings.account_id or read_credential(OANDA_ACCOUNT).reveal()
        self._calls = OandaCalls(
            url,
            self._account_id,
            read_credential(OANDA_TOKEN),
            connect_timeout_s=settings.connect_timeout_s,
            request_timeout_s=settings.request_timeout_s,
            rate_limit_pause_s=settings.rate_limit_pause_s,
        )
        self._log = OrderLog(self._calls, settings.lookback_transactions)
        self._instruments: dict[str, Instrument] = {}
        self._currency = ""

    def close(self) -> None:
        """Close the connections."""
        self._calls.close()

    def describe(self) -> str:
        """Return which account this trades, for a person to read before anything is sent."""
        account = self._calls.read("summary", _account_message)
        names = ", ".join(name for name in (account.get("alias"), account["currency"]) if name)
        if self._settings.environment == "live":
            return f"LIVE account {self._account_id} ({names}) at OANDA: REAL MONEY"
        return f"practice account {self._account_id} ({names}) at OANDA: no real money"

    def instruments(self, symbols: Sequence[str]) -> Mapping[str, Instrument]:
        """See `ports.Broker.instruments`."""
        self._instruments = self._calls.read("instruments", read_instruments)
        return {symbol: self._instrument(symbol) for symbol in symbols}

    def account(self) -> Account:
        """See `ports.Broker.account`."""
        return self._calls.read("summary", read_account)

    def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """See `ports.Broker.quotes`."""
        return self._calls.read("pricing", read_quotes, _pricing(symbols), symbols)

    def rates(self) -> Rates:
        """See `ports.Broker.rates`."""
        self._currency = self._currency or self.account().currency
        parameters = {**_pricing(self._symbols), "includeHomeConversions": "true"}
        return self._calls.read("pricing", lambda answer: read_rates(answer, self._currency), parameters, self._symbols)

    def place_order(self, intent: OrderIntent) -> BrokerOrder:
        """See `ports.Broker.place_order`."""
        known = self.order(intent.client_order_id)
        if known is not None:
            return known
        request = order_request(intent, self._instrument(intent.symbol), self._settings.time_in_force)
        placed = self._calls.command("POST", "orders", request, lambda _code, answer: placed_order(intent.client_order_id, answer))
        if placed.reason in TAKEN:  # an earlier request that was still under way came first
            return self.order(intent.client_order_id) or placed
        return placed

    def close_position(self, intent: OrderIntent) -> BrokerOrder:
        """See `ports.Broker.close_position`."""
        return self.place_order(intent)

    def modify_order(self, change: ProtectionChange) -> ChangeAnswer:
        """See `ports.Broker.modify_order`."""
        trade = self._calls.read_if_there(f"trades/{specifier(change.client_order_id)}", _trade)
        if trade is None or trade["state"] != "OPEN":
            return GONE
        request = change_request(change, self._instrument(change.symbol), trade)
        if not request:
            return ChangeAnswer(accepted=True)
        return self._calls.command("PUT", f"trades/{trade['id']}/orders", request, read_change)

    def order(self, client_order_id: str) -> BrokerOrder | None:
        """See `ports.Broker.order`; an order that is more than `lookback_transactions` back is not found."""
        return self._log.order(client_order_id)

    def open_orders(self) -> tuple[BrokerOrder, ...]:
        """See `ports.Broker.open_orders`."""
        return self._calls.read("pendingOrders", read_open_orders)

    def positions(self) -> tuple[BrokerPosition, ...]:
        """See `ports.Broker.positions`."""
        return self._calls.read("openTrades", read_positions)

    def newest_sequence(self) -> int:
        """See `ports.Broker.newest_sequence`."""
        return (newest_transaction(self._calls) + 1) * PARTS - 1

    def transactions_since(self, sequence: int) -> tuple[Transaction, ...]:
        """See `ports.Broker.transactions_since`.

        A sequence is 10,000 times OANDA's transaction id plus the number of a part, so it needs 64 bits. The transaction of the
        given one is read again: the engine may have handled some of its parts only.
        """
        messages = messages_since(self._calls, max(sequence // PARTS - 1, 1))  # transaction 1 creates the account
        new = [message for message in messages if any(part.sequence > sequence for part in read_transactions(message, {}))]
        owners = opened_trades(messages)
        owners |= self._client_ids(trades_to_look_up(new) - owners.keys())
        found = (part for message in new for part in read_transactions(message, owners))
        return tuple(part for part in found if part.sequence > sequence)

    def _client_ids(self, trades: AbstractSet[str]) -> dict[str, str]:
        """Look up the client's ids of trades, by the broker's: transactions name a trade that is closed by the broker's only."""
        ids = sorted(trades, key=int)
        found: dict[str, str] = {}
        for start in range(0, len(ids), _TRADES_A_CALL):
            asked = ",".join(ids[start : start + _TRADES_A_CALL])
            found |= self._calls.read("trades", _client_ids, {"ids": asked, "state": "ALL", "count": str(_TRADES_A_CALL)})
        return found

    def _instrument(self, symbol: str) -> Instrument:
        if not self._instruments:
            self._instruments = self._calls.read("instruments", read_instruments)
        if symbol not in self._instruments:
            raise BadSetting(f"OANDA does not trade {symbol} on this account; it trades {len(self._instruments)} others")
        return self._instruments[symbol]


def _check_live(settings: OandaBrokerSettings, url: str) -> None:
    if settings.environment == "live" and not settings.allow_live:
        raise BadSetting("environment is live, which trades real money: allow_live must be true as well, found false")
    if settings.environment == "live" and settings.account_id is None:
        raise BadSetting("environment is live, which trades real money: account_id must be given, found none")
    if settings.environment == "practice" and "fxtrade" in url:
        raise BadSetting("environment is practice, but rest_url is OANDA's live host")


def _pricing(symbols: Sequence[str]) -> dict[str, str]:
    return {"instruments": ",".join(map(instrument_name, symbols))}


def _account_message(answer: Message) -> Mapping[str, Any]:
    return answer["account"]


def _trade(answer: Message) -> Message:
    return answer["trade"]


def _client_ids(answer: Message) -> dict[str, str]:
    return {trade["id"]: client_id(trade) for trade in answer["trades"]}
