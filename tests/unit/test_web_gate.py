"""What stands before the page: sessions, roles, requests of other sites, and the headers of every answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from fxcast.adapters.storage.access_tokens import AccessToken, token_hash
from fxcast.errors import Forbidden
from fxcast.web.gate import MAX_FORM_BYTES, Gate
from fxcast.web.roles import Caller, Role, caller, role_of
from fxcast.web.sessions import COOKIE, CSRF_COOKIE, Sessions

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOST = "http://page.test"
HTML = {"Accept": "text/html"}


class Desk:
    """A site behind its gate, with tokens and a clock that tests move."""

    def __init__(self, scopes: Mapping[str, tuple[str, ...]] | None, *, client: str = "10.1.2.3", host: str = HOST) -> None:
        self.now = START
        self.valid = {token_hash(secret): secret for secret in scopes or {}}
        self._scopes = scopes or {}
        self.sessions = Sessions("a key", lifetime=timedelta(hours=1))
        gate = Gate(
            self._site,
            prefix="/web",
            tokens=None if scopes is None else self,
            sessions=self.sessions,
            clock=lambda: self.now,
            sign_in_page=lambda problem, following: f"[{problem}|{following}]",
            policy=lambda: "default-src 'none'",
        )
        transport = httpx.ASGITransport(gate, client=(client, 1))
        self.browser = httpx.AsyncClient(transport=transport, base_url=host)

    def find(self, hashed: str) -> AccessToken | None:
        secret = self.valid.get(hashed)
        if secret is None:
            return None
        return AccessToken(
            name=secret,
            last_four="",
            scopes=self._scopes[secret],
            created_at=START,
            expires_at=None,
            replaced_at=None,
            revoked_at=None,
        )

    async def _site(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        who = caller.get()
        await PlainTextResponse(f"{request.method} {scope['path']} {who.name} {who.role.word}")(scope, receive, send)

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        return asyncio.run(self.browser.request(method, path, **options))  # pyright: ignore[reportArgumentType]

    def sign_in(self, secret: str, **form: str) -> httpx.Response:
        return self.ask("POST", "/web/login", data={"token": secret, **form})

    def csrf(self) -> dict[str, str]:
        return {"X-CSRFToken": self.browser.cookies[CSRF_COOKIE]}


@pytest.fixture
def desk() -> Desk:
    return Desk({"viewer": ("view",), "trader": ("forecast", "trade"), "boss": ("admin",), "engine": ("forecast",)})


def test_who_has_no_session_is_sent_to_the_form_and_a_program_is_refused(desk: Desk) -> None:
    answer = desk.ask("GET", "/web/risk?account=demo", headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, "/web/login?next=/web/risk%3Faccount%3Ddemo")
    refused = desk.ask("POST", "/web/_dash-update-component", json={})
    assert refused.status_code == 401
    assert "sign in with a token of scope view, trade or admin" in refused.json()["detail"]


def test_a_token_opens_a_session_with_its_role_and_goes_where_the_reader_wanted(desk: Desk) -> None:
    answer = desk.sign_in(" trader ", next="/web/risk?account=demo")
    assert (answer.status_code, answer.headers["location"]) == (303, "/web/risk?account=demo")
    cookies = answer.headers.get_list("set-cookie")
    session = next(each for each in cookies if each.startswith(COOKIE))
    assert "HttpOnly" in session
    assert "SameSite=strict" in session
    assert "Path=/web/" in session
    assert "trader" not in session, "the secret is not in the cookie"
    assert desk.ask("GET", "/web/risk").text == "GET /web/risk trader trade"


@pytest.mark.parametrize(
    ("secret", "status", "said"),
    [("nobody", 401, "unknown, expired or revoked"), ("", 401, "unknown, expired or revoked"), ("engine", 403, "is for forecast")],
)
def test_a_token_that_is_not_for_the_page_opens_nothing(desk: Desk, secret: str, status: int, said: str) -> None:
    answer = desk.sign_in(secret)
    assert (answer.status_code, said in answer.text) == (status, True)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "following", ["https://evil.test/web/", "//evil.test/web/", "/web/../../x\\y", "/other", "javascript:alert(1)", ""]
)
def test_signing_in_leads_to_the_page_and_nowhere_else(desk: Desk, following: str) -> None:
    assert desk.sign_in("viewer", next=following).headers["location"] == "/web/"


def test_a_session_ends_with_its_time_its_token_its_key_and_by_signing_out(desk: Desk) -> None:
    desk.sign_in("viewer")
    desk.now = START + timedelta(minutes=59)
    assert desk.ask("GET", "/web/").status_code == 200
    desk.now = START + timedelta(minutes=60)
    assert desk.ask("GET", "/web/", headers=HTML).status_code == 303

    desk.now = START
    del desk.valid[token_hash("viewer")]
    assert desk.ask("GET", "/web/", headers=HTML).status_code == 303, "the token was revoked"
    desk.valid[token_hash("viewer")] = "viewer"
    assert desk.ask("GET", "/web/").status_code == 200

    forged, cookie = Sessions("another key", lifetime=timedelta(hours=1)).open(token_hash("boss"), now=START)
    assert forged.token == token_hash("boss")
    assert desk.sessions.read(cookie, now=START) is None
    assert desk.sessions.read("no.cookie", now=START) is None

    out = desk.ask("POST", "/web/logout", headers=desk.csrf())
    assert out.status_code == 204
    assert desk.ask("GET", "/web/", headers=HTML).status_code == 303


def test_what_changes_something_needs_the_sessions_own_token(desk: Desk) -> None:
    desk.sign_in("viewer")
    for headers in ({}, {"X-CSRFToken": "guessed"}):
        refused = desk.ask("POST", "/web/_dash-update-component", headers=headers)
        assert refused.status_code == 403
        assert "x-csrftoken" in refused.json()["detail"]
    assert desk.ask("POST", "/web/_dash-update-component", headers=desk.csrf()).status_code == 200


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
def test_what_another_site_sends_is_refused_signed_in_or_not(headers: dict[str, str]) -> None:
    for desk in (Desk({"viewer": ("view",)}), Desk(None, client="127.0.0.1", host="http://127.0.0.1:8000")):
        assert desk.ask("POST", "/web/login", data={"token": "viewer"}, headers=headers).status_code == 403


def test_without_tokens_this_machine_may_do_everything_and_nobody_else_anything() -> None:
    here = Desk(None, client="127.0.0.1", host="http://localhost:8000")
    assert here.ask("GET", "/web/").text == "GET /web/ anonymous admin"
    assert here.ask("POST", "/web/_dash-update-component", headers={"Origin": "http://localhost:8000"}).status_code == 200
    assert Desk(None, client="10.1.2.3", host="http://127.0.0.1").ask("GET", "/web/").status_code == 401
    rebound = Desk(None, client="127.0.0.1", host="http://evil.test")
    assert rebound.ask("GET", "/web/").status_code == 401, "a name of theirs that leads here is not this machine's"


def test_every_answer_says_what_a_browser_may_do_with_it(desk: Desk) -> None:
    desk.sign_in("viewer")
    for path in ("/web/", "/web/login"):
        headers = desk.ask("GET", path).headers
        assert headers["content-security-policy"] == "default-src 'none'"
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "same-origin"


def test_a_form_that_is_too_large_is_not_read_and_no_websocket_is_opened(desk: Desk) -> None:
    assert desk.sign_in("x" * MAX_FORM_BYTES).status_code == 403
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    app = desk.browser._transport.app  # pyright: ignore
    asyncio.run(app({"type": "websocket", "path": "/web/_dash-ws-callback", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_roles_include_those_below_and_a_refusal_names_the_one_that_is_needed() -> None:
    assert role_of(["forecast"]) is None
    assert role_of(["forecast", "view", "trade"]) is Role.TRADE
    assert role_of(["admin"]) is Role.ADMIN
    Caller(name="boss", role=Role.ADMIN).require(Role.TRADE)
    with pytest.raises(Forbidden, match="role: found view; allowed: trade"):
        Caller(name="viewer", role=Role.VIEW).require(Role.TRADE)
