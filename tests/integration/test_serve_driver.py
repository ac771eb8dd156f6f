"""Deploying on a cluster that is not ours alone: what others run there stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.tables import InferenceMinuteRow
from fxcast.cluster.local import REPOSITORY
from tests.state import job_database

pytestmark = pytest.mark.ray  # it has a cluster of its own


def test_serve_and_applications_of_others_stay_and_a_replica_leaves_its_minutes(model_folder: Path, tmp_path: Path) -> None:
    url = job_database(tmp_path, "metrics")
    migrate(url)
    command = [sys.executable, "-m", "tests.integration.serve_beside_others", str(model_folder), url]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=850, check=False)
    assert finished.returncode == 0, finished.stderr
    seen = json.loads(finished.stdout.splitlines()[-1])

    assert seen["url"] == f"http://127.0.0.1:{seen['port']}"  # where Serve listened already
    assert (seen["model"], seen["forecast"]) == ("random", 200)
    assert seen["left"] == ["stranger"]
    assert seen["stranger"] == "hello"
    assert "Serve runs 'stranger' on this cluster" in seen["refusal"]
    assert seen["left at the end"] == ["stranger"]
    with Session(open_database(url)) as session:
        (row,) = session.scalars(select(InferenceMinuteRow)).all()
    assert (row.model_version, row.count, row.errors) == ("random", 1, 0)
    assert row.replica
