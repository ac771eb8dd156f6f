"""Served forecasts reach the database without ever waiting for it, and none is lost unsaid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from fxcast.adapters.storage.database import Database, migrate, open_database, writing
from fxcast.adapters.storage.tables import PredictionRow
from fxcast.domain.forecast import LDM4TSPrediction, summarize
from fxcast.serving.backlog import Backlog, BacklogCounts
from fxcast.serving.prediction_log import PredictionLog
from tests.factories import HOUR, NOON, make_prediction


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'fx.db'}"


def log_to(url: str, *, capacity: int = 100, keep_samples: bool = False) -> PredictionLog:
    return PredictionLog(url, capacity=capacity, keep_samples=keep_samples, first_pause_s=0.01)


def hourly(count: int) -> list[LDM4TSPrediction]:
    return [make_prediction({240: (1.101, 0.002)}, made_at=NOON + hour * HOUR) for hour in range(count)]


def sampled() -> LDM4TSPrediction:
    horizon = summarize(np.linspace(1.09, 1.11, 50))
    return replace(make_prediction(), horizons={240: horizon})


def stored(url: str) -> list[PredictionRow]:
    with Session(open_database(url)) as session:
        return list(session.scalars(select(PredictionRow).order_by(PredictionRow.made_at, PredictionRow.horizon_minutes)))


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 30.0
    while not is_so():
        assert time.monotonic() < until, "it did not come about within 30 s"
        time.sleep(0.005)


def test_every_horizon_of_a_forecast_is_written_soon(url: str) -> None:
    migrate(url)
    log = log_to(url)
    log.start()
    log.add(make_prediction())
    wait_until(lambda: log.counts().written == 1)
    assert [(row.horizon_minutes, row.mean) for row in stored(url)] == [(240, 1.101), (960, 1.102)]
    log.close(timeout_s=30.0)


@pytest.mark.parametrize(("keep_samples", "count"), [(False, None), (True, 50)])
def test_samples_are_stored_only_if_asked_for(url: str, keep_samples: bool, count: int | None) -> None:
    migrate(url)
    log = log_to(url, keep_samples=keep_samples)
    log.start()
    log.add(sampled())
    log.close(timeout_s=30.0)
    (row,) = stored(url)
    assert (None if row.samples is None else len(row.samples)) == count
    assert row.q05 == sampled().horizons[240].q05


def test_what_a_database_that_is_away_missed_is_written_when_it_comes_back(url: str) -> None:
    log = log_to(url)
    with capture_logs() as logs:
        log.start()
        for prediction in hourly(5):
            log.add(prediction)
        wait_until(lambda: log.counts().failures >= 2)
    assert log.counts().waiting == 5
    assert (logs[0]["event"], logs[0]["of"], logs[0]["failures"]) == ("not stored", "predictions", 1)
    assert "there is no such file" in logs[0]["problem"]

    migrate(url)
    wait_until(lambda: log.counts().written == 5)
    assert (log.counts().waiting, log.counts().dropped) == (0, 0)
    assert [row.made_at for row in stored(url)] == [prediction.made_at for prediction in hourly(5)]
    log.close(timeout_s=30.0)


def test_adding_does_not_wait_for_a_database_that_another_holds(url: str) -> None:
    migrate(url)
    log = log_to(url)
    log.start()
    with writing(open_database(url)).begin():  # whoever writes waits for this one
        slowest_s = 0.0
        for prediction in hourly(50):
            started = time.perf_counter()
            log.add(prediction)
            slowest_s = max(slowest_s, time.perf_counter() - started)
            time.sleep(0.001)
        assert log.counts().written == 0
    assert slowest_s < 1.0, "SQLite waits ten seconds for another one's transaction"
    wait_until(lambda: log.counts().written == 50)
    log.close(timeout_s=30.0)


def test_a_full_log_drops_the_oldest_and_counts_them(url: str) -> None:
    log = log_to(url, capacity=3)
    with capture_logs() as logs:
        for prediction in hourly(5):
            log.add(prediction)
    assert log.counts() == BacklogCounts(written=0, waiting=3, dropped=2, failures=0)
    assert [entry["event"] for entry in logs] == ["backlog is full: the oldest are dropped"], "said once"

    migrate(url)
    log.start()
    log.close(timeout_s=30.0)
    assert log.counts() == BacklogCounts(written=3, waiting=0, dropped=2, failures=0)
    assert [row.made_at for row in stored(url)] == [prediction.made_at for prediction in hourly(5)[2:]]


def test_closing_with_a_dead_database_ends_and_says_how_many_are_lost(url: str) -> None:
    log = log_to(url)
    log.start()
    with capture_logs() as logs:
        for prediction in hourly(4):
            log.add(prediction)
        log.close(timeout_s=30.0)
    assert (logs[-1]["event"], logs[-1]["log_level"], logs[-1]["waiting"]) == ("forecasts lost", "error", 4)


def test_closing_gives_up_on_a_database_that_hangs(url: str) -> None:
    migrate(url)
    log = log_to(url)
    with writing(open_database(url)).begin():
        log.start()
        log.add(make_prediction())
        started = time.monotonic()
        with capture_logs() as logs:
            log.close(timeout_s=0.2)
        assert time.monotonic() - started < 5.0
    assert logs[-1]["event"] == "forecasts lost"


def test_the_same_forecast_again_changes_nothing(url: str) -> None:
    migrate(url)
    log = log_to(url)
    log.start()
    first = make_prediction({240: (1.101, 0.002)})
    log.add(first)
    log.add(replace(first, horizons=make_prediction({240: (1.2, 0.002)}).horizons))
    log.close(timeout_s=30.0)
    assert [row.mean for row in stored(url)] == [1.101]


def test_what_is_dropped_while_it_is_being_written_counts_as_written(url: str) -> None:
    migrate(url)
    written: list[int] = []

    def write(_: Database, batch: Sequence[int]) -> None:
        if not written:
            for late in (4, 5):
                backlog.add(late)  # no room: 1 and 2 go, though they are on their way
        written.extend(batch)

    backlog: Backlog[int] = Backlog("numbers", url, write, capacity=3)
    for number in (1, 2, 3):
        backlog.add(number)
    assert backlog.write_waiting()
    assert written == [1, 2, 3, 4, 5]
    assert backlog.counts() == BacklogCounts(written=5, waiting=0, dropped=0, failures=0)


def test_a_log_without_room_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="capacity: found 0; allowed: 1 or more"):
        PredictionLog(url, capacity=0)


def test_forecasts_of_an_outage_are_written_in_batches_and_in_order(url: str) -> None:
    migrate(url)
    log = log_to(url, capacity=1000)
    many = [make_prediction({240: (1.1, 0.002)}, made_at=NOON + timedelta(minutes=minute)) for minute in range(250)]
    for prediction in many:
        log.add(prediction)
    log.start()
    log.close(timeout_s=60.0)
    assert log.counts().written == 250
    assert [row.made_at for row in stored(url)] == [prediction.made_at for prediction in many]
