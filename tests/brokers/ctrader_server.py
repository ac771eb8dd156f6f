"""cTrader's Open API as a server: JSON over a TLS websocket, with the faults that trading over a network has.

It follows Spotware's messages and documentation, and in these points what accounts were seen to do: a client order id that was
used before is taken and executed again; market orders take no absolute stops; what opening cost is booked at the close.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from fxcast.adapters.brokers.ctrader_connection import CTraderBrokerSettings
from fxcast.adapters.brokers.ctrader_messages import ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET
from tests.brokers.certificate import make_certificate
from tests.brokers.ctrader_account import ACCEPTED, CTraderAccount, Json, Refused
from tests.brokers.ctrader_answers import answer, named, spot
from tests.brokers.ctrader_faults import Fault, Planned
from tests.ports import free_port

_LOG = logging.getLogger(__name__)
_LOG.setLevel(logging.WARNING)  # tests look at what the client logs
CREDENTIALS = {CLIENT_ID: "2001_application", CLIENT_SECRET: "s3cret-of-the-application", ACCESS_TOKEN: "t0ken-of-the-trader"}
RETRY_AFTER_S = 7
NEW_ORDER, AMEND, CLOSE, RECONCILE, DEAL_LIST, ORDER_LIST, TRADER = 2106, 2110, 2111, 2124, 2133, 2175, 2121
_EXECUTION, _ORDER_ERROR, _ERROR, _SPOT, _HEARTBEAT = 2126, 2132, 2142, 2131, 51
_HISTORY = {DEAL_LIST, ORDER_LIST, 2181, 2183}
_TRADING = {NEW_ORDER, AMEND, CLOSE}


class CTraderServer:
    """Serves one account from a thread of its own; a context manager, and usable from any process by its `url` and `ca_file`.

    `account` is what a test looks at and moves, with `with server.lock:` around it, or by `server.hands(...)`.

    Args:
        names: Tell enumerations by their names and long numbers as text, as some servers' JSON does.
        slashes: Call symbols EUR/USD.

    Attributes:
        limits_history: Whether more than five requests of the past within a second are refused.
        seen: Kind and payload of the requests.
        connects: Connections so far.
        is_silent: Whether it hears nothing and says nothing.
        scope: 1 for a token that may trade.
        heartbeats: That clients sent.
    """

    def __init__(self, account: CTraderAccount | None = None, *, names: bool = False, slashes: bool = False) -> None:
        self.account = account or CTraderAccount()
        self.lock = threading.RLock()
        self.seen: list[tuple[int, Json]] = []
        self.connects = 0
        self.heartbeats = 0
        self.is_silent = False
        self.scope = 1
        self.limits_history = False
        self._history: deque[float] = deque(maxlen=5)
        self._names = names
        self._slashes = slashes
        self._planned: list[Planned] = []
        self._moments: dict[int, Callable[[CTraderAccount], list[Json]]] = {}
        self._late: list[Callable[[], list[Json]]] = []
        self._clients: dict[ServerConnection, set[int]] = {}  # authorised ones, and the symbols they follow
        self._folder = tempfile.TemporaryDirectory(prefix="ctrader-")
        self.ca_file = Path(self._folder.name) / "ca.pem"
        key_file = Path(self._folder.name) / "key.pem"
        make_certificate(self.ca_file, key_file)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.ca_file, key_file)
        self._outboxes: dict[ServerConnection, asyncio.Queue[str]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread: threading.Thread | None = None
        self.port = free_port()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Listen; after `stop`, at the port of before."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), daemon=True, name="ctrader-server")
        self._thread.start()
        assert ready.wait(60), "the server did not start"

    def stop(self) -> None:
        """Be gone from the network; the account stays."""
        assert self._loop is not None
        assert self._thread is not None
        self.drop()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    @property
    def url(self) -> str:
        return f"wss://127.0.0.1:{self.port}"

    def settings(self, **changes: Any) -> CTraderBrokerSettings:
        """Return what a client needs, with short waits; the credentials are `CREDENTIALS`, in the environment."""
        ours: dict[str, Any] = {"url": self.url, "ca_file": self.ca_file, "account_id": self.account.account_id, "settle_s": 0}
        ours |= {"history_requests_per_s": 1000}
        waits: dict[str, Any] = {"connect_timeout_s": 10, "request_timeout_s": 10, "order_timeout_s": 10, "quote_timeout_s": 10}
        return CTraderBrokerSettings(**(ours | waits | changes))

    def plan(self, fault: Fault, payload_type: int, code: str = "") -> None:
        """Have something go wrong with the next request of a kind; each plan counts once, in order."""
        with self.lock:
            self._planned.append(Planned(fault=fault, payload_type=payload_type, code=code))

    def when(self, payload_type: int, act: Callable[[CTraderAccount], list[Json]]) -> None:
        """Have something done right before the next request of a kind is answered."""
        with self.lock:
            self._moments[payload_type] = act

    def hands(self, act: Callable[[CTraderAccount], list[Json]]) -> None:
        """Do something at the broker by hand, or as the market does it; clients are told."""
        with self.lock:
            for event in act(self.account):
                self._tell_all(_EXECUTION, event)

    def move(self, symbol: str, bid: str, ask: str) -> None:
        """Set a price; stops and targets are executed, and those who follow it are told."""
        self.hands(lambda account: account.move(symbol, Decimal(bid), Decimal(ask)))
        with self.lock:
            number = self.account.symbols[symbol]
            for client, followed in list(self._clients.items()):
                if number in followed:
                    self._send(client, _SPOT, spot(self.account, number))

    def run_late(self) -> None:
        """Execute what was late."""
        with self.lock:
            late, self._late = self._late, []
            for act in late:
                for event in act():
                    self._tell_all(_EXECUTION, event)

    def say(self, payload_type: int, payload: Json) -> None:
        """Tell all clients something."""
        with self.lock:
            self._tell_all(payload_type, payload)

    def drop(self) -> None:
        """Lose all connections, without a good-bye."""
        with self.lock:
            clients, self._clients = list(self._outboxes), {}
        for client in clients:
            self._cut(client)

    def count(self, payload_type: int) -> int:
        with self.lock:
            return sum(kind == payload_type for kind, _ in self.seen)

    async def _run(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        listening = serve(
            self._serve, "127.0.0.1", self.port, ssl=self._context, ping_interval=None, close_timeout=0.2, logger=_LOG
        )
        async with listening:
            ready.set()
            await self._stop.wait()

    async def _serve(self, client: ServerConnection) -> None:
        self.connects += 1
        outbox: asyncio.Queue[str] = asyncio.Queue()
        with self.lock:
            self._outboxes[client] = outbox
        writing = asyncio.create_task(_write(client, outbox))
        is_known = False
        try:
            async for text in client:
                message = json.loads(text)
                kind, payload, client_msg_id = (
                    int(message["payloadType"]),
                    message.get("payload", {}),
                    message.get("clientMsgId", ""),
                )
                with self.lock:
                    if self.is_silent:
                        continue
                    if kind == _HEARTBEAT:
                        self.heartbeats += 1
                        self._send(client, _HEARTBEAT, {})
                        continue
                    self.seen.append((kind, payload))
                    if kind == 2100:
                        is_known = self._know(client, payload, client_msg_id)
                    elif not is_known or (kind not in {2102, 2149} and client not in self._clients):
                        self._error(
                            client, "CH_CLIENT_NOT_AUTHENTICATED" if not is_known else "ACCOUNT_NOT_AUTHORIZED", client_msg_id
                        )
                    else:
                        self._handle(client, kind, payload, client_msg_id)
        except ConnectionClosed:
            return  # it has left, or was dropped
        finally:
            writing.cancel()
            with self.lock:
                self._clients.pop(client, None)
                del self._outboxes[client]

    def _know(self, client: ServerConnection, payload: Json, client_msg_id: str) -> bool:
        if payload != {"clientId": CREDENTIALS[CLIENT_ID], "clientSecret": CREDENTIALS[CLIENT_SECRET]}:
            self._error(client, "CH_CLIENT_AUTH_FAILURE", client_msg_id)
            return False
        self._send(client, 2101, {}, client_msg_id)
        return True

    def _handle(self, client: ServerConnection, kind: int, payload: Json, client_msg_id: str) -> None:
        if kind in self._moments:
            self.hands(self._moments.pop(kind))
        if self.limits_history and kind in _HISTORY:
            now = time.monotonic()
            if len(self._history) == self._history.maxlen and now - self._history[0] < 1:
                self._error(client, "REQUEST_FREQUENCY_EXCEEDED", client_msg_id)
                return
            self._history.append(now)
        planned = next((each for each in self._planned if each.payload_type == kind), None)
        if planned is not None:
            self._planned.remove(planned)
        fault, code = (None, "") if planned is None else (planned.fault, planned.code)
        simple = {
            Fault.LIMITED: "REQUEST_FREQUENCY_EXCEEDED",
            Fault.SESSION_OVER: "ACCOUNT_NOT_AUTHORIZED",
            Fault.BUSY: "POSITION_LOCKED",
        }
        match fault:
            case Fault.DROP_BEFORE:
                self._cut(client)
                return
            case Fault.SILENT_BEFORE:
                return
            case Fault.BLOCKED:
                self._error(client, "BLOCKED_PAYLOAD_TYPE", client_msg_id, retryAfter=RETRY_AFTER_S)
                return
            case Fault.LIMITED | Fault.SESSION_OVER | Fault.BUSY:
                self._error(client, simple[fault], client_msg_id)
                return
            case Fault.GARBAGE:
                self._put(client, "<html>502 Bad Gateway</html>")
                self._put(client, '{"payloadType": "none", "payload": []}')
            case _:
                pass
        try:
            if kind in _TRADING:
                self._trade(client, kind, payload, client_msg_id, fault, code)
            else:
                answer_type, told = self._answer(client, kind, payload)
                if fault is Fault.DROP_AFTER:
                    self._cut(client)
                elif fault is not Fault.SILENT_AFTER:
                    self._send(client, answer_type, told, client_msg_id)
                    self._spots_of(client, kind, payload)
        except Refused as refused:
            self._error(
                client,
                refused.code,
                client_msg_id,
                kind=_ORDER_ERROR if kind in _TRADING else _ERROR,
                description=refused.description,
            )

    def _trade(
        self, client: ServerConnection, kind: int, payload: Json, client_msg_id: str, fault: Fault | None, code: str
    ) -> None:
        if fault is Fault.REJECTED and kind != NEW_ORDER:
            raise Refused(code)
        if fault in {Fault.LATE, Fault.UNFILLED}:
            self._late.append(lambda: self._execute(kind, payload))
            if fault is Fault.UNFILLED:
                trade = {"symbolId": payload["symbolId"], "volume": payload["volume"], "tradeSide": payload["tradeSide"]}
                order = {
                    "orderId": 1,
                    "tradeData": trade,
                    "orderType": 1,
                    "orderStatus": ACCEPTED,
                    "clientOrderId": payload["clientOrderId"],
                }
                event = {"ctidTraderAccountId": self.account.account_id, "executionType": 2, "order": order}
                self._send(client, _EXECUTION, event, client_msg_id)
            return
        events = self.account.refuse_deal(payload) if fault in {Fault.REQUOTE, Fault.REJECTED} else self._execute(kind, payload)
        if fault is Fault.REJECTED:
            events[-1] |= {"executionType": 7, "errorCode": code}
            events[-1]["order"]["orderStatus"] = 3
            del events[-1]["deal"]
        match fault:
            case Fault.SILENT_AFTER:
                return
            case Fault.DROP_AFTER:
                self._cut(client)
            case Fault.UNKNOWN_AFTER:
                self._error(client, "UNKNOWN_ERROR", client_msg_id)
            case Fault.REVERSED:
                for place, event in enumerate(reversed(events)):
                    self._send(client, _EXECUTION, event, client_msg_id if place == len(events) - 1 else "")
            case Fault.UNNAMED:
                for event in events:
                    self._send(client, _EXECUTION, event)
            case Fault.TWICE:
                other = {"ctidTraderAccountId": self.account.account_id, "executionType": "SWAP"}
                for event in [other, *events, *events]:
                    self._send(client, _EXECUTION, event, client_msg_id if event is not other else "")
            case _:
                for event in events:
                    self._send(client, _EXECUTION, event, client_msg_id)
                for each in self._clients.keys() - {client}:
                    for event in events:
                        self._send(each, _EXECUTION, event)

    def _execute(self, kind: int, payload: Json) -> list[Json]:
        if kind == NEW_ORDER:
            return self.account.place(payload)
        if kind == CLOSE:
            return self.account.close(int(payload["positionId"]), int(payload["volume"]))
        return self.account.amend(int(payload["positionId"]), payload.get("stopLoss"), payload.get("takeProfit"))

    def _answer(self, client: ServerConnection, kind: int, payload: Json) -> tuple[int, Json]:
        account = self.account
        mine = {"ctidTraderAccountId": account.account_id}
        if kind == 2149:
            if payload != {"accessToken": CREDENTIALS[ACCESS_TOKEN]}:
                raise Refused("CH_ACCESS_TOKEN_INVALID")
            told = mine | {"isLive": account.is_live, "traderLogin": account.login, "brokerTitleShort": "Loopback"}
            return 2150, {**payload, "permissionScope": self.scope, "ctidTraderAccount": [told]}
        if kind == 2102:
            if payload != {"accessToken": CREDENTIALS[ACCESS_TOKEN], **mine}:
                raise Refused("CH_ACCESS_TOKEN_INVALID")
            self._clients[client] = set()
            return 2103, mine
        if payload["ctidTraderAccountId"] != account.account_id:
            raise Refused("ACCOUNT_NOT_AUTHORIZED")
        if kind == 2127:
            self._clients[client] |= {int(number) for number in payload["symbolId"]}
            return 2128, mine
        return answer(account, kind, payload, slashes=self._slashes)

    def _spots_of(self, client: ServerConnection, kind: int, payload: Json) -> None:
        if kind == 2127:
            for number in payload["symbolId"]:
                whole = spot(self.account, int(number))
                for side in ("ask", "bid"):  # an event may bring one side only
                    self._send(client, _SPOT, {name: value for name, value in whole.items() if name != side})

    def _tell_all(self, payload_type: int, payload: Json) -> None:
        for client in list(self._clients):
            self._send(client, payload_type, payload)

    def _error(self, client: ServerConnection, code: str, client_msg_id: str, kind: int = _ERROR, **more: Any) -> None:
        self._send(client, kind, {"ctidTraderAccountId": self.account.account_id, "errorCode": code, **more}, client_msg_id)

    def _send(self, client: ServerConnection, payload_type: int, payload: Json, client_msg_id: str = "") -> None:
        message: Json = {"payloadType": payload_type, "payload": named(payload) if self._names else payload}
        if client_msg_id:
            message["clientMsgId"] = client_msg_id
        self._put(client, json.dumps(message))

    def _put(self, client: ServerConnection, text: str) -> None:
        outbox = self._outboxes.get(client)
        if outbox is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(outbox.put_nowait, text)

    def _cut(self, client: ServerConnection) -> None:
        """Lose a connection without a good-bye."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(client.transport.abort)


async def _write(client: ServerConnection, outbox: asyncio.Queue[str]) -> None:
    with suppress(ConnectionClosed):  # it has left
        while True:
            await client.send(await outbox.get())


def put_credentials(environment: Any = os.environ) -> None:
    """Put the credentials that the server knows where clients look for them."""
    for variable, value in CREDENTIALS.items():
        environment[variable] = value
