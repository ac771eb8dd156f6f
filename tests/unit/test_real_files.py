"""The table "What real files showed" of docs/data.md, where the files are at hand; without them, these tests are skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.ingest import IngestJob, IngestOutcome, ingest

FILES = Path(__file__).parents[3] / "shared" / "data"
CHANGED = "Europe/Berlin until 2014-11-23, Europe/Helsinki"

pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason="the development data are not beside the repository")


def imported(folder: Path, **settings: Any) -> IngestOutcome:
    given = {name: str(FILES / value) if name.endswith("source") else value for name, value in settings.items()}
    return ingest(IngestJob.model_validate({"store": str(folder / "store"), "report": folder / "report", **given}))


@pytest.mark.parametrize(
    ("settings", "accepted", "refused", "complete_pct"),
    [
        ({"source": "fx_1m/eurusd_mt5", "zone": "Europe/Helsinki"}, 177_333, 0, 97.41),
        ({"source": "fx_5m", "zone": "Europe/Helsinki"}, 74_042, 0, 99.27),
        ({"source": "fx_1m/lean_quotes/eurusd"}, 15_366, 0, 97.01),
        ({"source": "fx_1m/lean_quotes/nzdusd"}, 15_543, 0, 98.12),
        ({"source": "fx_1m/fxcm/gbpusd-m1-bid-2012.csv", "ask_source": "fx_1m/fxcm/gbpusd-m1-ask-2012.csv"}, 28_914, 1_203, 95.61),
        ({"source": "fx_1m/fxcm/usdjpy-m1-bid-2013.csv", "ask_source": "fx_1m/fxcm/usdjpy-m1-ask-2013.csv"}, 26_617, 2_144, 92.42),
        ({"source": "fx_1h/lean_oanda_eurusd_hour_quotes.zip"}, 74_438, 1, 99.58),
        ({"source": "fx_1h/GBPUSD_h1_2012-2018.csv.gz", "zone": CHANGED}, 37_864, 0, 99.43),
        ({"source": "fx_1h/USDJPY_h1_2012-2018.csv.gz", "zone": CHANGED}, 37_865, 0, 99.44),
    ],
    ids=range(9),
)
def test_file_imports_with_the_report_that_the_guide_tells(
    tmp_path: Path, settings: dict[str, Any], accepted: int, refused: int, complete_pct: float
) -> None:
    quality = imported(tmp_path, **settings).quality
    assert (quality.accepted, len(quality.refused)) == (accepted, refused)
    assert quality.completeness_pct == pytest.approx(complete_pct, abs=0.005)
    assert quality.warnings == ()


def test_clock_that_a_broker_changed_is_found_by_comparison_with_another_pair(tmp_path: Path) -> None:
    imported(tmp_path, source="fx_1h/lean_oanda_eurusd_hour_quotes.zip")
    outcome = imported(tmp_path, source="fx_1h/GBPUSD_h1_2012-2018.csv.gz", detect_timezone="EURUSD:1h")
    assert {each["zone"] for each in outcome.quality.files} == {CHANGED}


def test_daylight_saving_of_the_wrong_continent_is_told(tmp_path: Path) -> None:
    [warning] = imported(tmp_path, source="fx_1m/eurusd_mt5", zone="new-york-close").quality.warnings
    assert "while only one of the US and Europe has daylight saving time, weeks end 55 min earlier" in warning
