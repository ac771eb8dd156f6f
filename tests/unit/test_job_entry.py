"""Exit codes, and where relative paths start."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxcast.errors import BadSetting, ForecastUnavailable, FxcastError, ReconciliationFailed
from jobs.entry import run


@pytest.mark.parametrize(
    ("error", "code"), [(BadSetting("steps: found -1"), 2), (ForecastUnavailable("late"), 1), (ReconciliationFailed("differs"), 1)]
)
def test_own_errors_become_one_sentence_and_an_exit_code(error: FxcastError, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise error

    assert run(fail) == code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_interrupt_exits_as_shells_report_it() -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    assert run(interrupt) == 130


def test_bug_keeps_its_traceback() -> None:
    def fail() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(fail)


def test_relative_paths_start_at_fxcast_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path.cwd())  # restored afterwards
    monkeypatch.setenv("FXCAST_HOME", str(tmp_path))

    def write() -> int:
        Path("here").touch()
        return 0

    assert run(write) == 0
    assert (tmp_path / "here").exists()


def test_submitted_job_without_a_home_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("FXCAST_HOME", raising=False)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert run(lambda: 0) == 2
    assert "say where runs/ is with FXCAST_HOME" in capsys.readouterr().err


def test_home_that_is_no_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FXCAST_HOME", str(tmp_path / "absent"))
    assert run(lambda: 0) == 2
    assert "which is no folder" in capsys.readouterr().err
