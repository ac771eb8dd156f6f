"""A call from its first attempt to its answer: what is sent, for how long, what an answer means, and when to ask again.

The sync and the async client share all of this, and differ in the I/O alone.
"""

from __future__ import annotations

import os
import ssl
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Generic, TypedDict

import httpx
from pydantic import ValidationError
from tenacity import (
    RetryCallState,
    retry_base,
    retry_if_exception_type,
    stop_after_attempt,
    stop_any,
    stop_before_delay,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from fxcast import __version__, tracing
from fxcast.client.questions import Answer, Question
from fxcast.errors import (
    BadRequest,
    BadSetting,
    Conflict,
    Forbidden,
    ForecastLate,
    ForecastUnavailable,
    FxcastError,
    NotFound,
    Unauthorized,
    UnexpectedAnswer,
)
from fxcast.serving.names import REQUEST_ID_HEADER
from fxcast.serving.schemas import Problem

URL_VARIABLE = "FXCAST_URL"
TOKEN_VARIABLE = "FXCAST_TOKEN"  # noqa: S105 - the variable's name

_OK = 200
_CONNECT_TIMEOUT_S = 5.0
_SHOWN = 200  # characters of an answer that is not the API's
_REFUSALS = {401: Unauthorized, 403: Forbidden, 404: NotFound, 413: BadRequest, 422: BadRequest}

# The limit doubles from attempt to attempt; a pause is anything below it, so that callers who failed together spread out.
_growing = wait_random_exponential(multiplier=0.25, max=8.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a client waits; see `ForecastClient`.

    Raises:
        BadSetting: If a time is not above zero, or `retries` below zero.
    """

    timeout_s: float
    attempt_timeout_s: float
    retries: int

    def __post_init__(self) -> None:
        for name, value in (("timeout_s", self.timeout_s), ("attempt_timeout_s", self.attempt_timeout_s)):
            if not 0.0 < value < float("inf"):
                raise BadSetting(f"{name}: found {value:g}; allowed: a finite time above zero")
        if self.retries < 0:
            raise BadSetting(f"retries: found {self.retries}; allowed: zero or more")


class HttpArguments(TypedDict):
    """What both of httpx's clients are made of."""

    base_url: str
    headers: dict[str, str]
    trust_env: bool
    verify: ssl.SSLContext | bool


def http_arguments(base_url: str | None, token: str | None, ssl_context: ssl.SSLContext | None) -> HttpArguments:
    """Return what to make an httpx client of.

    The environment's proxies, .netrc and certificates do not count: the token goes to the base address and nowhere else.

    Raises:
        BadSetting: If there is no address, or the address or the token can't be one.
    """
    url = base_url if base_url is not None else os.environ.get(URL_VARIABLE, "")
    if "@" in url:  # looked for before the address is read, and shown if it can't be
        raise BadSetting("base_url: found a user or password in it; allowed: none, the token is given on its own")
    found = repr(url) if url else f"nothing, and {URL_VARIABLE} is not set"
    allowed = "http:// or https://, a host, and perhaps a path"
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise BadSetting(f"base_url: found {found}; allowed: {allowed}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.query or parsed.fragment:
        raise BadSetting(f"base_url: found {found}; allowed: {allowed}")
    headers = {"Accept": "application/json", "User-Agent": f"fxcast/{__version__}"}
    secret = token if token is not None else os.environ.get(TOKEN_VARIABLE, "")
    if not all("!" <= letter <= "~" for letter in secret):
        raise BadSetting(f"token or {TOKEN_VARIABLE}: found a space or a letter beyond ASCII; allowed: a token of jobs.token")
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    return HttpArguments(base_url=url, headers=headers, trust_env=False, verify=True if ssl_context is None else ssl_context)


class Call(Generic[Answer]):
    """One question on its way.

    Args:
        question: What is asked.
        patience: For how long.
    """

    def __init__(self, question: Question[Answer], patience: Patience) -> None:
        self._question = question
        self._patience = patience
        # One for all attempts: the service's log shows them together, and an attempt that got no answer can be found too.
        self._id = uuid.uuid4().hex
        self._ends = time.monotonic() + patience.timeout_s
        self._attempt_s = patience.attempt_timeout_s
        self._attempt_ends = self._ends

    @property
    def stop(self) -> stop_base:
        """When tenacity gives up: out of attempts, or the next would start too late."""
        return stop_any(stop_after_attempt(self._patience.retries + 1), stop_before_delay(self._patience.timeout_s))

    @property
    def retry(self) -> retry_base:
        """What tenacity asks again after."""
        return retry_if_exception_type(ForecastUnavailable)

    @staticmethod
    def wait(state: RetryCallState) -> float:
        """Return tenacity's pause in seconds: a random one that grows, after whatever the API asks for."""
        error = state.outcome.exception() if state.outcome is not None else None
        asked_s = error.retry_after_s if isinstance(error, ForecastUnavailable) else None
        return (asked_s or 0.0) + _growing(state)

    def start_attempt(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """Start the clock of an attempt, and return what to send."""
        now = time.monotonic()
        self._attempt_s = max(min(self._patience.attempt_timeout_s, self._ends - now), 0.001)
        self._attempt_ends = now + self._attempt_s
        headers = {REQUEST_ID_HEADER: self._id}
        traceparent = tracing.traceparent()  # of the caller's own trace
        if traceparent is not None:
            headers[tracing.TRACEPARENT] = traceparent
        if self._question.content is not None:
            headers["Content-Type"] = "application/json"
        return http.build_request(
            self._question.method,
            self._question.path,
            params=dict(self._question.query),
            content=self._question.content,
            headers=headers,
            timeout=httpx.Timeout(self._attempt_s, connect=min(self._attempt_s, _CONNECT_TIMEOUT_S)),
        )

    def check_time(self) -> None:
        """Check that the attempt still has time, which httpx's limits for silence do not tell of an answer that trickles.

        Raises:
            ForecastLate: If it has none.
        """
        if time.monotonic() > self._attempt_ends:
            raise self._late()

    def lost(self, error: httpx.HTTPError) -> FxcastError:
        """Return what it means that no answer came, or none that HTTP can read."""
        match error:
            case httpx.ConnectTimeout() | httpx.PoolTimeout():
                return ForecastUnavailable(f"no connection in time ({type(error).__name__})", self._id)
            case httpx.TimeoutException():
                return self._late()
            case _:
                words = f"{type(error).__name__}: {error}".removesuffix(": ")
                return ForecastUnavailable(f"the service does not answer ({words})", self._id)

    def read(self, response: httpx.Response, body: bytes) -> Answer:
        """Return the answer.

        Raises:
            FxcastError: If it is a problem, or none of the API's; see `fxcast.client`.
        """
        request_id = response.headers.get(REQUEST_ID_HEADER, self._id)
        if response.status_code != _OK:
            raise _error_of(response, body, request_id)
        try:
            return self._question.read(body)
        except ValueError as error:
            raise UnexpectedAnswer(response.status_code, f"not as the API answers: {_shown(str(error))}", request_id) from error

    def _late(self) -> ForecastLate:
        return ForecastLate(f"no answer within {self._attempt_s:.3g} s", self._id)


def _error_of(response: httpx.Response, body: bytes, request_id: str) -> FxcastError:
    status = response.status_code
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:  # a proxy's answer, or that of something else
        problem = Problem(title="", status=status, detail=_shown(body.decode(errors="replace")) or response.reason_phrase)
    match status:
        case 409:
            return Conflict(problem.detail, request_id)
        case 429 | 503:
            return ForecastUnavailable(problem.detail, request_id, _retry_after_s(response))
        case 504:
            return ForecastLate(problem.detail, request_id, _retry_after_s(response))
        case _ if status in _REFUSALS and problem.errors:
            first, *others = problem.errors
            error = _REFUSALS[status](first.field, first.found, first.allowed, request_id)
            for other in others:
                error.add_note(f"{other.field}: found {other.found}; allowed: {other.allowed}")
            return error
        case _:
            return UnexpectedAnswer(status, problem.detail, request_id)


def _retry_after_s(response: httpx.Response) -> float | None:
    """Return the pause that an answer asks for, in seconds or until a date (RFC 9110, section 10.2.3), if it names one."""
    header: str | None = response.headers.get("Retry-After")
    if header is None:
        return None
    if header.isdecimal():
        return float(header)
    try:
        return max((parsedate_to_datetime(header) - datetime.now(tz=UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):  # no date, or one without a zone
        return None


def _shown(text: str) -> str:
    return " ".join(text.split())[:_SHOWN]
