"""The quality report says what an import is worth, and reads as JSON and as a table."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
from rich.console import Console

from fxcast.data.checks import Gap
from fxcast.data.importing.result import ImportResult, Reason, RefusedRow, Repair, RepairedRow
from fxcast.data.quality import QualityReport, quality_report
from fxcast.data.quality_table import render
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import CandleSeries, TimeArray
from fxcast.domain.market import DETAILS, MarketCandles, PriceSide, no_details
from fxcast.domain.timeframe import Timeframe

CANDLE = [1.10, 1.12, 1.09, 1.11, 5.0]
OFF_GRID = RefusedRow(line=3, reason=Reason.OFF_GRID, detail="d", text="t", source="a.csv")
NOT_FINITE = RefusedRow(line=5, reason=Reason.NOT_FINITE, detail="d", text="t", source="a.csv")


def imported(
    *open_times: str,
    times: TimeArray | None = None,
    timeframe: str = "1h",
    refused: tuple[RefusedRow, ...] = (),
    repaired: tuple[RepairedRow, ...] = (),
    notes: tuple[str, ...] = (),
    known: tuple[str, ...] = (),
) -> ImportResult:
    times = np.array(open_times, dtype="datetime64[s]") if times is None else times
    candles = CandleSeries(
        symbol="EURUSD", timeframe=Timeframe(timeframe), open_times=times, values=np.tile(CANDLE, (len(times), 1))
    )
    details = no_details(len(times)).copy()
    details[:, [DETAILS.index(name) for name in known]] = 1.0
    return ImportResult(
        source="a.csv",
        format="plain, commas: time, open",
        zone="UTC",
        data=MarketCandles(candles=candles, side=PriceSide.BID, details=details),
        lines=np.arange(len(times)) + 2,
        refused=refused,
        repaired=repaired,
        rows_read=len(times) + len(refused),
        notes=notes,
    )


def judged(result: ImportResult) -> QualityReport:
    return quality_report(result.data, [result], source="a.csv")


def table(report: QualityReport) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(render(report))
    return captured.get()


def open_hours(first: str, last: str) -> TimeArray:
    grid = np.arange(np.datetime64(first, "s"), np.datetime64(last, "s"), np.timedelta64(3600, "s"))
    return grid[open_mask(grid)]


def test_gaps_and_completeness_follow_the_calendar() -> None:
    report = judged(imported("2017-03-07T08:00", "2017-03-07T11:00", "2017-03-07T13:00"))
    assert report.coverage.gaps == (
        Gap(start=datetime(2017, 3, 7, 9, tzinfo=UTC), missing_bars=2),
        Gap(start=datetime(2017, 3, 7, 12, tzinfo=UTC), missing_bars=1),
    )
    assert report.completeness_pct == 50.0
    assert (report.first, report.last) == (datetime(2017, 3, 7, 8, tzinfo=UTC), datetime(2017, 3, 7, 13, tzinfo=UTC))


def test_candles_in_the_closed_market_are_listed_and_do_not_count_as_complete() -> None:
    report = judged(imported("2017-03-03T21:00", "2017-03-04T12:00", "2017-03-05T23:00"))
    assert report.closed_market == (datetime(2017, 3, 4, 12, tzinfo=UTC),)
    assert (report.accepted, report.coverage.expected, report.coverage.missing) == (3, 3, 1)


def test_minute_candles_see_the_close_to_the_minute() -> None:
    report = judged(imported("2017-03-03T21:59", "2017-03-03T22:00", "2017-03-05T22:00", timeframe="1m"))
    assert report.closed_market == (datetime(2017, 3, 3, 22, tzinfo=UTC),)
    assert report.coverage.gaps == ()


def test_refused_rows_are_counted_by_reason_the_most_frequent_first() -> None:
    report = judged(imported("2017-03-07T08:00", refused=(OFF_GRID, NOT_FINITE, NOT_FINITE)))
    assert list(report.refused_by_reason.items()) == [("number not finite", 2), ("time off the timeframe's grid", 1)]
    assert (report.rows_read, report.accepted) == (4, 1)


def test_details_name_what_is_known_of_any_candle() -> None:
    assert judged(imported("2017-03-07T08:00", known=("tick_volume", "spread"))).details == ("spread", "tick_volume")
    assert judged(imported("2017-03-07T08:00")).details == ()


def test_several_files_are_judged_together() -> None:
    one, other = imported("2017-03-07T08:00", refused=(OFF_GRID,), notes=("n",)), imported("2017-03-07T09:00", notes=("n", "m"))
    report = quality_report(imported("2017-03-07T08:00", "2017-03-07T09:00").data, [one, other], source="folder", overlapping=7)
    assert (report.rows_read, report.accepted, report.overlapping, len(report.files)) == (3, 2, 7, 2)
    assert report.notes == ("n", "m")
    assert "2 in more than one file" not in table(report)
    assert "2, 7 in more than one file" in table(report)
    assert "3 of 2 files" in table(report)


def test_the_report_survives_json_without_nan() -> None:
    repair = RepairedRow(line=4, repair=Repair.RANGE, detail="high 1 → 2", source="a.csv")
    result = imported(times=open_hours("2017-03-01", "2017-05-01")[::2], refused=(OFF_GRID,), repaired=(repair,), known=("spread",))
    content = json.loads(json.dumps(judged(result).to_dict(), allow_nan=False))
    assert content["gaps"][0] == {"start": "2017-03-01T01:00:00+00:00", "missing_bars": 1}
    assert content["refused_by_reason"] == {"time off the timeframe's grid": 1}
    assert content["repaired"] == [{"line": 4, "repair": "range", "detail": "high 1 → 2", "source": "a.csv"}]
    assert content["files"] == [
        {"name": "a.csv", "format": "plain, commas: time, open", "zone": "UTC", "rows": f"{len(result.data) + 1}"}
    ]
    assert (content["side"], content["timeframe"], content["details"]) == ("bid", "1h", ["spread"])
    assert content["by_day"]["2017-03-02"] == [12, 24]
    assert content["week"]["is_possible"] is True
    assert set(content["completeness_pct_by_session"]) == {"Sydney", "Tokyo", "London", "New York"}


def test_an_empty_series_has_no_completeness_and_still_a_report() -> None:
    report = judged(imported(refused=(OFF_GRID,)))
    assert (report.first, report.last, report.completeness_pct, report.coverage.gaps) == (None, None, None, ())
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["completeness_pct"] is None
    assert "complete" not in table(report)
    assert "no weekend in the series" in table(report)


def test_a_wrong_clock_and_noted_warnings_are_warnings_in_report_and_table() -> None:
    early = open_hours("2017-04-03", "2017-07-01") - np.timedelta64(3600, "s")
    report = judged(imported(times=early, notes=("warning: the file's name says EURGBP", "only a note")))
    assert len(report.warnings) == 2
    assert report.warnings[0].startswith("the time zone can't be right")
    assert report.warnings[1] == "the file's name says EURGBP"
    text = table(report)
    assert text.count("warning") == 2
    assert "only a note" in text
    assert report.to_dict()["warnings"] == list(report.warnings)


def test_the_table_shows_counts_and_what_was_kept() -> None:
    times = open_hours("2017-03-01", "2017-03-20")
    result = imported(
        times=np.union1d(times[times != np.datetime64("2017-03-07T12:00", "s")], np.datetime64("2017-03-04T12:00", "s"))
    )
    result.data.candles.values[50, 1] = 1.9
    result.data.candles.values[60:70, :4] = 1.1
    text = table(judged(result))
    assert "99.68 % of 313 candles" in text
    assert "1 kept; 2017-03-04 12:00" in text
    assert "1 kept; 2017-03-03 02:00 at 1.9" in text
    assert "1 runs kept" in text
    assert "prices" in text
    assert "bid" in text


def test_markup_in_names_is_shown_as_it_stands() -> None:
    result = imported("2017-03-07T08:00", notes=("[red]note[/red] [/bold]",))
    assert "[red]note[/red] [/bold]" in table(quality_report(result.data, [result], source="[link]a.csv"))


def test_jumps_are_kept_and_shown() -> None:
    result = imported(times=open_hours("2017-03-01", "2017-03-03"))
    result.data.candles.values[20:, :4] *= 2
    report = judged(result)
    assert report.to_dict()["jumps"] == [{"time": "2017-03-01T20:00:00+00:00", "before": 1.11, "after": 2.22}]
    assert "1 kept; 2017-03-01 20:00 from 1.11 to 2.22" in table(report)
    assert "jumps" not in table(judged(imported("2017-03-07T08:00")))
