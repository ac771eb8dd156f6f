"""Pictures of a search, and what the parameters weigh: drawn from the findings, of a sensible size, the same for the same seed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import optuna
import pytest

from fxcast.tuning.findings import TuningFindings
from fxcast.tuning.importance import LEAST_TRIALS, importances
from fxcast.tuning.ranges import ParameterRange
from fxcast.tuning.report import write_report
from fxcast.tuning.report_charts import best_so_far
from fxcast.tuning.report_parameters import parallel, slices, wrapped
from fxcast.tuning.space import SearchSpace
from fxcast.tuning.trial import Trial, TrialState
from tests.tuning_findings_factories import DEFAULTS, SPACE, THRESHOLD, make_findings, make_trial, make_trials


@pytest.fixture(scope="module")
def findings() -> TuningFindings:
    return make_findings()


@pytest.fixture(scope="module")
def folder(findings: TuningFindings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("report")
    write_report(where, findings, SPACE)
    return where


def pixels(path: Path) -> np.ndarray:
    return matplotlib.image.imread(path)


def ink(path: Path) -> float:
    """Return the share of pixels that are not white."""
    return float((pixels(path)[:, :, :3] < 0.99).any(axis=2).mean())


def scored(trial: Trial, score: float) -> Trial:
    assert trial.measures is not None
    return replace(trial, measures=replace(trial.measures, score=score))


def widened(trials: tuple[Trial, ...], more: int) -> tuple[tuple[Trial, ...], SearchSpace]:
    """Return trials and their space with so many more parameters."""
    rng = np.random.default_rng(0)
    paths = [f"trading.quality.weights.of_some_dimension_{n}" for n in range(more)]
    wide = tuple(replace(trial, values={**trial.values, **{path: float(rng.uniform()) for path in paths}}) for trial in trials)
    return wide, SearchSpace(ranges={**SPACE.ranges, **{path: ParameterRange(low=0.0, high=1.0) for path in paths}})


def test_pictures_show_something_and_are_no_larger_than_needed(folder: Path) -> None:
    drawn = list((folder / "pictures").glob("*.png"))
    assert len(drawn) == 9
    for path in drawn:
        height, width, _ = pixels(path).shape
        assert width == 1210
        assert height < 800
        assert ink(path) > 0.01
        assert path.stat().st_size < 500_000
    assert (folder / "report.html").stat().st_size < 1_700_000


def test_more_parameters_take_more_rows_and_not_narrower_panels(findings: TuningFindings, tmp_path: Path) -> None:
    trials, space = widened(findings.trials, 9)
    many = replace(findings, trials=trials)
    for draw in (slices, parallel):
        few_path, many_path = tmp_path / "few.png", tmp_path / "many.png"
        draw(few_path, findings, SPACE)
        draw(many_path, many, space)
        assert pixels(many_path).shape[0] > 1.5 * pixels(few_path).shape[0]
        assert pixels(many_path).shape[1] == pixels(few_path).shape[1]


def test_a_picture_changes_with_the_findings(findings: TuningFindings, folder: Path, tmp_path: Path) -> None:
    assert findings.robustness is not None
    other = replace(
        findings,
        winner=1,
        pareto=(1,),
        trials=tuple(scored(trial, -trial.measures.score) if trial.measures is not None else trial for trial in findings.trials),
        robustness=replace(findings.robustness, default=findings.robustness.default - 1.0),
        importances=dict(reversed(list(findings.importances.items()))),
        hold_out=findings.hold_out[:2],
    )
    assert findings.overfitting is not None
    other = replace(other, overfitting=replace(findings.overfitting, logits=findings.overfitting.logits[:50]))
    write_report(tmp_path, other, SPACE)
    for path in (folder / "pictures").iterdir():
        changed = tmp_path / "pictures" / path.name
        assert path.read_bytes() != changed.read_bytes(), path.name


def test_the_same_findings_give_the_same_pictures(findings: TuningFindings, folder: Path, tmp_path: Path) -> None:
    write_report(tmp_path, findings, SPACE)
    assert (tmp_path / "report.html").read_bytes() == (folder / "report.html").read_bytes()


def test_trials_that_all_scored_the_same_are_drawn(tmp_path: Path) -> None:
    trials = [scored(trial, 1.0) if trial.measures is not None else trial for trial in make_trials(20)]
    write_report(tmp_path, make_findings(trials=trials, bare=True), SPACE)
    assert ink(tmp_path / "pictures" / "parallel.png") > 0.01
    assert not (tmp_path / "pictures" / "importances.png").exists()


def test_drawing_leaves_pyplot_alone() -> None:
    code = (
        "import sys, tempfile, pathlib\n"
        "from fxcast.tuning.report import write_report\n"
        "from tests.tuning_findings_factories import SPACE, make_findings, make_trials\n"
        "findings = make_findings(trials=make_trials(12), random_trials=make_trials(3))\n"
        "write_report(pathlib.Path(tempfile.mkdtemp()), findings, SPACE)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], env={"PYTHONPATH": "platform:."})


def test_best_so_far_never_falls_and_leaves_out_pruned_and_failed_trials() -> None:
    scores = [0.0, 2.0, 5.0, 1.0, 3.0]
    trials = [scored(make_trial(number, DEFAULTS), score) for number, score in enumerate(scores)]
    trials[2] = replace(trials[2], state=TrialState.PRUNED)
    trials.append(make_trial(5, DEFAULTS, state=TrialState.FAILED, folds=0, error="x"))
    numbers, best = best_so_far(trials)
    assert numbers.tolist() == [0, 1, 3, 4, 5]
    assert best.tolist() == [0, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("trading.ldm4ts_horizons", ["trading.ldm4ts_horizons"]),
        ("trading.sizing.regime_multipliers.volatile", ["trading.sizing.regime_", "multipliers.volatile"]),
        ("x" * 40, ["x" * 40]),
    ],
)
def test_a_long_path_is_broken_after_dots_and_underscores(path: str, lines: list[str]) -> None:
    assert wrapped(path).split("\n") == lines


def test_what_moves_the_score_weighs_most_and_the_shares_add_up() -> None:
    shares = importances(make_trials(60), SPACE, seed=7)
    assert set(shares) == set(SPACE.ranges)
    assert next(iter(shares)) == THRESHOLD
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert sum(shares.values()) == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_shares_and_another_gives_others() -> None:
    trials = make_trials(40)
    assert importances(trials, SPACE, seed=1) == importances(trials, SPACE, seed=1)
    assert importances(trials, SPACE, seed=1) != importances(trials, SPACE, seed=2)


def test_only_complete_trials_count() -> None:
    trials = make_trials(30)
    pruned = [replace(scored(trial, 1e6), state=TrialState.PRUNED) for trial in make_trials(5, seed=9)]
    assert importances([*trials, *pruned], SPACE, seed=1) == importances(trials, SPACE, seed=1)


def test_too_few_trials_or_no_spread_tell_nothing() -> None:
    complete = [trial for trial in make_trials(30) if trial.state is TrialState.COMPLETE]
    assert importances(complete[: LEAST_TRIALS - 1], SPACE, seed=1) == {}
    assert importances(complete[:LEAST_TRIALS], SPACE, seed=1)
    assert importances([scored(trial, 1.0) for trial in complete], SPACE, seed=1) == {}


def test_importances_leave_optunas_log_level_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    importances(make_trials(15), SPACE, seed=1)
    assert optuna.logging.get_verbosity() == before
    assert "study" not in capfd.readouterr().err
