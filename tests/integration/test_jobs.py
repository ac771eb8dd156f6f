"""The jobs as commands: help, exit codes and what they say. Importing torch takes seconds, so most run inside this process."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fxcast.cluster.local import REPOSITORY
from fxcast.config import JobSettings
from fxcast.domain.candle import CandleSeries, to_datetime
from jobs import forecast, train
from jobs.demo import DemoJob
from jobs.download import DownloadJob
from jobs.evaluate import EvaluateJob
from jobs.forecast import ForecastJob
from jobs.ingest import IngestJob
from jobs.migrate import MigrateSettings
from jobs.stream import StreamJob
from jobs.trade import TradeJob
from jobs.train import TrainJob
from jobs.train_opponent import TrainOpponentJob
from jobs.train_vae import TrainVaeJob

_JOBS = (
    DemoJob,
    DownloadJob,
    EvaluateJob,
    ForecastJob,
    IngestJob,
    MigrateSettings,
    StreamJob,
    TradeJob,
    TrainJob,
    TrainOpponentJob,
    TrainVaeJob,
)


def _run(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": "platform", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("settings", _JOBS)
def test_help_describes_the_job_and_its_config_file(settings: type[JobSettings], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        settings.parse(["--help"])
    assert stopped.value.code == 0
    assert "--config FILE" in capsys.readouterr().out


def test_help_works_as_a_command() -> None:
    answer = _run("jobs.ingest", "--help")
    assert answer.returncode == 0, answer.stderr
    assert "usage: python -m jobs.ingest" in answer.stdout


def test_misspelt_option_is_refused_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--training.stps", "5"]) == 2
    assert capsys.readouterr().err == "error: unknown option --training.stps; did you mean --training.steps?\n"


def test_csv_with_bad_rows_is_ingested_without_them_and_they_are_listed(tmp_path: Path) -> None:
    rows = [f"2024-03-04T{hour:02}:00:00Z,1.1,1.2,1.0,1.1,10" for hour in range(6)]
    rows[2] = "2024-03-04T02:00:00Z,1.1,0.9,1.0,1.1,10"
    rows[4] = "2024-03-04T04:00:00Z,nan,1.2,1.0,1.1,10"
    source = tmp_path / "mixed.csv"
    source.write_text("\n".join(["time,open,high,low,close,volume", *rows]))
    report = tmp_path / "report"
    answer = _run(
        "jobs.ingest",
        "--source",
        str(source),
        "--symbol",
        "EURUSD",
        "--zone",
        "UTC",
        "--timeframe",
        "1h",
        "--store",
        str(tmp_path / "store"),
        "--report",
        str(report),
    )
    assert answer.returncode == 0, answer.stderr
    assert "line 4:" in answer.stdout
    assert "line 6:" in answer.stdout
    assert json.loads((report / "report.json").read_text())["accepted"] == 4
    assert [row["line"] for row in csv.DictReader((report / "quarantine.csv").open())] == ["4", "6"]
    assert (report / "coverage.png").read_bytes().startswith(b"\x89PNG")


def test_csv_without_a_valid_row_exits_2(tmp_path: Path) -> None:
    source = tmp_path / "bad.csv"
    source.write_text("time,open,high,low,close,volume\n2024-03-04T00:00:00Z,-1,1.2,1.0,1.1,10\n")
    answer = _run(
        "jobs.ingest",
        "--source",
        str(source),
        "--symbol",
        "EURUSD",
        "--timeframe",
        "1h",
        "--store",
        str(tmp_path / "store"),
        "--report",
        str(tmp_path),
    )
    assert answer.returncode == 2
    assert "no valid candle" in answer.stderr


def test_forecast_of_the_last_candles_of_the_store_is_printed_by_the_command(model_folder: Path, store: str) -> None:
    answer = _run("jobs.forecast", "--model", str(model_folder), "--store", store, "--num-samples", "5", "--as-json")
    assert answer.returncode == 0, answer.stderr
    prediction = json.loads(answer.stdout)
    assert prediction["made_at"] == "2017-12-29T22:00:00+00:00"
    assert set(prediction["horizons"]) == {"240", "960", "3840"}


def test_forecast_from_a_csv_lists_the_rows_that_it_refuses(
    model_folder: Path, series: CandleSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        ",".join([to_datetime(moment).isoformat(), *map(str, values)])
        for moment, values in zip(series.open_times[:130], series.values[:130].tolist(), strict=True)
    ]
    rows[3] = rows[3].split(",")[0] + ",nan,1,1,1,1"
    source = tmp_path / "mine.csv"
    source.write_text("\n".join(["time,open,high,low,close,volume", *rows]))
    assert forecast.main(["--model", str(model_folder), "--csv", str(source), "--num-samples", "5", "--as-json"]) == 0
    answer = capsys.readouterr()
    assert "refused line 5:" in answer.err
    assert json.loads(answer.out)["price"] == series.closes[129]


def test_forecast_with_a_model_of_another_timeframe_or_none_says_what_to_do(
    tmp_path: Path, store: str, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for arguments, message in (
        (("--model", str(broken)), "incomplete, missing model_index.json"),
        (("--model", str(model_folder), "--horizons", "[7]"), "horizons: found 7; allowed: any of [240, 960, 3840] minutes"),
    ):
        assert forecast.main(["--store", store, *arguments]) == 2
        assert message in capsys.readouterr().err
