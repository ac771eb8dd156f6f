"""A search goes on when a machine is lost."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

from fxcast.adapters.storage.database import migrate
from fxcast.cluster.tune_driver import run_search
from fxcast.tuning.objective import best_of
from fxcast.tuning.trial import Budget, FoldScore, Resources, Trial, Values
from tests.cluster_nodes import JoinedNode, joined
from tests.databases import new_database
from tests.tuning_problems import FOLDS, Hill, SqliteKeeper, evaluations, make_setup, told
from tests.waiting import wait_for

_TRIALS = 6


@dataclass(frozen=True, kw_only=True)
class HillOnNodes:
    """Implements `FoldEvaluator`: the hill, where a trial on one node does its first fold and then waits until the node is lost.

    Trials elsewhere wait for it, or they might be done with all before the node has started a process.

    Attributes:
        lost: Id of the node; empty where none is lost.
    """

    hill: Hill
    lost: str

    def evaluate(self, values: Values, fold: int, *, trial: int) -> FoldScore:
        """Trade a fold."""
        waits = self.hill.log.parent / "waits"
        if self.lost and ray.get_runtime_context().get_node_id() != self.lost:
            wait_for(waits.exists, timeout_s=300)
        elif self.lost and fold > 1:
            waits.write_text(str(trial))
            wait_for(lambda: False, timeout_s=600)
        return self.hill.evaluate(values, fold, trial=trial)


@pytest.fixture
def second_node(dashboard_url: str) -> Generator[JoinedNode]:
    """A machine that has joined the cluster, with as many CPUs as a trial takes."""
    assert dashboard_url
    with joined(cpus=2) as node:
        yield node


def _search(folder: Path, lost: str, at_once: int) -> tuple[Trial, ...]:
    url = new_database("sqlite", folder)
    migrate(url)
    setup = make_setup(folder, url, budget=Budget(trials=_TRIALS), generation=3, concurrency=at_once, resources=Resources(cpus=2.0))
    evaluator = HillOnNodes(hill=Hill(log=folder / "log"), lost=lost)
    return run_search(setup, evaluator, SqliteKeeper(folder / "trials.db"))


def test_a_search_that_loses_a_node_ends_with_the_same_trials_and_best(second_node: JoinedNode, tmp_path: Path) -> None:
    disturbed, undisturbed = tmp_path / "disturbed", tmp_path / "undisturbed"
    disturbed.mkdir()
    undisturbed.mkdir()

    def lose_when_a_trial_waits() -> None:
        wait_for((disturbed / "waits").exists, timeout_s=300)
        second_node.lose()

    killer = threading.Thread(target=lose_when_a_trial_waits)
    killer.start()
    found = _search(disturbed, second_node.node_id, at_once=3)  # the first node has room for two
    killer.join()
    hit = int((disturbed / "waits").read_text())
    expected = _search(undisturbed, "", at_once=2)
    assert told(found) == told(expected)
    best, best_undisturbed = (best_of(trials, make_setup(tmp_path, "sqlite://").objective) for trials in (found, expected))
    assert best is not None
    assert best_undisturbed is not None
    assert best.number == best_undisturbed.number
    everything = sorted((number, fold) for number in range(_TRIALS) for fold in range(1, FOLDS + 1))
    assert sorted(evaluations(disturbed / "log")) == everything, "no fold that was done is done again"
    assert hit < _TRIALS
    wait_for(lambda: not second_node.alive)  # the search may end before the cluster has missed its heartbeats
