"""Whatever is sent to the page by hand: refused or answered, never a bug, a secret, or a change that was not allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fxcast.adapters.storage.access_tokens import Scope, create_token
from fxcast.adapters.storage.database import Database
from fxcast.web.app import KEY_VARIABLE
from fxcast.web.sessions import CSRF_COOKIE
from tests.integration.filled_database import Rows, rows_of
from tests.web_site import Site

KEY = "the-key-that-signs-sessions"
FAILED = "Something on this page failed"  # what a page says of a bug
GUARDS = (
    "content-security-policy",
    "x-content-type-options",
    "referrer-policy",
    "x-frame-options",
    "cross-origin-opener-policy",
    "cache-control",
)
MARKUP = "<script>alert(1)</script>"
NONSENSE: tuple[Any, ...] = (
    None,
    True,
    0,
    1,
    -1,
    10**30,
    1e308,
    "",
    "demo",
    MARKUP,
    "x" * 5_000,
    "../../etc/passwd",
    "2024-03-04",
    [],
    {},
    [None, {"a": [1]}],
    {"account": "demo"},
    {"account": "nobody", "to": "sideways", "page": 10**30, "version": -1, "signal_id": None},
)
TEXTS = st.text(max_size=20)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.sampled_from(["demo", "EURUSD", "1h", "tiny-2", MARKUP])
)
KEYS = st.sampled_from(["account", "to", "page", "start", "stop", "turn", "steps", "version", "values", "symbol"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(KEYS | TEXTS, inner, max_size=5), max_leaves=8
)
FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@dataclass
class Caller:
    """Somebody with a session, and how they send what a page sends."""

    http: httpx.Client
    csrf: dict[str, str]

    def update(self, body: Any, **more: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self.csrf, **more}
        return self.http.post("/_dash-update-component", content=content, headers=headers)


@dataclass
class Fuzzed:
    """A site with its callers, what nobody may learn, and its callbacks."""

    site: Site
    database: Database
    viewer: Caller
    trader: Caller
    secrets: tuple[str, ...]
    callbacks: list[dict[str, Any]]

    def rows(self) -> Rows:
        return {name: rows for name, rows in rows_of(self.database).items() if name != "access_tokens"}  # says when each was used

    def answered(self, answer: httpx.Response, *, may_fail: bool = False) -> httpx.Response:
        """Fail if an answer shows a bug, a secret or no guard."""
        assert answer.status_code < 500 or answer.status_code in {503, 504}, (answer.status_code, answer.text[:500])
        assert not [name for name in GUARDS if name not in answer.headers]
        for secret in ("Traceback (most recent", *self.secrets):
            assert secret not in answer.text
        assert may_fail or FAILED not in answer.text, answer.text[:500]
        return answer

    def body(self, callback: Mapping[str, Any], values: Any) -> dict[str, Any]:  # values: one after the other
        """Return what a page sends for a callback, but for the values."""

        def given(of: Mapping[str, str]) -> Any:
            if not of["id"].startswith("{"):
                return {"id": of["id"], "property": of["property"], "value": next(values)}
            pattern = json.loads(of["id"])
            named = [
                {key: part if isinstance(each, list) else each for key, each in pattern.items()} for part in ("halted", "newest")
            ]
            return [{"id": id_, "property": of["property"], "value": next(values)} for id_ in named]

        def prop_id(one: Any) -> str:
            first = one[0] if isinstance(one, list) else one
            id_ = first["id"]
            return f"{id_ if isinstance(id_, str) else json.dumps(id_, sort_keys=True, separators=(',', ':'))}.{first['property']}"

        def target(text: str) -> Any:
            id_, _, of = text.rpartition(".")
            if not id_.startswith("{"):
                return {"id": id_, "property": of.partition("@")[0]}
            named = {key: "halted" if isinstance(each, list) else each for key, each in json.loads(id_).items()}
            one = {"id": named, "property": of.partition("@")[0]}
            return [one] if "ALL" in id_ else one

        output = callback["output"]
        outputs = [target(each) for each in output.strip(".").split("...")]
        inputs = [given(of) for of in callback["inputs"]]
        return {
            "output": output,
            "outputs": outputs if output.startswith("..") else outputs[0],
            "inputs": inputs,
            "state": [given(of) for of in callback["state"]],
            "changedPropIds": [prop_id(each) for each in inputs[-1:]],
        }


def signed_in(site: Site, secret: str) -> Caller:
    http = httpx.Client(base_url=site.url, trust_env=False, timeout=60.0)
    assert http.post("/login", data={"token": secret}).status_code == 303
    return Caller(http=http, csrf={"X-CSRFToken": http.cookies[CSRF_COOKIE]})


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_VARIABLE, KEY)
        site = Site(folder=tmp_path_factory.mktemp("fuzzed"), tokens=True)
        database = site.fill()
        tokens = [
            create_token(database, name=scope.value, scopes=[scope], now=datetime.now(UTC)) for scope in (Scope.VIEW, Scope.TRADE)
        ]
        site.start()
    viewer, trader = (signed_in(site, token) for token in tokens)
    every = viewer.http.get("/_dash-dependencies").json()
    callbacks = [each for each in every if not each["clientside_function"]]
    assert len(callbacks) > 20
    yield Fuzzed(site, database, viewer, trader, (*tokens, KEY, site.database_url), callbacks)
    viewer.http.close()
    trader.http.close()
    site.stop()
    database.dispose()


@pytest.fixture(scope="module")
def stranger(fuzzed: Fuzzed) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fuzzed.site.url, trust_env=False, timeout=60.0) as http:
        yield http


@pytest.fixture(autouse=True)
def still_answers(fuzzed: Fuzzed) -> Iterator[None]:
    yield
    assert fuzzed.viewer.http.get("/healthz").json() == {"status": "alive"}
    assert "_dash-config" in fuzzed.viewer.http.get("/").text


def same(value: Any) -> Iterator[Any]:
    while True:
        yield value


def test_every_callback_takes_or_refuses_each_kind_of_nonsense_and_a_viewer_changes_nothing(fuzzed: Fuzzed) -> None:
    before, problems = fuzzed.rows(), list[str]()
    for callback in fuzzed.callbacks:
        for value in NONSENSE:
            try:
                fuzzed.answered(fuzzed.viewer.update(fuzzed.body(callback, same(value))))
            except AssertionError as error:
                problems.append(f"{callback['output'][:100]} <- {value!r:.60}: {str(error)[:300]}")
    assert not problems, "\n".join(problems)
    assert fuzzed.rows() == before


@FEW
@given(data=st.data())
def test_mixed_nonsense_is_taken_or_refused(fuzzed: Fuzzed, data: st.DataObject) -> None:
    callback = data.draw(st.sampled_from(fuzzed.callbacks))
    draw = iter(partial(data.draw, VALUES), object())
    who = data.draw(st.sampled_from([fuzzed.viewer, fuzzed.trader]))
    fuzzed.answered(who.update(fuzzed.body(callback, draw)))


@FEW
@given(data=st.data())
def test_what_has_not_even_the_shape_of_a_request_is_refused(fuzzed: Fuzzed, data: st.DataObject) -> None:
    whole = fuzzed.body(data.draw(st.sampled_from(fuzzed.callbacks)), same(None))
    part = data.draw(st.sampled_from([*whole, None]))
    spoiled = data.draw(VALUES) if part is None else {**whole, part: data.draw(VALUES)}
    answer = fuzzed.answered(fuzzed.trader.update(spoiled))
    assert answer.status_code in {200, 204, 400}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"output": NaN}',
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"output": "\\ud800"}',
        b'{"output": "\\u0000"}',
        b'{"output": "nowhere.children", "inputs": [], "outputs": {"id": "nowhere", "property": "children"}}',
        b'{"output": "live.data"}',
    ],
)
def test_a_malformed_body_is_answered_400_and_told_what_is_wrong(fuzzed: Fuzzed, body: bytes) -> None:
    answer = fuzzed.answered(fuzzed.trader.update(body))
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["allowed"]


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x/\u00ff"]
)
def test_another_content_type_is_refused(fuzzed: Fuzzed, kind: str) -> None:
    body = fuzzed.body(fuzzed.callbacks[0], same(None))
    headers = [
        (b"Content-Type", kind.encode("latin-1")),
        *((name.encode(), value.encode()) for name, value in fuzzed.trader.csrf.items()),
    ]
    answer = fuzzed.trader.http.post("/_dash-update-component", content=json.dumps(body), headers=headers)
    assert fuzzed.answered(answer).status_code == 400


def test_a_body_that_is_too_large_is_refused(fuzzed: Fuzzed) -> None:
    assert fuzzed.answered(fuzzed.trader.update(b" " * 2_000_000)).status_code == 413


@FEW
@given(token=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_without_the_sessions_own_csrf_token_nothing_is_done(fuzzed: Fuzzed, token: str) -> None:
    before = fuzzed.rows()
    callback = next(each for each in fuzzed.callbacks if "risk-said.children" in each["output"])
    asked = {"account": "demo", "to": "halted"}
    body = fuzzed.body(callback, iter([1, None, asked, "by hand"]))
    for more in ({"X-CSRFToken": token}, {"X-CSRFToken": ""}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert fuzzed.answered(fuzzed.trader.update(body, **more)).status_code == 403
    assert fuzzed.answered(fuzzed.viewer.update(body)).status_code == 200, "said in the page: a viewer may not"
    assert fuzzed.rows() == before


@FEW
@given(
    kind=st.sampled_from(["backtest", "search", "walk-forward", "nonsense", ".."]) | TEXTS,
    name=st.sampled_from(
        ["report.html", "../../fxcast.db", "..%2f..%2ffxcast.db", "/etc/passwd", "%00", "a/../../b", "report.html/"]
    )
    | TEXTS,
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"]),
)
def test_no_path_of_reports_leads_elsewhere(fuzzed: Fuzzed, kind: str, name: str, method: str) -> None:
    run = fuzzed.database.connect().exec_driver_sql("SELECT id FROM backtests LIMIT 1").scalar_one()
    path = b"/web/reports/" + "/".join((kind, str(run), name)).encode(errors="replace")
    quoted = "".join(chr(byte) if byte in b"/%.-_" or (chr(byte).isalnum() and byte < 128) else f"%{byte:02x}" for byte in path)
    url = fuzzed.viewer.http.base_url.copy_with(raw_path=quoted.encode())
    answer = fuzzed.answered(fuzzed.viewer.http.request(method, url, headers=fuzzed.viewer.csrf))
    assert "SQLite format" not in answer.text
    assert "root:" not in answer.text


@FEW
@given(
    fields=st.dictionaries(
        st.sampled_from(["token", "next", "x"]) | TEXTS, TEXTS | st.sampled_from([MARKUP, "//evil.example", "\\\\evil"])
    ),
    raw=st.binary(max_size=40),
    query=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
)
def test_odd_fields_of_the_sign_in_let_nobody_in(
    fuzzed: Fuzzed, stranger: httpx.Client, fields: dict[str, str], raw: bytes, query: str
) -> None:
    data = {name.encode(errors="replace").decode(): text.encode(errors="replace").decode() for name, text in fields.items()}
    for answer in (
        stranger.post("/login", data=data),
        stranger.post("/login", content=raw),
        stranger.get("/login", params={"next": query}),
        stranger.get("/login", params={"next": data.get("next", "")}),
    ):
        assert fuzzed.answered(answer).status_code in {200, 401, 403}
        assert MARKUP not in answer.text
        assert "fxcast_session" not in answer.headers.get("set-cookie", "")


@FEW
@given(cookie=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80), raw=st.binary(max_size=30))
def test_odd_cookies_open_nothing(fuzzed: Fuzzed, stranger: httpx.Client, cookie: str, raw: bytes) -> None:
    plain = bytes(byte for byte in raw if byte >= 32 and byte != 127)
    for sent in (
        cookie.encode(),
        b"fxcast_session=" + plain,
        f"fxcast_session={cookie}; {cookie}".encode(),
        b"fxcast_session=null",
    ):
        for path in ("/", "/risk", "/_dash-layout", "/_dash-dependencies", "/events", "/reports/backtest/x/report.html"):
            answer = stranger.get(path, headers=[(b"Cookie", sent.strip())])
            assert fuzzed.answered(answer).status_code == 401
