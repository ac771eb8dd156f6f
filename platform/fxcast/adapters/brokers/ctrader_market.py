"""cTrader's symbols and their newest prices."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from fxcast.adapters.brokers.ctrader_connection import CTraderConnection
from fxcast.adapters.brokers.ctrader_messages import (
    NOT_UNDERSTOOD,
    QUOTE_SCALE,
    VENDOR,
    DistanceType,
    Payload,
    PayloadType,
    member,
    moment,
    units,
    whole,
)
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Quote
from fxcast.errors import BadSetting, Disconnected
from fxcast.trading.ports import Clock

_LEVERAGE_SCALE = 100  # leverages come in 1/100: 3000 for 1:30


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A symbol in cTrader's list; `symbol` is base and quote currency."""

    symbol_id: int
    symbol: str
    base_asset_id: int
    quote_asset_id: int


class Catalogue:
    """What can be traded on an account. Names such as EUR/USD are read as EURUSD; ones with a suffix by their currencies."""

    def __init__(self, assets: Mapping[int, str], symbols: Sequence[Payload]) -> None:
        self._assets = assets
        self._by_id: dict[int, Listed] = {}
        by_name: dict[str, Listed] = {}
        by_currencies: dict[str, list[Listed]] = {}
        for row in symbols:
            base, quote = whole(row, "baseAssetId", 0), whole(row, "quoteAssetId", 0)
            name = re.sub("[^A-Z0-9.]", "", str(row.get("symbolName", "")).upper())
            pair = assets.get(base, "") + assets.get(quote, "")
            listed = Listed(symbol_id=whole(row, "symbolId"), symbol=pair or name, base_asset_id=base, quote_asset_id=quote)
            self._by_id[listed.symbol_id] = listed
            if row.get("enabled") is not False:
                by_name.setdefault(name, listed)
                by_currencies.setdefault(pair, []).append(listed)
        only = {pair: found[0] for pair, found in by_currencies.items() if len(found) == 1}
        self._by_symbol = {**only, **by_name}

    @classmethod
    def load(cls, connection: CTraderConnection) -> Catalogue:
        assets = connection.ask(PayloadType.ASSET_LIST_REQ)
        symbols = connection.ask(PayloadType.SYMBOLS_LIST_REQ)
        try:
            names = {whole(row, "assetId"): str(row["name"]).upper() for row in assets.get("asset", ())}
            return cls(names, symbols.get("symbol", ()))
        except NOT_UNDERSTOOD as error:
            raise Disconnected(f"{VENDOR}: the list of symbols could not be read ({type(error).__name__})") from None

    def require(self, symbol: str) -> Listed:
        """Return a symbol.

        Raises:
            BadSetting: If it is not traded on this account.
        """
        found = self._by_symbol.get(symbol)
        if found is None:
            raise BadSetting(f"{VENDOR} does not trade {symbol} on this account")
        return found

    def symbol(self, symbol_id: int) -> str:
        """Return the name of a symbol; one that is no longer listed is named by its number."""
        found = self._by_id.get(symbol_id)
        return f"#{symbol_id}" if found is None else found.symbol

    def currency(self, asset_id: int) -> str:
        return self._assets.get(asset_id, f"#{asset_id}")

    def asset_id(self, currency: str) -> int | None:
        return next((asset_id for asset_id, name in self._assets.items() if name == currency), None)


class Spots:
    """The newest price of each symbol that a connection follows. One reader fills it; any thread may look.

    An event may bring one side only, or come late; then the other side stays, and a later price is kept.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._news = threading.Condition()
        self._sides: dict[int, dict[str, Decimal]] = {}
        self._at: dict[int, datetime] = {}
        self._connection: CTraderConnection | None = None
        self._followed: set[int] = set()

    def take(self, payload: Payload) -> None:
        """Take a price event in."""
        symbol_id = whole(payload, "symbolId")
        at = moment(whole(payload, "timestamp")) if payload.get("timestamp") else self._clock.now()
        sides = {side: Decimal(whole(payload, side)) / QUOTE_SCALE for side in ("bid", "ask") if payload.get(side)}
        with self._news:
            if at < self._at.get(symbol_id, at):
                return
            self._sides[symbol_id] = {**self._sides.get(symbol_id, {}), **sides}
            self._at[symbol_id] = at
            self._news.notify_all()

    def follow(self, connection: CTraderConnection, symbol_ids: Collection[int], wait_s: float) -> None:
        """Have prices of symbols sent, and wait for the first of each, not for ever."""
        if connection is not self._connection:
            with self._news:
                self._connection, self._followed = connection, set()
                self._sides, self._at = {}, {}
        new = sorted(set(symbol_ids) - self._followed)
        if new:
            connection.ask(PayloadType.SUBSCRIBE_SPOTS_REQ, symbolId=new, subscribeToSpotTimestamp=True)
            self._followed.update(new)
        deadline = time.monotonic() + wait_s
        with self._news:
            self._news.wait_for(
                lambda: not connection.is_open or all(self.quote(each) is not None for each in symbol_ids),
                max(deadline - time.monotonic(), 0.0),
            )

    def quote(self, symbol_id: int) -> Quote | None:
        """Return the newest price of a symbol, None until both sides are known."""
        sides = self._sides.get(symbol_id, {})
        if len(sides) != 2:  # bid and ask
            return None
        return Quote(bid=sides["bid"], ask=sides["ask"], at=self._at[symbol_id])


def read_instrument(listed: Listed, payload: Payload, leverage: Decimal) -> Instrument:
    """Read a symbol's details; raises one of NOT_UNDERSTOOD if they are none.

    A least distance of stops that is told in per cent is left to cTrader to check.
    """
    tick = Decimal(1).scaleb(-whole(payload, "digits"))
    distance = Decimal(0)
    unit = member(DistanceType, payload.get("distanceSetIn", DistanceType.SYMBOL_DISTANCE_IN_POINTS))
    if unit is DistanceType.SYMBOL_DISTANCE_IN_POINTS:
        distance = max(whole(payload, "slDistance", 0), whole(payload, "tpDistance", 0)) * tick
    step = units(payload, "stepVolume")
    return Instrument(
        symbol=listed.symbol,
        pip=Decimal(1).scaleb(-whole(payload, "pipPosition")),
        tick=tick,
        lot_step=step,
        min_units=units(payload, "minVolume"),
        max_units=units(payload, "maxVolume"),
        margin_rate=1 / leverage,
        min_stop_distance=distance,
    )


def read_leverage(trader: Payload, tiers: Sequence[Payload]) -> Decimal:
    """Return units of worth per unit of margin: the lower of the account's leverage and of the symbol's for small positions.

    Raises:
        ValueError: If the account tells none.
    """
    found = [whole(trader, "leverageInCents", 0), *(whole(tier, "leverage") for tier in tiers[:1])]
    told = [each for each in found if each > 0]
    if not told:
        raise ValueError("neither the account nor the symbol tells a leverage")
    return Decimal(min(told)) / _LEVERAGE_SCALE
