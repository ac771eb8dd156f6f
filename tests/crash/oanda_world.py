"""The engine on OANDA's account: what a process does until it is killed, and the market that moves in step with its candles."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from multiprocessing.connection import Client, Listener
from pathlib import Path
from types import TracebackType
from typing import Self

from fxcast.adapters.brokers.oanda import OandaBroker, OandaBrokerSettings
from fxcast.adapters.feeds.credentials import OANDA_TOKEN
from fxcast.domain.candle import Candle
from tests.brokers.oanda_account import ACCOUNT
from tests.brokers.oanda_server import TOKEN, OandaServer
from tests.crash.hooks import Hooks, Kill
from tests.crash.world import LEDGER, SYMBOLS, Person, calls_file, run_engine

MOMENTS = 11
_TICK = Decimal("0.00001")
_SPREAD = Decimal("0.00010")


@dataclass(frozen=True, slots=True, kw_only=True)
class OandaLife:
    """One process's: where its ledger is, where the broker and its market are, and when it kills itself."""

    folder: Path
    url: str
    market: str
    kill: Kill | None = None


def live(life: OandaLife) -> None:
    """Run a fresh engine to the end of the candles; the calls it made are left in the folder."""
    os.environ[OANDA_TOKEN] = TOKEN
    broker = OandaBroker(OandaBrokerSettings(account_id=ACCOUNT, rest_url=life.url), SYMBOLS)
    teller = _Teller(life.market)
    hooks = Hooks(life.kill, look=lambda: None)  # the market looks
    with LEDGER.opened(life.folder) as database, hooks.watching_statements(database):
        run_engine(hooks, database, broker, [hooks.wrapped("market", teller), Person(database)], moments=MOMENTS)
    calls_file(life.folder).write_bytes(pickle.dumps(hooks.calls))
    teller.close()
    broker.close()


class _Teller:
    """Tells the market which candle has closed, and waits until the prices have moved."""

    def __init__(self, address: str) -> None:
        self._connection = Client(address)

    def observe(self, symbol: str, candle: Candle, closed_at: datetime) -> None:
        self._connection.send((symbol, candle, closed_at))
        self._connection.recv()

    def close(self) -> None:
        self._connection.close()


class Market:
    """Moves the server's prices through each candle that an engine sees, once, however many engines see it. A context manager.

    Args:
        address: A file for a socket.

    Attributes:
        unprotected: Trades that were seen open without a stop; looked for at every price.
        once: Is called when the next candle is seen, before its prices.
    """

    def __init__(self, server: OandaServer, address: Path) -> None:
        self.address = str(address)
        self.unprotected: list[str] = []
        self.once: Callable[[], None] = lambda: None
        self._server = server
        self._seen: dict[str, datetime] = {}
        self._thread = threading.Thread(target=self._serve, daemon=True, name="Market")

    def __enter__(self) -> Self:
        self._listener = Listener(self.address)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with Client(self.address) as last:
            last.send(None)
        self._thread.join(60)
        self._listener.close()

    def look(self) -> None:
        """Look for open trades without a stop."""
        with self._server.lock:
            self.unprotected += [trade.id for trade in self._server.account.open_trades if trade.stop is None]

    def _serve(self) -> None:
        while True:
            with self._listener.accept() as connection, suppress(EOFError, ConnectionResetError):  # its engine was killed
                while True:
                    told: tuple[str, Candle, datetime] | None = connection.recv()
                    if told is None:
                        return
                    self._move(*told)
                    connection.send("moved")

    def _move(self, symbol: str, candle: Candle, closed_at: datetime) -> None:
        once, self.once = self.once, lambda: None
        once()
        account, name = self._server.account, f"{symbol[:3]}_{symbol[3:]}"
        with self._server.lock:
            if symbol in self._seen and closed_at <= self._seen[symbol]:
                return
            self._seen[symbol] = closed_at
            account.clock = lambda: closed_at
            for price in (candle.open, candle.low, candle.high, candle.close):
                bid = Decimal(price).quantize(_TICK)
                account.set_price(name, str(bid), str(bid + _SPREAD))
                self.look()
