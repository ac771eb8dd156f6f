"""What goes with a submitted job, under which id, and what its end means."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package  # what a submit does with working_dir and excludes
from ray.dashboard.modules.job.pydantic_models import JobType
from ray.job_submission import JobDetails, JobStatus

from fxcast.cluster.local import REPOSITORY
from fxcast.cluster.submission import (
    Submission,
    connect,
    exit_code_of,
    read_runtime_env,
    require_no_secret,
    split_variables,
    submit_once,
)
from fxcast.errors import BadSetting, BadSetup, Conflict
from jobs.submit import main
from tests.job_api import job_api

RUNTIME_ENV = REPOSITORY / "jobs" / "runtime_env.yaml"


def _submission(*arguments: str, name: str = "nightly") -> Submission:
    return Submission(name=name, arguments=arguments, runtime_env={})


def test_same_name_and_command_have_the_same_id_and_others_another() -> None:
    one = _submission("python", "-m", "jobs.train", "--name", "a b")
    assert one.id == _submission("python", "-m", "jobs.train", "--name", "a b").id
    assert one.id != _submission("python", "-m", "jobs.train", "--name", "a", "b").id
    assert one.id != _submission("python", "-m", "jobs.train", "--name", "a b", name="weekly").id
    assert [one.attempt_id(number) for number in (1, 2)] == [one.id, f"{one.id}-2"]
    assert one.command == "python -m jobs.train --name 'a b'"


def test_secrets_stay_and_settings_go() -> None:
    variables = split_variables(
        {
            "FXCAST_HOME": "/shared",
            "FXCAST_STORE": "s3://bucket/candles",
            "FXCAST_DATABASE_URL": "postgresql+psycopg://fxcast:pw@db/fx",
            "FXCAST_TOKENS_DATABASE_URL": "postgresql+psycopg://db/fx",
            "FXCAST_ENGINE__DATABASE_URL": "postgresql+psycopg://db/fx?password=pw",
            "FXCAST_OANDA_TOKEN": "t",
            "FXCAST_CTRADER_CLIENT_SECRET": "s",
            "FXCAST_ALERT_URL": "https://hooks.example/T0/B0/x",
            "FXCAST_TRAINING__STEPS": "300",
            "AWS_SECRET_ACCESS_KEY": "not ours",
        }
    )
    assert set(variables.passed) == {"FXCAST_HOME", "FXCAST_STORE", "FXCAST_TOKENS_DATABASE_URL", "FXCAST_TRAINING__STEPS"}
    assert variables.kept == (
        "FXCAST_ALERT_URL",
        "FXCAST_CTRADER_CLIENT_SECRET",
        "FXCAST_DATABASE_URL",
        "FXCAST_ENGINE__DATABASE_URL",
        "FXCAST_OANDA_TOKEN",
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("python", "-m", "jobs.trade", "--database-url", "postgresql://fxcast:hunter2@db/fx"), "--database-url"),
        (("python", "-m", "jobs.trade", "--database-url=postgresql://db/fx?password=hunter2"), "database-url"),
        (("env", "FXCAST_OANDA_TOKEN=hunter2", "python", "-m", "jobs.download"), "FXCAST_OANDA_TOKEN"),
        (("env", "AWS_SECRET_ACCESS_KEY=hunter2", "python"), "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_secret_in_a_command_is_refused_without_being_shown(arguments: tuple[str, ...], named: str) -> None:
    with pytest.raises(BadSetting) as refused:
        require_no_secret(arguments)
    assert f"a secret at {named}" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_command_without_a_secret_passes() -> None:
    require_no_secret(("env", "FXCAST_HOME=/shared", "python", "-m", "jobs.trade", "--database-url", "postgresql://fxcast@db/fx"))
    require_no_secret(("python", "-m", "jobs.token", "--action=list"))


def test_secret_in_the_runtime_environment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "env.yaml"
    path.write_text("working_dir: .\nenv_vars: {FXCAST_TIINGO_TOKEN: hunter2}\n")
    with pytest.raises(BadSetting, match=r"env_vars\.FXCAST_TIINGO_TOKEN is a secret") as refused:
        read_runtime_env(path, {}, REPOSITORY)
    assert "hunter2" not in str(refused.value)


def test_what_is_sent_is_the_code_and_nothing_else(tmp_path: Path) -> None:
    runtime_env = read_runtime_env(RUNTIME_ENV, {"FXCAST_HOME": "/shared"}, REPOSITORY)
    assert runtime_env["env_vars"] == {"PYTHONPATH": "platform", "FXCAST_HOME": "/shared"}
    package = tmp_path / "package.zip"
    create_package(
        runtime_env["working_dir"], package, include_gitignore=False, excludes=[*runtime_env["excludes"], ".git", ".venv"]
    )
    names = zipfile.ZipFile(package).namelist()
    for needed in ("jobs/train.py", "actors/__init__.py", "platform/fxcast/__init__.py", "configs/train.yaml", "migrations/env.py"):
        assert needed in names
    assert "pyproject.toml" in names  # the migrations' settings
    assert any(name.endswith("model.safetensors") or "weights/" in name for name in names)
    tops = {name.split("/", maxsplit=1)[0] for name in names}
    assert tops.isdisjoint(
        {"runs", "docs", "tests", "deploy", "dist", ".git", ".venv", ".pytest_cache", ".ruff_cache", ".hypothesis"}
    )
    assert package.stat().st_size < 20 * 2**20  # Ray takes 512 MiB


@pytest.mark.parametrize(
    ("status", "driver", "code"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, 130, 130),
        (JobStatus.FAILED, -9, 137),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 130),
        (JobStatus.STOPPED, -15, 130),
    ],
)
def test_exit_code_is_the_jobs_own(status: JobStatus, driver: int | None, code: int) -> None:
    details = JobDetails.model_validate(
        {"type": JobType.SUBMISSION, "entrypoint": "x", "status": status, "driver_exit_code": driver}
    )
    assert exit_code_of(details) == code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "a"], "no command"),
        (["--name", "Nightly Train", "--", "true"], "name: found 'Nightly Train'"),
        (["--name", "a", "--address", "http://127.0.0.1:1", "--", "true"], "no cluster answers at http://127.0.0.1:1"),
        (["--name", "a", "--", "env", "FXCAST_TOKEN=hunter2", "true"], "holds a secret at FXCAST_TOKEN"),
    ],
)
def test_what_can_not_be_submitted_is_refused_in_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "hunter2" not in error


def test_a_bounded_client_asks_the_address_that_it_is_given_and_gives_a_silent_one_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with job_api() as api:
        assert connect(api.url, timeout_s=20.0).list_jobs() == []
        client = connect(api.url, timeout_s=0.2)
        api.answers.clear()
        with pytest.raises(OSError, match="Read timed out"):
            client.list_jobs()
        with pytest.raises(BadSetup, match="no cluster answers"):
            connect(api.url, timeout_s=0.2)


def test_who_submitted_a_job_is_kept_with_it_and_one_that_runs_is_not_started_again() -> None:
    with job_api() as api:
        client = connect(api.url, timeout_s=20.0)
        one = Submission(name="nightly", arguments=("true",), runtime_env={}, by="trader")
        assert submit_once(client, one, again=False).is_new
        assert api.posted[0]["metadata"]["by"] == "trader"
        assert not submit_once(client, one, again=False).is_new
        with pytest.raises(Conflict, match="runs; stop it first"):
            submit_once(client, one, again=True)
        assert len(api.posted) == 1
        submit_once(client, _submission("false"), again=False)
        assert "by" not in api.posted[1]["metadata"]
