"""Minutes of inference: written off the request's way, kept while the database does not answer."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from fxcast.adapters.clock import ReplayClock
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.tables import InferenceMinuteRow
from fxcast.serving.database_urls import database_url
from fxcast.serving.metrics import MAX_MINUTES_KEPT, InferenceMetrics

NOON = datetime(2024, 3, 4, 12, 0, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'fx.db'}"


def metrics_to(url: str, clock: ReplayClock) -> InferenceMetrics:
    return InferenceMetrics(url, replica="r1", clock=clock.now)


def rows(url: str) -> list[InferenceMinuteRow]:
    with Session(open_database(url)) as session:
        return list(session.scalars(select(InferenceMinuteRow).order_by(InferenceMinuteRow.minute)))


def test_a_minute_is_written_when_it_is_over(url: str) -> None:
    migrate(url)
    clock = ReplayClock(NOON)
    metrics = metrics_to(url, clock)
    metrics.answered("m1", 10.0)
    metrics.answered("m1", 30.0)
    metrics.failed("m1")
    metrics.write_finished()
    assert rows(url) == []

    clock.advance_to(clock.now() + MINUTE)
    metrics.answered("m1", 50.0)
    metrics.write_finished()

    (row,) = rows(url)
    assert (row.minute, row.model_version, row.replica) == (NOON.replace(second=0), "m1", "r1")
    assert (row.count, row.errors, row.average_ms, row.max_ms) == (2, 1, 20.0, 30.0)


def test_a_minute_without_forecasts_writes_nothing(url: str) -> None:
    migrate(url)
    clock = ReplayClock(NOON)
    metrics = metrics_to(url, clock)
    clock.advance_to(clock.now() + MINUTE)
    metrics.write_finished()
    assert rows(url) == []


def test_what_a_dead_database_missed_is_written_with_the_next_minute(url: str) -> None:
    clock = ReplayClock(NOON)
    metrics = metrics_to(url, clock)
    metrics.answered("m1", 10.0)
    clock.advance_to(clock.now() + MINUTE)
    with capture_logs() as logs:
        metrics.write_finished()
    (entry,) = logs
    assert (entry["event"], entry["of"], entry["log_level"]) == ("not stored", "inference minutes", "warning")
    assert (entry["waiting"], entry["failures"]) == (1, 1)
    assert "there is no such file" in entry["problem"]

    migrate(url)
    metrics.answered("m1", 20.0)
    clock.advance_to(clock.now() + MINUTE)
    metrics.write_finished()
    assert [(row.minute.minute, row.average_ms) for row in rows(url)] == [(0, 10.0), (1, 20.0)]


def test_a_database_dead_for_longer_than_a_day_loses_the_oldest_minutes(url: str) -> None:
    clock = ReplayClock(NOON)
    metrics = metrics_to(url, clock)
    for _ in range(MAX_MINUTES_KEPT + 2):
        metrics.answered("m1", 10.0)
        clock.advance_to(clock.now() + MINUTE)
    with capture_logs() as logs:
        metrics.write_finished()
    assert [entry["event"] for entry in logs] == ["backlog is full: the oldest are dropped", "not stored"]
    assert logs[1]["dropped"] == 2

    migrate(url)
    metrics.write_finished()
    written = rows(url)
    assert len(written) == MAX_MINUTES_KEPT
    assert written[0].minute == NOON.replace(second=0) + 2 * MINUTE


def test_closing_writes_the_running_minute(url: str) -> None:
    migrate(url)
    metrics = metrics_to(url, ReplayClock(NOON))
    metrics.start()
    metrics.answered("m1", 10.0)
    metrics.close(timeout_s=10.0)
    metrics.close(timeout_s=10.0)
    assert [row.count for row in rows(url)] == [1]


def test_closing_with_a_dead_database_ends(url: str) -> None:
    metrics = metrics_to(url, ReplayClock(NOON))
    before = set(threading.enumerate())
    metrics.start()
    metrics.answered("m1", 10.0)
    (writer,) = set(threading.enumerate()) - before
    with capture_logs():
        metrics.close(timeout_s=120.0)
    assert not writer.is_alive()


def test_the_environment_names_the_database_before_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FXCAST_METRICS_DATABASE_URL", raising=False)
    assert database_url("metrics", None) is None
    assert database_url("metrics", "sqlite:///config.db") == "sqlite:///config.db"
    monkeypatch.setenv("FXCAST_METRICS_DATABASE_URL", "sqlite:///environment.db")
    assert database_url("metrics", "sqlite:///config.db") == "sqlite:///environment.db"
