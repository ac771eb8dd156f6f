"""Tell a person at once, by a webhook as Slack, Mattermost and the like offer."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime

import httpx
import structlog
from pydantic import Field, SecretStr, field_validator
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from tenacity.nap import sleep_using_event

from fxcast import __version__
from fxcast.config import Settings
from fxcast.errors import BadSetting, RateLimited, Unavailable, UnexpectedAnswer
from fxcast.trading.ports import RiskEventKind

log = structlog.get_logger(__name__)

URL_VARIABLE = "FXCAST_ALERT_URL"
KINDS = ("fill", *(kind.value for kind in RiskEventKind))

_TOO_MANY = 429
_RETRIED = {408, 425, _TOO_MANY}  # and everything from 500
_LONGEST_PAUSE_S = 30.0
_growing = wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE_S)


class AlertSettings(Settings):
    """Whom to tell of what. The URL often holds a token: FXCAST_ALERT_URL in the environment comes before the one given here."""

    url: SecretStr | None = Field(default=None, description="where messages are posted; nowhere without it")
    kinds: tuple[str, ...] = Field(
        default=(
            *("fill", "rejection", "halt", "disconnect", "reconciliation", "kill_switch"),
            *("hand_change", "stop_missing", "foreign_position", "margin", "settings"),
        ),
        description=f"what is told of: {', '.join(KINDS)}",
    )
    timeout_s: float = Field(default=5.0, gt=0, description="how long the webhook may be silent")
    tries: int = Field(default=5, ge=1, description="how often a message is posted until it is given up")
    most_waiting: int = Field(default=200, ge=1, description="of more messages that wait, the oldest are dropped")

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is none; allowed: {', '.join(KINDS)}")
        return kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertCounts:
    """What became of messages so far: those that wait are in none of the counts."""

    sent: int = 0
    failed: int = 0  # given up after all tries, or refused
    dropped: int = 0  # too many waited, or it was closed before they were sent


class WebhookAlerts:
    """Implements `trading.ports.Alerts`: posts each message as JSON {"text", "kind", "at", "engine"}, from a thread of its own.

    The first message that fails is logged, and the first that gets through again; all are counted.

    Args:
        engine_id: Which engine the messages are from.

    Raises:
        BadSetting: If the URL is none of HTTP. It is not repeated: it may hold a token.
    """

    def __init__(self, settings: AlertSettings, *, engine_id: str) -> None:
        self._settings = settings
        self._engine_id = engine_id
        self._url = _webhook_url(settings)
        self._waiting: deque[dict[str, str]] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._sent = self._failed = self._dropped = 0
        self._failing = False
        self._thread: threading.Thread | None = None
        if self._url is not None:
            # The transport alone: httpx's client would write every URL, with its token, to the log, and follow redirects elsewhere.
            self._transport = httpx.HTTPTransport()
            self._thread = threading.Thread(target=self._post_all, args=(self._url,), name="alerts", daemon=True)
            self._thread.start()

    @property
    def counts(self) -> AlertCounts:
        """What became of the messages so far."""
        with self._changed:
            return AlertCounts(sent=self._sent, failed=self._failed, dropped=self._dropped)

    def send(self, kind: str, text: str, at: datetime) -> None:
        """Take a message and return at once. A kind that is not asked for is left out, and so is everything without a URL."""
        if self._thread is None or kind not in self._settings.kinds:
            return
        message = {"text": f"[{self._engine_id}] {kind}: {text}", "kind": kind, "at": at.isoformat(), "engine": self._engine_id}
        with self._changed:
            if self._closing.is_set():
                self._dropped += 1
                return
            if len(self._waiting) == self._settings.most_waiting:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(message)
            self._changed.notify()

    def close(self, timeout_s: float = 5.0) -> None:
        """Post what waits, without pauses between tries, and stop; what is not posted in time is dropped, and the log says so."""
        if self._thread is None:
            return
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(timeout_s)
        with self._changed:
            left = len(self._waiting)
            self._waiting.clear()
            self._dropped += left
        if left:
            log.warning("alerts dropped at the end", engine=self._engine_id, dropped=left)

    def _post_all(self, url: httpx.URL) -> None:
        while (message := self._next()) is not None:
            self._post_one(url, message)
        self._transport.close()

    def _next(self) -> dict[str, str] | None:
        """Wait for a message, and return the oldest; None when it is closed and none is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            return self._waiting.popleft() if self._waiting else None

    def _post_one(self, url: httpx.URL, message: dict[str, str]) -> None:
        retrying = Retrying(
            stop=stop_after_attempt(self._settings.tries),
            wait=_pause_s,
            retry=retry_if_exception_type(Unavailable),
            sleep=sleep_using_event(self._closing),
            reraise=True,
        )
        try:
            retrying(self._post, url, message)
        except Exception as error:  # noqa: BLE001  # a bug too is logged and counted: the thread must live for the next message
            self._note_failure(error)
        else:
            self._note_success()

    def _post(self, url: httpx.URL, message: dict[str, str]) -> None:
        """Post once.

        Raises:
            Unavailable: If the webhook does not answer, or says that it can't now.
            UnexpectedAnswer: If it refuses.
        """
        timeout = httpx.Timeout(self._settings.timeout_s).as_dict()
        headers = {"Content-Type": "application/json", "User-Agent": f"fxcast/{__version__}"}
        request = httpx.Request("POST", url, headers=headers, content=json.dumps(message), extensions={"timeout": timeout})
        try:
            response = self._transport.handle_request(request)
        except httpx.TransportError as error:
            raise Unavailable(f"{_shown(url)} does not answer ({type(error).__name__})") from None
        response.close()  # what it says is of no interest
        status = response.status_code
        if status == _TOO_MANY:
            raise RateLimited(_shown(url), _seconds(response.headers.get("Retry-After", "")))
        if status in _RETRIED or response.is_server_error:
            raise Unavailable(f"{_shown(url)} answers {status}")
        if not response.is_success:
            raise UnexpectedAnswer(status, f"{_shown(url)} refuses")

    def _note_failure(self, error: Exception) -> None:
        with self._changed:
            self._failed += 1
            first, self._failing = not self._failing, True
        if first:
            log.warning("alerts fail", engine=self._engine_id, problem=str(error) or type(error).__name__)

    def _note_success(self) -> None:
        with self._changed:
            self._sent += 1
            recovered, self._failing = self._failing, False
        if recovered:
            log.info("alerts arrive again", engine=self._engine_id, failed=self._failed, dropped=self._dropped)


def _webhook_url(settings: AlertSettings) -> httpx.URL | None:
    text = os.environ.get(URL_VARIABLE) or (settings.url.get_secret_value() if settings.url is not None else "")
    if not text:
        return None
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo:
        allowed = "http:// or https://, a host, and perhaps a path and a query"
        raise BadSetting(f"alerts.url or {URL_VARIABLE}: found something else (not shown: it may hold a token); allowed: {allowed}")
    return url


def _shown(url: httpx.URL) -> str:
    """Return what of a URL may be seen: paths and queries hold tokens."""
    return f"{url.scheme}://{url.netloc.decode()}/…"


def _pause_s(state: RetryCallState) -> float:
    """Return the pause before the next try: a random one that grows, after whatever the webhook asks for."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked_s = error.retry_after_s if isinstance(error, RateLimited) else 0.0
    return min(asked_s + _growing(state), _LONGEST_PAUSE_S)


def _seconds(text: str) -> float:
    """Read a Retry-After header, 0 where it is missing or a date."""
    return float(text) if text.isascii() and text.isdigit() else 0.0
