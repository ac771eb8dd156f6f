"""Who may use the HTTP API: bearer tokens, known in memory and read from the database by a thread of their own."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

import structlog

from fxcast.adapters.storage.access_tokens import AccessToken, Scope, token_hash, valid_tokens
from fxcast.adapters.storage.database import Database
from fxcast.errors import Forbidden, Unauthorized, Unavailable
from fxcast.serving.snapshot import Snapshot

ANONYMOUS = "anonymous"  # who a caller is where access is not checked

_ALLOWED = "Bearer TOKEN, with a valid token of python -m jobs.token"

log = structlog.get_logger(__name__)


class Access(Protocol):
    """Decides whether a request may pass."""

    def check(self, authorization: str | None, scope: Scope, *, client_host: str | None) -> str:
        """Return the name of the token.

        Args:
            authorization: The request's Authorization header.
            scope: What it wants.
            client_host: The address that it came from.

        Raises:
            Unauthorized: If the header is missing or holds no valid token, or where nobody has one, if it came from elsewhere.
            Forbidden: If the token lacks the scope.
            Unavailable: If the tokens are not known yet.
        """
        ...


class AccessControl:
    """Check tokens against those of a database; a database that is slow or gone delays and fails no request.

    While it does not answer, the tokens that were read last stay valid until they expire. A token that was made or revoked
    counts after `refresh_s` at the latest, and the time of one read.

    Args:
        database_url: Where `access_tokens` is.
        clock: Tells the time, in UTC.
        refresh_s: Pause between two reads.
    """

    def __init__(self, database_url: str, *, clock: Callable[[], datetime], refresh_s: float = 2.0) -> None:
        self._clock = clock
        self._snapshot = Snapshot("access tokens", database_url, self._read, clock=clock, refresh_s=refresh_s)

    def start(self) -> None:
        """Start to read, now and again."""
        self._snapshot.start()

    def refresh(self) -> None:
        """Read the valid tokens now."""
        self._snapshot.refresh()

    def close(self, *, timeout_s: float) -> None:
        """Stop to read; give up after `timeout_s`."""
        self._snapshot.close(timeout_s=timeout_s)

    def read_at(self) -> datetime | None:
        """Return when the tokens were read last; None before the first time."""
        return self._snapshot.read_at

    def check(
        self,
        authorization: str | None,
        scope: Scope,
        *,
        client_host: str | None,  # noqa: ARG002 (Access's signature)
    ) -> str:
        """Return the name of the token; see `Access`.

        A token is found by its SHA-256. How long that takes tells nothing about the stored ones: who does not know a secret can't
        choose which digits of a hash agree.
        """
        self._known()  # before the header is looked at: nobody is told that a token is wrong while none is known
        token = self.find(token_hash(_bearer_token(authorization)))
        if token is None:
            raise Unauthorized("Authorization", "a token that is not valid", _ALLOWED)
        if scope not in token.scopes and Scope.ADMIN not in token.scopes:
            raise Forbidden("scope", ", ".join(token.scopes), scope)
        return token.name

    def find(self, hashed: str) -> AccessToken | None:
        """Return a token that is valid now, by the `token_hash` of its secret.

        Raises:
            Unavailable: If the tokens are not known yet.
        """
        token = self._known().get(hashed)
        return token if token is not None and token.is_valid(self._clock()) else None

    def _known(self) -> Mapping[str, AccessToken]:
        tokens = self._snapshot.value
        if tokens is None:
            raise Unavailable("the access tokens have not been read yet")
        return tokens

    def _read(self, database: Database) -> Mapping[str, AccessToken]:
        tokens = valid_tokens(database, self._clock())
        if self._snapshot.value is None and not tokens:
            log.warning("no access token is valid: every request is refused; make one with python -m jobs.token")
        return tokens


class LoopbackAccess:
    """Let everybody on this machine do everything, and nobody else anything: for a service without tokens.

    A proxy on this machine that does not say for whom it asks (X-Forwarded-For) lets in whom it will.
    """

    def __init__(self) -> None:
        log.warning("access is not checked: everybody on this machine may use the API, and nobody else")

    def check(self, authorization: str | None, scope: Scope, *, client_host: str | None) -> str:  # noqa: ARG002 (Access's signature)
        """Return `ANONYMOUS`; see `Access`."""
        if client_host is None or not _is_loopback(client_host):
            raise Unauthorized("client", client_host or "no address", "this machine only, while the service has no access tokens")
        return ANONYMOUS


def _bearer_token(authorization: str | None) -> str:
    if authorization is None:
        raise Unauthorized("Authorization", "nothing", _ALLOWED)
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or " " in token:
        raise Unauthorized("Authorization", "something else than a bearer token", _ALLOWED)
    return token


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False  # a name, which may mean any address
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # how a socket for both families shows IPv4
    return address.is_loopback
