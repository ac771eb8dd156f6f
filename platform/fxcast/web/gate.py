"""What stands before every page: who asks, whether the request is the page's own, and what a browser may load."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from datetime import datetime
from http.cookies import CookieError, SimpleCookie
from typing import Any, Protocol
from urllib.parse import parse_qs, quote, urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fxcast.adapters.storage.access_tokens import AccessToken, token_hash
from fxcast.errors import Forbidden, Unauthorized, Unavailable
from fxcast.serving.problems import problem_of, problem_response
from fxcast.web.roles import EVERYBODY, Caller, caller, role_of
from fxcast.web.sessions import COOKIE, CSRF_COOKIE, CSRF_HEADER, Session, Sessions

MAX_FORM_BYTES = 4096

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_NOBODY = "sign in with a token of scope view, trade or admin"

log = structlog.get_logger(__name__)


class Tokens(Protocol):
    """Where tokens are found; `fxcast.serving.access.AccessControl` is one."""

    def find(self, hashed: str) -> AccessToken | None:
        """Return a token that is valid now, by the `token_hash` of its secret."""
        ...


class Gate:
    """ASGI middleware that lets nobody in without a session, nor a request that another site has made.

    Without tokens there are no sessions: whoever is on this machine may do everything, and nobody else anything.

    Args:
        app: What lies behind.
        prefix: Path of the page, without a slash at its end.
        tokens: Where tokens are found; None to let this machine in.
        sessions: Opens and reads sessions.
        clock: Tells the time, in UTC.
        sign_in_page: Makes the form, from what is wrong and where to go afterwards.
        policy: Returns the content-security policy.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        prefix: str,
        tokens: Tokens | None,
        sessions: Sessions,
        clock: Callable[[], datetime],
        sign_in_page: Callable[[str, str], str],
        policy: Callable[[], str],
    ) -> None:
        self._app = app
        self._prefix = prefix
        self._tokens = tokens
        self._sessions = sessions
        self._clock = clock
        self._sign_in_page = sign_in_page
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # the page opens none, and what comes here asked for no session
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._guard(MutableHeaders(scope=message))
            await send(message)

        try:
            await self._answer(scope, receive, guarded)
        except (Unauthorized, Forbidden, Unavailable) as error:
            await problem_response(problem_of(error))(scope, receive, guarded)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, path = Headers(scope=scope), scope["path"].removeprefix(self._prefix)
        if scope["method"] not in _SAFE:
            _require_own_origin(headers)
        if path == "/healthz" or path.startswith("/static/"):
            await self._app(scope, receive, send)
        elif self._tokens is None:
            _require_this_machine(scope, headers)
            await self._let_in(EVERYBODY, scope, receive, send)
        elif path == "/login":
            await (await self._sign_in(self._tokens, scope, receive))(scope, receive, send)
        elif (found := self._session(self._tokens, headers)) is None:
            await self._turn_away(scope)(scope, receive, send)
        else:
            session, who = found
            if scope["method"] not in _SAFE and not hmac.compare_digest(headers.get(CSRF_HEADER, ""), session.csrf):
                raise Forbidden(CSRF_HEADER, "nothing, or another session's", "the session's own: load the page again")
            if path == "/logout" and scope["method"] == "POST":
                await self._sign_out()(scope, receive, send)
            else:
                await self._let_in(who, scope, receive, send)

    async def _let_in(self, who: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        before = caller.set(who)
        try:
            await self._app(scope, receive, send)
        finally:
            caller.reset(before)

    def _session(self, tokens: Tokens, headers: Headers) -> tuple[Session, Caller] | None:
        session = self._sessions.read(_cookies(headers).get(COOKIE), now=self._clock())
        token = None if session is None else tokens.find(session.token)
        role = None if token is None else role_of(token.scopes)
        if session is None or token is None or role is None:
            return None
        return session, Caller(name=token.name, role=role, csrf=session.csrf)

    def _turn_away(self, scope: Scope) -> Response:
        headers = Headers(scope=scope)
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            wanted = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
            return RedirectResponse(f"{self._prefix}/login?next={quote(wanted, safe='/')}", status_code=303)
        raise Unauthorized("session", "none that is valid", _NOBODY)

    async def _sign_in(self, tokens: Tokens, scope: Scope, receive: Receive) -> Response:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["method"] in _SAFE:
            return _page(self._sign_in_page("", self._own_path(query.get("next"))), 200)
        form = parse_qs(await _read(receive))
        following = self._own_path(form.get("next"))
        hashed = token_hash(form.get("token", [""])[0].strip())
        token = tokens.find(hashed)
        role = None if token is None else role_of(token.scopes)
        if token is None:
            return _page(self._sign_in_page("This token is not valid: it is unknown, expired or revoked.", following), 401)
        if role is None:
            found = f"This token is for {', '.join(token.scopes)}; the page needs one of scope view, trade or admin."
            return _page(self._sign_in_page(found, following), 403)
        now = self._clock()
        session, cookie = self._sessions.open(hashed, now=now)
        log.info("signed in", name=token.name, role=role.word)
        response = RedirectResponse(following, status_code=303)
        secure = scope["scheme"] == "https" or Headers(scope=scope).get("x-forwarded-proto") == "https"
        lasts: dict[str, Any] = {
            "path": f"{self._prefix}/",
            "max_age": int((session.ends_at - now).total_seconds()),
            "secure": secure,
        }
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", **lasts)
        response.set_cookie(CSRF_COOKIE, session.csrf, httponly=False, samesite="strict", **lasts)  # Dash's script reads it
        return response

    def _sign_out(self) -> Response:
        response = Response(status_code=204)
        for name in (COOKIE, CSRF_COOKIE):
            response.delete_cookie(name, path=f"{self._prefix}/", samesite="strict")
        return response

    def _own_path(self, given: list[str] | None) -> str:
        """Return where to go after signing in: a path of the page, whatever a link says."""
        home = f"{self._prefix}/"
        path = given[0] if given else home
        parts = urlsplit(path)
        return path if not parts.scheme and not parts.netloc and path.startswith(home) and "\\" not in path else home

    def _guard(self, headers: MutableHeaders) -> None:
        headers["Content-Security-Policy"] = self._policy()
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "same-origin"  # with none a browser names no origin when a form is sent
        headers["X-Frame-Options"] = "DENY"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        if not headers.get("cache-control"):
            headers["Cache-Control"] = "no-store"


def _page(html: str, status: int) -> Response:
    return Response(html, status_code=status, media_type="text/html")


def _cookies(headers: Headers) -> Mapping[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}


async def _read(receive: Receive) -> str:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
        if len(body) > MAX_FORM_BYTES:
            raise Forbidden("form", f"more than {MAX_FORM_BYTES} bytes", "a token and where to go")
    return body.decode("utf-8", errors="replace")


def _require_own_origin(headers: Headers) -> None:
    """Refuse what another site had a browser send; a program that is no browser says neither of the two."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        raise Forbidden("Origin", origin, f"the page's own, {headers.get('host')}")
    if site not in {None, "same-origin", "none"}:
        raise Forbidden("Sec-Fetch-Site", str(site), "same-origin")


def _require_this_machine(scope: Scope, headers: Headers) -> None:
    """Refuse others, also those whom a name that leads here (DNS rebinding) brings through a browser of this machine."""
    host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    client = (scope.get("client") or ("",))[0]
    if client not in _LOOPBACK or host not in _LOOPBACK:
        found = f"{client or 'no address'} asking for {host or 'no host'}"
        raise Unauthorized("client", found, "this machine only, by 127.0.0.1 or localhost, while there are no tokens")
