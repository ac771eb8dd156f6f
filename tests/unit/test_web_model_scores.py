"""The numbers of page Models, and what it reads of forecasts."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fxcast.adapters.storage.database import Database, migrate, open_database
from fxcast.adapters.storage.model_history import QualityPoint, forecast_kinds, models_that_forecast, quality_history
from fxcast.adapters.storage.predictions import record_predictions, resolve_outcomes
from fxcast.adapters.storage.quality import newest_quality, update_quality
from fxcast.adapters.storage.recent import RecentForecast, recent_forecasts
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.evaluation.rolling_walk import independent_forecasts
from fxcast.web.models_view import (
    LIVE_COLUMNS,
    drift_figure,
    horizon_words,
    kind_words,
    live_scores,
    measured_on,
    pit_figure,
    pit_of,
    share_interval,
    training_scores,
)
from tests.factories import NOON, make_series
from tests.model_score_factories import BARS, FIRST, HORIZON, KIND, MADE, METRICS, predictions, registered, resolved


@pytest.fixture(scope="module")
def series() -> CandleSeries:
    return make_series(bars=320, seed=3)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'fx.db'}"
    migrate(url)
    return url


@pytest.fixture
def empty(url: str) -> Database:
    return open_database(url)


@pytest.fixture
def database(empty: Database, series: CandleSeries) -> Database:
    record_predictions(empty, [*predictions(series, "wide", width=0.01), *predictions(series, "narrow", width=0.0001, count=30)])
    return empty


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(15, "15 minutes"), (60, "1 hour"), (240, "4 hours"), (1440, "1 day"), (2880, "2 days"), (3840, "64 hours")],
)
def test_a_horizon_is_said_as_people_say_it(minutes: int, words: str) -> None:
    assert horizon_words(minutes) == words


def test_training_scores_stand_in_words_by_horizon_the_shortest_first() -> None:
    scores = training_scores(METRICS)

    assert scores.columns == ("all horizons", "4 hours", "64 hours", "4h 16 hours")
    assert dict(scores.scores) == {
        "CRPS over the random walk's (below 1: better)": ("0.964", None, None, None),
        "CRPS better than the random walk's by": (None, "+5.5%", "+2.0%", None),
        "inside the 90 % interval (right: 90 %)": ("90.6%", None, None, None),
        "samples widened by a factor of": (None, None, None, "1.25"),
    }


def test_unknown_metrics_are_shown_under_their_own_name_and_odd_values_as_they_are() -> None:
    others = dict(training_scores(METRICS).others)

    assert others["EURUSD omega"] == "0.02131"
    assert others["steps trained"] == "1,200"
    assert others["windows trained on"] == "unknown"


def test_a_model_without_metrics_has_no_scores() -> None:
    scores = training_scores({})

    assert (scores.columns, scores.scores, scores.others) == (("all horizons",), (), ())


def test_the_period_of_the_scores_is_named_where_it_is_known() -> None:
    assert "2017-08-21 to 2017-10-22" in measured_on(registered("a").config)
    assert "(" not in measured_on({"validation": "odd"})


def test_overlapping_forecasts_widen_the_interval_of_a_share() -> None:
    apart, overlapping = share_interval(0.9, 100), share_interval(0.9, 10)

    assert apart == pytest.approx((0.8256, 0.9448), abs=1e-4)  # Wilson 1927 for 90 of 100
    assert overlapping[0] < apart[0] < 0.9 < apart[1] < overlapping[1]


def test_all_inside_is_an_interval_below_one() -> None:
    low, high = share_interval(1.0, 20)

    assert low == pytest.approx(0.8389, abs=1e-4)
    assert high == pytest.approx(1.0)


def test_models_that_forecast_are_found_with_their_last_one(database: Database, series: CandleSeries) -> None:
    found = models_that_forecast(database)

    assert found == {
        "narrow": to_datetime(series.close_times[FIRST + 29]),
        "wide": to_datetime(series.close_times[FIRST + MADE - 1]),
    }


def test_an_empty_database_has_no_models(empty: Database) -> None:
    assert models_that_forecast(empty) == {}
    assert forecast_kinds(empty, "wide") == ()
    assert recent_forecasts(empty, KIND, limit=5) == ()
    assert quality_history(empty, KIND, points=5) == ()


def test_kinds_are_those_asked_for(database: Database) -> None:
    assert forecast_kinds(database, "wide") == (KIND,)
    assert kind_words(KIND) == "EURUSD 1h, 4 hours ahead"


def test_resolved_forecasts_are_the_last_ones_oldest_first(database: Database, series: CandleSeries) -> None:
    assert recent_forecasts(database, KIND, limit=500) == ()
    resolve_outcomes(database, series, spread=0.0)

    last = recent_forecasts(database, KIND, limit=3)

    assert [each.made_at for each in last] == [to_datetime(series.close_times[FIRST + MADE - back]) for back in (3, 2, 1)]
    assert last[-1].actual_price == pytest.approx(float(series.closes[FIRST + MADE - 1 + BARS]))
    assert len(last[-1].samples) == 40


def test_history_is_thinned_and_keeps_the_newest(database: Database, series: CandleSeries) -> None:
    for end in range(FIRST + BARS + 1, FIRST + BARS + 12):
        resolve_outcomes(database, series.slice(0, end + 1), spread=0.0)
        update_quality(database, "EURUSD", series.timeframe, window=500, pip=0.0001)

    every = quality_history(database, KIND, points=100)
    some = quality_history(database, KIND, points=4)

    assert len(every) == 11
    assert [each.forecasts for each in every] == list(range(2, 13))
    assert 2 < len(some) <= 4
    assert some[-1] == every[-1]
    assert set(some) < set(every)


def test_scores_here_are_those_that_jobs_outcomes_stores(database: Database, series: CandleSeries) -> None:
    forecasts = resolved(database, series)
    update_quality(database, "EURUSD", series.timeframe, window=500, pip=0.0001)
    stored = newest_quality(database, model_version="wide")[0].scores

    own = live_scores(forecasts, HORIZON, symbol="EURUSD", stored=None, candles=series)

    assert asdict(own.scores) == pytest.approx(asdict(stored))
    assert not own.are_stored
    assert own.walk is not None
    assert own.walk.forecasts == MADE
    assert own.walk.crps_pips == pytest.approx(stored.crps_pips)


def test_forecasts_that_are_too_wide_or_too_narrow_are_called_so(database: Database, series: CandleSeries) -> None:
    wide = live_scores(resolved(database, series), HORIZON, symbol="EURUSD", stored=None, candles=series)
    narrow_kind = replace(KIND, model_version="narrow")
    narrow = live_scores(recent_forecasts(database, narrow_kind, limit=500), HORIZON, symbol="EURUSD", stored=None, candles=None)

    assert wide.scores.coverage_90 == 1.0
    assert narrow.verdict == ("too narrow", "bad")
    assert narrow.walk is None
    cells = dict(zip(LIVE_COLUMNS, narrow.cells, strict=True))
    assert cells["random walk's"] == "no candles"
    assert cells["better by"] is None
    assert cells["scored"] == "30 (8 apart)"
    assert replace(wide, covers=share_interval(1.0, 60)).verdict == ("too wide", "warn")
    assert wide.independent == 15
    assert replace(wide, covers=share_interval(0.9, 60)).verdict == ("too few", "plain")
    assert replace(wide, covers=share_interval(0.9, 60), independent=60).verdict == ("fits 90 %", "good")


def test_the_better_by_of_some_forecasts_says_of_how_many(database: Database, series: CandleSeries) -> None:
    forecasts = resolved(database, series)
    late = series.slice(FIRST - 99 + 10, len(series))

    some = live_scores(forecasts, HORIZON, symbol="EURUSD", stored=None, candles=late)

    assert some.walk is not None
    assert some.walk.forecasts == MADE - 10
    assert (dict(zip(LIVE_COLUMNS, some.cells, strict=True))["better by"] or "").endswith(" on 50")


def outcomes(count: int, *, scale: float, samples: int = 50, step_minutes: int = HORIZON) -> list[RecentForecast]:
    """Forecasts by a normal law whose outcomes are `scale` times as wide."""
    draws = np.random.default_rng(7)
    return [
        RecentForecast(
            made_at=NOON + number * timedelta(minutes=step_minutes),
            price=1.0,
            q05=0.9,
            q50=1.0,
            q95=1.1,
            actual_price=1.0 + 0.01 * scale * float(draws.standard_normal()),
            direction_right=None,
            samples=tuple(1.0 + 0.01 * draws.standard_normal(samples)),
        )
        for number in range(count)
    ]


def test_right_forecasts_give_a_flat_histogram_within_what_chance_allows() -> None:
    pit = pit_of(outcomes(1000, scale=1.0), HORIZON)

    assert pit is not None
    assert sum(pit.shares) == pytest.approx(1.0)
    assert pit.index > 0.9
    assert sum(not pit.low <= share <= pit.high for share in pit.shares) <= 2
    assert (pit.low, pit.high) == pytest.approx((0.082, 0.119), abs=0.002)


def test_forecasts_that_are_too_narrow_pile_up_at_both_ends() -> None:
    pit = pit_of(outcomes(1000, scale=3.0), HORIZON)

    assert pit is not None
    assert min(pit.shares[0], pit.shares[-1]) > pit.high
    assert "bars outside" in pit.said


def test_overlapping_forecasts_widen_what_chance_allows() -> None:
    overlapping = outcomes(400, scale=1.0, step_minutes=HORIZON // 4)
    pit, apart = pit_of(overlapping, HORIZON), pit_of(outcomes(400, scale=1.0), HORIZON)

    assert independent_forecasts([each.made_at for each in overlapping], HORIZON) == 100
    assert pit is not None
    assert apart is not None
    assert pit.high - pit.low > 1.8 * (apart.high - apart.low)


def test_forecasts_without_samples_are_left_out_of_the_histogram() -> None:
    kept = outcomes(20, scale=1.0)
    more = [replace(each, samples=()) for each in outcomes(30, scale=1.0)]
    other = outcomes(10, scale=1.0, samples=20)

    pit = pit_of([*kept, *more, *other], HORIZON)

    assert pit is not None
    assert pit.forecasts == 30
    assert pit_of(more, HORIZON) is None


def test_charts_hold_what_they_are_given() -> None:
    points = [
        QualityPoint(as_of=NOON + hours * timedelta(hours=1), forecasts=10 + hours, coverage_90=0.8, log_width=0.1 * hours)
        for hours in range(3)
    ]
    pit = pit_of(outcomes(50, scale=1.0), HORIZON)
    assert pit is not None

    coverage, width = drift_figure(points, ZoneInfo("America/New_York")).to_dict()["data"]
    bars = pit_figure(pit).to_dict()["data"][0]

    assert list(coverage["y"]) == pytest.approx([80.0, 80.0, 80.0])
    assert list(width["y"]) == pytest.approx([0.0, 0.1, 0.2])
    assert str(coverage["x"][0]).startswith("2017-03-07 07:00")  # noon UTC, in the reader's zone
    assert sum(bars["y"]) == pytest.approx(100.0)
