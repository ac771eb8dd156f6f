"""One model of several timeframes: each looks as many candles ahead, has its calibration, and is loaded by its name."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fxcast.adapters.clock import SystemClock
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecaster import WindowBatch, predict
from fxcast.errors import BadModelFolder, BadRequest, BadSetting
from fxcast.models.calibration import Calibration, CalibrationFile
from fxcast.models.config import LDM4TSConfig, preset_config
from fxcast.models.features import condition_features
from fxcast.models.folder import from_pretrained, save_pretrained
from fxcast.models.index import ModelIndex, check_folder
from fxcast.models.load import load_forecaster
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.summary import check_forecaster
from fxcast.models.width_features import width_features
from fxcast.serving.app import build
from fxcast.serving.directory import ModelDirectory, ModelKey
from fxcast.training.charts import join, windows_of
from tests.factories import make_series
from tests.model_factories import SMALL_CONFIG, make_calibration, make_pipeline

CONFIG = LDM4TSConfig.model_validate({**SMALL_CONFIG.model_dump(), "also_timeframes": ("4h", "15m")})
CLOSE = datetime(2017, 3, 7, 12, tzinfo=UTC)


def calibration_of(horizons_minutes: tuple[int, ...], *, width: float, fitted_on: str) -> Calibration:
    return make_calibration(width=width).at(horizons_minutes).model_copy(update={"fitted_on": fitted_on})


@pytest.fixture(scope="module")
def pipeline() -> LDM4TSPipeline:
    torch.set_num_threads(1)
    made = make_pipeline(config=CONFIG)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made.width.layers[-1].get_parameter("weight").normal_(std=0.05)  # as fitted: untrained it knows the walk's width alone
    return replace(
        made,
        calibration=calibration_of((240, 960, 3840), width=2.0, fitted_on="EURUSD 1h 2016"),
        other_calibrations={"15m": calibration_of((60, 240, 960), width=3.0, fitted_on="EURUSD 15m 2016")},
        model_version="v1",
    )


@pytest.fixture(scope="module")
def folder(pipeline: LDM4TSPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    saved = tmp_path_factory.mktemp("models") / "v1"
    save_pretrained(pipeline, saved, card="# v1\n", fxcast_version="0.1.0")
    return saved


def window_of(timeframe: str) -> CandleSeries:
    """Return 100 candles that are the same for every timeframe but for their length, the last closing at the same moment."""
    minutes = {"15m": 15, "1h": 60, "4h": 240}[timeframe]
    return make_series(timeframe=timeframe, start=CLOSE - timedelta(minutes=100 * minutes), range_width=1e-4)


def test_each_timeframe_looks_as_many_bars_ahead_in_its_own_minutes() -> None:
    for name, horizons in (("15m", (60, 240, 960)), ("1h", (240, 960, 3840)), ("4h", (960, 3840, 15360))):
        seen = CONFIG.at(name)
        assert (seen.timeframe, seen.horizons_minutes) == (name, horizons)
        assert (seen.horizon_bars, seen.future_bars, seen.horizon_points) == ((4, 16, 64), 64, CONFIG.horizon_points)
        assert set(seen.timeframes) == {"15m", "1h", "4h"}
        assert seen.at("1h") == CONFIG.at("1h") == CONFIG
    minutes = preset_config("tiny", "1m", ("EURUSD",), ("5m",))
    assert minutes.at("5m").horizons_minutes == (75, 300, 1200)


def test_others_are_kept_shortest_first_however_they_were_named() -> None:
    assert CONFIG.also_timeframes == ("15m", "4h")
    assert CONFIG.timeframes == ("1h", "15m", "4h")


@pytest.mark.parametrize(
    ("named", "says"),
    [
        (("15m", "15m"), "each timeframe once, and 1h is the main one"),
        (("1h",), "each timeframe once, and 1h is the main one"),
        (("2h",), "found '2h'; allowed: 1m, 5m, 15m, 1h, 4h, 1d"),
    ],
)
def test_a_timeframe_that_is_named_twice_or_is_none_is_refused(named: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        LDM4TSConfig(also_timeframes=named)


def test_a_timeframe_that_the_model_was_not_trained_on_is_refused_with_those_that_it_knows(
    pipeline: LDM4TSPipeline, folder: Path
) -> None:
    for ask in (CONFIG.at, pipeline.at):
        with pytest.raises(BadSetting, match="timeframe: found 1m; allowed: 1h, 15m, 4h"):
            ask("1m")
    for look in (check_folder, check_forecaster, from_pretrained, load_forecaster):
        with pytest.raises(BadModelFolder, match="is for 1h, 15m, 4h candles, expected 1m"):
            look(folder, timeframe="1m")


def test_a_model_of_one_timeframe_is_written_as_it_was_before_there_could_be_several() -> None:
    dumped = SMALL_CONFIG.model_dump(mode="json")
    assert "also_timeframes" not in dumped, "so that a run that began then goes on, and its encoded windows are found"
    assert LDM4TSConfig.model_validate(dumped) == SMALL_CONFIG
    assert "also_timeframes" not in json.loads(CalibrationFile.of(make_calibration(), {}).model_dump_json())
    index = ModelIndex(fxcast_version="0", model_version="v", config=CONFIG)
    assert ModelIndex.model_validate_json(index.model_dump_json()).config == CONFIG


def test_calibrations_come_back_from_their_file_and_so_does_that_of_one_timeframe_alone() -> None:
    main, other = make_calibration(), calibration_of((60, 240, 960), width=3.0, fitted_on="EURUSD 15m 2016")
    read = CalibrationFile.model_validate_json(CalibrationFile.of(main, {"15m": other}).model_dump_json())
    assert (read.main, read.also_timeframes) == (main, {"15m": other})
    alone = CalibrationFile.model_validate_json(main.model_dump_json())
    assert (alone.main, alone.also_timeframes) == (main, {})


@pytest.mark.parametrize(
    ("timeframe", "horizons", "width", "fitted_on"),
    [
        (None, (240, 960, 3840), 2.0, "EURUSD 1h 2016"),
        ("1h", (240, 960, 3840), 2.0, "EURUSD 1h 2016"),
        ("15m", (60, 240, 960), 3.0, "EURUSD 15m 2016"),
        ("4h", (960, 3840, 15360), 2.0, "EURUSD 1h 2016"),  # it has none of its own
    ],
)
def test_a_folder_is_loaded_as_the_forecaster_of_a_timeframe_with_its_horizons_and_calibration(
    folder: Path, pipeline: LDM4TSPipeline, timeframe: str | None, horizons: tuple[int, ...], width: float, fitted_on: str
) -> None:
    name = timeframe or "1h"
    loaded = load_forecaster(folder, preset="tiny", timeframe=timeframe)
    assert isinstance(loaded, LDM4TSPipeline)
    assert (loaded.timeframe.name, loaded.horizons_minutes, loaded.model_version) == (name, horizons, "v1")
    assert [one.horizon_minutes for one in loaded.calibration.horizons] == list(horizons)
    assert {one.width for one in loaded.calibration.horizons} == {width}
    assert loaded.calibration.fitted_on == fitted_on
    summary = check_forecaster(folder, timeframe=timeframe)
    assert (summary.timeframe, summary.horizons_minutes) == (name, horizons)
    window = window_of(name)
    first, second = (
        predict(each, window, horizons_minutes=horizons, num_samples=3, seed=1).horizons for each in (loaded, pipeline.at(name))
    )
    assert first == second


def test_a_model_saved_from_another_timeframe_still_forecasts_each(folder: Path, tmp_path: Path) -> None:
    save_pretrained(from_pretrained(folder, timeframe="15m"), tmp_path / "again", card="# v1\n", fxcast_version="0.1.0")
    assert check_folder(tmp_path / "again").config.timeframe == "15m"
    for name in ("1h", "15m", "4h"):
        before, after = (from_pretrained(each, timeframe=name) for each in (folder, tmp_path / "again"))
        assert (before.horizons_minutes, before.config) == (after.horizons_minutes, after.config)
        if name != "4h":  # which takes over the main one's, and that is another one now
            assert before.calibration == after.calibration


def test_a_calibration_of_an_unknown_timeframe_or_of_other_horizons_is_refused(folder: Path) -> None:
    path = folder / "calibration.json"
    whole = path.read_text()
    try:
        for change, says in (
            ({"1m": make_calibration()}, "calibration.json has 1m, which model_index.json has not"),
            ({"1h": make_calibration()}, "calibration.json has 1h, which model_index.json has not"),
            ({"4h": make_calibration()}, "calibration.json has other horizons than model_index.json for 4h candles"),
        ):
            path.write_text(CalibrationFile.of(make_calibration(), change).model_dump_json())
            with pytest.raises(BadModelFolder, match=says):
                from_pretrained(folder)
    finally:
        path.write_text(whole)
    assert from_pretrained(folder).calibration.fitted_on == "EURUSD 1h 2016"


def test_equal_candles_of_two_lengths_are_told_apart_by_their_length_alone(pipeline: LDM4TSPipeline) -> None:
    hours, quarters = (WindowBatch.of(window_of(name)) for name in ("1h", "15m"))
    assert np.array_equal(hours.candles, quarters.candles)
    assert np.array_equal(hours.closed_at, quarters.closed_at)
    seen, others = (condition_features(each, pipeline.config.at(each.timeframe.name)) for each in (hours, quarters))
    for name in ("candles", "spectrum", "sentence", "symbol"):
        assert torch.equal(getattr(seen, name), getattr(others, name)), name
    assert torch.nonzero((seen.state != others.state)[0]).flatten().tolist() == [seen.state.shape[1] - 1]
    widths = width_features(hours, 120) != width_features(quarters, 120)
    assert widths.sum() == 2, "the length, and the volatility of a minute"

    tokens, other_tokens = (pipeline.conditioner(each).pooled for each in (seen, others))
    assert not torch.allclose(tokens, other_tokens, rtol=1e-4)
    raw, other_raw = (pipeline.at(each.timeframe.name).sample_moves(each, num_samples=4, seeds=[1]) for each in (hours, quarters))
    assert not np.allclose(raw, other_raw, rtol=1e-4)
    raw, other_raw = (pipeline.at(each.timeframe.name).horizon_widths(each) for each in (hours, quarters))
    assert not np.allclose(raw, other_raw, rtol=1e-4)


def test_a_service_finds_each_timeframe_of_a_model_and_by_default_its_main_one(folder: Path) -> None:
    directory = ModelDirectory(folder, database_url="sqlite:///unused.db", clock=SystemClock().now)
    assert directory.default() == ModelKey(folder=str(folder), timeframe="1h")
    assert directory.find("GBPUSD", "15m") == ModelKey(folder=str(folder), timeframe="15m")
    with pytest.raises(BadRequest, match="timeframe: found 1m; allowed: 1h, 15m, 4h, the timeframes of model"):
        directory.find("EURUSD", "1m")
    with pytest.raises(BadModelFolder, match="is for 1h, 15m, 4h candles, expected 1m"):
        build({"model_folder": str(folder), "timeframe": "1m"})


def test_windows_of_several_timeframes_are_no_batch() -> None:
    hours, quarters = (windows_of(make_series(bars=170, timeframe=name), CONFIG.at(name)) for name in ("1h", "15m"))
    with pytest.raises(ValueError, match="windows of several timeframes can't be one batch"):
        join([hours, quarters])
