"""A CSV is forecast at once, with the model that fxcast ships; what had to be assumed is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fxcast.data.packaged import read_packaged_sample
from fxcast.domain.candle import CandleSeries
from fxcast.models.shipped import shipped_model
from fxcast.models.summary import check_forecaster
from jobs.forecast import main

LIMIT_BYTES = 8 * 2**20


def write_csv(path: Path, series: CandleSeries, *, step_minutes: int = 60) -> Path:
    moments = series.open_times[0] + np.arange(len(series)) * np.timedelta64(60 * step_minutes, "s")
    rows = [f"{moment},{','.join(f'{value:.5f}' for value in row)}" for moment, row in zip(moments, series.values, strict=True)]
    path.write_text("\n".join(["time,open,high,low,close,volume", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def candles() -> CandleSeries:
    return read_packaged_sample().series.slice(1000, 1105)  # within one week


def answer(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> tuple[dict[str, object], str]:
    database = f"sqlite:///{path.parent / 'absent.db'}"
    code = main(["--csv", str(path), "--database-url", database, "--as-json", "--num-samples", "12", *options])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out), said.err


@pytest.mark.parametrize(("timeframe", "horizons"), [("1h", {"240", "960", "3840"}), ("1m", {"15", "60", "240"})])
def test_a_file_of_candles_is_forecast_without_a_database_a_store_or_a_trained_model(
    timeframe: str, horizons: set[str], candles: CandleSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_csv(tmp_path / "your.csv", candles, step_minutes=60 if timeframe == "1h" else 1)
    forecast, said = answer(capsys, path)
    assert forecast["model_version"] == f"ldm4ts-tiny-{timeframe}"
    assert forecast["timeframe"] == timeframe
    assert set(forecast["horizons"]) == horizons  # pyright: ignore[reportArgumentType]
    assert "says no pair: its candles are taken for EURUSD" in said
    assert f"the one that fxcast ships forecasts, ldm4ts-tiny-{timeframe}" in said
    assert "read as UTC" in said


def test_a_pair_in_the_file_s_name_or_given_is_taken(
    candles: CandleSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forecast, said = answer(capsys, write_csv(tmp_path / "GBPUSD_h1.csv", candles))
    assert forecast["symbol"] == "GBPUSD"
    assert "says no pair" not in said
    forecast, said = answer(capsys, write_csv(tmp_path / "mine.csv", candles), "--symbol", "EURGBP")
    assert forecast["symbol"] == "EURGBP"


def test_a_timeframe_without_a_shipped_model_is_refused(
    candles: CandleSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_csv(tmp_path / "EURUSD.csv", candles, step_minutes=15)
    assert main(["--csv", str(path), "--database-url", f"sqlite:///{tmp_path / 'absent.db'}"]) == 2
    assert "no model is active for EURUSD 15m, and none is shipped for 15m; give --model, or train one" in capsys.readouterr().err


@pytest.mark.parametrize("timeframe", ["1m", "1h"])
def test_shipped_models_are_whole_small_and_say_what_they_have_seen(timeframe: str) -> None:
    folder = shipped_model(timeframe)
    assert folder is not None
    assert check_forecaster(folder, preset="tiny", timeframe=timeframe).model_version == folder.name
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= LIMIT_BYTES
    assert "SHA-256 of the candles" in (folder / "card.md").read_text()
    assert not list(folder.rglob("*.bin")), "safetensors only"
