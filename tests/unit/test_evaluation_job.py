"""What the evaluation refuses before anything is computed, each in one sentence with exit code 2."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.registry import RegisteredModel, register_model
from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting
from fxcast.evaluation.strata import volatility_terciles
from jobs.evaluate import EvaluateJob, main, period_of, plan_evaluation
from jobs.evaluated_model import find_model
from tests.factories import make_series

SEEN = datetime(2017, 4, 1, tzinfo=UTC)


def settings(tmp_path: Path, *options: str) -> EvaluateJob:
    given = ["--store", str(tmp_path / "store"), "--forecasts", str(tmp_path / "forecasts")]
    return EvaluateJob.parse([*given, "--database-url", f"sqlite:///{tmp_path / 'models.db'}", *options])


def model_folder(tmp_path: Path, **index: str) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"model_version": "mine", **index}))
    return folder


def register(tmp_path: Path, folder: Path) -> str:
    url = f"sqlite:///{tmp_path / 'models.db'}"
    migrate(url)
    model = RegisteredModel(
        version="mine",
        preset="tiny",
        symbol="EURUSD",
        timeframe="1h",
        folder=folder,
        config={},
        data_hash="0",
        data_start=datetime(2016, 1, 1, tzinfo=UTC),
        data_end=SEEN,
        metrics={},
    )
    database = open_database(url)
    register_model(database, model)
    database.dispose()
    return url


def test_a_period_that_the_registry_says_was_seen_is_refused(tmp_path: Path) -> None:
    register(tmp_path, model_folder(tmp_path))
    for name in ("mine", str(tmp_path / "model")):
        with pytest.raises(BadSetting, match=r"start: found 2017-03-31.* up to 2017-04-01"):
            plan_evaluation(settings(tmp_path, "--model", name, "--start", "2017-03-31T00:00:00Z"))


def test_a_refusal_is_one_sentence_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = register(tmp_path, model_folder(tmp_path))
    assert main(["--model", "mine", "--start", "2017-03-31T00:00:00Z", "--database-url", url]) == 2
    assert capsys.readouterr().err == (
        "error: start: found 2017-03-31T00:00:00+00:00, but mine was trained and validated on candles up to "
        "2017-04-01T00:00:00+00:00; allowed: that moment or later\n"
    )


def test_a_period_that_the_folder_says_was_seen_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, data_end="2017-04-01T00:00:00+00:00")
    with pytest.raises(BadSetting, match=r"start: found 2017-03-31.* up to 2017-04-01"):
        plan_evaluation(settings(tmp_path, "--model", str(folder), "--start", "2017-03-31T00:00:00Z"))


def test_what_an_opponent_has_seen_counts_as_well(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, data_end="2017-04-01T00:00:00+00:00")
    with pytest.raises(BadSetting, match=r"start: found 2017-03-31"):
        plan_evaluation(settings(tmp_path, "--against", str(folder), "--start", "2017-03-31T00:00:00Z"))


def test_folder_and_registry_that_disagree_are_both_believed(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, data_end="2017-06-01T00:00:00+00:00")
    url = register(tmp_path, folder)
    assert find_model(str(folder), url).seen_until == datetime(2017, 6, 1, tzinfo=UTC)


def test_a_folder_that_says_nothing_is_of_unknown_past_and_the_random_walk_is_not(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.db'}"
    assert find_model(str(model_folder(tmp_path)), url).is_of_unknown_past
    assert not find_model("random-walk", url).is_of_unknown_past
    (tmp_path / "model" / "model_index.json").write_text(json.dumps({"pipeline": "RandomWalk"}))
    assert not find_model(str(tmp_path / "model"), url).is_of_unknown_past


def test_a_data_end_that_is_no_time_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, data_end="spring")
    with pytest.raises(BadSetting, match=r"data_end: found 'spring'"):
        find_model(str(folder), f"sqlite:///{tmp_path / 'none.db'}")


def test_an_unknown_model_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"found 'nowhere'; allowed: random-walk, a model folder, or a version"):
        plan_evaluation(settings(tmp_path, "--model", "nowhere", "--start", "2017-03-31T00:00:00Z"))


def test_without_a_start_and_with_nothing_trained_the_start_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="start: found none"):
        plan_evaluation(settings(tmp_path))


def test_a_forecaster_is_not_compared_with_itself(tmp_path: Path) -> None:
    CandleStore(tmp_path / "store").append(make_series(bars=300))
    with pytest.raises(BadSetting, match="found random-walk twice"):
        plan_evaluation(settings(tmp_path, "--model", "random-walk", "--start", "2017-03-08T00:00:00Z"))


def test_an_end_before_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="stop: found 2017-03-01"):
        plan_evaluation(settings(tmp_path, "--start", "2017-03-08T00:00:00Z", "--stop", "2017-03-01T00:00:00Z"))


def test_the_period_begins_where_the_training_data_ends_and_stops_with_the_stored_candles(tmp_path: Path) -> None:
    series = make_series(bars=1500)
    CandleStore(tmp_path / "store").append(series)
    url = register(tmp_path, model_folder(tmp_path))
    named = [find_model("mine", url)]
    assert period_of(settings(tmp_path), named, Timeframe("1h")) == (SEEN, to_datetime(series.close_times[-1]))


def test_windows_end_in_the_period_and_regimes_are_decided_before_it(tmp_path: Path) -> None:
    series = make_series(bars=1500)
    CandleStore(tmp_path / "store").append(series)
    stop = datetime(2017, 4, 20, tzinfo=UTC)
    options = ("--model", "random-walk", "--against", "[]", "--start", SEEN.isoformat(), "--stop", stop.isoformat())
    plan = plan_evaluation(settings(tmp_path, *options))
    (windows,) = plan.windows
    assert to_datetime(windows.series.close_times[-1]) == stop
    assert windows.closed_at[0] >= SEEN.timestamp()
    before = int(np.searchsorted(series.close_times, np.datetime64("2017-04-01"), side="right"))
    assert windows.terciles == volatility_terciles(series.closes[:before])
