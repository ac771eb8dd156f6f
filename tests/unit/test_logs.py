"""One line an event: readable or JSON, with the ids that are bound, and never with a secret."""

from __future__ import annotations

import json
import logging
import string
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.contextvars import bound_contextvars

from fxcast import logs
from fxcast.errors import BadSetting
from jobs.entry import REFUSED, run

_PASSWORDS = st.text(st.sampled_from(string.ascii_letters + string.digits + "-_.+!*()"), min_size=8, max_size=30)


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has not set up logging; what was set up before comes back."""
    for variable in (logs.FORMAT_VARIABLE, logs.LEVEL_VARIABLE, "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(variable, raising=False)
    root = logging.getLogger()
    known, handlers, level = structlog.get_config() if structlog.is_configured() else None, root.handlers, root.level
    structlog.reset_defaults()
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    if known is not None:
        structlog.configure(**known)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    said = capsys.readouterr()
    assert said.out == "", "the standard output is the command's own"
    return [json.loads(line) for line in said.err.splitlines()]


def test_a_line_of_json_says_when_who_what_and_the_ids_that_are_bound(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    with bound_contextvars(account="demo", moment="2026-01-05T10:00:00+00:00"):
        structlog.get_logger("fxcast.trading.runner").info("order sent", client_order_id="EURUSD-20260105T1000-open")
    (line,) = lines(capsys)
    assert list(line)[:4] == ["timestamp", "level", "logger", "event"]
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo == UTC
    assert line == {
        "level": "info",
        "logger": "fxcast.trading.runner",
        "event": "order sent",
        "account": "demo",
        "moment": "2026-01-05T10:00:00+00:00",
        "client_order_id": "EURUSD-20260105T1000-open",
    }


def test_a_person_reads_text_unless_the_process_is_a_submitted_job(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.configure()
    structlog.get_logger("a").info("order sent", units="1000")
    text = capsys.readouterr().err
    assert "order sent" in text
    assert "units=1000" in text
    assert not text.startswith("{")
    structlog.reset_defaults()
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    logs.configure()
    structlog.get_logger("a").info("order sent")
    assert [line["event"] for line in lines(capsys)] == ["order sent"]


def test_the_environment_chooses_format_and_level(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.FORMAT_VARIABLE, "json")
    monkeypatch.setenv(logs.LEVEL_VARIABLE, "WARNING")
    logs.configure()
    structlog.get_logger("a").info("not said")
    structlog.get_logger("a").warning("said")
    assert [line["event"] for line in lines(capsys)] == ["said"]


@pytest.mark.parametrize(
    ("variable", "allowed"), [(logs.FORMAT_VARIABLE, "text, json"), (logs.LEVEL_VARIABLE, "debug, info, warning, error, critical")]
)
def test_a_format_or_level_that_is_none_is_refused_with_a_sentence(
    variable: str, allowed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "loud")
    with pytest.raises(BadSetting, match=rf"^{variable}: found 'loud'; allowed: {allowed}$"):
        logs.configure()
    assert run(lambda: 0) == REFUSED
    assert f"error: {variable}: found 'loud'" in capsys.readouterr().err


def test_libraries_are_heard_from_warnings_on_in_the_same_format(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    library = logging.getLogger("some.library")
    library.info("GET https://host/accounts/1")
    library.warning("the pool is full: %d of %d", 10, 10)
    (line,) = lines(capsys)
    assert (line["logger"], line["level"], line["event"]) == ("some.library", "warning", "the pool is full: 10 of 10")


def test_a_process_is_set_up_once_but_an_actor_whatever_ran_there_before(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # as a task with a backtest
    logs.configure()
    structlog.get_logger("a").info("not said")
    assert capsys.readouterr().err == ""
    logs.configure_actor()
    structlog.get_logger("a").info("said")
    assert [line["event"] for line in lines(capsys)] == ["said"]


def test_a_backtest_can_be_quietened_after_a_logger_was_used(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    log = structlog.get_logger("a")
    log.info("said")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    log.info("not said")
    assert [line["event"] for line in lines(capsys)] == ["said"]


def test_a_traceback_shows_no_variables(capsys: pytest.CaptureFixture[str]) -> None:
    for default in ("text", "json"):
        structlog.reset_defaults()
        logs.configure(default)
        local_only = "".join(["kept", "-local"])
        try:
            raise ValueError("wrong")
        except ValueError:
            structlog.get_logger("a").exception("failed")
        said = capsys.readouterr().err
        assert "ValueError: wrong" in said
        assert local_only not in said


@given(password=_PASSWORDS)
def test_no_secret_of_the_environment_is_logged_wherever_it_stands(password: str) -> None:
    password = f"Zq9{password}"  # no word of the lines themselves
    url = f"postgresql+psycopg://fxcast:{password}@db:5432/fxcast"
    for name, value in (
        ("FXCAST_OANDA_TOKEN", password),
        ("FXCAST_CTRADER_CLIENT_SECRET", password),
        ("FXCAST_ALERT_URL", f"https://hooks.example/{password}"),
        ("FXCAST_DATABASE_URL", url),
        ("FXCAST_METRICS_DATABASE_URL", url),
        ("FXCAST_WEB_KEY", password),
        ("AWS_SECRET_ACCESS_KEY", password),
        ("AWS_ACCESS_KEY_ID", password),
        ("RAY_AUTH_TOKEN", password),
    ):
        scrub = logs.scrubber({name: value})
        event = {
            "event": f"failed with {value}",
            "problem": ValueError(f"{value!r} refused"),
            "nested": {"list": [f"x{value}y", {"deep": value}], value: 1},
            "exception": f"Traceback\n  {value}",
        }
        shown = str(logs.without_secrets(scrub)(None, "info", event))
        assert password not in shown, name
        assert logs.REMOVED in shown


@given(password=_PASSWORDS, user=st.sampled_from(["", "fxcast"]))
def test_what_is_secret_by_its_place_is_not_logged_though_no_variable_holds_it(password: str, user: str) -> None:
    password = f"Zq9{password}"
    event = {
        "event": f"can't open postgresql://{user}:{password}@db/fxcast",
        "token": password,
        "access_token": password,
        "headers": {"Authorization": f"Bearer {password}", "Accept": "text/html"},
        "password": password,
        "redis_password": 123456789,
        "said": f"Authorization: Bearer {password}",
    }
    shown = str(logs.without_secrets(logs.scrubber({}))(None, "info", event))
    assert "Zq9" not in shown
    assert "123456789" not in shown
    assert "text/html" in shown


def test_what_is_no_secret_stays_as_it_is() -> None:
    event = {
        "event": "candles published",
        "url": "http://127.0.0.1:8000/v1/forecast?at=12:00",
        "tokens_read": 5,
        "token": "",
        "units": 1000,
        "reasons": ("late", None, True, 0.5),
    }
    shown = logs.without_secrets(logs.scrubber({"FXCAST_TOKEN": "a", "FXCAST_HOME": "candles"}))(None, "info", dict(event))
    assert shown == {**event, "reasons": ["late", None, True, 0.5]}


def test_a_secret_in_what_a_library_logs_is_removed_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FXCAST_TIINGO_TOKEN", "Zq9-secret-of-tiingo")
    for default in ("text", "json"):
        structlog.reset_defaults()
        logs.configure(default)
        logging.getLogger("websockets").warning("GET /?token=%s from %s", "Zq9-secret-of-tiingo", tmp_path)
        try:
            raise ValueError("Zq9-secret-of-tiingo")
        except ValueError:
            logging.getLogger("websockets").exception("failed")
        said = capsys.readouterr().err
        assert str(tmp_path) in said
        assert "Zq9" not in said
