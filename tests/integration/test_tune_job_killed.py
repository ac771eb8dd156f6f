"""jobs.tune whose process is killed, in the search and in the guard, and goes on to the same verdict."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from jobs.tune import main
from tests.tune_job_factories import Done, configured, folds_kept, kept, make_settings, run_job, searched, told
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def undisturbed(dashboard_url: str, store: str, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The same search, which nobody kills."""
    assert dashboard_url
    return searched(make_settings(store, tmp_path_factory.mktemp("undisturbed")))


@pytest.mark.long
def test_killed_in_search_and_guard_it_goes_on_without_repeating_a_fold_to_the_same_findings(
    undisturbed: Done, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, config = make_settings(store, tmp_path), configured(store, tmp_path)
    database = Path(settings.database_url.removeprefix("sqlite:///"))

    def killed_when(kind: str, folds: int, *options: str) -> dict[tuple[int, int], float]:
        """Kill the job when the database has so many folds of a kind, and return what it has of both phases."""
        log = tmp_path / f"{kind}.log"
        with run_job(config, log, *options) as process:
            wait_for(lambda: process.poll() is not None or (database.exists() and _has(kind, folds)), timeout_s=600)
            assert process.poll() is None, log.read_text()
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        return {**folds_kept(settings, "search")}

    def _has(kind: str, folds: int) -> bool:
        return database.stat().st_size > 0 and _readable() and len(folds_kept(settings, kind)) >= folds

    def _readable() -> bool:
        return (tmp_path / "tune" / "short" / "ray").exists()  # the search has begun: its tables are there

    first = killed_when("search", 4)
    everything = folds_kept(undisturbed.plan.settings, "search")
    assert 4 <= len(first) < len(everything), "in the middle of the search"

    assert main(["--config", str(config)]) == 2
    assert "a search named short was begun" in (said := capsys.readouterr().err)
    assert "go on with it by --resume" in said.replace("\n", " ")

    second = killed_when("neighbour", 2, "--resume")
    assert {fold: second[fold] for fold in first} == first, "no fold of the first part was done again"
    neighbours = folds_kept(settings, "neighbour")
    assert not (settings.folder / "report.html").exists()

    resumed = searched(make_settings(store, tmp_path, "--resume"))
    assert {fold: each for fold, each in folds_kept(settings, "search").items() if fold in second} == second
    assert {fold: each for fold, each in folds_kept(settings, "neighbour").items() if fold in neighbours} == neighbours
    assert told(kept(settings)) == told(kept(undisturbed.plan.settings))
    ours, theirs = resumed.findings, undisturbed.findings
    assert (ours.winner, ours.verdict, ours.conditions) == (theirs.winner, theirs.verdict, theirs.conditions)
    assert (ours.overfitting, ours.deflated_sharpe, ours.robustness) == (
        theirs.overfitting,
        theirs.deflated_sharpe,
        theirs.robustness,
    )
    assert [(each.state, each.measures) for each in ours.trials] == [(each.state, each.measures) for each in theirs.trials]
    for mine, other in zip(ours.hold_out, theirs.hold_out, strict=True):
        assert mine.equity.equity.tolist() == other.equity.equity.tolist()

    assert main(["--config", str(config), "--resume"]) == 2
    assert "the search short is finished; its report is in" in capsys.readouterr().err.replace("\n", " ")
    assert main(["--config", str(config), "--name", "unknown", "--resume"]) == 2
    assert "there is no search named unknown to go on with" in capsys.readouterr().err.replace("\n", " ")
