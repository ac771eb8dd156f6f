"""Whatever befalls a file, each of its rows is accounted for, or the file is refused in words."""

from __future__ import annotations

import json
import tempfile
import warnings
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.data.importing.files import find_sources
from fxcast.data.importing.read import ImportOptions, read_candles
from fxcast.data.importing.result import Repair
from fxcast.data.quality import quality_report
from fxcast.domain.candle import to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import Refused

MINUTES = range(25)
FILES = (
    ["time,open,high,low,close,volume", *(f"2024-01-03 10:{minute:02}:00,1.1,1.2,1.0,1.1,5" for minute in MINUTES)],
    [f"20240103 10{minute:02}00;1.1;1.2;1.0;1.1;0" for minute in MINUTES],
    ["<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"]
    + [f"2024.01.03\t10:{minute:02}:00\t1.1\t1.2\t1.0\t1.1\t7\t0\t12" for minute in MINUTES],
    ["Gmt time,Open,High,Low,Close,Volume", *(f"03.01.2024 10:{minute:02}:00.000,1.1,1.2,1.0,1.1,5" for minute in MINUTES)],
    [f"{(600 + minute) * 60_000},1.1,1.2,1.0,1.1,0,1.1,1.2,1.0,1.1,0" for minute in MINUTES],
    ["time;open;high;low;close", *(f"2024-01-03T10:{minute:02}+02:00;1,1;1,2;1,0;1,1" for minute in MINUTES)],
)
ODD = (
    "", ",", ";", "\t", "\n", "\r", "\0", "\ufeff", "\u2028", '"', "nan", "inf", "-1", "1e400", "99999999999999999999", "0", "+",
    "Z", "+25:99", "1970-01-01 00:00", "2100-12-31 23:59", "2024-03-10 09:30", "31.02.2024 10:00", "é", "²", "1,000", "close",
)  # fmt: skip

changes = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), st.sampled_from(ODD)), max_size=6)


@settings(max_examples=200, deadline=None)
@given(
    lines=st.sampled_from(FILES),
    changes=changes,
    again=st.lists(st.integers(0, 24), max_size=3),
    zone=st.sampled_from([None, "new-york-close", "Europe/Berlin until 2024-01-03, +03:00"]),
    timeframe=st.sampled_from([None, Timeframe("1m"), Timeframe("1d")]),
    repairs=st.frozensets(st.sampled_from(Repair)),
    now=st.sampled_from([None, datetime(2024, 1, 3, 10, 12, tzinfo=UTC)]),
)
def test_each_row_of_a_damaged_file_is_accounted_for_or_the_file_is_refused(
    lines: list[str],
    changes: list[tuple[float, int, str]],
    again: list[int],
    zone: str | None,
    timeframe: Timeframe | None,
    repairs: frozenset[Repair],
    now: datetime | None,
) -> None:
    text = "\n".join([*lines, *(lines[at] for at in again)])
    for where, cut, odd in changes:
        at = int(where * len(text))
        text = text[:at] + odd + text[at + cut :]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder) / "EURUSD_20240103.csv"
        path.write_text(text, encoding="utf-8", newline="")
        try:
            [source] = find_sources(path)
            result = read_candles(source, ImportOptions(zone=zone, timeframe=timeframe, repairs=repairs, now=now))
        except Refused:
            return
    taken_out = [row for row in result.repaired if row.repair in {Repair.SPIKES, Repair.CLOSED_MARKET}]
    assert len(result.series) + len(result.refused) + len(taken_out) == result.rows_read
    assert {row.repair for row in result.repaired} <= repairs
    assert now is None or (result.series.close_times <= to_datetime64(now)).all()
    if len(result.series) and result.series.open_times[-1].astype(object).year == 2024:
        json.dumps(quality_report(result.data, [result], source="a").to_dict(), allow_nan=False)
