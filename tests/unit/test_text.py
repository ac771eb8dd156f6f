"""The market in words, and what else the model is told of a window."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from fxcast.domain.candle import FloatArray, candle_problem
from fxcast.domain.forecaster import WindowBatch
from fxcast.models.config import preset_config
from fxcast.models.features import SPECTRUM_FEATURES, STATE_FEATURES, condition_features
from fxcast.models.text import SENTENCE_INDEX, SENTENCES, describe, describe_window
from fxcast.training.charts import windows_of
from tests.factories import make_series

CONFIG = preset_config("tiny", "1h")


def at(moment: datetime) -> np.ndarray:
    return np.array([int(moment.timestamp())], dtype=np.int64)


def say(closes: FloatArray, moment: datetime = datetime(2017, 3, 7, 12, tzinfo=UTC)) -> str:
    return describe(closes[None], at(moment), 120)[0]


def test_every_sentence_is_said_once() -> None:
    assert len(set(SENTENCES)) == len(SENTENCES) == 16 * 9
    assert SENTENCES[SENTENCE_INDEX[SENTENCES[17]]] == SENTENCES[17]


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (datetime(2017, 3, 11, 12, tzinfo=UTC), "No session is open."),  # Saturday
        (datetime(2017, 3, 7, 4, tzinfo=UTC), "The Sydney and Tokyo sessions are open."),
        (datetime(2017, 3, 7, 12, tzinfo=UTC), "The London session is open."),
        (datetime(2017, 3, 7, 14, tzinfo=UTC), "The London and New York sessions are open."),
        (datetime(2017, 7, 4, 12, tzinfo=UTC), "The London and New York sessions are open."),  # summer time moves New York
    ],
)
def test_the_sentence_names_the_sessions_open_at_the_close(moment: datetime, words: str) -> None:
    assert say(make_series().closes, moment).startswith(words)


@pytest.mark.parametrize(("drift", "word"), [(0.001, "rising"), (-0.001, "falling"), (0.0, "flat")])
def test_the_sentence_names_the_trend(drift: float, word: str) -> None:
    wiggle = 0.0003 * (-1.0) ** np.arange(100)
    assert f"The trend is {word}." in say(1.1 * np.exp(drift * np.arange(100) + wiggle))


@pytest.mark.parametrize(("recent", "word"), [(0.2, "low"), (1.0, "normal"), (4.0, "high")])
def test_the_sentence_compares_recent_moves_with_the_window(recent: float, word: str) -> None:
    moves = 0.001 * (-1.0) ** np.arange(100) * np.where(np.arange(100) >= 80, recent, 1.0)
    assert f"Volatility is {word}." in say(1.1 * np.exp(moves))


def test_a_window_is_described_at_the_close_of_its_last_candle() -> None:
    window = make_series(start=datetime(2017, 3, 3, 9, tzinfo=UTC))  # the last candle opens at 12:00 and closes at 13:00
    assert describe_window(window, 120) == say(window.closes, datetime(2017, 3, 7, 13, tzinfo=UTC))
    assert describe_window(window, 120).startswith("The London and New York sessions are open.")  # at 12:00 London alone


def test_features_have_their_shapes_and_are_finite() -> None:
    windows = windows_of(make_series(bars=170, range_width=1e-4), CONFIG)
    features = condition_features(windows.windows, CONFIG)
    assert features.candles.shape == (7, 100, 5)
    assert features.spectrum.shape == (7, SPECTRUM_FEATURES)
    assert features.state.shape == (7, STATE_FEATURES)
    assert features.sentence.shape == (7,)
    assert all(part.isfinite().all() for part in features)


def test_features_of_a_flat_window_are_finite() -> None:
    flat = make_series([1.25] * 100)
    features = condition_features(WindowBatch.of(flat), CONFIG)
    assert all(part.isfinite().all() for part in features)


@pytest.mark.parametrize("volume", [0.0, 0.1, 7.0, 1000.0])
def test_a_volume_that_never_changes_says_nothing(volume: float) -> None:
    window = make_series()
    values = window.values.copy()
    values[:, 4] = volume
    features = condition_features(WindowBatch.of(replace(window, values=values)), CONFIG)
    assert (features.candles[:, :, 4] == 0).all()


def test_a_volume_that_changes_is_told_in_its_own_deviations() -> None:
    window = make_series()
    values = window.values.copy()
    values[:, 4] = np.exp(np.random.default_rng(0).normal(5.0, 0.3, 100))
    features = condition_features(WindowBatch.of(replace(window, values=values)), CONFIG)
    assert features.candles[0, :, 4].mean() == pytest.approx(0.0, abs=1e-5)
    assert features.candles[0, :, 4].std() == pytest.approx(1.0, abs=0.01)


def test_a_window_mirrored_is_a_sound_candle_series_that_falls_where_it_rose() -> None:
    windows = windows_of(make_series(bars=170, range_width=1e-4), CONFIG)
    mirrored = windows.mirrored()
    assert all(candle_problem(*(float(value) for value in candle)) is None for candle in mirrored.windows.candles.reshape(-1, 5))
    moves, opposite = (np.diff(np.log(each.windows.candles[:, :, 3]), axis=1) for each in (windows, mirrored))
    assert np.allclose(moves, -opposite)
    assert (mirrored.paths == -windows.paths).all()
