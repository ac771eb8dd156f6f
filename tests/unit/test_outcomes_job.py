"""jobs.outcomes: what became of forecasts, what models were worth, and the widths that online calibration learns while serving."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from fxcast.adapters.storage.database import migrate, open_database, writing
from fxcast.adapters.storage.predictions import record_predictions, resolve_outcomes, resolved_forecasts
from fxcast.adapters.storage.quality import newest_quality, width_factors
from fxcast.adapters.storage.tables import Base, ModelQualityRow, PredictionRow
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, FloatArray, to_datetime
from fxcast.domain.forecast import HorizonForecast, LDM4TSPrediction, summarize
from fxcast.domain.timeframe import Timeframe
from fxcast.evaluation.assess import Samples, Windows
from fxcast.evaluation.online import calibrated_online
from fxcast.models.learned_width import KnownOutcome, LearnedWidth
from fxcast.models.online_calibration import OnlineCalibration
from jobs.outcomes import OutcomesJob, fill_in_outcomes, main
from tests.factories import HOUR, make_series

ROOT = Path(__file__).parents[2]
HOURLY = Timeframe("1h")
MONDAY = datetime(2017, 3, 6, tzinfo=UTC)
LATER = datetime(2018, 1, 1, tzinfo=UTC)
HORIZONS = (240, 960)


@pytest.fixture
def job(tmp_path: Path) -> OutcomesJob:
    url = f"sqlite:///{tmp_path / 'fx.db'}"
    migrate(url)
    return OutcomesJob.parse(["--store", str(tmp_path / "store"), "--database-url", url])


@pytest.fixture
def database(job: OutcomesJob) -> Engine:
    return open_database(job.database_url)


def with_settings(job: OutcomesJob, **changes: Any) -> OutcomesJob:
    return job.model_copy(update=changes)


def keep(job: OutcomesJob, series: CandleSeries) -> CandleSeries:
    CandleStore(job.store).append(series)
    return series


def forecast(
    series: CandleSeries, end: int, *, width: float = 0.002, horizons: Sequence[int] = (240,), num_samples: int = 50
) -> LDM4TSPrediction:
    """A forecast made at the close of candle `end`, around its close."""
    price = float(series.closes[end])
    horizon = HorizonForecast(mean=price + 0.001, std=width, q05=price - width, q50=price, q95=price + width)
    return LDM4TSPrediction(
        symbol=series.symbol,
        timeframe=series.timeframe,
        made_at=to_datetime(series.close_times[end]),
        price=price,
        horizons=dict.fromkeys(horizons, horizon),
        inference_time_ms=1.0,
        num_samples=num_samples,
        model_version="m1",
    )


def content(database: Engine) -> dict[str, list[tuple[object, ...]]]:
    tables: tuple[type[Base], ...] = (PredictionRow, ModelQualityRow)
    with database.connect() as connection:
        return {table.__tablename__: [tuple(row) for row in connection.execute(select(table.__table__))] for table in tables}


def quality_rows(database: Engine) -> list[ModelQualityRow]:
    with Session(database) as session:
        return list(session.scalars(select(ModelQualityRow).order_by(ModelQualityRow.horizon_minutes, ModelQualityRow.as_of)))


def serve(job: OutcomesJob, database: Engine, series: CandleSeries, ends: Sequence[int], raw: FloatArray) -> FloatArray:
    """Serve forecasts of raw moves, (n, samples, horizons), each with the widths learned until it is made; return what went out."""
    given_out = np.empty_like(raw)
    for position, end in enumerate(ends):
        made_at = to_datetime(series.close_times[end])
        fill_in_outcomes(job, database, made_at)
        factors = width_factors(
            database, model_version="m1", symbol="EURUSD", timeframe="1h", horizons_minutes=HORIZONS, at=made_at
        )
        widths = OnlineCalibration(horizons_minutes=HORIZONS, log_widths=tuple(float(np.log(factors[each])) for each in HORIZONS))
        given_out[position] = widths.apply(raw[position])
        prices = series.closes[end] * np.exp(given_out[position])
        horizons = {minutes: summarize(prices[:, index]) for index, minutes in enumerate(HORIZONS)}
        record_predictions(database, [replace(forecast(series, end), horizons=horizons)])
    return given_out


def test_outcomes_errors_and_the_quality_of_the_model_are_filled_in_once_a_horizon_has_passed(
    job: OutcomesJob, database: Engine
) -> None:
    series = keep(job, make_series(bars=60, start=MONDAY))
    record_predictions(database, [forecast(series, end) for end in (20, 30, 58)])
    with capture_logs() as logs:
        assert fill_in_outcomes(job, database, LATER) == 2
    assert logs == [
        {"event": "outcomes", "log_level": "info", "symbol": "EURUSD", "timeframe": "1h", "resolved": 2, "waiting": 1, "scored": 1}
    ]
    first, second = resolved_forecasts(database)
    assert [each.actual_price for each in (first, second)] == [series.closes[24], series.closes[34]]
    (quality,) = newest_quality(database)
    assert (quality.model_version, quality.symbol, quality.timeframe, quality.horizon_minutes) == ("m1", "EURUSD", "1h", 240)
    assert quality.as_of == to_datetime(series.close_times[34])
    assert (quality.window, quality.scores.forecasts) == (500, 2)
    assert quality.scores.coverage_90 == (first.inside_90 + second.inside_90) / 2
    assert quality.scores.mae_ratio == 1.0, "the median was the last price"
    assert quality.scores.crps_pips is None
    assert quality.learned.outcomes_learned == 2


def test_a_forecast_waits_until_its_last_candle_has_closed(job: OutcomesJob, database: Engine) -> None:
    series = keep(job, make_series(bars=60, start=MONDAY))
    record_predictions(database, [forecast(series, 20)])
    closes = to_datetime(series.close_times[24])
    assert fill_in_outcomes(job, database, closes - timedelta(seconds=1)) == 0
    assert newest_quality(database) == ()
    assert fill_in_outcomes(job, database, closes) == 1


def test_a_second_run_changes_nothing(job: OutcomesJob, database: Engine) -> None:
    series = keep(job, make_series(bars=80, start=MONDAY))
    record_predictions(database, [forecast(series, end, horizons=HORIZONS) for end in range(10, 79)])
    fill_in_outcomes(job, database, LATER)
    before = content(database)
    assert len(before["ldm4ts_model_quality"]) == 2
    for only_waiting in (False, True):
        assert fill_in_outcomes(job, database, LATER, only_waiting=only_waiting) == 0
        assert content(database) == before


def test_in_one_run_or_in_many_the_widths_come_out_the_same(job: OutcomesJob, database: Engine, tmp_path: Path) -> None:
    series = keep(job, make_series(bars=120, start=MONDAY, seed=2))
    predictions = [forecast(series, end, horizons=HORIZONS, width=0.0006) for end in range(10, 110, 3)]
    record_predictions(database, predictions)
    for moment in series.close_times:
        fill_in_outcomes(job, database, to_datetime(moment), only_waiting=True)

    other = f"sqlite:///{tmp_path / 'other.db'}"
    migrate(other)
    at_once = open_database(other)
    record_predictions(at_once, predictions)
    fill_in_outcomes(job, at_once, LATER)
    assert newest_quality(at_once) == newest_quality(database)
    assert all(each.learned.outcomes_learned > 20 and each.learned.factor > 1.1 for each in newest_quality(database))


def test_serving_and_evaluation_give_the_same_widths(job: OutcomesJob, database: Engine) -> None:
    """Every second candle: the longer horizon's outcomes are known eight forecasts later, and its rate is half the full one."""
    series = keep(job, make_series(bars=300, start=MONDAY, seed=4))
    ends = np.arange(100, 280, 2)
    raw = (np.random.default_rng(0).normal(size=(len(ends), 50, 2)) * 4e-4).astype(np.float32)
    windows = Windows(series=series, ends=ends, horizons_minutes=HORIZONS, step_bars=2, terciles=None)
    evaluated = calibrated_online(windows, Samples(name="m1", moves=raw)).moves
    served = serve(job, database, series, [int(end) for end in ends], raw.astype(np.float64))
    assert served == pytest.approx(evaluated.astype(np.float64), rel=1e-6)  # evaluations keep single precision
    wider = served[-1].std(axis=0) / raw[-1].std(axis=0)
    assert (wider > 1.2).all(), wider
    assert [each.learned.delay for each in newest_quality(database)] == [2, 8]


def test_a_forecasts_width_knows_no_outcome_that_became_known_after_it_was_made(
    job: OutcomesJob, database: Engine, tmp_path: Path
) -> None:
    series = keep(job, make_series(bars=200, start=MONDAY, seed=5))
    changed = series.values.copy()
    changed[151:] *= 3.0
    other_job = with_settings(job, store=str(tmp_path / "other"), database_url=f"sqlite:///{tmp_path / 'other.db'}")
    migrate(other_job.database_url)
    other = keep(other_job, replace(series, values=changed))
    ends = list(range(100, 180, 2))
    raw = np.random.default_rng(1).normal(size=(len(ends), 50, 2)) * 2e-3
    first = serve(job, database, series, ends, raw)
    second = serve(other_job, open_database(other_job.database_url), other, ends, raw)
    same = ends.index(150) + 1  # candle 151 is the first that differs
    assert (first[:same] == second[:same]).all()
    assert (first[same + 1 :] != second[same + 1 :]).any(axis=(1, 2)).all()


def test_a_forecast_of_the_past_gets_the_widths_of_then(job: OutcomesJob, database: Engine) -> None:
    series = keep(job, make_series(bars=100, start=MONDAY))
    record_predictions(database, [forecast(series, end, width=1e-7) for end in (20, 40)])

    def factor(at: datetime | None) -> float:
        found = width_factors(database, model_version="m1", symbol="EURUSD", timeframe="1h", horizons_minutes=(240, 960), at=at)
        assert found[960] == 1.0
        return found[240]

    assert factor(None) == 1.0, "nothing is known"
    known_at = [to_datetime(series.close_times[end + 4]) for end in (20, 40)]
    for moment in known_at:
        fill_in_outcomes(job, database, moment)
    assert factor(known_at[0] - timedelta(seconds=1)) == 1.0
    assert factor(known_at[0]) == pytest.approx(np.exp(0.072))
    assert factor(known_at[1] - timedelta(seconds=1)) == pytest.approx(np.exp(0.072))
    assert factor(known_at[1]) == factor(None) == pytest.approx(np.exp(0.144))


def test_only_the_last_forecasts_are_scored(job: OutcomesJob, database: Engine) -> None:
    series = keep(job, make_series(bars=100, start=MONDAY))
    wide = [forecast(series, end, width=0.5) for end in range(10, 40)]
    narrow = [forecast(series, end, width=1e-7) for end in range(40, 60)]
    record_predictions(database, [*wide, *narrow])
    fill_in_outcomes(with_settings(job, window=20), database, LATER)
    (quality,) = newest_quality(database)
    assert (quality.scores.forecasts, quality.scores.coverage_90) == (20, 0.0)
    fill_in_outcomes(with_settings(job, window=40), database, LATER)
    (quality,) = newest_quality(database)
    assert (quality.window, quality.scores.coverage_90) == (40, 0.5)
    assert quality.learned.outcomes_learned == 50


def test_a_store_without_the_series_is_warned_of_and_keeps_no_other_waiting(job: OutcomesJob, database: Engine) -> None:
    series = keep(job, make_series(bars=60, start=MONDAY))
    record_predictions(database, [replace(forecast(series, 20), symbol=symbol) for symbol in ("AUDUSD", "EURUSD")])
    with capture_logs() as logs:
        assert fill_in_outcomes(job, database, LATER) == 1
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [(entry["event"], entry["symbol"]) for entry in warnings] == [("no candles for outcomes", "AUDUSD")]
    assert "AUDUSD" in warnings[0]["problem"]
    assert [(entry["symbol"], entry["waiting"]) for entry in logs if entry["event"] == "outcomes"] == [("AUDUSD", 1), ("EURUSD", 0)]


def test_only_the_symbols_asked_for_are_filled_in(job: OutcomesJob, database: Engine) -> None:
    series = keep(job, make_series(bars=60, start=MONDAY))
    record_predictions(database, [forecast(series, 20)])
    with capture_logs() as logs:
        assert fill_in_outcomes(with_settings(job, symbols=("GBPUSD",)), database, LATER) == 0
    assert [(entry["event"], entry["symbol"]) for entry in logs] == [("no forecasts", "GBPUSD")]
    assert fill_in_outcomes(with_settings(job, symbols=("EURUSD",)), database, LATER) == 1


def test_a_forecast_waits_while_the_candles_of_an_outage_are_missing(job: OutcomesJob, database: Engine) -> None:
    series = make_series(bars=60, start=MONDAY)
    keep(job, series.slice(0, 22))
    keep(job, series.slice(25, 60))
    record_predictions(database, [forecast(series, 20), forecast(series, 30)])
    assert fill_in_outcomes(job, database, LATER) == 1
    keep(job, series.slice(22, 25))
    assert fill_in_outcomes(job, database, LATER) == 1
    assert [each.actual_price for each in resolved_forecasts(database)] == [series.closes[24], series.closes[34]]
    (quality,) = newest_quality(database)
    assert quality.scores.forecasts == 2
    assert quality.learned.outcomes_learned == 1, "the width had gone on without the one that was told late"


def test_outcomes_that_another_process_filled_in_are_learned_too(job: OutcomesJob, database: Engine) -> None:
    series = keep(job, make_series(bars=60, start=MONDAY))
    record_predictions(database, [forecast(series, 20)])
    resolve_outcomes(database, series, spread=0.0)
    assert fill_in_outcomes(job, database, LATER) == 0
    assert newest_quality(database)[0].learned.outcomes_learned == 1


def test_of_one_window_the_answer_of_most_samples_teaches_and_those_of_too_few_never_do(job: OutcomesJob, database: Engine) -> None:
    series = keep(job, make_series(bars=60, start=MONDAY))
    answers = [(20, 18, 1e-7), (22, 50, 1e-7), (22, 200, 0.5)]
    record_predictions(database, [forecast(series, end, num_samples=count, width=width) for end, count, width in answers])
    fill_in_outcomes(job, database, LATER)
    (quality,) = newest_quality(database)
    assert quality.scores.forecasts == 3
    assert quality.learned.outcomes_learned == 1
    assert quality.learned.log_width == pytest.approx(-0.008), "the widest one hit"
    assert quality.learned.delay == 1


def test_widths_stay_where_forecasts_are_given_out_without_them(job: OutcomesJob, database: Engine) -> None:
    series = keep(job, make_series(bars=60, start=MONDAY))
    record_predictions(database, [forecast(series, end, width=1e-7) for end in (20, 30)])
    fill_in_outcomes(with_settings(job, calibrate=False), database, LATER)
    (quality,) = newest_quality(database)
    assert quality.scores.coverage_90 == 0.0
    assert quality.learned == LearnedWidth()


def test_a_model_does_not_learn_from_another_ones_outcomes(job: OutcomesJob, database: Engine) -> None:
    series = keep(job, make_series(bars=60, start=MONDAY))
    record_predictions(database, [forecast(series, 20, width=0.5), replace(forecast(series, 20, width=1e-7), model_version="m2")])
    fill_in_outcomes(job, database, LATER)
    assert {each.model_version: each.learned.factor > 1 for each in newest_quality(database)} == {"m1": False, "m2": True}
    assert [each.model_version for each in newest_quality(database, model_version="m2")] == ["m2"]


def test_an_outcome_told_late_or_again_teaches_nothing() -> None:
    made = [MONDAY + hour * HOUR for hour in range(9)]
    outcomes = [KnownOutcome(made_at=each, target_at=each + 4 * HOUR, inside=False) for each in made]
    learned = LearnedWidth().after(outcomes[3:6], made)
    assert (learned.outcomes_learned, learned.learned_until, learned.delay) == (3, outcomes[5].target_at, 4)
    assert learned.after(outcomes[:6], made) == learned
    assert LearnedWidth().after(reversed(outcomes[3:6]), made) == learned
    assert learned.after(outcomes, made).outcomes_learned == 6


def test_the_job_runs_once_and_refuses_a_database_that_is_not_there(job: OutcomesJob, database: Engine, tmp_path: Path) -> None:
    series = keep(job, make_series(bars=60, start=MONDAY))
    record_predictions(database, [forecast(series, 20)])
    assert main(["--store", job.store, "--database-url", job.database_url]) == 0
    assert len(resolved_forecasts(database)) == 1
    assert main(["--store", job.store, "--database-url", f"sqlite:///{tmp_path / 'typo.db'}"]) == 2


def test_repeating_fills_in_what_comes_until_it_is_interrupted_whatever_the_database_does_meanwhile(
    job: OutcomesJob, database: Engine
) -> None:
    series = make_series(bars=60, start=MONDAY)
    keep(job, series.slice(0, 23))
    record_predictions(database, [forecast(series, 20)])
    command = [sys.executable, "-m", "jobs.outcomes", "--store", job.store, "--database-url", job.database_url, "--every", "0.1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)]), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert "waiting=1" in running.stderr.readline()
        rename(database, "ldm4ts_predictions", "away")
        assert any("outcomes not filled in" in line for line in running.stderr)
        rename(database, "away", "ldm4ts_predictions")
        keep(job, series.slice(23, 60))
        assert any("resolved=1" in line for line in running.stderr)
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=30.0) == 130
    assert newest_quality(database)[0].scores.forecasts == 1


def rename(database: Engine, table: str, name: str) -> None:
    with writing(database).begin() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))
