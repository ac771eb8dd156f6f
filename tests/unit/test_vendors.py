"""Vendors by name: their secrets come from the environment and are shown nowhere; their refusals are read as HTTP says."""

from __future__ import annotations

import logging
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import ValidationError

from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN, TIINGO_TOKEN, read_credential
from fxcast.adapters.feeds.rest import VendorSettings, retry_after_s
from fxcast.adapters.feeds.vendors import VENDORS, open_vendor
from fxcast.errors import BadCredentials, BadSetting
from tests.factories import NOON
from tests.vendors import oanda, tiingo
from tests.vendors.following import SimulatedClock, follow, know_vendors
from tests.vendors.script import MINUTE, AtTick, OnHistory, Wrong, make_script

SECRETS = (oanda.TOKEN, oanda.ACCOUNT, tiingo.TOKEN)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    know_vendors(monkeypatch)


def test_an_unknown_vendor_is_refused_with_those_known() -> None:
    with pytest.raises(BadSetting, match="oanda, tiingo"):
        open_vendor("reuters", VendorSettings())


@pytest.mark.parametrize(("vendor", "variable"), [("oanda", OANDA_TOKEN), ("oanda", OANDA_ACCOUNT), ("tiingo", TIINGO_TOKEN)])
@pytest.mark.parametrize("value", [None, "", "  ", "to ken", "tök\u00e9n", "to\nken"])
def test_a_missing_or_impossible_secret_is_named_by_its_variable(
    vendor: str, variable: str, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    with pytest.raises(BadCredentials, match=variable) as refused:
        open_vendor(vendor, VendorSettings())
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)  # noqa: S301 - our own


@pytest.mark.parametrize("variable", [OANDA_TOKEN, OANDA_ACCOUNT, TIINGO_TOKEN])
def test_a_secret_is_in_neither_its_text_nor_its_pickle(variable: str) -> None:
    credential = read_credential(variable)
    assert credential.reveal() in SECRETS
    assert credential.reveal() not in f"{credential!r} {credential} {credential.secret}"
    pickled = pickle.dumps(credential)
    assert credential.reveal().encode() not in pickled
    assert pickle.loads(pickled).reveal() == credential.reveal()  # noqa: S301 - our own


@pytest.mark.parametrize("vendor", VENDORS)
def test_no_log_holds_a_secret_not_even_at_debug(
    vendor: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    script = make_script(minutes=8)
    faults = [AtTick(wrong=Wrong.DROP, after=MINUTE), OnHistory(wrong=Wrong.BROKEN)]
    server_class = oanda.OandaServer if vendor == "oanda" else tiingo.TiingoServer
    with server_class(script, begin=NOON + 2 * MINUTE, faults=faults, in_step=True) as server:
        asked = open_vendor(vendor, server.settings())
        follow(asked, script, stop=NOON + 7 * MINUTE, clock=SimulatedClock(NOON), server=server)
    printed = capsys.readouterr()
    written = caplog.text + printed.out + printed.err
    assert "feed connected" in written
    assert [secret for secret in SECRETS if secret in written] == []
    assert '"authorization"' not in written, "the message with the token, whose middle websockets cuts out unless told otherwise"


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_proxy_of_the_environment_does_not_count(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "ws_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    script = make_script(minutes=8)
    server_class = oanda.OandaServer if vendor == "oanda" else tiingo.TiingoServer
    with server_class(script, begin=NOON + 2 * MINUTE, in_step=True) as server:
        asked = open_vendor(vendor, server.settings())
        follow(asked, script, stop=NOON + 6 * MINUTE, clock=SimulatedClock(NOON), server=server)
    assert server.seen.connects == 1


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [
        (None, 60),
        ("7", 7),
        ("0.5", 0.5),
        ("-3", 0),
        ("soon", 60),
        ("nan", 60),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:00 -0000", 60),
    ],
)
def test_a_pause_is_read_as_http_says(header: str | None, pause_s: float) -> None:
    assert retry_after_s(header, 60) == pause_s


def test_a_pause_may_be_a_date() -> None:
    assert 3500 < retry_after_s(format_datetime(datetime.now(tz=UTC) + timedelta(hours=1), usegmt=True), 60) <= 3600


@pytest.mark.parametrize(
    "wrong",
    [{"oanda_rest_url": "api.example.com"}, {"tiingo_stream_url": "https://api.example.com/fx"}, {"connect_timeout_s": 0}],
)
def test_an_address_of_another_protocol_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        VendorSettings.model_validate(wrong)
