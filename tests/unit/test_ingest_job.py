"""The ingest job: what it stores, what it refuses and mends, and the report that it leaves."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from errno import ENOSPC
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from fxcast.adapters.clock import ReplayClock
from fxcast.data.importing.clocks import NEW_YORK_CLOSE, SourceClock
from fxcast.data.importing.result import Reason, Repair
from fxcast.data.quality_table import render
from fxcast.data.store import CandleStore
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import CandleSeries
from fxcast.domain.market import MarketCandles, PriceSide
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting, BadSetup
from jobs.ingest import IngestJob, IngestOutcome, ingest, main

HEADER = "time,open,high,low,close,volume"
HOUR = Timeframe("1h")
START = datetime(2017, 3, 6, 8)  # noqa: DTZ001  # as written in a file

Ingest = Callable[..., IngestOutcome]


def row(hour: int, close: float = 1.11, *, high: float = 1.12, low: float = 1.09, volume: float = 5) -> str:
    return f"{START + timedelta(hours=hour):%Y-%m-%d %H:%M},1.10,{high:g},{low:g},{close:g},{volume:g}"


def write(path: Path, rows: Sequence[str], header: str | None = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows] if header is not None else rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path: Path) -> Ingest:
    def run_job(source: Path | str, **settings: Any) -> IngestOutcome:
        folders: dict[str, Any] = {"store": str(tmp_path / "store"), "report": tmp_path / "report"}
        return ingest(IngestJob(source=str(source), timeframe="1h", **folders | settings))

    return run_job


def stored(tmp_path: Path, symbol: str = "EURUSD") -> MarketCandles:
    return CandleStore(tmp_path / "store").read_market(symbol, HOUR)


def reasons(outcome: IngestOutcome) -> list[tuple[str, int, Reason]]:
    return [(Path(each.source).name, each.line, each.reason) for each in outcome.quality.refused]


def repairs(outcome: IngestOutcome) -> list[tuple[int, Repair]]:
    return [(each.line, each.repair) for each in outcome.quality.repaired]


# What becomes of candles


def test_importing_again_adds_nothing(tmp_path: Path, run: Ingest) -> None:
    source = write(tmp_path / "EURUSD.csv", [row(0), row(1), row(2)])
    first, again = run(source).stored, run(source).stored
    assert first is not None
    assert again is not None
    assert (first.added, first.already_there) == (3, 0)
    assert (again.added, again.already_there, again.conflicting) == (0, 3, ())


def test_candles_that_differ_from_stored_ones_leave_them(tmp_path: Path, run: Ingest) -> None:
    run(write(tmp_path / "EURUSD.csv", [row(0), row(1)]))
    outcome = run(write(tmp_path / "EURUSD.csv", [row(0), row(1, 1.105), row(2)]))
    assert outcome.stored is not None
    assert [moment.hour for moment in outcome.stored.conflicting] == [9]
    assert stored(tmp_path).candles.closes.tolist() == [1.11, 1.11, 1.11]


def test_prices_of_another_side_are_refused_by_the_store(tmp_path: Path, run: Ingest) -> None:
    source = write(tmp_path / "EURUSD.csv", [row(0)])
    run(source, side="bid")
    with pytest.raises(BadCandles, match="EURUSD 1h: found ask prices; allowed: bid prices, as those stored"):
        run(source, side="ask")


def test_a_folder_of_overlapping_files_is_united(tmp_path: Path, run: Ingest) -> None:
    write(tmp_path / "in" / "EURUSD_a.csv", [row(0), row(1), row(2)])
    write(tmp_path / "in" / "EURUSD_b.csv", [row(2), row(3)])
    outcome = run(tmp_path / "in")
    assert (outcome.quality.rows_read, outcome.quality.accepted, outcome.quality.overlapping) == (5, 4, 1)
    assert outcome.quality.refused == ()
    assert len(stored(tmp_path)) == 4


def test_a_conflict_between_files_is_refused_with_file_line_and_text(tmp_path: Path, run: Ingest) -> None:
    write(tmp_path / "in" / "EURUSD_a.csv", [row(0), row(1)])
    write(tmp_path / "in" / "EURUSD_b.csv", ["", row(1, 1.105), row(2)])
    outcome = run(f"{tmp_path}/in/*.csv")
    assert reasons(outcome) == [("EURUSD_b.csv", 3, Reason.CONFLICTING_DUPLICATE)]
    assert outcome.quality.refused[0].text == row(1, 1.105)
    assert stored(tmp_path).candles.closes.tolist() == [1.11, 1.11, 1.11]


@pytest.mark.parametrize(("other", "named"), [("GBPUSD_b.csv", "GBPUSD 1h unstated"), ("DAT_MT_EURUSD_b.csv", "EURUSD 1h bid")])
def test_files_of_different_series_are_refused_by_name(tmp_path: Path, run: Ingest, other: str, named: str) -> None:
    write(tmp_path / "in" / "AAA_EURUSD.csv", [row(0), row(1)])
    write(tmp_path / "in" / other, [row(1), row(2)])
    with pytest.raises(
        BadCandles, match=rf"{other}: found {named} prices; allowed: EURUSD 1h unstated prices, as in .*AAA_EURUSD\.csv"
    ):
        run(tmp_path / "in")


# Bids and asks


def quotes(tmp_path: Path, bids: Sequence[str], asks: Sequence[str]) -> dict[str, str]:
    write(tmp_path / "EURUSD_bid.csv", bids)
    return {"source": str(tmp_path / "EURUSD_bid.csv"), "ask_source": str(write(tmp_path / "EURUSD_ask.csv", asks))}


def test_bids_and_asks_become_mids(tmp_path: Path, run: Ingest) -> None:
    outcome = run(**quotes(tmp_path, [row(0), row(1)], [row(0, 1.1104, high=1.1204), row(1, 1.1102, high=1.1202)]))
    data = stored(tmp_path)
    assert (data.side, outcome.quality.refused) == (PriceSide.MID, ())
    assert data.candles.closes.tolist() == pytest.approx([1.1102, 1.1101])
    assert data.candles.values[:, 1].tolist() == pytest.approx([1.1202, 1.1201])
    assert data.detail("spread").tolist() == pytest.approx([0.0004, 0.0002])
    assert (data.detail("bid_close").tolist(), data.detail("ask_close").tolist()) == ([1.11, 1.11], [1.1104, 1.1102])


def test_a_candle_of_one_side_only_and_a_crossed_one_are_refused(tmp_path: Path, run: Ingest) -> None:
    outcome = run(**quotes(tmp_path, [row(0), row(1), row(2)], [row(0), row(1, 1.109), row(3)]))
    assert reasons(outcome) == [
        ("EURUSD_bid.csv", 3, Reason.CROSSED_QUOTE),
        ("EURUSD_bid.csv", 4, Reason.OTHER_SIDE_MISSING),
        ("EURUSD_ask.csv", 4, Reason.OTHER_SIDE_MISSING),
    ]
    assert [each.text for each in outcome.quality.refused] == [row(1), row(2), row(3)]
    assert len(stored(tmp_path)) == 1


def test_the_crossed_repair_keeps_the_mid_alone_and_names_it(tmp_path: Path, run: Ingest) -> None:
    outcome = run(**quotes(tmp_path, [row(0), row(1)], [row(0), row(1, 1.108)]), repair=["crossed"])
    data = stored(tmp_path)
    assert (reasons(outcome), repairs(outcome)) == ([], [(3, Repair.CROSSED)])
    assert data.candles.closes.tolist() == pytest.approx([1.11, 1.109])
    assert np.isnan(data.details[1, :9]).all()


def test_the_report_of_pairs_adds_up(tmp_path: Path, run: Ingest) -> None:
    quality = run(**quotes(tmp_path, [row(0), row(1), row(2)], [row(0), row(1, 1.109), row(3)])).quality
    crossed = quality.refused_by_reason[Reason.CROSSED_QUOTE.value]
    alone = len(quality.refused) - crossed
    assert (quality.pairs, quality.accepted, crossed, alone) == (2, 1, 1, 2)
    assert quality.rows_read == 2 * quality.pairs + alone
    assert json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))["pairs"] == 2
    console = Console(width=200)
    with console.capture() as shown:
        console.print(render(quality))
    assert "2 of a bid and an ask: two rows that make one candle, or are refused as one" in shown.get()


def test_a_month_of_bids_and_one_of_asks_are_not_mixed(tmp_path: Path, run: Ingest) -> None:
    run(write(tmp_path / "EURUSD_bid_jan.csv", [row(0), row(1)]))
    with pytest.raises(BadCandles, match="EURUSD 1h: found ask prices; allowed: bid prices, as those stored"):
        run(write(tmp_path / "EURUSD_ask_feb.csv", [row(24), row(25)]))


@pytest.mark.parametrize("asks", ["EURUSD_ask.csv", "GBPUSD_ask.csv"])
def test_sides_of_different_pairs_or_of_both_at_once_are_refused(tmp_path: Path, run: Ingest, asks: str) -> None:
    both = "time,bid_open,bid_high,bid_low,bid_close,ask_open,ask_high,ask_low,ask_close"
    quoted = [f"2017-03-06 {hour:02}:00,1.1,1.12,1.09,1.11,1.1,1.12,1.09,1.11" for hour in range(8, 11)]
    bids = write(tmp_path / "EURUSD_bid.csv", [row(0), row(1)])
    ask = write(tmp_path / asks, quoted, both) if asks.startswith("EUR") else write(tmp_path / asks, [row(0), row(1)])
    with pytest.raises(BadCandles, match=r"mid prices, or both sides; allowed: asks alone|found GBPUSD 1h; allowed: EURUSD 1h"):
        run(bids, ask_source=str(ask))


def test_asks_need_one_file_of_each(tmp_path: Path, run: Ingest) -> None:
    for name in ("EURUSD_a.csv", "EURUSD_b.csv"):
        write(tmp_path / "in" / name, [row(0)])
    with pytest.raises(BadSetting, match="found 1 files of asks and 2 of bids; allowed: one of each"):
        run(tmp_path / "in", ask_source=str(tmp_path / "in" / "EURUSD_a.csv"))


# Repairs


def messy(tmp_path: Path) -> Path:
    """Write 40 hours of which 6 are doubtful: one out of order, one range missed by a point, two spikes, two on a Saturday."""
    rows = [row(hour, 1.1 + hour % 3 * 1e-4, high=1.1004, low=1.0996) for hour in range(40)]
    rows[5], rows[6] = rows[6], rows[5]
    rows[10] = row(10, 1.1004, high=1.10038, low=1.0996)
    rows[20], rows[30] = row(20, high=1.2, low=1.0996), row(30, 1.1, high=1.1004, low=1.05)
    return write(tmp_path / "EURUSD.csv", [*rows, row(24 * 5), row(24 * 5 + 1)])


def test_nothing_is_repaired_unasked(tmp_path: Path, run: Ingest) -> None:
    outcome = run(messy(tmp_path))
    assert outcome.quality.repaired == ()
    assert reasons(outcome) == [("EURUSD.csv", 8, Reason.OUT_OF_ORDER), ("EURUSD.csv", 12, Reason.OUTSIDE_RANGE)]
    assert (len(outcome.quality.spikes), len(outcome.quality.closed_market)) == (2, 2)
    assert len(stored(tmp_path)) == 40


@pytest.mark.parametrize(
    ("repair", "lines", "kept"),
    [("order", [8], 41), ("range", [12], 41), ("spikes", [22, 32], 38), ("closed-market", [42, 43], 38), ("crossed", [], 40)],
)
def test_a_repair_is_made_alone_and_named(tmp_path: Path, run: Ingest, repair: str, lines: list[int], kept: int) -> None:
    outcome = run(messy(tmp_path), repair=[repair])
    assert repairs(outcome) == [(line, Repair(repair)) for line in lines]
    assert all(each.detail for each in outcome.quality.repaired)
    assert len(stored(tmp_path)) == kept
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert [each["repair"] for each in report["repaired"]] == [repair] * len(lines)


def test_all_repairs_together_leave_nothing_doubtful(tmp_path: Path, run: Ingest) -> None:
    outcome = run(messy(tmp_path), repair=["all"])
    assert [line for line, _ in repairs(outcome)] == [8, 12, 22, 32, 42, 43]
    assert (outcome.quality.refused, outcome.quality.spikes, outcome.quality.closed_market) == ((), (), ())
    assert stored(tmp_path).candles.values[10, 1] == 1.1004


# The clock


def hourly(symbol: str, exponent: float = 1.0) -> CandleSeries:
    grid = np.arange(np.datetime64("2016-01-04", "s"), np.datetime64("2016-07-01", "s"), HOUR.step)
    times = grid[open_mask(grid)]
    closes = (1.1 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.001, len(times))))) ** exponent
    return CandleSeries(symbol=symbol, timeframe=HOUR, open_times=times, values=np.column_stack([closes] * 4 + [closes]))


def exported_by_server(path: Path, series: CandleSeries, clock: str) -> Path:
    """Write what MetaTrader 4 would on a server of some clock."""
    local = np.arange(series.open_times[0] - 20 * HOUR.step, series.open_times[-1] + 20 * HOUR.step, HOUR.step)
    utc = SourceClock(clock).to_utc(local)[0]
    rows: list[str] = []
    for moment, true in zip(local, utc, strict=True):
        at = int(np.searchsorted(series.open_times, true))
        if at < len(series) and series.open_times[at] == true:
            prices = ",".join([f"{float(series.closes[at]):.6f}"] * 4)
            rows.append(f"{moment.astype(datetime):%Y.%m.%d,%H:%M},{prices},7")
    return write(path, rows, header=None)


def test_the_clock_is_found_by_comparison_and_the_report_says_so(tmp_path: Path, run: Ingest) -> None:
    CandleStore(tmp_path / "store").append(hourly("EURUSD"))
    source = exported_by_server(tmp_path / "GBPUSD60.csv", hourly("GBPUSD", 1.5), NEW_YORK_CLOSE)
    outcome = run(source, detect_timezone="EURUSD:1h")
    assert outcome.detection is not None
    assert outcome.detection.best == NEW_YORK_CLOSE
    assert any(note.startswith("clock by comparison with EURUSD 1h: new-york-close") for note in outcome.quality.notes)
    assert outcome.quality.warnings == ()
    assert np.array_equal(stored(tmp_path, "GBPUSD").open_times, hourly("GBPUSD").open_times)


def test_a_given_zone_is_kept_against_the_comparison_with_a_warning(tmp_path: Path, run: Ingest) -> None:
    CandleStore(tmp_path / "store").append(hourly("EURUSD"))
    source = exported_by_server(tmp_path / "GBPUSD60.csv", hourly("GBPUSD"), NEW_YORK_CLOSE)
    outcome = run(source, detect_timezone="EURUSD:1h", zone="Europe/London")
    assert {each["zone"] for each in outcome.quality.files} == {"Europe/London"}
    assert any("new-york-close" in warning and "not Europe/London as given" in warning for warning in outcome.quality.warnings)


def test_a_clock_that_the_comparison_leaves_open_is_refused(tmp_path: Path, run: Ingest) -> None:
    CandleStore(tmp_path / "store").append(hourly("EURUSD"))
    offsets = ("+09:00", "-04:00", "+05:00", "-07:00", "+11:00")
    wandering = ", ".join(f"{offset} until 2016-{month:02}-01" for month, offset in enumerate(offsets, start=2)) + ", +01:00"
    source = exported_by_server(tmp_path / "GBPUSD60.csv", hourly("GBPUSD"), wandering)
    with pytest.raises(
        BadSetting, match=r"zone: no clock is clear against EURUSD 1h: .*best offsets by month: 2016-01 to 2016-01 UTC\+9"
    ):
        run(source, detect_timezone="EURUSD:1h")


@pytest.mark.parametrize(("reference", "error"), [("EURUSD", BadSetting), ("EURUSD:1h", BadCandles), ("EURUSD:7h", BadCandles)])
def test_a_reference_that_is_not_stored_is_refused(tmp_path: Path, run: Ingest, reference: str, error: type[Exception]) -> None:
    source = exported_by_server(tmp_path / "GBPUSD60.csv", hourly("GBPUSD").slice(0, 100), "UTC")
    with pytest.raises(error):
        run(source, detect_timezone=reference)


# The report


def arguments(tmp_path: Path, source: Path, *more: str) -> list[str]:
    folders = ("--store", str(tmp_path / "store"), "--report", str(tmp_path / "report"))
    return ["--source", str(source), "--timeframe", "1h", *folders, *more]


def test_the_report_has_a_record_a_picture_and_the_refused_rows_as_they_stand(tmp_path: Path, run: Ingest) -> None:
    odd = ['2017-03-06 10:00,"1,10",1.12,1.09,1.11,5', "2017-03-06 11:00;x"]
    source = write(tmp_path / "EURUSD.csv", [row(0), row(1), *odd, row(4)])
    outcome = run(source)
    folder = tmp_path / "report"
    assert outcome.report == folder
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert (report["accepted"], report["missing"], report["refused"]) == (3, 2, 2)
    assert imread(folder / "coverage.png").shape[1] == 1440
    with (folder / "quarantine.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["source", "line", "reason", "detail", "text"]
    assert [(each[0], each[1], each[2], each[4]) for each in rows[1:]] == [
        (str(source), "4", "unreadable number", odd[0]),
        (str(source), "5", "wrong number of fields", odd[1]),
    ]


def test_the_command_line_says_what_was_stored_and_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "EURUSD.csv", [row(0), "nonsense", row(1)])
    assert main(arguments(tmp_path, source)) == 0
    text = capsys.readouterr().out
    assert "line 3: wrong number of fields: 1 fields, not 6" in text
    assert "2 candles added, 0 already there" in text
    assert main(arguments(tmp_path, source, "--repair", "everything")) == 2
    assert main(arguments(tmp_path, source, "--zone", "Mars")) == 2
    assert "zone: found 'Mars'" in capsys.readouterr().err


def test_a_file_without_a_valid_candle_is_refused_after_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "EURUSD.csv", ["2017-03-06 08:00,0,0,0,0,0", "2017-03-06 09:00,1,2,3,4,5"])
    assert main(arguments(tmp_path, source)) == 2
    assert "no valid candle" in capsys.readouterr().err
    assert (tmp_path / "report" / "quarantine.csv").read_text(encoding="utf-8").count("\n") == 3


def test_candles_that_close_after_the_clocks_now_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "EURUSD.csv", [row(0), row(1)])
    job = IngestJob(source=str(source), timeframe="1h", store=str(tmp_path / "store"), report=tmp_path / "report")
    outcome = ingest(job, ReplayClock(datetime(2017, 3, 6, 9, 30, tzinfo=UTC)))
    assert reasons(outcome) == [("EURUSD.csv", 3, Reason.FUTURE)]
    write(tmp_path / "EURUSD.csv", [row(0), f"2099-03-06 09:00,{row(1).partition(',')[2]}"])
    assert reasons(ingest(job)) == [("EURUSD.csv", 3, Reason.FUTURE)]


def test_prices_of_another_side_leave_a_report_and_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "EURUSD.csv", [row(0)])
    assert main(arguments(tmp_path, source, "--side", "bid")) == 0
    (tmp_path / "report" / "report.json").unlink()
    capsys.readouterr()
    assert main(arguments(tmp_path, source, "--side", "ask")) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert told.err.startswith("error: EURUSD 1h: found ask prices; allowed: bid prices")
    assert json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))["side"] == "ask"


def test_a_report_folder_that_can_not_be_one_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "EURUSD.csv", [row(0)])
    (tmp_path / "report").write_text("a file", encoding="utf-8")
    assert main(arguments(tmp_path, source)) == 2
    assert capsys.readouterr().err == f"error: the report can't be written to {tmp_path / 'report'}: File exists\n"


@pytest.mark.parametrize("full", ["jobs.ingest.draw_coverage", "jobs.ingest.write_quarantine"])
def test_a_disk_that_is_full_leaves_no_half_file(tmp_path: Path, run: Ingest, monkeypatch: pytest.MonkeyPatch, full: str) -> None:
    def fail(path: Path, *_: object, **__: object) -> None:
        path.write_text("half", encoding="utf-8")
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(full, fail)
    with pytest.raises(BadSetup, match=r"the report can't be written to .*report: No space left on device"):
        run(write(tmp_path / "EURUSD.csv", [row(0)]))
    assert {path.name for path in (tmp_path / "report").iterdir()} <= {"report.json", "coverage.png"}
    assert json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))["accepted"] == 1


def test_a_clock_that_the_weeks_leave_open_too_is_refused_by_its_names(tmp_path: Path, run: Ingest) -> None:
    series = hourly("EURUSD")
    winter = series.slice(0, int(np.searchsorted(series.open_times, np.datetime64("2016-03-01", "s"))))
    CandleStore(tmp_path / "store").append(winter)
    april = hourly("GBPUSD").slice(0, int(np.searchsorted(series.open_times, np.datetime64("2016-03-16", "s"))))
    wednesday = exported_by_server(tmp_path / "GBPUSD60.csv", april, "Europe/Helsinki")
    with pytest.raises(BadSetting, match=r"zone: .*(new-york-close|Europe/Helsinki).* fit EURUSD 1h alike"):
        run(wednesday, detect_timezone="EURUSD:1h")
