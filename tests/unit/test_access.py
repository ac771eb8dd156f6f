"""Bearer tokens in front of routes: who passes, what the others are told, and a database that is gone."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from ray import cloudpickle
from ray.serve._private.utils import ensure_serialization_context
from structlog.testing import capture_logs

from fxcast.adapters.clock import ReplayClock
from fxcast.adapters.storage.access_tokens import Scope, create_token, revoke_token, rotate_token
from fxcast.adapters.storage.database import Database, migrate, open_database
from fxcast.errors import Forbidden, Unauthorized, Unavailable
from fxcast.serving.access import ANONYMOUS, Access, AccessControl, LoopbackAccess
from fxcast.serving.bearer import require
from fxcast.serving.problems import answer_errors

NOON = datetime(2024, 3, 4, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
WRONG = "fxc_" + "A" * 43


class Body(BaseModel):
    number: int


class Desk:
    """A database, a clock, and the access control that reads both."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "fx.db"
        self.url = f"sqlite:///{self.file}"
        migrate(self.url)
        self.clock = ReplayClock(NOON)
        self.access = AccessControl(self.url, clock=self.clock.now)

    def change(self, function: Callable[..., Any], **arguments: Any) -> Any:
        database: Database = open_database(self.url)
        result = function(database, now=self.clock.now(), **arguments)
        database.dispose()
        return result

    def create(self, name: str = "engine", scope: Scope = Scope.FORECAST, lifetime: timedelta | None = None) -> str:
        secret: str = self.change(create_token, name=name, scopes=[scope], lifetime=lifetime)
        self.access.refresh()
        return secret

    def pass_time(self, span: timedelta) -> None:
        self.clock.advance_to(self.clock.now() + span)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def app_of(access: Access) -> FastAPI:
    app = FastAPI()
    answer_errors(app)
    forecast = Depends(require(Scope.FORECAST, lambda: access))
    admin = Depends(require(Scope.ADMIN, lambda: access))

    # Defaults and not Annotated: names of this function are out of reach of annotations that are text.
    @app.post("/forecast")
    async def say_forecast(body: Body, caller: str = forecast) -> str:  # pyright: ignore[reportUnusedFunction]  # FastAPI calls it
        return f"{caller} {body.number}"

    @app.get("/admin")
    async def say_admin(caller: str = admin) -> str:  # pyright: ignore[reportUnusedFunction]  # FastAPI calls it
        return caller

    return app


def ask(
    access: Access,
    header: str | None,
    *,
    method: str = "POST",
    path: str = "/forecast",
    json: object = None,
    client_host: str = "127.0.0.1",
) -> httpx.Response:
    async def send() -> httpx.Response:
        headers = {} if header is None else {b"Authorization": header.encode()}
        transport = httpx.ASGITransport(app=app_of(access), client=(client_host, 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            return await client.request(method, path, json={"number": 7} if json is None else json)

    return asyncio.run(send())


def ask_admin(access: Access, header: str | None) -> httpx.Response:
    return ask(access, header, method="GET", path="/admin")


def test_a_token_of_the_scope_passes_and_the_route_learns_its_name(desk: Desk) -> None:
    answer = ask(desk.access, f"Bearer {desk.create()}")

    assert (answer.status_code, answer.json()) == (200, "engine 7")


def test_the_scheme_is_read_in_any_case_and_with_more_spaces(desk: Desk) -> None:
    assert ask(desk.access, f"bEARER   {desk.create()} ").status_code == 200


def test_a_request_without_a_token_is_told_how_to_show_one(desk: Desk) -> None:
    desk.create()
    answer = ask(desk.access, None)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="fxcast"'
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == (
        "Authorization: found nothing; allowed: Bearer TOKEN, with a valid token of python -m jobs.token"
    )


@pytest.mark.parametrize("form", ["Basic {}", "Bearer", "Bearer ", "{}", "Bearer {} {}", "Bearer,{}", ""])
def test_a_header_of_another_form_is_refused_and_not_repeated(desk: Desk, form: str) -> None:
    secret = desk.create()
    answer = ask(desk.access, form.format(secret, secret))

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="fxcast", error="invalid_token"'
    assert "found something else than a bearer token" in answer.json()["detail"]
    assert secret not in answer.text


def test_unknown_expired_and_revoked_tokens_get_the_same_answer(desk: Desk) -> None:
    expired = desk.create("expired", lifetime=HOUR)
    revoked = desk.create("revoked")
    desk.change(revoke_token, name="revoked")
    desk.pass_time(HOUR)
    desk.access.refresh()

    answers = [ask(desk.access, f"Bearer {secret}") for secret in (WRONG, expired, revoked, "é")]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {'Bearer realm="fxcast", error="invalid_token"'}
    assert len({answer.text for answer in answers}) == 1


def test_a_token_expires_without_another_look_at_the_database(desk: Desk) -> None:
    header = f"Bearer {desk.create(lifetime=HOUR)}"
    desk.pass_time(HOUR - SECOND)
    assert ask(desk.access, header).status_code == 200

    desk.pass_time(SECOND)
    assert ask(desk.access, header).status_code == 401


def test_a_token_without_the_scope_is_forbidden_and_told_which_it_lacks(desk: Desk) -> None:
    answer = ask_admin(desk.access, f"Bearer {desk.create()}")

    assert answer.status_code == 403
    assert answer.headers["www-authenticate"] == 'Bearer realm="fxcast", error="insufficient_scope", scope="admin"'
    assert answer.json()["errors"] == [{"field": "scope", "found": "forecast", "allowed": "admin"}]


def test_admin_includes_forecast(desk: Desk) -> None:
    header = f"Bearer {desk.create('boss', Scope.ADMIN)}"

    assert ask_admin(desk.access, header).json() == "boss"
    assert ask(desk.access, header).json() == "boss 7"


def test_after_a_rotation_both_secrets_pass_until_the_overlap_is_over(desk: Desk) -> None:
    old = desk.create()
    new: str = desk.change(rotate_token, name="engine", overlap=HOUR)

    assert ask(desk.access, f"Bearer {old}").status_code == 200  # also before the next reading
    desk.access.refresh()
    assert [ask(desk.access, f"Bearer {secret}").status_code for secret in (old, new)] == [200, 200]
    desk.pass_time(HOUR)
    assert [ask(desk.access, f"Bearer {secret}").status_code for secret in (old, new)] == [401, 200]


def test_who_shows_no_token_learns_nothing_about_the_body(desk: Desk) -> None:
    desk.create()

    assert ask(desk.access, None, json={"number": "seven"}).status_code == 401


def test_before_the_first_reading_nobody_passes_and_all_are_told_to_ask_again(tmp_path: Path) -> None:
    access = AccessControl(f"sqlite:///{tmp_path / 'none.db'}", clock=lambda: NOON)
    with capture_logs() as logs:
        access.refresh()

    for header in (None, f"Bearer {WRONG}"):
        answer = ask(access, header)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (logs[0]["event"], logs[0]["what"], logs[0]["is_known"]) == ("not read", "access tokens", False)
    assert "there is no such file" in logs[0]["problem"]


def test_while_the_database_is_gone_known_tokens_stay_valid_until_they_expire(desk: Desk) -> None:
    lasting, ending = f"Bearer {desk.create()}", f"Bearer {desk.create('short', lifetime=HOUR)}"
    desk.file.rename(desk.file.with_suffix(".away"))

    desk.access.refresh()
    assert [ask(desk.access, header).status_code for header in (lasting, ending)] == [200, 200]

    desk.pass_time(HOUR)
    desk.access.refresh()
    assert [ask(desk.access, header).status_code for header in (lasting, ending)] == [200, 401]
    assert not desk.file.exists()  # reading has not made an empty one

    desk.file.with_suffix(".away").rename(desk.file)
    desk.change(revoke_token, name="engine")
    desk.access.refresh()
    assert ask(desk.access, lasting).status_code == 401


def test_a_file_put_in_the_place_of_the_database_counts_at_the_next_reading(desk: Desk) -> None:
    header = f"Bearer {desk.create()}"
    for part in desk.file.parent.iterdir():
        part.unlink()
    migrate(desk.url)

    desk.access.refresh()

    assert ask(desk.access, header).status_code == 401


def test_a_database_that_is_gone_is_logged_once_a_minute_and_so_is_its_return(desk: Desk) -> None:
    desk.create()
    desk.file.rename(desk.file.with_suffix(".away"))
    with capture_logs() as logs:
        for _ in range(61):
            desk.access.refresh()
            desk.pass_time(2 * SECOND)
        desk.file.with_suffix(".away").rename(desk.file)
        desk.access.refresh()

    assert [(entry["event"], entry["log_level"], entry["failures"]) for entry in logs] == [
        ("not read", "warning", 1),
        ("not read", "warning", 31),
        ("not read", "warning", 61),
        ("read again", "info", 61),
    ]
    assert logs[0]["is_known"]


def test_a_database_without_tokens_is_said_once_to_shut_everybody_out(desk: Desk) -> None:
    with capture_logs() as logs:
        desk.access.refresh()
        desk.access.refresh()

    assert [entry["event"] for entry in logs] == [
        "no access token is valid: every request is refused; make one with python -m jobs.token"
    ]
    assert ask(desk.access, f"Bearer {WRONG}").status_code == 401


@pytest.fixture
def running(desk: Desk) -> Iterator[AccessControl]:
    access = AccessControl(desk.url, clock=desk.clock.now, refresh_s=0.05)
    access.start()
    yield access
    access.close(timeout_s=10.0)


def outcome(access: Access, secret: str) -> object:
    try:
        return access.check(f"Bearer {secret}", Scope.FORECAST, client_host="10.0.0.7")
    except (Unauthorized, Unavailable) as error:
        return type(error)


def wait_for(wanted: object, access: Access, secret: str) -> None:
    deadline = time.monotonic() + 20
    while (found := outcome(access, secret)) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)  # between looks at what another thread reads


def test_the_thread_learns_of_new_and_of_revoked_tokens(desk: Desk, running: AccessControl) -> None:
    secret: str = desk.change(create_token, name="engine", scopes=[Scope.FORECAST])
    wait_for("engine", running, secret)

    desk.change(revoke_token, name="engine")
    wait_for(Unauthorized, running, secret)


def test_the_thread_outlives_a_database_that_comes_late(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'fx.db'}"
    access = AccessControl(url, clock=lambda: NOON, refresh_s=0.05)
    access.start()
    try:
        wait_for(Unavailable, access, WRONG)
        migrate(url)
        wait_for(Unauthorized, access, WRONG)
    finally:
        access.close(timeout_s=10.0)


def test_closing_stops_the_thread(desk: Desk) -> None:
    access = AccessControl(desk.url, clock=desk.clock.now, refresh_s=60.0)
    before = set(threading.enumerate())
    access.start()
    (started,) = set(threading.enumerate()) - before
    access.close(timeout_s=10.0)

    assert not started.is_alive()


def test_closing_what_was_never_started_is_no_error(desk: Desk) -> None:
    desk.access.close(timeout_s=1.0)


def test_a_service_without_tokens_says_so_when_it_starts() -> None:
    with capture_logs() as logs:
        LoopbackAccess()

    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("access is not checked: everybody on this machine may use the API, and nobody else", "warning")
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
def test_without_tokens_everybody_on_this_machine_passes(host: str) -> None:
    access = LoopbackAccess()

    assert ask(access, None, client_host=host).json() == f"{ANONYMOUS} 7"
    assert ask_admin(access, "Basic x").json() == ANONYMOUS


@pytest.mark.parametrize("host", ["192.168.1.7", "::ffff:192.168.1.7", "2001:db8::1", "0.0.0.0", "localhost", ""])  # noqa: S104  # none binds
def test_without_tokens_nobody_else_passes(host: str) -> None:
    answer = ask(LoopbackAccess(), f"Bearer {WRONG}", client_host=host)

    assert answer.status_code == 401
    assert answer.json()["errors"] == [
        {"field": "client", "found": host or "no address", "allowed": "this machine only, while the service has no access tokens"}
    ]


def test_a_request_of_unknown_origin_does_not_pass_without_tokens() -> None:
    with pytest.raises(Unauthorized, match="client: found no address; allowed: this machine only"):
        LoopbackAccess().check(None, Scope.FORECAST, client_host=None)


def test_openapi_shows_the_bearer_scheme_on_what_needs_it(desk: Desk) -> None:
    schema = app_of(desk.access).openapi()

    assert schema["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert schema["paths"]["/forecast"]["post"]["security"] == [{"bearer": []}]
    assert "parameters" not in schema["paths"]["/forecast"]["post"]


def nobody() -> Access:
    return LoopbackAccess()


def test_the_dependency_survives_the_pickling_that_serve_does() -> None:
    app = FastAPI()

    caller_of = Depends(require(Scope.ADMIN, nobody))

    @app.get("/")
    async def say(caller: str = caller_of) -> str:  # pyright: ignore[reportUnusedFunction]  # FastAPI calls it
        return caller

    ensure_serialization_context()  # teaches Ray's pickle Starlette's types, as serve.ingress does
    sent: FastAPI = cloudpickle.loads(cloudpickle.dumps(app))  # pyright: ignore[reportPrivateImportUsage]  # Ray lists no exports
    sent.router.add_api_route("/again", sent.router.routes[-1].endpoint)  # pyright: ignore[reportAttributeAccessIssue]  # an APIRoute

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=sent), base_url="http://test") as client:
            return await client.get("/again")

    answer = asyncio.run(get())
    assert (answer.status_code, answer.json()) == (200, ANONYMOUS)


@pytest.mark.parametrize("kind", [Unauthorized, Forbidden])
def test_refusals_reach_other_processes_whole(kind: type[Unauthorized | Forbidden]) -> None:
    error = pickle.loads(pickle.dumps(kind("scope", "forecast", "admin")))  # noqa: S301  # our own bytes

    assert type(error) is kind
    assert str(error) == "scope: found forecast; allowed: admin"
