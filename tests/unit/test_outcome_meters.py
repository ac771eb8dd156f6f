"""Rolling scores as Prometheus sees them, and the random walk on the same windows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from fxcast.adapters.storage.database import Database, migrate, open_database
from fxcast.adapters.storage.predictions import record_predictions, resolve_outcomes
from fxcast.adapters.storage.quality import update_quality
from fxcast.cluster.outcome_meters import COVERAGE, CRPS, CRPS_SKILL, CRPS_WALK, INDEPENDENT, PAIRS, SCORED, OutcomeMeters
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction, summarize
from fxcast.errors import BadSetting
from fxcast.evaluation.rolling_walk import against_walk, independent_forecasts
from jobs.outcomes import OutcomesJob
from tests.factories import NOON, make_series

HORIZON, BARS, MADE = 240, 4, 60  # minutes, candles of an hour, forecasts


@pytest.fixture
def series() -> CandleSeries:
    return make_series(bars=300, seed=3)


def forecasts(series: CandleSeries, *, knows: bool) -> list[LDM4TSPrediction]:
    """Forecasts after candles 120 to 180: one that knows the outcome, or one that is far off."""
    made: list[LDM4TSPrediction] = []
    for end in range(120, 120 + MADE):
        price, actual = float(series.closes[end]), float(series.closes[end + BARS])
        samples = np.linspace(0.999999, 1.000001, 20) * (actual if knows else 1.1 * actual)
        made.append(
            LDM4TSPrediction(
                symbol=series.symbol,
                timeframe=series.timeframe,
                made_at=to_datetime(series.close_times[end]),
                price=price,
                horizons={HORIZON: summarize(samples)},
                inference_time_ms=1.0,
                num_samples=20,
                model_version="knows" if knows else "off",
            )
        )
    return made


@pytest.fixture
def database(series: CandleSeries, tmp_path: Path) -> Database:
    url = f"sqlite:///{tmp_path / 'fx.db'}"
    migrate(url)
    database = open_database(url)
    record_predictions(database, [*forecasts(series, knows=True), *forecasts(series, knows=False)])
    resolve_outcomes(database, series, spread=0.0)
    update_quality(database, series.symbol, series.timeframe, window=500, pip=0.0001)
    return database


def shown(meters: OutcomeMeters, name: str) -> dict[str, float]:
    return {dict(labels)["model_version"]: value for (known, labels), value in meters.board.shown().items() if known == name}


def test_scores_are_shown_by_model_with_the_walk_on_the_same_windows(
    database: Database, series: CandleSeries, tmp_path: Path
) -> None:
    store = CandleStore(tmp_path / "store")
    store.append(series)
    meters = OutcomeMeters()
    meters.show(database, store)
    assert shown(meters, SCORED.name) == shown(meters, PAIRS.name) == {"knows": MADE, "off": MADE}
    assert shown(meters, INDEPENDENT.name) == {"knows": MADE / BARS, "off": MADE / BARS}
    assert shown(meters, COVERAGE.name) == {"knows": 1.0, "off": 0.0}
    walk = shown(meters, CRPS_WALK.name)
    assert walk["knows"] == walk["off"] > 0
    skill, crps = shown(meters, CRPS_SKILL.name), shown(meters, CRPS.name)
    assert skill["knows"] > 0.9
    assert skill["off"] < 0
    assert skill["off"] == pytest.approx(1 - crps["off"] / walk["off"])


def test_without_candles_scores_are_shown_and_no_skill(database: Database, tmp_path: Path) -> None:
    meters = OutcomeMeters()
    meters.show(database, CandleStore(tmp_path / "empty"))
    assert shown(meters, SCORED.name) == {"knows": MADE, "off": MADE}
    assert shown(meters, CRPS_SKILL.name) == {}
    assert shown(meters, PAIRS.name) == {"knows": 0.0, "off": 0.0}


def test_forecasts_whose_window_is_not_whole_are_not_compared(series: CandleSeries) -> None:
    ends = [98, 99, 150, 299]
    found = against_walk(
        series,
        HORIZON,
        made_at=[*(to_datetime(series.close_times[end]) for end in ends), NOON - timedelta(days=9_000)],
        price=series.closes[[*ends, 0]],
        actual=series.closes[[*ends, 0]],
        samples=[[1.0, 1.1], [1.0, 1.1], [1.0], [1.0, 1.1], [1.0, 1.1]],
        pip=0.0001,
    )
    assert found is not None
    assert found.forecasts == 2, "a window too short, one of a single sample and one that is not there are left out"


def test_forecasts_that_overlap_count_as_one() -> None:
    hours = [NOON + timedelta(hours=hour) for hour in (0, 1, 2, 4, 7, 8)]
    assert independent_forecasts(hours, 240) == 3
    assert independent_forecasts(hours, 60) == 6
    assert independent_forecasts([], 60) == 0


def test_scores_of_a_job_that_ends_at_once_are_not_shown() -> None:
    with pytest.raises(BadSetting, match="metrics: found without every"):
        OutcomesJob.parse(["--metrics"])
