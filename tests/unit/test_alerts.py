"""Messages to people, posted to a real server on loopback."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from fxcast.adapters.alerts import AlertCounts, AlertSettings, WebhookAlerts
from fxcast.errors import BadSetting
from fxcast.trading.ports import Alerts
from tests.waiting import wait_for

NOON = datetime(2024, 3, 4, 12, 0, tzinfo=UTC)
TOKEN = "T0K3N-of-the-webhook"  # noqa: S105 (of no real webhook)


@dataclass
class Webhook:
    """A server that takes messages; it answers with the statuses given, then with 200, and not at all before `open` is set."""

    statuses: list[int] = field(default_factory=list[int])
    bodies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    types: list[str] = field(default_factory=list[str])
    open: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/{TOKEN}?key={TOKEN}"

    @property
    def texts(self) -> list[str]:
        return [body["text"] for body in self.bodies]

    def start(self) -> ThreadingHTTPServer:
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                webhook.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                webhook.types.append(self.headers["Content-Type"])
                webhook.open.wait(60)
                try:
                    self.send_response(webhook.statuses.pop(0) if webhook.statuses else 200)
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                    self.end_headers()
                except OSError:  # who asked has hung up
                    return

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
                del format, args

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server


@pytest.fixture
def webhook() -> Generator[Webhook]:
    webhook = Webhook()
    webhook.open.set()
    server = webhook.start()
    yield webhook
    webhook.open.set()
    server.shutdown()
    server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def alerts_to(url: str, **options: Any) -> WebhookAlerts:
    return WebhookAlerts(AlertSettings(url=SecretStr(url), **options), engine_id="demo")


def test_a_message_arrives_as_json_that_chat_webhooks_read(webhook: Webhook) -> None:
    alerts = alerts_to(webhook.url)
    port: Alerts = alerts

    port.send("fill", "bought 15000 EURUSD at 1.0846 ≈ 1 % risk", NOON)
    alerts.close()

    assert webhook.bodies == [
        {
            "text": "[demo] fill: bought 15000 EURUSD at 1.0846 ≈ 1 % risk",
            "kind": "fill",
            "at": "2024-03-04T12:00:00+00:00",
            "engine": "demo",
        }
    ]
    assert webhook.types == ["application/json"]
    assert alerts.counts == AlertCounts(sent=1)


def test_messages_arrive_in_their_order_and_closing_posts_all_that_wait(webhook: Webhook) -> None:
    alerts = alerts_to(webhook.url)

    for number in range(30):
        alerts.send("halt", f"{number}", NOON)
    alerts.close(60)

    assert webhook.texts == [f"[demo] halt: {number}" for number in range(30)]


def test_only_the_kinds_asked_for_are_told(webhook: Webhook) -> None:
    alerts = alerts_to(webhook.url, kinds=("halt",))

    alerts.send("fill", "bought", NOON)
    alerts.send("halt", "drawdown", NOON)
    alerts.close()

    assert [body["kind"] for body in webhook.bodies] == ["halt"]


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_webhook_that_cannot_now_is_tried_again_until_it_can(webhook: Webhook, status: int) -> None:
    webhook.statuses = [status, status]
    alerts = alerts_to(webhook.url)

    alerts.send("halt", "drawdown", NOON)
    wait_for(lambda: alerts.counts.sent == 1)
    alerts.close()

    assert webhook.texts == ["[demo] halt: drawdown"] * 3
    assert alerts.counts == AlertCounts(sent=1)


@pytest.mark.parametrize("status", [400, 403, 404, 302])
def test_a_refusal_is_not_repeated_nor_sent_elsewhere_and_the_next_message_is_posted(webhook: Webhook, status: int) -> None:
    webhook.statuses = [status]
    alerts = alerts_to(webhook.url)

    alerts.send("halt", "first", NOON)
    alerts.send("halt", "second", NOON)
    alerts.close(60)

    assert webhook.texts == ["[demo] halt: first", "[demo] halt: second"]
    assert alerts.counts == AlertCounts(sent=1, failed=1)


def test_a_webhook_that_fails_to_the_end_is_tried_as_often_as_allowed(webhook: Webhook) -> None:
    webhook.statuses = [500] * 10
    alerts = alerts_to(webhook.url, tries=3)

    alerts.send("halt", "drawdown", NOON)
    wait_for(lambda: alerts.counts.failed == 1)
    alerts.close()

    assert len(webhook.bodies) == 3


def test_a_dead_server_is_told_of_once_in_the_log_and_so_is_its_return() -> None:
    webhook = Webhook(port=free_port())
    webhook.open.set()
    with capture_logs() as logs:
        alerts = alerts_to(webhook.url, tries=2)
        for number in range(3):
            alerts.send("halt", f"{number}", NOON)
        wait_for(lambda: alerts.counts.failed == 3)
        server = webhook.start()
        alerts.send("halt", "back", NOON)
        alerts.send("halt", "still there", NOON)
        alerts.close(60)
        server.shutdown()
        server.server_close()

    assert webhook.texts == ["[demo] halt: back", "[demo] halt: still there"]
    assert alerts.counts == AlertCounts(sent=2, failed=3)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("alerts fail", "warning"), ("alerts arrive again", "info")]
    assert logs[0]["problem"] == f"http://127.0.0.1:{webhook.port}/… does not answer (ConnectError)"
    assert logs[1]["failed"] == 3


def test_a_server_slower_than_the_timeout_counts_as_one_that_does_not_answer(webhook: Webhook) -> None:
    webhook.open.clear()
    with capture_logs() as logs:
        alerts = alerts_to(webhook.url, timeout_s=0.1, tries=2)
        alerts.send("halt", "drawdown", NOON)
        wait_for(lambda: alerts.counts.failed == 1)
        alerts.close()

    assert len(webhook.bodies) == 2
    assert "ReadTimeout" in logs[0]["problem"]


def test_of_too_many_that_wait_the_oldest_are_dropped_and_sending_waits_for_nobody(webhook: Webhook) -> None:
    webhook.open.clear()
    alerts = alerts_to(webhook.url, most_waiting=3, timeout_s=60)
    alerts.send("halt", "on its way", NOON)
    wait_for(lambda: len(webhook.bodies) == 1)

    for number in range(1000):  # would not end if one of them waited for the server
        alerts.send("halt", f"{number}", NOON)

    assert alerts.counts == AlertCounts(dropped=997)
    webhook.open.set()
    alerts.close(60)
    assert webhook.texts == [f"[demo] halt: {text}" for text in ("on its way", "997", "998", "999")]


def test_closing_does_not_wait_for_ever_and_says_what_was_lost(webhook: Webhook) -> None:
    webhook.open.clear()
    alerts = alerts_to(webhook.url, timeout_s=60)
    for number in range(4):
        alerts.send("halt", f"{number}", NOON)
    wait_for(lambda: len(webhook.bodies) == 1)

    with capture_logs() as logs:
        alerts.close(0.1)

    assert alerts.counts.dropped == 3
    assert [(entry["event"], entry["dropped"]) for entry in logs] == [("alerts dropped at the end", 3)]


def test_closing_cuts_the_pauses_between_tries_short() -> None:
    alerts = alerts_to(f"http://127.0.0.1:{free_port()}/", tries=30)  # whose pauses would add up to minutes
    alerts.send("halt", "drawdown", NOON)

    alerts.close(60)

    assert alerts.counts == AlertCounts(failed=1)


def test_a_message_after_closing_is_dropped_without_a_word(webhook: Webhook) -> None:
    alerts = alerts_to(webhook.url)
    alerts.close()

    alerts.send("halt", "too late", NOON)
    alerts.close()

    assert alerts.counts == AlertCounts(dropped=1)
    assert webhook.bodies == []


def test_without_a_url_nothing_is_sent_and_nothing_fails() -> None:
    alerts = WebhookAlerts(AlertSettings(), engine_id="demo")

    alerts.send("halt", "drawdown", NOON)

    alerts.close()
    assert alerts.counts == AlertCounts()


def test_the_url_of_the_environment_comes_first(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXCAST_ALERT_URL", webhook.url)
    alerts = alerts_to(f"http://127.0.0.1:{free_port()}/")

    alerts.send("halt", "drawdown", NOON)
    alerts.close(60)

    assert alerts.counts == AlertCounts(sent=1)


def test_the_token_in_the_url_is_in_no_log_and_in_no_settings_that_are_shown(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    webhook.statuses = [500, 200, 404]
    settings = AlertSettings(url=SecretStr(webhook.url))
    with capture_logs() as logs:
        alerts = WebhookAlerts(settings, engine_id="demo")
        alerts.send("halt", "drawdown", NOON)
        wait_for(lambda: alerts.counts.sent == 1)
        alerts.send("halt", "again", NOON)
        alerts.close(60)

    assert alerts.counts == AlertCounts(sent=1, failed=1)
    assert TOKEN not in f"{logs} {caplog.text} {settings!r} {settings.model_dump_json()}"


@pytest.mark.parametrize("url", ["hooks.slack.com/", "ftp://host/", "https:///", "http://host:port/", "https://me:pass@host/"])
def test_a_url_that_is_none_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(BadSetting, match=r"alerts\.url or FXCAST_ALERT_URL: found something else") as refusal:
        alerts_to(url + TOKEN)

    assert TOKEN not in str(refusal.value)


def test_an_unknown_kind_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValidationError, match=r"'fils' is none; allowed: fill, kill_switch, halt"):
        AlertSettings(kinds=("fils",))
