"""Jobs through `python -m jobs.submit`, as the README shows it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from fxcast.cluster.local import REPOSITORY
from fxcast.data.store import CandleStore
from fxcast.domain.timeframe import Timeframe
from jobs.submit import main
from tests.waiting import wait_for


def test_ingest_runs_once_however_often_it_is_submitted(
    dashboard_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FXCAST_STORE", "store")  # a setting, which goes along
    monkeypatch.setenv("FXCAST_OANDA_TOKEN", "hunter2")
    arguments = ["--name", tmp_path.name.replace("_", "-"), "--address", dashboard_url, "--home", str(tmp_path)]
    command = ["--", "python", "-m", "jobs.ingest"]

    assert main([*arguments, *command]) == 0
    first = capsys.readouterr()
    assert "6,225 candles added" in first.out
    assert "left to the environment of the cluster's nodes: FXCAST_OANDA_TOKEN" in first.err
    assert len(CandleStore(tmp_path / "store").read("EURUSD", Timeframe("1h"))) == 6225

    assert main([*arguments, *command]) == 0
    second = capsys.readouterr()
    assert second.out == first.out  # the log of the job that ran
    assert "has succeeded before; nothing is submitted" in second.err

    (job,) = (job for job in JobSubmissionClient(dashboard_url).list_jobs() if (job.submission_id or "").startswith(arguments[1]))
    assert "hunter2" not in job.model_dump_json()

    assert main([*arguments, "--again", *command]) == 0
    third = capsys.readouterr()
    assert f"job {job.submission_id}-2 submitted" in third.err
    assert "0 candles added" in third.out


def test_failed_job_passes_its_exit_code_on_and_is_started_anew(
    dashboard_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    arguments = ["--name", tmp_path.name.replace("_", "-"), "--address", dashboard_url]
    arguments += ["--", "sh", "-c", f"echo ran >> {runs}; exit $((2 + $(wc -l < {runs})))"]
    assert main(arguments) == 3
    assert main(arguments) == 4
    assert runs.read_text() == "ran\n" * 2
    error = capsys.readouterr().err
    assert "failed, exit code 3" in error
    assert "-2 failed, exit code 4" in error


def test_submits_at_the_same_time_start_one_job_and_an_interrupted_one_leaves_it_running(
    dashboard_url: str, tmp_path: Path
) -> None:
    runs, go_on = tmp_path / "runs", tmp_path / "go-on"
    name = tmp_path.name.replace("_", "-")[:40]
    job = f"echo ran >> {runs}; echo begun; while [ ! -e {go_on} ]; do sleep 0.1; done; echo ended"
    command = [sys.executable, "-m", "jobs.submit", "--name", name, "--address", dashboard_url, "--", "sh", "-c", job]
    environment = {**os.environ, "PYTHONPATH": "platform"}
    pipe = subprocess.PIPE
    submits = [
        subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        for _ in range(2)
    ]
    try:
        for submit in submits:
            assert submit.stdout is not None
            assert "begun\n" in iter(submit.stdout.readline, "")  # Ray says before that it sets the environment up
        submits[0].send_signal(signal.SIGINT)
        _, said = submits[0].communicate(timeout=60)
        assert submits[0].returncode == 130
        assert "goes on; follow it: ray job logs" in said
        client = JobSubmissionClient(dashboard_url)
        ids = [str(found.submission_id) for found in client.list_jobs() if str(go_on) in (found.entrypoint or "")]
        assert len(ids) == 1
        assert client.get_job_status(ids[0]) is JobStatus.RUNNING
        go_on.touch()
        rest, _ = submits[1].communicate(timeout=60)
        assert (rest, submits[1].returncode) == ("ended\n", 0)
        wait_for(lambda: client.get_job_status(ids[0]) is JobStatus.SUCCEEDED)
        assert runs.read_text() == "ran\n"
    finally:
        for submit in submits:
            submit.kill()
            submit.wait()
