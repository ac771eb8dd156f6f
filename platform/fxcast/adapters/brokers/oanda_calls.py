"""Calls of OANDA's v20 interface: what was answered, and what it means when nothing was.

Source: developer.oanda.com, v20 REST API.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from fxcast import tracing
from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN, Credential
from fxcast.adapters.feeds.rest import NOT_UNDERSTOOD, Refusal, lost
from fxcast.errors import OutcomeUnknown

AnswerT = TypeVar("AnswerT")

_NAME = "oanda"
_OK, _NOT_FOUND, _TIMED_OUT, _SERVER_ERROR = 200, 404, 408, 500
_DID_NOTHING = (401, 403, 429)
_UNREADABLE = (*NOT_UNDERSTOOD, ArithmeticError)  # the last one: a number that is none


class OandaCalls:
    """One account's calls, each made once: the runner is who tries again.

    No error holds an address, a header or what caused it: there are the token and the account.

    Args:
        url: Of the REST host.
        rate_limit_pause_s: The pause after a 429 that names none.
    """

    def __init__(
        self,
        url: str,
        account_id: str,
        token: Credential,
        *,
        connect_timeout_s: float,
        request_timeout_s: float,
        rate_limit_pause_s: float,
    ) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs every address, and those hold the account
        self._base = f"{url}/v3/accounts/{quote(account_id, safe='')}"
        self._refusal = Refusal(_NAME, (OANDA_TOKEN, OANDA_ACCOUNT), naming=("instrument",), pause_s=rate_limit_pause_s)
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {token.reveal()}", "Accept-Datetime-Format": "RFC3339"},
            timeout=httpx.Timeout(request_timeout_s, connect=connect_timeout_s),
            trust_env=False,
            verify=httpx.create_ssl_context(trust_env=False),
        )

    def close(self) -> None:
        self._client.close()

    def read(
        self,
        path: str,
        parse: Callable[[Any], AnswerT],
        parameters: Mapping[str, str] | None = None,
        symbols: Sequence[str] = (),
    ) -> AnswerT:
        """Return what a page of the account says.

        Args:
            symbols: What is asked about, to be named where the broker does not know one.

        Raises:
            Disconnected: If nothing came that can be read.
            BadCredentials, BadSetting, RateLimited: As `Refusal.of` says.
        """
        response = self._get(path, parameters)
        if response.status_code != _OK:
            raise self._refusal.of(response.status_code, response.headers, response.text, symbols)
        return _understood(response, parse)

    def read_if_there(self, path: str, parse: Callable[[Any], AnswerT]) -> AnswerT | None:
        """Return what a page says, None if the broker itself (not something on the way) says that there is none."""
        response = self._get(path, None)
        if response.status_code == _NOT_FOUND and _understood(response, _is_explained):
            return None
        if response.status_code != _OK:
            raise self._refusal.of(response.status_code, response.headers, response.text, ())
        return _understood(response, parse)

    def command(self, method: str, path: str, body: object, parse: Callable[[int, Any], AnswerT]) -> AnswerT:
        """Ask for something to be done.

        Args:
            body: To be sent as JSON.
            parse: Reads the status and the JSON of an answer, a refusal included.

        Raises:
            Disconnected: If the request never left.
            BadCredentials, RateLimited: If nothing was done.
            OutcomeUnknown: In any other case without an answer that can be read.
        """
        try:
            with _span(method, path):
                response = self._client.request(method, f"{self._base}/{path}", json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise lost(_NAME, error) from None
        except httpx.HTTPError as error:
            raise OutcomeUnknown(f"{_NAME}: {type(error).__name__} while an answer was awaited") from None
        code = response.status_code
        if code in _DID_NOTHING:
            raise self._refusal.of(code, response.headers, response.text, ())
        if code >= _SERVER_ERROR or code == _TIMED_OUT or response.is_redirect:
            raise OutcomeUnknown(f"{_NAME} answered {code}")
        try:
            return parse(code, response.json())
        except _UNREADABLE as error:
            raise OutcomeUnknown(f"{_NAME} answered {code}, but unreadably: {type(error).__name__}") from None

    def _get(self, path: str, parameters: Mapping[str, str] | None) -> httpx.Response:
        try:
            with _span("GET", path):
                return self._client.get(f"{self._base}/{path}", params=parameters)
        except httpx.HTTPError as error:
            raise lost(_NAME, error) from None


def specifier(client_id: str) -> str:
    """Return how an address names an order or a trade by the client's id."""
    return quote(f"@{client_id}", safe="@")


def _span(method: str, path: str) -> AbstractContextManager[None]:
    """Measure a call. Its `traceparent` is not sent: a broker that knows our traces would be of no use to us."""
    return tracing.span(f"{_NAME} {method} {path.partition('/')[0]}", "client", http__request__method=method)


def _understood(response: httpx.Response, parse: Callable[[Any], AnswerT]) -> AnswerT:
    try:
        return parse(response.json())
    except _UNREADABLE as error:
        raise lost(_NAME, error) from None


def _is_explained(answer: Mapping[str, Any]) -> bool:
    return bool(answer["errorMessage"])
