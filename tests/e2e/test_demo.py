"""The README's main command, at reduced size, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fxcast.cluster.local import REPOSITORY
from tests.ports import free_port

_SMALL = (
    *("--training.steps", "6", "--training.evaluate-every-steps", "3", "--training.fusion-steps", "4"),
    *("--training.validation-windows", "32", "--training.calibration-windows", "20", "--training.calibration-samples", "8"),
    *("--max-candles", "300", "--trading.ldm4ts-num-samples", "12", "--trading.forecast-interval-bars", "4"),
    *("--trading.forecast-timeout-s", "120"),
)


_MARK = "FXCAST_TEST_DEMO_FOLDER"
_TABLES = (
    *("ldm4ts_predictions", "ldm4ts_model_metadata", "ldm4ts_inference_metrics"),
    *("signals", "orders", "fills", "positions", "equity"),
)


def _start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.demo", "--folder", str(folder), "--port", str(free_port()), *_SMALL],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": "platform", _MARK: str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _left_by(folder: Path) -> list[str]:
    """Return what still runs of a demo a minute after it ended; its processes inherit the mark from its environment."""
    deadline = time.monotonic() + 60
    while (left := _marked(str(folder))) and time.monotonic() < deadline:
        time.sleep(0.5)  # nothing announces what another process does: it is looked at again
    return left


def _marked(mark: str) -> list[str]:
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(_MARK) == mark:
                found.append(" ".join(process.cmdline())[:80])
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue  # somebody else's, or gone
    return found


@pytest.mark.timeout(1300)
def test_demo_runs_the_whole_path_and_leaves_nothing_running(tmp_path: Path) -> None:
    demo = _start(tmp_path / "demo")
    output, _ = demo.communicate(timeout=1200)
    assert demo.returncode == 0, output

    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["candles"] == {"accepted": 6225, "refused": 0}
    assert summary["forecasts"] >= 70
    assert summary["signals"]["accepted"] + summary["signals"]["rejected"] > 100
    assert summary["signals"]["rejected"] == sum(summary["signals"]["rejected_because"].values())
    assert summary["latency_ms"]["p95"] >= summary["latency_ms"]["p50"] > 0
    assert summary["equity"]["start"] == 100_000
    assert set(summary["scores"]) == {"240", "960", "3840"}
    for score in summary["scores"].values():
        assert {"crps", "crps_random_walk", "coverage_90", "pit_index"} <= set(score)
        assert 0 <= score["coverage_90"] <= 1
    with sqlite3.connect(tmp_path / "demo" / "fxcast.db") as database:
        counts = {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _TABLES}  # noqa: S608
    assert all(counts.values()), counts
    for picture in ("forecast.png", "channels.png", "equity.png"):
        assert (tmp_path / "demo" / picture).stat().st_size > 20_000
    assert not _left_by(tmp_path / "demo")


@pytest.mark.timeout(1300)
@pytest.mark.parametrize("sign", ["train/demo", "paper_broker.db"], ids=["training", "trading"])
def test_interrupted_demo_takes_down_what_it_started(tmp_path: Path, sign: str) -> None:
    demo = _start(tmp_path / "demo")
    deadline = time.monotonic() + 900
    while not (tmp_path / "demo" / sign).exists():
        assert time.monotonic() < deadline
        assert demo.poll() is None, demo.communicate()[0]
        time.sleep(0.5)  # nothing announces what another process does: it is looked at again
    assert len(_marked(str(tmp_path / "demo"))) > 5, "the demo and its Ray cluster run"
    os.killpg(demo.pid, signal.SIGINT)  # as a terminal's Ctrl-C: to every process of the group
    output, _ = demo.communicate(timeout=300)
    assert demo.returncode == 130, output
    assert not _left_by(tmp_path / "demo")


def test_folder_of_something_else_is_not_emptied(tmp_path: Path) -> None:
    kept = tmp_path / "demo" / "store" / "mine.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("precious")
    demo = _start(tmp_path / "demo")
    output, _ = demo.communicate(timeout=300)
    assert demo.returncode == 2
    assert "is not empty and was not made by a demo; choose another with --folder" in output
    assert kept.read_text() == "precious"
