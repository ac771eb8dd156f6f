"""Runs that the page starts and stops, on a real cluster's job server."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxcast.web.cluster_jobs import ClusterJob, ClusterJobs
from fxcast.web.startable import checked_run, startable
from tests.waiting import wait_for


@pytest.fixture
def jobs(dashboard_url: str, tmp_path: Path) -> ClusterJobs:
    url = f"sqlite:///{tmp_path / 'fxcast.db'}"
    return ClusterJobs(dashboard_url, home=str(tmp_path), store=str(tmp_path / "store"), database_url=url)


def shown(jobs: ClusterJobs, job_id: str) -> ClusterJob:
    return next(job for job in jobs.listed(limit=50) if job.id == job_id)


def test_a_run_is_started_once_with_checked_parameters_and_stopped(jobs: ClusterJobs, tmp_path: Path) -> None:
    run = checked_run(startable("backtest"), "backtest.yaml", {}, home=str(tmp_path))
    name = tmp_path.name.replace("_", "-")

    first = jobs.start(run.arguments, name=name, by="anna", again=False)
    second = jobs.start(run.arguments, name=name, by="ben", again=False)

    assert (first.is_new, second.is_new, first.id) == (True, False, second.id)
    running = f"Running entrypoint for job {first.id}: python -m jobs.backtest --config "
    wait_for(lambda: shown(jobs, first.id).said.startswith(running), timeout_s=180)
    job = shown(jobs, first.id)
    assert (job.state, job.by, job.is_over) == ("running", "anna", False)
    assert job.command.startswith("python -m jobs.backtest --config ")

    assert jobs.stop(first.id, by="ben")
    wait_for(lambda: shown(jobs, first.id).is_over, timeout_s=60)
    assert (shown(jobs, first.id).state, shown(jobs, first.id).by) == ("stopped", "anna")
    assert not jobs.stop(first.id, by="ben")


def test_a_run_that_fails_says_why_in_the_list(jobs: ClusterJobs, tmp_path: Path) -> None:
    run = checked_run(startable("train-opponent"), "train_opponent.yaml", {"symbols": "XAUUSD"}, home=str(tmp_path))

    started = jobs.start(run.arguments, name=tmp_path.name.replace("_", "-"), by="anna", again=False)
    wait_for(lambda: shown(jobs, started.id).is_over, timeout_s=180)

    job = shown(jobs, started.id)
    assert job.state == "failed"
    assert "there is no such file" in job.said
    assert "jobs.migrate" in job.said, "and how to mend it"
