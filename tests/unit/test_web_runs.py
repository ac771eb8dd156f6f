"""Searches, walk-forwards and backtests as page Runs lists them, and which files of theirs it shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from fxcast.adapters.clock import SystemClock
from fxcast.adapters.storage.backtest_rows import FoldStatus
from fxcast.adapters.storage.backtests import BacktestRecords
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.runs import SearchInList, WalkForwardInList, list_backtests, list_searches, list_walk_forwards
from fxcast.adapters.storage.tuning import TuningRecords
from fxcast.cluster.local import REPOSITORY
from fxcast.errors import BadSetting, BadSetup, NotFound
from fxcast.web.cluster_jobs import newest_line
from fxcast.web.evaluations import evaluation_folder, list_evaluations
from fxcast.web.forms import text_of
from fxcast.web.reports import report_file
from fxcast.web.runs_view import counts_said, duration, folds_left_s, folds_said, ratio, share, trials_left_s, trials_said
from fxcast.web.sources import Sources
from fxcast.web.startable import STARTABLE, Startable, checked_run, config_names, start_form, startable
from tests.backtest_record_factories import backtest_record, fold_record, walk_forward_record
from tests.databases import DATABASES, new_database
from tests.tuning_record_factories import trial_record, tuning_run

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = new_database(request.param, tmp_path)
    migrate(url)
    database = open_database(url)
    yield database
    database.dispose()


def test_a_search_is_listed_with_its_own_trials_and_not_those_of_its_guard(database: Engine) -> None:
    records = TuningRecords(database)
    run = records.begin(tuning_run())
    records.save_trial(run.id, replace(trial_record(), kind="search", number=0, state="complete"))
    records.save_trial(run.id, replace(trial_record(), kind="search", number=1, state="pruned"))
    records.save_trial(run.id, replace(trial_record(), kind="random", number=0, state="complete"))
    (found,) = list_searches(database, limit=10)
    assert (found.id, found.name, dict(found.states)) == (run.id, run.name, {"complete": 1, "pruned": 1})
    assert (found.wanted, found.finished_at, found.has_report) == (run.trials, None, False)
    assert list_searches(database, limit=0) == ()


def test_a_walk_forward_is_listed_with_its_folds_and_what_failed(database: Engine) -> None:
    records = BacktestRecords(database)
    run = walk_forward_record()
    folds = [replace(fold_record(), number=number) for number in (1, 2)]
    records.begin(run, folds)
    records.set_fold(run.id, 2, FoldStatus.FAILED, at=NOON, reason="the disk is full")
    (found,) = list_walk_forwards(database, limit=10)
    assert (found.id, dict(found.folds), found.problems) == (run.id, {"pending": 1, "failed": 1}, ("the disk is full",))


def test_backtests_are_listed_without_benchmarks_newest_first(database: Engine) -> None:
    records = BacktestRecords(database)
    older = backtest_record()
    newer = replace(older, name="newer", made_at=older.made_at + timedelta(days=1), settings_hash="beef")
    records.save(older, [])
    records.save(newer, [])
    records.save(replace(older, variant="buy-and-hold", is_benchmark=True), [])
    assert [each.name for each in list_backtests(database, limit=10)] == ["newer", older.name]
    assert [each.name for each in list_backtests(database, limit=1)] == ["newer"]
    assert list_backtests(database, limit=1)[0].seen_by_model


def test_of_a_runs_folder_the_report_and_its_pictures_are_shown_and_nothing_else(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'fx.db'}"
    migrate(url)
    folder = tmp_path / "backtest"
    (folder / "pictures").mkdir(parents=True)
    for name in ("report.html", "findings.json", "pictures/equity.png", "pictures/secret.key"):
        (folder / name).write_text(name)
    (tmp_path / "report.html").write_text("of another")
    database = open_database(url)
    record = replace(backtest_record(), report_folder=str(folder))
    BacktestRecords(database).save(record, [])
    database.dispose()
    sources = Sources(database_url=url, store=str(tmp_path), api_url="http://127.0.0.1:1", api_token=None, clock=SystemClock().now)
    assert report_file(sources, "backtest", record.id, "report.html").read_text() == "report.html"
    assert report_file(sources, "backtest", record.id, "pictures/equity.png").read_text() == "pictures/equity.png"
    for name in ("findings.json", "pictures/secret.key", "../report.html", "pictures/../../fx.db", "pictures/none.png", ""):
        with pytest.raises(NotFound, match="file: found"):
            report_file(sources, "backtest", record.id, name)
    with pytest.raises(NotFound, match="run: found nobody"):
        report_file(sources, "backtest", "nobody", "report.html")
    with pytest.raises(NotFound, match="kind: found engine; allowed: search, walk-forward, backtest, evaluation"):
        report_file(sources, "engine", record.id, "report.html")
    sources.close()


def search(**changes: object) -> SearchInList:
    found = SearchInList(
        id="a",
        name="first",
        symbols="EURUSD",
        timeframe="1h",
        level="trading",
        begun_at=NOON,
        finished_at=None,
        wanted=10,
        states={"complete": 3, "pruned": 1, "running": 2},
        seconds=80.0,
        verdict="",
        promotes=None,
        has_report=False,
    )
    return replace(found, **changes)  # pyright: ignore[reportArgumentType]


def test_how_far_a_search_is_and_how_long_it_still_takes() -> None:
    assert trials_said(search()) == "4 of 10 trials (3 complete, 1 pruned, 2 running)"
    assert trials_left_s(search()) == 6 * 20.0
    assert trials_left_s(search(states={})) is None
    assert trials_left_s(search(finished_at=NOON)) is None
    assert trials_said(search(states={})) == "0 of 10 trials"


def test_how_far_a_walk_forward_is_and_how_long_it_still_takes() -> None:
    run = WalkForwardInList(
        id="a",
        name="first",
        symbols="EURUSD",
        timeframe="1h",
        begun_at=NOON,
        finished_at=None,
        folds={"done": 2, "training": 1, "pending": 3},
        problems=(),
        has_report=False,
    )
    assert folds_said(run) == "2 done, 1 training, 3 pending"
    assert folds_left_s(run, NOON + timedelta(seconds=100)) == 4 * 50.0
    assert folds_left_s(replace(run, folds={"pending": 6}), NOON) is None
    assert folds_left_s(replace(run, finished_at=NOON), NOON) is None


def test_numbers_in_words() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.4, 61, 3599, 3600, 90_061)] == [
        "0 s",
        "59 s",
        "1 min 1 s",
        "59 min 59 s",
        "1 h 0 min",
        "25 h 1 min",
    ]
    assert counts_said({"odd": 1, "done": 2, "failed": 0}, ("done", "failed")) == "2 done, 1 odd"
    assert (share(-0.0317), share(None), ratio(0.5), ratio(None)) == ("-3.17 %", None, "+0.50", None)


def test_an_evaluation_is_listed_by_its_scores_and_one_that_can_not_be_read_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "evaluate" / "mine"
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text(
        '{"model": "mine", "timeframe": "1h", "symbols": {"EURUSD": {}}, "warnings": ["short"],'
        ' "start": "2017-10-26T00:00:00+00:00", "stop": "2017-12-29T00:00:00+00:00",'
        ' "averages": {"all": {"random-walk": {"skill": 0.03}}}}'
    )
    (found,) = list_evaluations(str(tmp_path), limit=10)
    assert (found.model, found.symbols, found.period) == ("mine", ("EURUSD",), "2017-10-26 to 2017-12-29")
    assert (found.skills, found.warnings, found.has_report, found.problem) == ((("random-walk", 0.03),), ("short",), False, "")
    (folder / "report.html").write_text("written after the scores")
    assert [each.has_report for each in list_evaluations(str(tmp_path), limit=10)] == [True]
    broken = tmp_path / "runs" / "evaluate" / "broken"
    broken.mkdir()
    (broken / "scores.json").write_text("{}")
    problems = {each.id: each.problem for each in list_evaluations(str(tmp_path), limit=10)}
    assert problems["broken"] == "scores.json: KeyError: 'averages'"
    assert len(list_evaluations(str(tmp_path), limit=1)) == 1
    assert evaluation_folder(str(tmp_path), "mine") == folder
    for name in ("../evaluate/mine", "..", "nobody"):
        with pytest.raises(NotFound, match="run: found"):
            evaluation_folder(str(tmp_path), name)


def test_of_a_log_the_newest_progress_is_told_while_it_grows_and_the_end_afterwards() -> None:
    log = "windows  ━━ 3/8 0:00:02 left 0:00:05\r\x1b[2Kwindows  ━━ 4/8 0:00:03 left 0:00:03\n(Worker pid=1) warns\n\n"
    assert newest_line(log, is_running=True) == "windows  ━━ 4/8 0:00:03 left 0:00:03"
    assert newest_line(log, is_running=False) == "(Worker pid=1) warns"
    assert newest_line("", is_running=True) == ""
    assert len(newest_line("x" * 1000, is_running=True)) == 241


@pytest.mark.parametrize("run", STARTABLE, ids=lambda run: run.kind)
def test_each_run_that_can_be_started_takes_its_config_files_and_asks_for_no_place(run: Startable) -> None:
    assert config_names(run)
    for config in config_names(run):
        form = start_form(run, config)
        named = {"name": "mine"} if any(field.path == "name" for field in form.fields) else {}
        checked = checked_run(run, config, named, home=str(REPOSITORY))
        options = tuple(f"--{name}={value}" for name, value in named.items())
        assert checked.arguments == ("python", "-m", run.module, "--config", f"configs/{config}", *options)
        assert {field.path for field in form.fields}.isdisjoint({"store", "database_url", "models", "storage_path", "output"})
        with pytest.raises(BadSetting, match="unknown setting 'database_url'"):
            checked_run(run, config, {**named, "database_url": "sqlite:///other.db"}, home=".")


def test_only_what_differs_from_the_config_file_is_passed_in_the_classs_own_words() -> None:
    tune = startable("tune")
    raw = {
        "name": "Mine",
        "trials": "100",  # as in the file
        "sample": [],
        "regime": "trending",
        "trading.ldm4ts_horizons": "240, 960",
        "trading.risk.sessions": ["London", "New York"],
        "trading.sizing.regime_multipliers": "{volatile: 0.5}",
    }
    run = checked_run(tune, "tune.yaml", raw, home=str(REPOSITORY))
    assert run.arguments[5:] == (
        "--name=Mine",
        "--no-sample",
        "--trading.ldm4ts-horizons=240,960",
        '--trading.sizing.regime-multipliers={"volatile": 0.5}',
        "--trading.risk.sessions=London,New York",
        "--regime=trending",
    )
    assert run.name == "tune-mine"
    assert set(run.changed) == set(raw) - {"trials"}
    assert checked_run(tune, "tune.yaml", run.changed, home=str(REPOSITORY)) == run


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({}, "name: missing"),
        ({"name": "a b"}, "name: found 'a b': String should match pattern"),
        ({"name": "a", "trials": "1"}, "trials: found '1': Input should be greater than or equal to 2"),
        ({"name": "a", "trials": "many"}, "trials: found 'many'; allowed: a whole number, at least 2"),
        ({"name": "a", "start": ""}, "start: found nothing; allowed: a value, or a config file that names none"),
        (
            {"name": "a", "space": "{trading.min_quality: {low: 0.3, high: 0.5}}"},
            "space: trading.ldm4ts_uncertainty_threshold: wanted nothing, found {",
        ),
    ],
)
def test_what_the_settings_class_does_not_take_is_refused_before_anything_is_started(raw: dict[str, object], said: str) -> None:
    with pytest.raises(BadSetting) as refused:
        checked_run(startable("tune"), "tune.yaml", raw, home=str(REPOSITORY))
    assert said in str(refused.value)


def test_a_key_that_is_taken_out_deep_in_a_mapping_is_refused_for_the_config_file_names_it_still() -> None:
    tune = startable("tune")
    (field,) = (field for field in start_form(tune, "tune_model.yaml").fields if field.path == "space")
    space = start_form(tune, "tune_model.yaml").content["space"]
    name = "training.learning_rate"
    assert space[name]["log"] is True
    shorter = {**space, name: {key: value for key, value in space[name].items() if key != "log"}}
    with pytest.raises(BadSetting) as refused:
        checked_run(tune, "tune_model.yaml", {"name": "a", "space": text_of(field, shorter)}, home=str(REPOSITORY))
    assert str(refused.value).startswith("space: training.learning_rate: log: wanted false, found true once the options are read;")
    said = {**space, name: {**space[name], "log": False}}
    run = checked_run(tune, "tune_model.yaml", {"name": "a", "space": text_of(field, said)}, home=str(REPOSITORY))
    assert set(run.changed) == {"name", "space"}


@pytest.mark.parametrize("path", ["params", "text_encoder", "trading.ldm4ts_checkpoint_path", "start"])
def test_a_text_that_would_unset_a_field_is_refused(path: str) -> None:
    with pytest.raises(BadSetting, match=rf"{path}: "):
        checked_run(startable("tune"), "tune.yaml", {"name": "a", path: "None"}, home=str(REPOSITORY))


def test_no_other_file_than_a_runs_own_config_is_read() -> None:
    for config in ("train.yaml", "../configs/tune.yaml", "/etc/passwd"):
        with pytest.raises(BadSetting, match=r"config file: found .*; allowed: tune\.yaml"):
            start_form(startable("tune"), config)
    with pytest.raises(BadSetting, match="run: found 'trade'; allowed: train, "):
        startable("trade")


def test_the_config_file_is_named_as_the_job_finds_it_from_its_home(tmp_path: Path) -> None:
    run = startable("evaluate")
    assert checked_run(run, "evaluate.yaml", {}, home=str(tmp_path)).arguments[4] == str(REPOSITORY / "configs" / "evaluate.yaml")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "evaluate.yaml").write_text("model: another\n")
    assert checked_run(run, "evaluate.yaml", {}, home=str(tmp_path)).arguments[4] == str(REPOSITORY / "configs" / "evaluate.yaml")


def test_a_page_without_the_jobs_beside_it_says_how_to_serve_it() -> None:
    absent = Startable(kind="absent", settings="jobs_that_are_not_here.train:TrainJob", configs=(), help="")
    with pytest.raises(BadSetup, match=r"runs can't be started from here: No module named 'jobs_that_are_not_here'; .*checkout"):
        start_form(absent, "")
