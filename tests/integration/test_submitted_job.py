"""A job through `ray job submit`, as the README shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fxcast.cluster.local import REPOSITORY
from fxcast.data.store import CandleStore
from fxcast.domain.timeframe import Timeframe


def test_ingest_runs_as_a_submitted_job(dashboard_url: str, tmp_path: Path) -> None:
    ray = Path(sys.executable).parent / "ray"
    submitted = subprocess.run(
        [
            str(ray),
            *("job", "submit", "--address", dashboard_url, "--runtime-env", "jobs/runtime_env.yaml"),
            *("--", "env", f"FXCAST_HOME={tmp_path}", "python", "-m", "jobs.ingest", "--store", "store"),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "6,225 candles added" in submitted.stdout
    assert len(CandleStore(tmp_path / "store").read("EURUSD", Timeframe("1h"))) == 6225
