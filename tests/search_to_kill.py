"""A search in a process of its own, for a test to kill: `python -m tests.search_to_kill FOLDER DATABASE_URL TRIAL FOLD AT_ONCE`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import ray

from fxcast.cluster.local import REPOSITORY
from fxcast.cluster.tune_driver import run_search
from tests.tuning_problems import Hill, SqliteKeeper, make_setup


def main() -> None:
    """Search on the cluster of the test, and wait before a fold of a trial."""
    folder, database_url = Path(sys.argv[1]), sys.argv[2]
    trial, fold, at_once = (int(each) for each in sys.argv[3:])
    python_path = os.pathsep.join([str(REPOSITORY / "platform"), str(REPOSITORY)])
    ray.init(
        address=os.environ["RAY_ADDRESS"],
        log_to_driver=False,
        logging_level=logging.WARNING,
        runtime_env={"env_vars": {"PYTHONPATH": python_path}},
    )
    run_search(
        make_setup(folder, database_url, concurrency=at_once),
        Hill(log=folder / "before", stops_at=(trial, fold)),
        SqliteKeeper(folder / "trials.db"),
    )


if __name__ == "__main__":
    main()
