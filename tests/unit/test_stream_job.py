"""The stream job: its settings, what it shows, and its watch over a feed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError
from rich.console import Console

from fxcast.adapters.feeds.port import FeedStatus
from fxcast.errors import BadSetting, BadSetup, MustStop
from jobs.stream import StateLines, Status, StreamJob, main, table, watch


def make_status(state: str = "live", *, candles: int = 0, problem: str = "", **given: Any) -> Status:
    said = {**FeedStatus().to_dict(), "state": state, "problem": problem, "candles_emitted": candles, **given}
    return {"pid": 1, "provider": "replay", "symbols": ["EURUSD"], "stored": candles, "conflicting": 0, "pending": 0, **said}


def looking(*answers: Status | Exception) -> Callable[[], Status]:
    remaining = list(answers)

    def look() -> Status:
        answer = remaining.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return look


def test_feed_is_followed_through_a_restart_to_its_end_with_one_line_per_state() -> None:
    look = looking(
        make_status("starting"),
        make_status(candles=3),
        ActorUnavailableError("restarting", b"0" * 16),
        make_status(candles=1500),
        make_status("waiting", candles=1500, problem="candle store s3://c: no route"),
        make_status("finished", candles=2000),
    )
    console = Console(record=True, width=120, color_system=None)
    assert watch(look, StateLines(console), poll_s=0.0)["candles_emitted"] == 2000
    assert console.export_text().splitlines() == [
        "replay: starting, 0 candles, 0 stored",
        "replay: live, 3 candles, 3 stored",
        "replay: waiting, 1,500 candles, 1,500 stored: candle store s3://c: no route",
        "replay: finished, 2,000 candles, 2,000 stored",
    ]


def test_refused_feed_is_our_callers_to_mend_and_one_that_failed_is_not() -> None:
    with pytest.raises(BadSetup, match=r"^oanda does not accept FXCAST_OANDA_TOKEN$"):
        watch(looking(make_status("refused", problem="oanda does not accept FXCAST_OANDA_TOKEN")), lambda _: None)
    with pytest.raises(MustStop, match="the feed failed: ValueError"):
        watch(looking(make_status("failed", problem="ValueError")), lambda _: None)
    with pytest.raises(MustStop, match="the feed is gone"):
        watch(looking(make_status(), ActorDiedError()), lambda _: None, poll_s=0.0)
    with pytest.raises(MustStop, match="did not answer for 0 s"):
        watch(looking(*[ActorUnavailableError("", b"0" * 16)] * 9), lambda _: None, poll_s=0.0, patience_s=0.0)


def test_table_shows_what_is_known_and_leaves_out_what_is_not() -> None:
    console = Console(record=True, width=120, color_system=None)
    console.print(table(make_status(candles=1440, last_tick="2024-03-06T10:00:00+00:00", lag_s=0.25, reconnects=2)))
    shown = console.export_text()
    for text in ("replay: live", "EURUSD", "2024-03-06T10:00:00+00:00", "0.250", "1,440", "reconnects"):
        assert text in shown
    assert "connected since" not in shown


def test_what_is_missing_or_dropped_is_shown() -> None:
    lacking = [f"EURUSD 2024-03-06T10:{minute:02}:00+00:00" for minute in range(8)]
    console = Console(record=True, width=120, color_system=None)
    console.print(table(make_status(lacking=lacking, closed_market_ticks=1234, malformed=7)))
    shown = console.export_text()
    for text in ("ticks while closed", "1,234", "refused messages", "history lacks", lacking[-1], lacking[-5], "and 3 before"):
        assert text in shown
    assert lacking[0] not in shown


def test_candle_that_history_lacks_is_a_line_once() -> None:
    look = looking(
        make_status(lacking=["EURUSD 2024-03-06T10:00:00+00:00"]),
        make_status(lacking=["EURUSD 2024-03-06T10:00:00+00:00", "USDJPY 2024-03-06T10:01:00+00:00"]),
        make_status("stopped"),
    )
    console = Console(record=True, width=120, color_system=None)
    watch(look, StateLines(console), poll_s=0.0)
    assert console.export_text().splitlines() == [
        "replay: live, 0 candles, 0 stored",
        "replay: history lacks EURUSD 2024-03-06T10:00:00+00:00, of which ticks were seen",
        "replay: history lacks USDJPY 2024-03-06T10:01:00+00:00, of which ticks were seen",
        "replay: stopped, 0 candles, 0 stored",
    ]


def test_settings_become_those_of_the_feed() -> None:
    given = ("--source", "a", "--store", "/b", "--symbols", '["EURUSD", "USDJPY"]', "--until", "2024-01-02T00:00:00Z")
    feed = StreamJob.parse(given).feed()
    assert (feed.provider, feed.symbols, feed.store) == ("replay", ("EURUSD", "USDJPY"), "/b")
    assert feed.source is not None
    assert feed.source.startswith("/")
    assert feed.stop is not None
    assert feed.start is None
    with pytest.raises(BadSetting, match=r"^source: missing; a replay needs the candle store that it replays$"):
        StreamJob.parse([]).feed()


def test_missing_credentials_are_said_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FXCAST_OANDA_TOKEN", raising=False)
    assert main(["--provider", "oanda"]) == 2
    assert capsys.readouterr().err == "error: FXCAST_OANDA_TOKEN is not set\n"
