"""The quality report counts what the FX calendar expects, and reads as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
from rich.console import Console

from fxcast.data.importers import ImportResult, Reason, RefusedRow
from fxcast.data.quality import Gap, quality_report, render
from fxcast.domain.candle import CandleSeries
from fxcast.domain.timeframe import Timeframe


def imported(*open_times: str, timeframe: str = "1h", refused: tuple[RefusedRow, ...] = ()) -> ImportResult:
    series = CandleSeries(
        symbol="EURUSD",
        timeframe=Timeframe(timeframe),
        open_times=np.array(open_times, dtype="datetime64[s]"),
        values=np.tile([1.10, 1.12, 1.09, 1.11, 5.0], (len(open_times), 1)),
    )
    return ImportResult(source="a.csv", series=series, refused=refused, rows_read=len(open_times) + len(refused))


def refused_row(line: int, reason: Reason) -> RefusedRow:
    return RefusedRow(line=line, reason=reason, detail="d", text="t")


def test_a_gap_starts_at_its_first_missing_candle() -> None:
    report = quality_report(imported("2017-03-07T08:00", "2017-03-07T11:00", "2017-03-07T13:00"))
    assert report.gaps == (
        Gap(start=datetime(2017, 3, 7, 9, tzinfo=UTC), missing_bars=2),
        Gap(start=datetime(2017, 3, 7, 12, tzinfo=UTC), missing_bars=1),
    )
    assert (report.expected, report.missing, report.completeness_pct) == (6, 3, 50.0)


def test_a_weekend_is_no_gap() -> None:
    report = quality_report(imported("2017-03-03T21:00", "2017-03-05T22:00"))
    assert (report.gaps, report.completeness_pct, report.closed_market) == ((), 100.0, ())


def test_a_gap_across_a_weekend_counts_open_hours_only() -> None:
    report = quality_report(imported("2017-03-03T20:00", "2017-03-05T23:00"))
    assert report.gaps == (Gap(start=datetime(2017, 3, 3, 21, tzinfo=UTC), missing_bars=2),)


def test_the_week_ends_an_hour_earlier_in_utc_once_new_york_saves_daylight() -> None:
    report = quality_report(imported("2017-03-17T20:00", "2017-03-19T21:00"))
    assert (report.gaps, report.expected) == ((), 2)


def test_candles_in_the_closed_market_are_listed_and_do_not_count_as_complete() -> None:
    report = quality_report(imported("2017-03-03T21:00", "2017-03-04T12:00", "2017-03-05T23:00"))
    assert report.closed_market == (datetime(2017, 3, 4, 12, tzinfo=UTC),)
    assert (report.accepted, report.expected, report.missing) == (3, 3, 1)


def test_minute_candles_see_the_close_to_the_minute() -> None:
    report = quality_report(imported("2017-03-03T21:59", "2017-03-03T22:00", "2017-03-05T22:00", timeframe="1m"))
    assert report.closed_market == (datetime(2017, 3, 3, 22, tzinfo=UTC),)
    assert report.gaps == ()


def test_refused_rows_are_grouped_by_reason_with_their_lines() -> None:
    rows = (refused_row(3, Reason.OFF_GRID), refused_row(5, Reason.NOT_FINITE), refused_row(9, Reason.NOT_FINITE))
    report = quality_report(imported("2017-03-07T08:00", refused=rows))
    assert report.refused_lines == {"number not finite": (5, 9), "time off the timeframe's grid": (3,)}
    assert list(report.refused_lines) == ["number not finite", "time off the timeframe's grid"]
    assert (report.rows_read, report.accepted) == (4, 1)


def test_the_report_survives_json() -> None:
    report = quality_report(imported("2017-03-07T08:00", "2017-03-07T10:00", refused=(refused_row(3, Reason.OFF_GRID),)))
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["gaps"] == [{"start": "2017-03-07T09:00:00+00:00", "missing_bars": 1}]
    assert content["refused_rows"] == [{"line": 3, "reason": "time off the timeframe's grid", "detail": "d", "text": "t"}]
    assert content["first"] == "2017-03-07T08:00:00+00:00"


def test_an_empty_series_has_no_completeness() -> None:
    report = quality_report(imported(refused=(refused_row(2, Reason.OFF_GRID),)))
    assert (report.first, report.last, report.expected, report.completeness_pct, report.gaps) == (None, None, 0, None, ())
    assert json.loads(json.dumps(report.to_dict()))["completeness_pct"] is None


def test_the_table_shows_counts_and_the_warning() -> None:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(render(quality_report(imported("2017-03-03T21:00", "2017-03-04T12:00", "2017-03-05T23:00"))))
    text = captured.get()
    assert "66.67 % of 3 candles" in text
    assert "1 candles stamped in the closed market" in text
