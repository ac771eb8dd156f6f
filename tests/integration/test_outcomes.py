"""What became of a forecast, filled in from candles; the registry of models and the minutes of inference."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from fxcast.adapters.storage.database import migrate, open_database, writing
from fxcast.adapters.storage.predictions import (
    insert_predictions,
    record_inference_minute,
    resolve_outcomes,
    resolved_forecasts,
)
from fxcast.adapters.storage.registry import ANY_SYMBOL, RegisteredModel, activate, active_model, register_model
from fxcast.adapters.storage.tables import InferenceMinuteRow, ModelRow, PredictionRow
from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.domain.forecast import HorizonForecast, LDM4TSPrediction
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting
from tests.state import job_database

HOURLY = Timeframe("1h")
START = datetime(2024, 3, 4, 0, 0, tzinfo=UTC)  # a Monday


@pytest.fixture
def database(tmp_path: Path) -> Engine:
    url = job_database(tmp_path, "fx")
    migrate(url)
    return open_database(url)


def series(closes: list[float], *, start: datetime = START, hours: list[int] | None = None, symbol: str = "EURUSD") -> CandleSeries:
    """Hourly candles; `hours` gives their open times as hours after `start`."""
    offsets = list(range(len(closes))) if hours is None else hours
    return CandleSeries(
        symbol=symbol,
        timeframe=HOURLY,
        open_times=np.array([to_datetime64(start + timedelta(hours=hour)) for hour in offsets], dtype="datetime64[s]"),
        values=np.array([[close, close, close, close, 1.0] for close in closes]),
    )


def prediction(
    *,
    made_at: datetime = START + timedelta(hours=1),
    horizons: tuple[int, ...] = (120,),
    mean: float = 1.11,
    price: float = 1.10,
    samples: tuple[float, ...] = (),
    model_version: str = "m1",
) -> LDM4TSPrediction:
    horizon = HorizonForecast(mean=mean, std=0.01, q05=mean - 0.02, q50=mean, q95=mean + 0.02, samples=samples)
    return LDM4TSPrediction(
        symbol="EURUSD",
        timeframe=HOURLY,
        made_at=made_at,
        price=price,
        horizons=dict.fromkeys(horizons, horizon),
        inference_time_ms=12.5,
        num_samples=50,
        model_version=model_version,
    )


def resolve(engine: Engine, candles: CandleSeries) -> int:
    return resolve_outcomes(engine, candles, spread=0.0002)


def save_predictions(engine: Engine, predictions: list[LDM4TSPrediction]) -> None:
    with writing(engine).begin() as connection:
        insert_predictions(connection, predictions)


def rows(engine: Engine) -> list[PredictionRow]:
    with Session(engine) as session:
        return list(session.scalars(select(PredictionRow).order_by(PredictionRow.made_at, PredictionRow.horizon_minutes)))


def test_the_outcome_is_the_close_that_many_candles_after_the_last_known_one(database: Engine) -> None:
    save_predictions(database, [prediction(mean=1.11, price=1.10, samples=(1.10, 1.12))])

    assert resolve(database, series([1.10, 1.09, 1.125, 1.50])) == 1

    (found,) = resolved_forecasts(database)
    assert found.actual_price == 1.125
    assert found.target_at == START + timedelta(hours=3)
    assert found.target_at.utcoffset() == timedelta(0)
    assert found.inside_90 is True
    assert found.direction_right is True
    assert found.samples == (1.10, 1.12)
    (row,) = rows(database)
    assert row.error == pytest.approx(0.015)
    assert row.absolute_error == pytest.approx(0.015)
    assert row.resolved_at is not None


def test_an_outcome_below_the_mean_has_a_negative_error(database: Engine) -> None:
    save_predictions(database, [prediction(mean=1.11, price=1.10)])

    resolve(database, series([1.10, 1.10, 1.05]))

    (row,) = rows(database)
    assert row.error == pytest.approx(-0.06)
    assert row.absolute_error == pytest.approx(0.06)
    assert row.inside_90 is False
    assert row.direction_right is False


@pytest.mark.parametrize(("mean", "outcome"), [(1.10, 1.12), (1.10009, 1.12), (1.09991, 1.12), (1.11, 1.10)])
def test_direction_is_unknown_when_the_mean_is_within_the_spread_or_the_market_did_not_move(
    database: Engine, mean: float, outcome: float
) -> None:
    save_predictions(database, [prediction(mean=mean, price=1.10)])

    resolve(database, series([1.10, 1.10, outcome]))

    assert [found.direction_right for found in resolved_forecasts(database)] == [None]


def test_a_forecast_over_the_weekend_is_measured_in_candles(database: Engine) -> None:
    save_predictions(database, [prediction()])

    resolve(database, series([1.10, 1.12, 1.13, 1.14], hours=[0, 1, 50, 51]))

    (found,) = resolved_forecasts(database)
    assert found.actual_price == 1.13
    assert found.target_at == START + timedelta(hours=51)


def test_only_horizons_whose_candle_exists_are_resolved_and_the_rest_later(database: Engine) -> None:
    save_predictions(database, [prediction(horizons=(60, 120, 180))])

    assert resolve(database, series([1.10, 1.11, 1.12])) == 2
    assert resolve(database, series([1.10, 1.11, 1.12])) == 0
    assert [row.actual_price for row in rows(database)] == [1.11, 1.12, None]
    assert resolve(database, series([1.10, 1.11, 1.12, 1.13])) == 1
    assert [found.actual_price for found in resolved_forecasts(database)] == [1.11, 1.12, 1.13]


def test_an_outcome_is_not_rewritten_by_other_candles(database: Engine) -> None:
    save_predictions(database, [prediction()])
    resolve(database, series([1.10, 1.11, 1.12]))

    assert resolve(database, series([1.10, 1.11, 1.99])) == 0

    assert [found.actual_price for found in resolved_forecasts(database)] == [1.12]


def test_another_writer_between_reading_and_writing_does_not_break_it(database: Engine) -> None:
    save_predictions(database, [prediction()])
    interrupted: list[str] = []

    def write_elsewhere(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("SELECT"):
            other = sqlite3.connect(str(database.url.database), timeout=0)
            try:
                other.execute("UPDATE ldm4ts_predictions SET inference_time_ms = 0")
                other.commit()
            except sqlite3.OperationalError as error:
                interrupted.append(str(error))
            finally:
                other.close()

    event.listen(database, "after_cursor_execute", write_elsewhere)
    assert resolve(database, series([1.10, 1.11, 1.12])) == 1
    event.remove(database, "after_cursor_execute", write_elsewhere)

    assert interrupted == ["database is locked"]
    assert [row.inference_time_ms for row in rows(database)] == [12.5]


def test_a_forecast_whose_own_candle_is_not_in_the_series_stays_open(database: Engine) -> None:
    save_predictions(database, [prediction(made_at=START + timedelta(hours=2))])

    assert resolve(database, series([1.10, 1.11, 1.12, 1.13], hours=[0, 2, 3, 4])) == 0


def test_candles_of_another_pair_resolve_nothing(database: Engine) -> None:
    save_predictions(database, [prediction()])

    assert resolve(database, series([1.10, 1.11, 1.12], symbol="GBPUSD")) == 0


def test_an_empty_series_resolves_nothing(database: Engine) -> None:
    save_predictions(database, [prediction()])

    assert resolve(database, series([1.10]).slice(0, 0)) == 0


def test_the_same_forecast_stored_again_keeps_its_outcome(database: Engine) -> None:
    save_predictions(database, [prediction()])
    resolve(database, series([1.10, 1.11, 1.12]))

    save_predictions(database, [prediction()])

    assert [row.actual_price for row in rows(database)] == [1.12]


def test_another_number_of_samples_is_another_forecast(database: Engine) -> None:
    save_predictions(database, [prediction(), replace(prediction(mean=1.12), num_samples=200)])

    assert [(row.num_samples, row.mean) for row in rows(database)] == [(50, 1.11), (200, 1.12)]


def test_forecasts_without_samples_store_null(database: Engine) -> None:
    save_predictions(database, [prediction()])

    assert [row.samples for row in rows(database)] == [None]
    with Session(database) as session:
        assert len(session.scalars(select(PredictionRow.id).where(PredictionRow.samples.is_(None))).all()) == 1


def test_resolved_forecasts_can_be_limited_to_one_model(database: Engine) -> None:
    save_predictions(database, [prediction(model_version="m1"), prediction(model_version="m2", mean=1.13)])
    resolve(database, series([1.10, 1.11, 1.12]))

    assert [found.mean for found in resolved_forecasts(database, model_version="m2")] == [1.13]
    assert len(resolved_forecasts(database)) == 2


def test_a_minute_of_inference_is_summarized_and_replaced_when_recorded_again(database: Engine) -> None:
    minute = START + timedelta(seconds=42)
    record_inference_minute(database, minute=minute, model_version="m1", latencies_ms=[10.0], errors=0)
    record_inference_minute(database, minute=minute, model_version="m1", latencies_ms=[10.0, 20.0, 90.0], errors=1)
    record_inference_minute(database, minute=minute, model_version="m1", latencies_ms=[], errors=2, replica="b")

    with Session(database) as session:
        first, second = session.scalars(select(InferenceMinuteRow).order_by(InferenceMinuteRow.replica)).all()
    assert (first.minute, first.count, first.errors) == (START, 3, 1)
    assert (first.average_ms, first.p50_ms, first.max_ms) == (40.0, 20.0, 90.0)
    assert first.p95_ms == pytest.approx(83.0)
    assert (second.count, second.errors, second.average_ms, second.max_ms) == (0, 2, None, None)


def test_a_minute_without_a_time_zone_is_refused(database: Engine) -> None:
    naive = datetime(2024, 3, 4)  # noqa: DTZ001 (a naive time is the point)

    with pytest.raises(StatementError, match="no time zone"):
        record_inference_minute(database, minute=naive, model_version="m1", latencies_ms=[1.0], errors=0)


def model(version: str, *, symbol: str = "EURUSD") -> RegisteredModel:
    return RegisteredModel(
        version=version,
        preset="tiny",
        symbol=symbol,
        timeframe="1h",
        folder=Path("runs") / version,
        config={"horizons": [240, 960], "steps": 4},
        data_hash="abc",
        data_start=START,
        data_end=START + timedelta(days=30),
        metrics={"crps_skill": 0.02},
    )


def test_a_registered_model_is_in_use_only_once_activated(database: Engine) -> None:
    register_model(database, model("v1"))
    assert active_model(database, "EURUSD", "1h") is None

    activate(database, "v1")

    assert active_model(database, "EURUSD", "1h") == model("v1")
    assert active_model(database, "EURUSD", "1m") is None
    assert active_model(database, "GBPUSD", "1h") is None


def test_activating_a_model_retires_the_one_before_and_no_other(database: Engine) -> None:
    for registered in (model("v1"), model("v2"), model("g1", symbol="GBPUSD")):
        register_model(database, registered)
    activate(database, "g1")
    activate(database, "v1")
    activate(database, "v2")

    assert active_model(database, "EURUSD", "1h") == model("v2")
    assert active_model(database, "GBPUSD", "1h") == model("g1", symbol="GBPUSD")


def test_a_model_for_every_pair_serves_pairs_without_their_own(database: Engine) -> None:
    register_model(database, model("all", symbol=ANY_SYMBOL))
    register_model(database, model("v1"))
    activate(database, "all")
    activate(database, "v1")

    assert active_model(database, "EURUSD", "1h") == model("v1")
    assert active_model(database, "GBPUSD", "1h") == model("all", symbol=ANY_SYMBOL)


def test_the_database_itself_refuses_two_active_models_of_one_pair(database: Engine) -> None:
    register_model(database, model("v1"))
    register_model(database, model("v2"))
    activate(database, "v1")

    with Session(database) as session:
        for row in session.scalars(select(ModelRow)):
            row.is_active = True
        with pytest.raises(IntegrityError):
            session.commit()


def test_activating_an_unknown_version_is_refused_and_changes_nothing(database: Engine) -> None:
    register_model(database, model("v1"))
    activate(database, "v1")

    with pytest.raises(BadSetting, match="no model has version 'v9'; the newest are v1"):
        activate(database, "v9")

    assert active_model(database, "EURUSD", "1h") == model("v1")


def test_registering_the_same_model_again_keeps_it_active(database: Engine) -> None:
    tuples = replace(model("v1"), config={"horizons": (240, 960), "steps": 4})
    register_model(database, tuples)
    activate(database, "v1")

    register_model(database, tuples)

    assert active_model(database, "EURUSD", "1h") == model("v1")


def test_a_version_names_one_model_for_good(database: Engine) -> None:
    register_model(database, model("v1"))

    with pytest.raises(BadSetting, match="v1 is taken by a model with another data_hash"):
        register_model(database, replace(model("v1"), data_hash="other"))
