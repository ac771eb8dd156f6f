"""Measure the memory of a walk-forward's driver with two folds and with eight. `make bench`.

Nothing is trained, and a random walk forecasts: what grows with the folds would be what they leave behind. The eight folds have a
quarter of the two folds' length each, so that both trade the same hours of the sample.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fxcast.cluster.local import REPOSITORY
from tests.benchmarks.result import Against, Figure

_COMMAND = "python -m tests.benchmarks.walk_forward"
_FOLDER = REPOSITORY / "runs" / "bench"
_TEST_DAYS = {2: 120, 8: 30}
_OPTIONS = (
    *("--sample", "--refit", "none", "--model", "random-walk", "--train-days", "60", "--validation-days", "20"),
    *("--benchmarks", '["no-scaling","buy-and-hold"]', "--trading.ldm4ts-horizons", "[240,960]", "--market.candle-side", "ask"),
    *("--trading.forecast-interval-bars", "12", "--draws", "100"),
)


def peak_mb(folds: int, folder: Path) -> float:
    """Run a walk-forward of so many folds in a process of its own; return the most memory that it held, in MB."""
    command = [
        sys.executable,
        "-m",
        "jobs.walk_forward",
        *_OPTIONS,
        "--name",
        f"folds-{folds}",
        "--test-days",
        str(_TEST_DAYS[folds]),
    ]
    environment = {**os.environ, "FXCAST_HOME": str(folder), "PYTHONPATH": f"{REPOSITORY / 'platform'}:{REPOSITORY}"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the walk-forward of {folds} folds ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 1024


def main() -> None:
    """Run the benchmark."""
    with tempfile.TemporaryDirectory() as name:
        few, many = (peak_mb(folds, Path(name)) for folds in _TEST_DAYS)
    against = Against(name="with two folds", value=few)
    Figure(name="walk_forward_memory_of_8_folds", value=many, unit="MB", against=against, command=_COMMAND).publish(_FOLDER)


if __name__ == "__main__":
    main()
