"""jobs.walk_forward on a real Ray cluster: folds that train, trade and are stitched; killed, resumed, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from filelock import FileLock

from fxcast.adapters.storage.backtests import BacktestRecords, FoldStatus
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.registry import active_model, registered_model
from fxcast.backtest.folds import Fold
from fxcast.cluster.local import REPOSITORY
from fxcast.errors import BadCandles, BadSetting, BadSetup, Unavailable
from fxcast.models.index import check_folder
from fxcast.models.shipped import shipped_model
from fxcast.performance.measures import Findings
from jobs.backtest_run import STRATEGY
from jobs.backtest_settings import renamed
from jobs.walk_forward import main, walk_forward
from jobs.walk_forward_files import read_accounts
from jobs.walk_forward_fold import run_fold
from jobs.walk_forward_plan import WalkForwardPlan, plan_walk_forward
from jobs.walk_forward_settings import WalkForwardJob
from tests.integration.training_run import SHORT, registered_step
from tests.state import job_database
from tests.waiting import wait_for

_TRADING = {
    "ldm4ts_horizons": [240, 960, 3840],
    "ldm4ts_num_samples": 4,
    "forecast_interval_bars": 12,
    "min_quality": 0.2,
    "ldm4ts_uncertainty_threshold": 3.0,
}


def configured(store: str, folder: Path, **changes: Any) -> Path:
    """Write a configuration of two short folds that keeps everything below a folder; return its file."""
    longer = SHORT.model_copy(update={"steps": 40, "evaluate_every_steps": 20, "checkpoint_every_steps": 5, "patience": 100})
    content: dict[str, Any] = {
        "name": "walk",
        "store": store,
        "timeframe": "1h",
        "train_days": 30,
        "validation_days": 15,
        "test_days": 10,
        "max_folds": 2,
        "embargo_bars": 5,
        "training": longer.model_dump(mode="json"),
        "sssd_training": SHORT.model_dump(mode="json"),
        "sssd_options": {"channels": 8, "blocks": 1, "states": 2, "sampler_steps": 2},
        "sampler_steps": 2,
        "benchmarks": ["sssd", "buy-and-hold"],
        "draws": 100,
        "actors": 1,
        "trading": _TRADING,
        "market": {"candle_side": "ask"},
        "models": str(folder / "models"),
        "walk_forwards": str(folder / "walk_forward"),
        "forecasts": str(folder / "forecasts"),
        "database_url": job_database(folder),
    }
    path = folder / "walk_forward.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def parsed(path: Path, *options: str) -> WalkForwardJob:
    return WalkForwardJob.parse(["--config", str(path), *options])


@pytest.fixture(scope="module")
def done(dashboard_url: str, store: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[WalkForwardPlan, Findings]:
    """A walk-forward of two folds side by side, with a database."""
    assert dashboard_url
    folder = tmp_path_factory.mktemp("walk")
    settings = parsed(configured(store, folder), "--concurrency", "2")
    migrate(settings.database_url)
    plan = plan_walk_forward(settings)
    return plan, walk_forward(plan, command="python -m jobs.walk_forward")


def test_each_fold_trades_with_models_that_have_seen_nothing_of_its_test(done: tuple[WalkForwardPlan, Findings]) -> None:
    plan, _ = done
    database = open_database(plan.settings.database_url)
    assert len(plan.folds) == 2
    for fold in plan.folds:
        for folder in (plan.model_folder(fold), plan.sssd_folder(fold)):
            registered = registered_model(database, folder.name)
            assert registered is not None
            assert (registered.data_start, registered.data_end) == (fold.train[0], fold.validation[1])
        assert check_folder(plan.model_folder(fold)).data_end == fold.validation[1]
    assert active_model(database, "EURUSD", "1h") is None, "a fold's model is for the past, and not put to use"


def test_the_stitched_account_is_made_of_the_folds_accounts(done: tuple[WalkForwardPlan, Findings]) -> None:
    plan, findings = done
    folds = [read_accounts(plan.fold_folder(fold)) for fold in plan.folds]
    assert set(folds[0]) == {STRATEGY, "sssd", "buy-and-hold"}
    balance = float(plan.settings.market.starting_balance)
    for key, curve in ((STRATEGY, findings.result.equity), *((each.key, each.equity) for each in findings.benchmarks)):
        growths = [each[key].equity.equity[-1] / balance for each in folds]
        assert curve.equity[-1] / balance == pytest.approx(np.prod(growths), rel=1e-12)
        assert len(curve) == sum(len(each[key].equity) for each in folds)
    assert len(findings.trades) == sum(len(each[STRATEGY].trades) for each in folds) > 5, "enough trades to be a test"
    assert findings.trades[: len(folds[0][STRATEGY].trades)] == folds[0][STRATEGY].trades, "the first fold's are as they were"
    for fold, accounts in zip(plan.folds, folds, strict=True):
        for trade in accounts[STRATEGY].trades:
            assert fold.test[0] <= trade.opened_at < trade.closed_at < fold.test[1]


def test_report_and_records_tell_of_every_fold(done: tuple[WalkForwardPlan, Findings]) -> None:
    plan, findings = done
    page = (plan.settings.folder / "report.html").read_text()
    assert "<h2>Folds</h2>" in page
    told = json.loads((plan.settings.folder / "findings.json").read_text())
    assert [each["fold"] for each in told["folds"]] == ["1", "2"]
    assert told["folds"][0]["test"] == f"{plan.folds[0].test[0]:%Y-%m-%d} to {plan.folds[0].test[1]:%Y-%m-%d}"
    assert told["run"]["signals"] >= told["run"]["signals_accepted"] >= len(findings.trades)
    assert told["verdicts"][1].startswith("Did LDM4TS beat SSSD?")
    records = BacktestRecords(open_database(plan.settings.database_url))
    runs = [each for each in records.backtests() if not each.is_benchmark]
    assert len(runs) == 2
    (walk_forward_id,) = {each.walk_forward_id for each in runs}
    assert walk_forward_id is not None
    recorded = records.walk_forward(walk_forward_id)
    assert recorded is not None
    assert recorded.finished_at is not None
    assert json.loads(recorded.findings or "")["measures"] == told["measures"]
    folds = records.folds(walk_forward_id)
    assert [(each.status, each.test_start, each.test_stop) for each in folds] == [
        (FoldStatus.DONE, *each.test) for each in plan.folds
    ]
    assert {each.backtest_id for each in folds} == {each.id for each in runs}


def test_folds_that_are_done_are_not_done_again_and_one_whose_model_is_gone_is(
    done: tuple[WalkForwardPlan, Findings], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, findings = done
    begun: list[int] = []

    def listening(plan: WalkForwardPlan, fold: Fold, *arguments: Any, **options: Any) -> None:
        begun.append(fold.number)
        run_fold(plan, fold, *arguments, **options)

    monkeypatch.setattr("jobs.walk_forward.run_fold", listening)
    again = walk_forward(plan_walk_forward(plan.settings))
    assert begun == []
    assert again.result.equity.equity.tolist() == findings.result.equity.equity.tolist()
    assert again.measures == findings.measures
    lost = plan.model_folder(plan.folds[1]) / "unet" / "diffusion_pytorch_model.safetensors"
    lost.write_bytes(lost.read_bytes()[:-4] + b"\0\0\0\1")
    repaired = walk_forward(plan_walk_forward(plan.settings))
    assert begun == [2], "its model is not the one that traded; it is fetched from the training again"
    assert repaired.trades == findings.trades


def test_the_same_name_with_other_settings_is_refused_with_what_differs(done: tuple[WalkForwardPlan, Findings]) -> None:
    plan, _ = done
    training = plan.settings.training.model_copy(update={"seed": 1})
    with pytest.raises(BadSetting, match=r"a run named walk of another plan: training\.seed was 0, is 1;"):
        plan_walk_forward(plan.settings.model_copy(update={"training": training}))


@pytest.mark.long
def test_a_walk_forward_whose_driver_was_killed_goes_on_and_ends_as_if_undisturbed(
    done: tuple[WalkForwardPlan, Findings], store: str, tmp_path: Path
) -> None:
    plan, findings = done
    changes = {"benchmarks": ["buy-and-hold"], "concurrency": 1}  # without SSSD, which trains twice more and changes nothing here
    config = configured(store, tmp_path, database_url=f"sqlite:///{tmp_path / 'absent.db'}", **changes)
    killed = parsed(config)
    first, second = killed.folder / "fold-01", killed.folder / "train" / "walk-fold-02" / "train"
    with driver(config, tmp_path / "killed.log") as process:
        wait_for(lambda: (first / "done.json").is_file() and registered_step(second) > 0, timeout_s=600)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    stamps = {path: path.stat().st_mtime_ns for path in (first / "done.json", first / "trades.parquet")}
    assert json.loads((killed.folder / "fold-02" / "status.json").read_text())["status"] == "training"
    assert not (killed.folder / "report.html").exists()

    with driver(config, tmp_path / "resumed.log") as process:
        assert process.wait() == 0, (tmp_path / "resumed.log").read_text()
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps, "the first fold was not done again"
    for name in ("trades.parquet", "equity.parquet"):
        ours, theirs = (pq.read_table(folder / name) for folder in (killed.folder, plan.settings.folder))
        assert ours.equals(theirs), f"{name} differs from that of the undisturbed run"
    said = (tmp_path / "resumed.log").read_text()
    assert "all folds done" in said
    for sentence in findings.verdicts:
        assert (sentence.split("?")[0] in said) == ("SSSD" not in sentence)


def driver(config: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the job as a user does, with a cluster of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY / "platform"), str(REPOSITORY)])
    with log.open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.walk_forward", "--config", str(config)],
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=REPOSITORY,
        )


def test_a_fold_that_fails_is_named_in_its_status_and_done_when_run_again(
    dashboard_url: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dashboard_url
    settings = parsed(configured(store, tmp_path, refit="none", model="random-walk", benchmarks=["buy-and-hold"], concurrency=1))
    migrate(settings.database_url)
    plan = plan_walk_forward(settings)

    def failing(plan: WalkForwardPlan, fold: Fold, *arguments: Any, **options: Any) -> None:
        if fold.number == 2:
            raise Unavailable("the disk is away")
        run_fold(plan, fold, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("jobs.walk_forward.run_fold", failing)
        with pytest.raises(Unavailable, match="the disk is away"):
            walk_forward(plan)
    statuses = [json.loads((plan.fold_folder(fold) / "status.json").read_text()) for fold in plan.folds]
    assert [each["status"] for each in statuses] == ["done", "failed"]
    assert statuses[1]["reason"] == "the disk is away"
    findings = walk_forward(plan_walk_forward(settings))
    assert len(findings.folds) == 2
    assert findings.result.start == plan.folds[0].test[0]


def test_a_model_that_has_seen_a_test_is_refused_unless_forced_and_the_report_says_so_in_red(
    dashboard_url: str, store: str, tmp_path: Path, done: tuple[WalkForwardPlan, Findings]
) -> None:
    assert dashboard_url
    trained, _ = done
    late = trained.model_folder(trained.folds[1])
    config = configured(store, tmp_path, refit="none", model=str(late), benchmarks=[], max_folds=1)
    with pytest.raises(
        BadSetting, match=r"the first test begins at .*, but walk-fold-02 was trained and validated on candles up to"
    ):
        plan_walk_forward(parsed(config))
    findings = walk_forward(plan_walk_forward(parsed(config, "--force")))
    assert findings.warnings[0].startswith("walk-fold-02 has learned from candles up to")
    page = (tmp_path / "walk_forward" / "walk" / "report.html").read_text()
    assert 'class="warnings"' in page
    assert findings.warnings[0] in page


def test_a_second_process_at_the_same_walk_forward_is_refused(store: str, tmp_path: Path) -> None:
    plan = plan_walk_forward(parsed(configured(store, tmp_path)))
    plan.settings.folder.mkdir(parents=True)
    with FileLock(plan.settings.folder / ".lock"), pytest.raises(BadSetup, match="another process is at this walk-forward"):
        walk_forward(plan)


def test_fine_tuned_folds_begin_with_the_model_of_the_one_before(dashboard_url: str, store: str, tmp_path: Path) -> None:
    assert dashboard_url
    changes = {"refit": "fine-tune", "test_days": 16, "benchmarks": [], "training": SHORT.model_dump(mode="json")}
    settings = parsed(configured(store, tmp_path, **changes))
    plan = plan_walk_forward(settings)
    walk_forward(plan)
    run = json.loads((settings.folder / "train" / "walk-fold-02" / "run.json").read_text())
    first = json.loads((settings.folder / "fold-01" / "trained.json").read_text())
    assert run["start_hash"] == first["own"]
    assert "start_hash" not in json.loads((settings.folder / "train" / "walk-fold-01" / "run.json").read_text())
    with pytest.raises(BadSetting, match=r"validation_days: found 30, with test_days 16: fold 2 begins with the model of fold 1"):
        plan_walk_forward(settings.model_copy(update={"name": "other", "validation_days": 30.0}))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (["--train-days", "400"], BadSetting, r"train_days 400, validation_days 15, test_days 10: one fold, .* found 36\d"),
        (["--from", "2019-01-01T00:00:00Z", "--to", "2019-06-01T00:00:00Z"], BadCandles, r"none of EURUSD 1h from 2019-01-01"),
        (["--symbols", "GBPUSD"], BadCandles, r"GBPUSD 1h"),
        (["--purge-bars", "10"], BadSetting, r"purge_bars: found 10; allowed: at least 64"),
        (["--validation-days", "5"], BadCandles, r"in the validation period of fold 1, .*; allowed: at least 164"),
        (["--trading.ldm4ts-horizons", "[60]"], BadSetting, r"trading.ldm4ts_horizons: found \[60\]; models of 1h candles know"),
        (["--no-trading.use-ldm4ts"], BadSetting, r"refit: found scratch, with trading.use_ldm4ts off; allowed: none"),
        (["--model", "absent", "--refit", "none"], BadSetting, r"model: found 'absent'"),
        (["--from", "2017-06-01T00:00:00Z", "--to", "2017-05-01T00:00:00Z"], BadSetting, r"stop: found 2017-05-01.*later than"),
    ],
)
def test_wrong_inputs_are_refused_by_name_before_anything_is_trained(
    options: list[str], error: type[Exception], said: str, store: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        plan_walk_forward(parsed(configured(store, tmp_path), *renamed(options)))
    assert not (tmp_path / "models").exists()


def test_unknown_keys_and_names_that_are_no_folder_are_refused(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(configured(store, tmp_path, test_day=10))]) == 2
    assert "unknown key 'test_day'; did you mean 'test_days'?" in capsys.readouterr().err
    assert main(["--config", str(configured(store, tmp_path, name="../elsewhere"))]) == 2
    assert "name: found '../elsewhere'" in capsys.readouterr().err


def test_names_of_models_that_are_there_already_are_refused(store: str, tmp_path: Path) -> None:
    (tmp_path / "models" / "walk-fold-01").mkdir(parents=True)
    with pytest.raises(BadSetting, match=r"name: a model named walk-fold-01 exists"):
        plan_walk_forward(parsed(configured(store, tmp_path)))


def test_a_model_that_has_seen_the_first_validation_period_is_no_beginning(store: str, tmp_path: Path) -> None:
    shipped = shipped_model("1h")
    assert shipped is not None
    settings = parsed(configured(store, tmp_path, start_from="shipped"))
    assert plan_walk_forward(settings).start_from == shipped, "it has seen no candle of 2017"
    late = tmp_path / "late"
    shutil.copytree(shipped, late)
    index = json.loads((late / "model_index.json").read_text())
    (late / "model_index.json").write_text(json.dumps({**index, "data_end": "2017-03-20T00:00:00Z"}))
    with pytest.raises(
        BadSetting, match=r"start_from: .*late has seen candles up to 2017-03-20.*, and the first fold validates from"
    ):
        plan_walk_forward(settings.model_copy(update={"start_from": str(late)}))
