"""The export job writes stored candles to a file that others read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fxcast.data.export import export_candles
from fxcast.data.store import CandleStore
from fxcast.domain.market import DETAILS, MarketCandles, PriceSide, no_details
from fxcast.errors import BadSetting
from jobs.export import main
from tests.factories import make_series


@pytest.fixture
def store(tmp_path: Path) -> str:
    series = make_series(bars=30, timeframe="1h")
    details = no_details(30).copy()
    details[:20, DETAILS.index("spread")] = 0.0001
    root = str(tmp_path / "store")
    CandleStore(root).append(MarketCandles(candles=series, side=PriceSide.BID, details=details))
    return root


def test_candles_are_written_in_utc_with_what_is_known(tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "eurusd.csv"
    assert main(["--path", str(path), "--store", store]) == 0
    table = pd.read_csv(path)
    assert list(table.columns) == ["time", "open", "high", "low", "close", "volume", "spread"]
    assert (table["time"].iloc[0], table["time"].iloc[29]) == ("2017-03-01T00:00:00Z", "2017-03-02T05:00:00Z")
    assert np.array_equal(table["close"], make_series(bars=30).closes)
    assert table["spread"].isna().tolist() == [False] * 20 + [True] * 10
    told = " ".join(capsys.readouterr().out.split())
    assert "eurusd.csv: 30 candles of EURUSD 1h, bid prices" in told
    assert "the file does not say the side: to read it back, give --side bid" in told


def test_a_span_and_a_longer_timeframe_can_be_asked_for(tmp_path: Path, store: str) -> None:
    path = tmp_path / "eurusd.parquet"
    span = ["--start", "2017-03-01T02:00:00Z", "--stop", "2017-03-01T10:00:00Z"]
    assert main(["--path", str(path), "--store", store, *span, "--resample-to", "4h"]) == 0
    assert pd.read_parquet(path)["time"].tolist() == ["2017-03-01T02:00:00Z", "2017-03-01T06:00:00Z"]


def test_what_can_not_be_written_is_refused(tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--path", str(tmp_path / "eurusd.xlsx"), "--store", store]) == 2
    assert "a name that ends in .csv or .parquet" in capsys.readouterr().err
    assert main(["--path", str(tmp_path / "gbpusd.csv"), "--store", store, "--symbol", "GBPUSD"]) == 2
    assert "GBPUSD 1h" in capsys.readouterr().err
    assert list(tmp_path.glob("*.csv")) == []


def test_an_unknown_ending_writes_nothing(tmp_path: Path) -> None:
    data = MarketCandles(candles=make_series(bars=1), side=PriceSide.BID, details=no_details(1))
    with pytest.raises(BadSetting, match=r"path: found .*eurusd\.json; allowed"):
        export_candles(data, tmp_path / "a" / "eurusd.json")
    assert not (tmp_path / "a").exists()


def test_a_start_within_a_longer_candle_is_moved_to_its_opening(tmp_path: Path, store: str) -> None:
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    assert main(["--path", str(whole), "--store", store, "--resample-to", "4h", "--start", "2017-03-01T02:00:00Z"]) == 0
    assert main(["--path", str(cut), "--store", store, "--resample-to", "4h", "--start", "2017-03-01T05:00:00Z"]) == 0
    assert pd.read_parquet(cut).equals(pd.read_parquet(whole))


def test_a_file_that_can_not_be_written_is_named_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    CandleStore(tmp_path / "store").append(make_series(bars=3))
    (tmp_path / "file").write_text("not a folder")
    assert main(["--store", str(tmp_path / "store"), "--path", str(tmp_path / "file" / "out.csv")]) == 2
    assert "can't be written" in capsys.readouterr().err
