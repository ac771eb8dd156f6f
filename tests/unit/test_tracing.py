"""Spans are sent to a collector if one is named, cost nothing if none is, and tell nothing that is secret."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI

from fxcast import tracing
from fxcast.errors import BadSetting, BadSetup
from fxcast.serving.middleware import surround
from jobs.entry import run
from tests.ports import free_port
from tests.trace_collector import SeenSpan, TraceCollector


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process without tracing, before and after."""
    monkeypatch.delenv(tracing.TRACES_VARIABLE, raising=False)
    yield
    tracing.shut_down()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[TraceCollector]:
    with TraceCollector() as collector:
        monkeypatch.setenv(tracing.TRACES_VARIABLE, f"{collector.url}/")
        tracing.configure("fxcast-test")
        yield collector


def sent(collector: TraceCollector) -> dict[str, SeenSpan]:
    tracing.shut_down()
    return {span.name: span for span in collector.spans}


def test_a_span_lies_below_the_one_that_is_open_and_below_one_of_another_process(collector: TraceCollector) -> None:
    with tracing.span("bring candles", "producer", candles=2):
        handed_over = tracing.traceparent()
    assert tracing.traceparent() is None
    with tracing.span("handle candles", "consumer", parent=handed_over, symbols="EURUSD"), tracing.span("send order", "client"):
        pass
    spans = sent(collector)
    assert {span.service for span in spans.values()} == {"fxcast-test"}
    assert len({span.trace_id for span in spans.values()}) == 1
    assert [spans[name].parent_id for name in ("bring candles", "handle candles", "send order")] == [
        "",
        spans["bring candles"].span_id,
        spans["handle candles"].span_id,
    ]
    assert [spans[name].kind for name in ("bring candles", "handle candles", "send order")] == ["producer", "consumer", "client"]
    assert spans["bring candles"].attributes == {"candles": "2"}
    assert spans["handle candles"].attributes == {"symbols": "EURUSD"}


def test_a_moment_of_several_candles_names_what_brought_each(collector: TraceCollector) -> None:
    parents: list[str] = []
    for name in ("EURUSD", "GBPUSD"):
        with tracing.span(name):
            parents.append(tracing.traceparent() or "")
    with tracing.span("handle candles", parent=parents[0], links=[parents[1], "no traceparent"]):
        pass
    spans = sent(collector)
    assert spans["handle candles"].parent_id == spans["EURUSD"].span_id
    assert spans["handle candles"].links == (spans["GBPUSD"].span_id,)


def test_a_traceparent_that_cannot_be_read_begins_a_trace_of_its_own(collector: TraceCollector) -> None:
    with tracing.span("outer"), tracing.span("inner", parent="00-nonsense"):
        pass
    spans = sent(collector)
    assert spans["inner"].parent_id == ""
    assert spans["inner"].trace_id != spans["outer"].trace_id


def test_an_error_is_told_by_its_class_alone_and_passes(collector: TraceCollector) -> None:
    with pytest.raises(ValueError, match="of-a-secret"), tracing.span("send order"):
        raise ValueError("text-of-a-secret")
    span = sent(collector)["send order"]
    assert span.failed == "ValueError"
    assert "text-of-a-secret" not in repr(span)


def test_a_request_of_the_api_lies_below_what_asked_for_it(collector: TraceCollector) -> None:
    app = FastAPI()

    @app.get("/asked")
    async def asked() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]  # FastAPI keeps it
        with tracing.span("within"):
            return {}

    surround(app)

    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            with tracing.span("caller"):
                headers = {tracing.TRACEPARENT: tracing.traceparent() or "", "X-Request-ID": "some-id"}
            assert (await http.get("/asked", headers=headers)).status_code == 200

    asyncio.run(ask())
    spans = sent(collector)
    assert spans["request"].parent_id == spans["caller"].span_id
    assert spans["within"].parent_id == spans["request"].span_id
    about = {"http.request.method": "GET", "url.path": "/asked", "request_id": "some-id"}
    assert (spans["request"].kind, spans["request"].attributes) == ("server", about)


def test_without_a_collector_named_nothing_is_made_and_no_library_loaded() -> None:
    code = """
import sys
from fxcast import tracing
tracing.configure("fxcast-test")
with tracing.span("handle candles", "consumer", symbols="EURUSD") as opened:
    assert opened is None and tracing.traceparent() is None and not tracing.is_on()
assert tracing.span("one") is tracing.span("another", parent="any")
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": "platform"})
    assert done.stdout == "[]\n"


def test_a_collector_that_is_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracing.TRACES_VARIABLE, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    tracing.configure("fxcast-test")
    done: list[int] = []
    for number in range(3000):  # more than may wait
        with tracing.span("handle candles"):
            done.append(number)
    assert len(done) == 3000


@pytest.mark.parametrize("address", ["collector:4318", "ftp://collector", "http://", "http://fxcast:Zq9secret@collector:4318"])
def test_an_address_that_is_none_is_refused_without_showing_a_password(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(tracing.TRACES_VARIABLE, address)
    with pytest.raises(BadSetting, match=r"^FXCAST_TRACES: found .*; allowed: http:// or https://, a host and a port") as refused:
        tracing.configure("fxcast-test")
    assert "Zq9secret" not in str(refused.value)
    assert capsys.readouterr().err == ""


def test_an_exporter_that_is_not_installed_is_asked_for_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(tracing.TRACES_VARIABLE, "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    def begin() -> int:
        tracing.configure("fxcast-test")
        return 0

    with pytest.raises(BadSetup, match=r"is not installed: pip install 'fxcast\[traces\]'"):
        begin()
    assert run(begin) == 2
    assert capsys.readouterr().err.startswith("error: FXCAST_TRACES is set, and ")
