"""A search whose process is killed goes on as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from fxcast.adapters.storage.database import migrate
from fxcast.cluster.local import REPOSITORY
from fxcast.cluster.tune_driver import run_search
from fxcast.tuning.objective import best_of
from fxcast.tuning.trial import Trial
from tests.databases import new_database
from tests.tuning_problems import FOLDS, Hill, SqliteKeeper, evaluations, make_setup, told
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("dashboard_url")


@pytest.fixture(scope="module")
def undisturbed(dashboard_url: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trial, ...]:
    """The trials of a search that nobody kills."""
    assert dashboard_url
    folder = tmp_path_factory.mktemp("undisturbed")
    return run_search(make_setup(folder, _database(folder)), Hill(log=folder / "log"), SqliteKeeper(folder / "trials.db"))


def _database(folder: Path) -> str:
    url = new_database("sqlite", folder)
    migrate(url)
    return url


def _interrupted(folder: Path, url: str, moment: tuple[int, int], at_once: int, how: signal.Signals) -> int:
    """Search in another process until it waits before a fold, end the process, and return its exit status."""
    command = [sys.executable, "-m", "tests.search_to_kill", str(folder), url, *map(str, (*moment, at_once))]
    environment = {
        **os.environ,
        "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "platform"), str(REPOSITORY)]),
    }
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=(folder / "stderr").open("w")) as process:
        wait_for(lambda: (folder / "stopped").exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "stderr").read_text()
        process.send_signal(how)
        return process.wait(timeout=60)


@pytest.mark.parametrize(("moment", "at_once"), [((1, 2), 1), ((14, 3), 2)])
def test_a_killed_search_goes_on_without_repeating_a_fold_to_the_same_best(
    undisturbed: tuple[Trial, ...], tmp_path: Path, moment: tuple[int, int], at_once: int
) -> None:
    url = _database(tmp_path)
    assert _interrupted(tmp_path, url, moment, at_once, signal.SIGKILL) == -signal.SIGKILL
    keeper = SqliteKeeper(tmp_path / "trials.db")
    kept = {(each.number, fold.fold) for each in keeper.known() for fold in each.folds}
    assert kept
    assert moment not in kept
    spent = keeper.spent()
    assert spent > 0

    setup = make_setup(tmp_path, url, concurrency=at_once)
    resumed = run_search(setup, Hill(log=tmp_path / "after"), keeper)

    everything = {(number, fold) for number in range(len(undisturbed)) for fold in range(1, FOLDS + 1)}
    assert sorted(evaluations(tmp_path / "after")) == sorted(everything - kept)
    assert told(resumed) == told(undisturbed) == told(keeper.known())
    best, best_undisturbed = (best_of(trials, setup.objective) for trials in (resumed, undisturbed))
    assert best is not None
    assert best_undisturbed is not None
    assert best.number == best_undisturbed.number
    assert keeper.spent() > spent

    again = run_search(setup, Hill(log=tmp_path / "nothing"), keeper)
    assert told(again) == told(undisturbed)
    assert evaluations(tmp_path / "nothing") == []


def test_ctrl_c_leaves_trials_for_the_next_call(undisturbed: tuple[Trial, ...], tmp_path: Path) -> None:
    url = _database(tmp_path)
    status = _interrupted(tmp_path, url, (5, 2), 1, signal.SIGINT)
    assert status != 0
    assert (tmp_path / "stderr").read_text().strip().endswith("KeyboardInterrupt")
    resumed = run_search(make_setup(tmp_path, url), Hill(log=tmp_path / "after"), SqliteKeeper(tmp_path / "trials.db"))
    assert told(resumed) == told(undisturbed)
    assert len(evaluations(tmp_path / "before")) + len(evaluations(tmp_path / "after")) == len(undisturbed) * FOLDS
