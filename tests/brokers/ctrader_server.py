"""cTrader's Open API as a server: JSON over a TLS websocket, with the faults that trading over a network has.

It follows Spotware's messages and documentation, and in these points what accounts were seen to do: a client order id that was
used before is taken and executed again; market orders take no absolute stops; what opening cost is booked at the close.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import socket
import ssl
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from fxcast.adapters.brokers.ctrader_connection import CTraderBrokerSettings
from fxcast.adapters.brokers.ctrader_messages import ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET
from tests.brokers.ctrader_account import ACCEPTED, CTraderAccount, Json, Refused
from tests.brokers.ctrader_answers import answer, named, spot

_LOG = logging.getLogger(__name__)
_LOG.setLevel(logging.WARNING)  # tests look at what the client logs
CREDENTIALS = {CLIENT_ID: "2001_application", CLIENT_SECRET: "s3cret-of-the-application", ACCESS_TOKEN: "t0ken-of-the-trader"}
RETRY_AFTER_S = 7
NEW_ORDER, AMEND, CLOSE, RECONCILE, DEAL_LIST, ORDER_LIST, TRADER = 2106, 2110, 2111, 2124, 2133, 2175, 2121
_EXECUTION, _ORDER_ERROR, _ERROR, _SPOT, _HEARTBEAT = 2126, 2132, 2142, 2131, 51
_HISTORY = {DEAL_LIST, ORDER_LIST, 2181, 2183}
_TRADING = {NEW_ORDER, AMEND, CLOSE}


class Fault(StrEnum):
    """What goes wrong with a request; `after` it was executed, or before."""

    DROP_BEFORE = "the connection is lost before"
    DROP_AFTER = "the connection is lost after"
    SILENT_BEFORE = "no answer ever, and nothing done"
    SILENT_AFTER = "no answer ever, but done"
    LATE = "no answer, and done when `run_late` is called"
    UNKNOWN_AFTER = "UNKNOWN_ERROR, but done"
    LIMITED = "REQUEST_FREQUENCY_EXCEEDED"
    BLOCKED = "BLOCKED_PAYLOAD_TYPE, with a pause"
    SESSION_OVER = "ACCOUNT_NOT_AUTHORIZED"
    UNNAMED = "the events do not name the request"
    REVERSED = "the events come in the wrong order, and only one of them names the request"
    TWICE = "each event comes twice, among those of others"
    REQUOTE = "nobody deals at the price: accepted, then cancelled"
    REJECTED = "accepted for a look, then rejected by an event"
    BUSY = "POSITION_LOCKED"
    UNFILLED = "accepted, and filled when `run_late` is called"
    GARBAGE = "something that is no message comes first"


@dataclass(kw_only=True)
class _Planned:
    fault: Fault
    payload_type: int
    code: str


class CTraderServer:
    """Serves one account from threads of its own; a context manager, and usable from any process by its `url` and `ca_file`.

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
        self._planned: list[_Planned] = []
        self._late: list[Callable[[], list[Json]]] = []
        self._clients: dict[ServerConnection, set[int]] = {}  # authorised ones, and the symbols they follow
        self._folder = tempfile.TemporaryDirectory(prefix="ctrader-")
        self.ca_file = Path(self._folder.name) / "ca.pem"
        key_file = Path(self._folder.name) / "key.pem"
        _make_certificate(self.ca_file, key_file)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.ca_file, key_file)
        self._server: Server | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Listen; after `stop`, at the port of before."""
        self._server = serve(
            self._serve, "127.0.0.1", self.port, ssl=self._context, ping_interval=None, close_timeout=0.2, logger=_LOG
        )
        self.port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True, name="ctrader-server").start()

    def stop(self) -> None:
        """Be gone from the network; the account stays."""
        assert self._server is not None
        self.drop()
        self._server.shutdown()

    @property
    def url(self) -> str:
        return f"wss://127.0.0.1:{self.port}"

    def settings(self, **changes: Any) -> CTraderBrokerSettings:
        """Return what a client needs, with short waits; the credentials are `CREDENTIALS`, in the environment."""
        ours: Json = {"url": self.url, "ca_file": self.ca_file, "account_id": self.account.account_id, "settle_s": 0}
        ours |= {"history_requests_per_s": 1000}
        waits = {"connect_timeout_s": 10, "request_timeout_s": 10, "order_timeout_s": 10, "quote_timeout_s": 10}
        return CTraderBrokerSettings(**(ours | waits | changes))

    def plan(self, fault: Fault, payload_type: int, code: str = "") -> None:
        """Have something go wrong with the next request of a kind; each plan counts once, in order."""
        with self.lock:
            self._planned.append(_Planned(fault=fault, payload_type=payload_type, code=code))

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
            clients, self._clients = self._clients, {}
        for client in clients:
            _cut(client)

    def count(self, payload_type: int) -> int:
        with self.lock:
            return sum(kind == payload_type for kind, _ in self.seen)

    def _serve(self, client: ServerConnection) -> None:
        self.connects += 1
        is_known = False
        try:
            for text in client:
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
        except (ConnectionClosed, OSError):
            return  # it has left, or was dropped
        finally:
            with self.lock:
                self._clients.pop(client, None)

    def _know(self, client: ServerConnection, payload: Json, client_msg_id: str) -> bool:
        if payload != {"clientId": CREDENTIALS[CLIENT_ID], "clientSecret": CREDENTIALS[CLIENT_SECRET]}:
            self._error(client, "CH_CLIENT_AUTH_FAILURE", client_msg_id)
            return False
        self._send(client, 2101, {}, client_msg_id)
        return True

    def _handle(self, client: ServerConnection, kind: int, payload: Json, client_msg_id: str) -> None:
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
                _cut(client)
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
                client.send("<html>502 Bad Gateway</html>")
                client.send('{"payloadType": "none", "payload": []}')
            case _:
                pass
        try:
            if kind in _TRADING:
                self._trade(client, kind, payload, client_msg_id, fault, code)
            else:
                answer_type, told = self._answer(client, kind, payload)
                if fault is Fault.DROP_AFTER:
                    _cut(client)
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
                _cut(client)
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
        with suppress(ConnectionClosed, OSError):  # it has left
            client.send(json.dumps(message))


def _cut(client: ServerConnection) -> None:
    """Lose a connection without a good-bye; closing the socket alone would not wake who waits for it."""
    with suppress(OSError):
        socket.socket.shutdown(client.socket, socket.SHUT_RDWR)


def put_credentials(environment: Any = os.environ) -> None:
    """Put the credentials that the server knows where clients look for them."""
    for variable, value in CREDENTIALS.items():
        environment[variable] = value


def _make_certificate(certificate_file: Path, key_file: Path) -> None:
    """Make a certificate of this machine's loopback address, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(tz=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
