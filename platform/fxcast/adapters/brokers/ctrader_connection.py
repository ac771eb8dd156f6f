"""A connection to cTrader's Open API: JSON over a TLS websocket, from the handshake until it is lost.

Reading and writing are done by one thread, in asyncio: Python 3.11 does not guard a TLS connection that two threads use at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import structlog
from pydantic import Field
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from fxcast.adapters.brokers.ctrader_messages import (
    ACCESS_TOKEN,
    CLIENT_ID,
    CLIENT_SECRET,
    ERRORS,
    NOT_UNDERSTOOD,
    VENDOR,
    Payload,
    PayloadType,
    PermissionScope,
    error_code,
    member,
    refusal,
)
from fxcast.adapters.feeds.credentials import read_credential
from fxcast.config import Settings
from fxcast.errors import BadCredentials, BadSetting, Disconnected

log = structlog.get_logger(__name__)

_ADDRESSES = {"demo": "wss://demo.ctraderapi.com:5036", "live": "wss://live.ctraderapi.com:5036"}
_MOST_BYTES = 32 * 2**20  # of one message: the list of a broker's symbols is long
_CLOSE_TIMEOUT_S = 0.5  # a server that went silent does not answer a good-bye either
_WITHOUT_ACCOUNT = frozenset({PayloadType.APPLICATION_AUTH_REQ, PayloadType.GET_ACCOUNTS_BY_ACCESS_TOKEN_REQ})
_HISTORY = frozenset(
    {
        PayloadType.DEAL_LIST_REQ,
        PayloadType.ORDER_LIST_REQ,
        PayloadType.ORDER_DETAILS_REQ,
        PayloadType.ORDER_LIST_BY_POSITION_ID_REQ,
    }
)
_ENDED = frozenset(
    {
        PayloadType.CLIENT_DISCONNECT_EVENT,
        PayloadType.ACCOUNT_DISCONNECT_EVENT,
        PayloadType.ACCOUNTS_TOKEN_INVALIDATED_EVENT,
    }
)


class CTraderBrokerSettings(Settings):
    """Which cTrader account is traded, and how long cTrader may take.

    Credentials come from the environment: FXCAST_CTRADER_CLIENT_ID and FXCAST_CTRADER_CLIENT_SECRET of the application, and
    FXCAST_CTRADER_ACCESS_TOKEN, which must allow trading on the account.
    """

    environment: Literal["demo", "live"] = "demo"
    account_id: int | None = Field(default=None, gt=0, description="the account's ctidTraderAccountId, not its login")
    allow_live: bool = Field(default=False, description="live accounts are traded only with this")
    url: str | None = Field(default=None, pattern=r"^wss://[^/]+/?$", description="by default the environment's own")
    ca_file: Path | None = Field(default=None, description="certificates (PEM) of another authority that is trusted instead")
    connect_timeout_s: float = Field(default=10.0, gt=0)
    request_timeout_s: float = Field(default=10.0, gt=0, description="after which a request counts as unanswered")
    order_timeout_s: float = Field(default=10.0, gt=0, description="in which an order is to be filled; later it is asked about")
    quote_timeout_s: float = Field(default=3.0, gt=0, description="that the first price of a symbol is waited for")
    settle_s: float = Field(
        default=10.0,
        ge=0,
        description="after an order was sent without an answer, it takes so long until not to be found means never came",
    )
    heartbeat_s: float = Field(default=10.0, gt=0, description="of our own silence")
    silence_s: float = Field(default=60.0, gt=0, description="of theirs, which ends the connection")
    rate_limit_pause_s: float = Field(default=5.0, gt=0, description="where cTrader asks for a pause without saying how long")
    history_requests_per_s: int = Field(default=5, ge=1, description="cTrader's limit for a connection; it counts others apart")
    order_history_days: int = Field(default=7, ge=1, description="in which an order is looked for")
    first_history_days: int = Field(default=28, ge=1, description="of fills for an engine that knows none yet")


@dataclass(frozen=True, slots=True)
class Message:
    payload_type: int
    payload: Payload
    client_msg_id: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What came after a request, in the order in which it came.

    Attributes:
        client_msg_id: Of the request; an answer repeats it, though not every event that follows from it does.
        problem: Empty if what was waited for came.
    """

    messages: tuple[Message, ...]
    client_msg_id: str
    problem: str


class _Ended(StrEnum):
    TIMED_OUT = "no answer in time"
    LOST = "the connection was lost"


class CTraderConnection:
    """An authenticated session of one account; used from any thread. Once lost, it stays so.

    Args:
        on_spot: Takes each price event, in the reader's thread.

    Raises:
        Disconnected: If no connection comes about.
        BadCredentials: If cTrader does not accept the credentials, or they may not trade.
        BadSetting: If the account is not one of these credentials', or belongs to the other environment.
    """

    def __init__(self, settings: CTraderBrokerSettings, on_spot: Callable[[Payload], None]) -> None:
        if settings.account_id is None:
            raise BadSetting("account_id must be given (the ctidTraderAccountId of the account), found none")
        self.account_id = settings.account_id
        self._settings = settings
        self._on_spot = on_spot
        self._news = threading.Condition()
        self._inboxes: list[list[Message]] = []
        self._lost = False
        self._history: deque[float] = deque(maxlen=settings.history_requests_per_s)
        secrets = {variable: read_credential(variable) for variable in (CLIENT_ID, CLIENT_SECRET, ACCESS_TOKEN)}
        context = _context_of(settings)
        self._heard_s = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._outbox: asyncio.Queue[str | None] = asyncio.Queue()  # None ends the connection
        opened: Future[None] = Future()
        threading.Thread(target=self._live, args=(context, opened), daemon=True, name="ctrader").start()
        opened.result()
        try:
            self.title = self._authenticate({variable: secret.reveal() for variable, secret in secrets.items()})
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        return not self._lost

    def close(self) -> None:
        self._lose("closed")
        self._put(None)

    def ask(self, payload_type: PayloadType, **payload: Any) -> Payload:
        """Ask something that changes nothing, and return the answer.

        Raises:
            Disconnected: If none came; the connection is given up then.
            RateLimited, BadCredentials, BadSetting: As `ctrader_messages.refusal` says.
        """
        heard = self.exchange(
            payload_type,
            payload if payload_type in _WITHOUT_ACCOUNT else {"ctidTraderAccountId": self.account_id, **payload},
            lambda messages, client_msg_id: any(each.client_msg_id == client_msg_id for each in messages),
            timeout_s=self._settings.request_timeout_s,
        )
        if heard.problem:
            self.close()
            raise Disconnected(f"{VENDOR}: {payload_type.name}: {heard.problem}")
        answer = next(each for each in heard.messages if each.client_msg_id == heard.client_msg_id)
        if answer.payload_type in ERRORS:
            raise self.error_of(answer.payload) or Disconnected(
                f"{VENDOR} answered {payload_type.name} with {error_code(answer.payload)}"
            )
        return answer.payload

    def error_of(self, payload: Payload) -> Exception | None:
        """Return what an error means whatever was asked for, None if that depends on it; a session that is over is closed."""
        error = refusal(payload, self._settings.rate_limit_pause_s)
        if isinstance(error, Disconnected):
            self.close()
        return error

    def exchange(
        self,
        payload_type: PayloadType,
        payload: Payload,
        is_complete: Callable[[Sequence[Message], str], bool],
        *,
        timeout_s: float,
    ) -> Heard:
        """Send a request, and gather what comes until it is complete, the time is up or the connection is lost.

        Args:
            is_complete: Judges what came so far, given the request's client_msg_id.

        Raises:
            Disconnected: If the connection was lost before; nothing was sent.
        """
        if payload_type in _HISTORY:
            self._pace_history()
        client_msg_id = uuid4().hex
        text = json.dumps({"clientMsgId": client_msg_id, "payloadType": int(payload_type), "payload": payload}, default=_json)
        inbox: list[Message] = []
        with self._news:
            if self._lost:
                raise Disconnected(f"{VENDOR}: the connection was lost")
            self._inboxes.append(inbox)
        try:
            self._put(text)
            with self._news:
                self._news.wait_for(lambda: self._lost or is_complete(inbox, client_msg_id), timeout_s)
                heard = tuple(inbox)
                problem = "" if is_complete(heard, client_msg_id) else _Ended.LOST if self._lost else _Ended.TIMED_OUT
            return Heard(heard, client_msg_id, problem)
        finally:
            with self._news:
                self._inboxes = [each for each in self._inboxes if each is not inbox]

    def _authenticate(self, secrets: Mapping[str, str]) -> str:
        """Log in, and return what the broker calls the account."""
        self.ask(PayloadType.APPLICATION_AUTH_REQ, clientId=secrets[CLIENT_ID], clientSecret=secrets[CLIENT_SECRET])
        answer = self.ask(PayloadType.GET_ACCOUNTS_BY_ACCESS_TOKEN_REQ, accessToken=secrets[ACCESS_TOKEN])
        try:
            scope = member(PermissionScope, answer.get("permissionScope", PermissionScope.SCOPE_TRADE))
            known = {int(each["ctidTraderAccountId"]): each for each in answer.get("ctidTraderAccount", ())}
        except NOT_UNDERSTOOD as error:
            raise Disconnected(f"{VENDOR}: the list of accounts could not be read ({type(error).__name__})") from None
        if scope is not PermissionScope.SCOPE_TRADE:
            raise BadCredentials(f"{ACCESS_TOKEN} only allows to view, not to trade")
        account = known.get(self.account_id)
        if account is None:
            raise BadSetting(f"account_id: found {self.account_id}; allowed by {ACCESS_TOKEN}: {sorted(known)}")
        environment = "live" if account.get("isLive") is True else "demo"
        if environment != self._settings.environment:
            raise BadSetting(
                f"environment: found {self._settings.environment}, but account {self.account_id} is a {environment} account"
            )
        self.ask(PayloadType.ACCOUNT_AUTH_REQ, accessToken=secrets[ACCESS_TOKEN])
        return " ".join(str(account[name]) for name in ("brokerTitleShort", "traderLogin") if account.get(name))

    def _pace_history(self) -> None:
        """Wait until one more request of the past is allowed: more would be refused, and block the rest."""
        with self._news:
            now = time.monotonic()
            due = self._history[0] + 1.0 if len(self._history) == self._history.maxlen else now
            self._history.append(max(due, now))
        if due > now:
            time.sleep(due - now)  # over its rate a second cTrader refuses, and says nothing when it would not

    def _put(self, text: str | None) -> None:
        """Have a text sent by the connection's thread; whether it arrives shows by what comes back."""
        try:
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, text)
        except RuntimeError:  # the thread has ended: the connection is lost, which is known by then
            assert self._lost

    def _lose(self, problem: str) -> None:
        with self._news:
            if not self._lost:
                log.info("ctrader connection ended", account=self.account_id, problem=problem)
            self._lost = True
            self._news.notify_all()

    def _live(self, context: ssl.SSLContext, opened: Future[None]) -> None:
        """Run the connection from its beginning to its end; the thread's only work."""
        try:
            self._loop.run_until_complete(self._run(context, opened))
        except (WebSocketException, OSError, TimeoutError) as error:
            self._lose(type(error).__name__)
            if not opened.done():
                opened.set_exception(Disconnected(f"{VENDOR}: {type(error).__name__}"))
        finally:
            self._lose("ended")
            self._loop.close()
            if not opened.done():  # whoever waits is not left waiting by a bug
                opened.set_exception(Disconnected(f"{VENDOR}: the connection did not come about"))

    async def _run(self, context: ssl.SSLContext, opened: Future[None]) -> None:
        async with connect(
            address_of(self._settings),
            ssl=context,
            proxy=None,
            open_timeout=self._settings.connect_timeout_s,
            close_timeout=_CLOSE_TIMEOUT_S,
            ping_interval=None,  # cTrader has heartbeats of its own
            max_size=_MOST_BYTES,
            logger=_silent_log(),
        ) as socket:
            opened.set_result(None)
            steps = [asyncio.create_task(step) for step in (self._read(socket), self._write(socket), self._watch(socket))]
            done, rest = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
            self._lose("ended")
            for step in rest:
                step.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            for step in done:
                step.result()

    async def _read(self, socket: ClientConnection) -> None:
        async for text in socket:
            self._heard_s = time.monotonic()
            self._take(text)

    async def _write(self, socket: ClientConnection) -> None:
        """Send what is put, and beat when nothing was for long."""
        beat = json.dumps({"payloadType": int(PayloadType.HEARTBEAT_EVENT), "payload": {}})
        while True:
            try:
                text = await asyncio.wait_for(self._outbox.get(), self._settings.heartbeat_s)
            except TimeoutError:
                text = beat
            if text is None:
                return
            await socket.send(text)

    async def _watch(self, socket: ClientConnection) -> None:
        """End a connection on which nothing has come for too long."""
        while (rest_s := self._heard_s + self._settings.silence_s - time.monotonic()) > 0:
            await asyncio.sleep(rest_s)
        self._lose(f"silent for {self._settings.silence_s:g} s")
        socket.transport.abort()  # nobody would answer a good-bye

    def _take(self, text: str | bytes) -> None:
        try:
            content = json.loads(text, parse_float=Decimal)
            message = Message(int(content["payloadType"]), content.get("payload") or {}, str(content.get("clientMsgId") or ""))
            if message.payload_type == PayloadType.SPOT_EVENT:
                self._on_spot(message.payload)
                return
        except NOT_UNDERSTOOD as error:
            log.warning("message not understood", vendor=VENDOR, problem=type(error).__name__)
            return
        if message.payload_type in _ENDED:
            self._lose(PayloadType(message.payload_type).name)
            self._put(None)
            return
        with self._news:
            for inbox in self._inboxes:
                inbox.append(message)
            self._news.notify_all()


def address_of(settings: CTraderBrokerSettings) -> str:
    return settings.url or _ADDRESSES[settings.environment]


def _context_of(settings: CTraderBrokerSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if settings.ca_file is None else str(settings.ca_file))
    except OSError as error:  # which ssl.SSLError is as well
        raise BadSetting(f"ca_file: {settings.ca_file} can't be read as certificates ({type(error).__name__})") from None


def _silent_log() -> logging.Logger:
    """Return a log that never says what was sent, not even at DEBUG: the first messages hold the credentials."""
    silent = logging.getLogger(f"{__name__}.websocket")
    silent.setLevel(logging.WARNING)
    return silent


def _json(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
