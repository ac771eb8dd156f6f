"""The download job against a vendor's interface on loopback: complete, resumable, patient, and honest about credentials."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN
from fxcast.adapters.feeds.download import FetchedPeriods, chunks, closed_until, download
from fxcast.adapters.feeds.vendors import open_vendor
from fxcast.cluster.local import REPOSITORY
from fxcast.data.store import AppendResult, CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.domain.market import PriceSide, without_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetup, Disconnected
from jobs import download as job
from tests.factories import NOON
from tests.vendors import oanda
from tests.vendors.following import SimulatedClock, know_vendors
from tests.vendors.oanda import OandaServer
from tests.vendors.script import MINUTE, Fault, OnHistory, Wrong, make_script
from tests.vendors.server import RETRY_AFTER_S

MINUTES = Timeframe("1m")
SCRIPT = make_script(minutes=30)
END = NOON + 30 * MINUTE


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    know_vendors(monkeypatch)


@pytest.fixture
def server() -> Iterator[OandaServer]:
    with OandaServer(SCRIPT, begin=END) as server:
        yield server


def options(server: OandaServer, folder: Path, *more: str, symbols: Sequence[str] = SCRIPT.symbols) -> list[str]:
    given = {
        "provider": "oanda",
        "symbols": json.dumps(symbols),
        "timeframe": "1m",
        "start": NOON.isoformat(),
        "stop": END.isoformat(),
        "store": str(folder / "store"),
        "records": str(folder / "records"),
        "chunk-candles": "4",
        "vendor.oanda-rest-url": server.url,
    }
    return [text for name, value in given.items() for text in (f"--{name}", value)] + list(more)


def assert_complete(folder: Path) -> None:
    store = CandleStore(folder / "store")
    for symbol in SCRIPT.symbols:
        found, expected = store.read_market(symbol, MINUTES), SCRIPT.candles(symbol, END)
        assert found.open_times.tolist() == [candle.open_time.replace(tzinfo=None) for candle in expected]
        np.testing.assert_allclose(found.candles.values[:, :4], [candle.mid for candle in expected], rtol=1e-9)
        assert found.detail("bid_close").tolist() == [candle.bid[3] for candle in expected]
        assert found.detail("tick_volume").tolist() == [candle.quotes for candle in expected]


def test_period_is_brought_into_the_store_and_a_second_run_asks_for_nothing(
    server: OandaServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.main(options(server, tmp_path)) == 0
    assert_complete(tmp_path)
    count = {symbol: len(SCRIPT.candles(symbol, END)) for symbol in SCRIPT.symbols}
    output = capsys.readouterr().out
    for symbol in SCRIPT.symbols:
        assert f"{symbol} 1m: {count[symbol]} candles added, 0 already there" in output
    asked = server.seen.history_requests
    assert asked == 16, "30 minutes of two symbols, four at a time"
    assert job.main(options(server, tmp_path)) == 0
    assert server.seen.history_requests == asked
    longer = options(server, tmp_path, "--start", (NOON - 4 * MINUTE).isoformat())
    assert job.main(longer) == 0
    assert server.seen.history_requests == asked + 2, "only what is missing"


def test_store_that_was_emptied_is_filled_again_and_one_of_other_candles_keeps_them(
    server: OandaServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.main(options(server, tmp_path, symbols=["EURUSD", "EURUSD"])) == 0
    (tmp_path / "store").rename(tmp_path / "kept")
    assert job.main(options(server, tmp_path, symbols=["EURUSD", "EURUSD"])) == 0
    assert CandleStore(tmp_path / "store").read("EURUSD", MINUTES).values.tolist() == (
        CandleStore(tmp_path / "kept").read("EURUSD", MINUTES).values.tolist()
    )
    other = tmp_path / "other"
    candle = CandleStore(tmp_path / "kept").read("EURUSD", MINUTES).slice(2, 3)
    dearer = CandleSeries(symbol="EURUSD", timeframe=MINUTES, open_times=candle.open_times, values=candle.values * 1.5)
    CandleStore(other / "store").append(without_details(dearer, PriceSide.MID))
    capsys.readouterr()
    assert job.main(options(server, other, symbols=["EURUSD", "EURUSD"])) == 0
    assert "1 differ from stored candles, which stay; at 2017-03-07 12:02" in capsys.readouterr().out


def test_run_that_is_killed_goes_on_where_it_was_and_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    # The sixth request is told to wait for seven seconds: long enough to be killed in.
    with OandaServer(SCRIPT, begin=END, faults=[OnHistory(wrong=Wrong.LIMITED, numbers=(6,))]) as server:
        killed = subprocess.Popen(
            [sys.executable, "-m", "jobs.download", *options(server, tmp_path)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": "platform", OANDA_TOKEN: oanda.TOKEN, OANDA_ACCOUNT: oanda.ACCOUNT},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while server.seen.history_requests < 6:
            assert time.monotonic() < deadline
            assert killed.poll() is None
            time.sleep(0.01)  # between looks at another process
        killed.kill()
        killed.wait(60)
        assert job.main(options(server, tmp_path)) == 0
        assert server.seen.history_requests == 6 + 16 - 5, "five chunks were fetched and recorded"
    assert_complete(tmp_path)


def bring(folder: Path, faults: Sequence[Fault], *, tries: int = 8, now: datetime = END + timedelta(days=1)) -> list[float]:
    """Download EURUSD in chunks of four candles; return the pauses."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    async def run(server: OandaServer) -> list[AppendResult]:
        fetched = FetchedPeriods(folder / "record.json", "here")
        wanted = [(chunk, fetched) for chunk in chunks(fetched, "EURUSD", MINUTES, NOON, END, 4)]
        vendor, store = open_vendor("oanda", server.settings()), CandleStore(folder / "store")
        steps = download(vendor, store, wanted, MINUTES, now=lambda: now, tries=tries, sleep=sleep)
        return [brought.result async for brought in steps]

    with OandaServer(SCRIPT, begin=END, faults=faults) as server:
        results = asyncio.run(run(server))
    stop = min(END, now - 10 * MINUTE)
    assert sum(result.added for result in results) == sum(candle.open_time < stop for candle in SCRIPT.candles("EURUSD", END))
    return slept


def test_pause_that_the_vendor_asks_for_is_kept_and_errors_are_tried_again(tmp_path: Path) -> None:
    slept = bring(tmp_path, [OnHistory(wrong=Wrong.LIMITED, numbers=(2,)), OnHistory(wrong=Wrong.BROKEN, numbers=(5, 6))])
    assert len(slept) == 3
    assert RETRY_AFTER_S <= slept[0] <= RETRY_AFTER_S + 1.0
    assert all(0.0 <= pause <= 2.0 for pause in slept[1:])


def test_vendor_that_does_not_answer_ends_the_run_after_the_stated_tries_and_nothing_is_lost(tmp_path: Path) -> None:
    with pytest.raises(Disconnected, match="oanda answered 500"):
        bring(tmp_path, [OnHistory(wrong=Wrong.BROKEN, numbers=(3, 4, 5))], tries=3)
    fetched = FetchedPeriods(tmp_path / "record.json", "here")
    assert fetched.missing(NOON, END) == [(NOON + 8 * MINUTE, END)]
    assert len(CandleStore(tmp_path / "store").read("EURUSD", MINUTES)) == 8


def test_candles_that_may_still_change_are_neither_stored_nor_recorded(tmp_path: Path) -> None:
    bring(tmp_path, [], now=END)
    assert FetchedPeriods(tmp_path / "record.json", "here").missing(NOON, END) == [(END - 10 * MINUTE, END)]
    assert CandleStore(tmp_path / "store").read("EURUSD", MINUTES).close_times[-1] <= to_datetime64(END - 10 * MINUTE)


def test_run_up_to_now_leaves_what_may_still_change_and_says_so(
    server: OandaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "SystemClock", lambda: SimulatedClock(END))
    assert job.main(options(server, tmp_path)) == 0
    for symbol in SCRIPT.symbols:
        assert CandleStore(tmp_path / "store").read(symbol, MINUTES).close_times[-1] == to_datetime64(END - 10 * MINUTE)
    said = "fetched: candles that open before 2017-03-07 12:20 UTC; what is younger has not settled yet"
    assert said in capsys.readouterr().out


def test_open_days_without_a_candle_are_named_and_asked_for_again(
    server: OandaServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # From Friday noon over the weekend to Wednesday: the server's script begins on Tuesday at noon.
    start, friday_close, monday = NOON - timedelta(days=4), NOON - timedelta(days=3, hours=14), NOON - timedelta(days=1, hours=14)
    period = ("--start", start.isoformat(), "--stop", END.isoformat(), "--chunk-candles", "120")
    assert job.main(options(server, tmp_path, *period, symbols=["EURUSD"])) == 0
    asked = server.seen.history_requests
    assert asked == 4 * 12 + 1
    named = [line for line in capsys.readouterr().out.splitlines() if "nothing came of" in line]
    assert [line.split("nothing came of ")[1].split(", ")[0] for line in named] == [
        f"{start:%Y-%m-%d %H:%M} UTC to {friday_close:%Y-%m-%d %H:%M} UTC",
        f"{monday:%Y-%m-%d %H:%M} UTC to {NOON:%Y-%m-%d %H:%M} UTC",
    ]
    assert named[0].endswith("though the market was open; the next run asks again")
    assert job.main(options(server, tmp_path, *period, symbols=["EURUSD"])) == 0
    assert server.seen.history_requests == asked + (friday_close - start + NOON - monday) // (120 * MINUTE)


def test_candle_under_way_is_not_asked_for() -> None:
    now = datetime(2024, 3, 6, 13, 59, 59, tzinfo=UTC)
    assert closed_until(MINUTES, now) == datetime(2024, 3, 6, 13, 59, tzinfo=UTC)
    assert closed_until(Timeframe("4h"), now) == datetime(2024, 3, 6, 10, tzinfo=UTC)


def test_start_in_the_future_is_refused(server: OandaServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    future = ("--start", "2999-01-01T00:00:00Z", "--stop", "2999-02-01T00:00:00Z")
    assert job.main(options(server, tmp_path, *future)) == 2
    assert "start: found 2999-01-01T00:00:00+00:00; allowed: a time before" in capsys.readouterr().err
    assert server.seen.history_requests == 0


@pytest.mark.parametrize("value", [None, "of-somebody-else"])
def test_credentials_that_are_missing_or_wrong_are_named_by_their_variable(
    server: OandaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str | None
) -> None:
    monkeypatch.delenv(OANDA_TOKEN)
    if value is not None:
        monkeypatch.setenv(OANDA_TOKEN, value)
    assert job.main(options(server, tmp_path)) == 2
    answer = capsys.readouterr()
    assert OANDA_TOKEN in answer.err
    for text in (answer.out, answer.err, *(path.read_text() for path in tmp_path.rglob("*.json"))):
        assert "of-somebody-else" not in text


def test_record_joins_periods_and_knows_the_gaps_between_them(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    fetched = FetchedPeriods(file, "here")
    for first, last in ((10, 20), (30, 40), (20, 25), (38, 39)):
        fetched.add(NOON + first * MINUTE, NOON + last * MINUTE)
    again = FetchedPeriods(file, "here")
    gaps = [((start - NOON) // MINUTE, (stop - NOON) // MINUTE) for start, stop in again.missing(NOON, NOON + 50 * MINUTE)]
    assert gaps == [(0, 10), (25, 30), (40, 50)]
    assert again.missing(NOON + 12 * MINUTE, NOON + 24 * MINUTE) == []
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_record_of_another_store_or_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    FetchedPeriods(file, "here").add(NOON, END)
    with pytest.raises(BadSetup, match="fetched into here, not into there"):
        FetchedPeriods(file, "there")
    file.write_text('{"store": "here"}')
    with pytest.raises(BadSetup, match="not a record of downloads"):
        FetchedPeriods(file, "here")
