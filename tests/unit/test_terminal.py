"""Progress where there is no terminal, as in the log of a job on a cluster."""

from __future__ import annotations

import pytest

from fxcast.terminal import progress_bar
from fxcast.web.cluster_jobs import newest_line


def test_progress_is_told_while_it_goes_on_and_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(every_s=0.0) as progress:
        task = progress.add_task("windows", total=4)
        progress.advance(task)
        one = capsys.readouterr().out
        progress.update(task, completed=2)
        two = capsys.readouterr().out
        progress.update(task, completed=4)
    end = capsys.readouterr().out

    assert ("1/4" in one, "2/4" in two, end.count("4/4")) == (True, True, 1)
    assert "2/4" in newest_line(f"{one}{two}a warning\n", is_running=True), "the page shows it"


def test_progress_that_is_quick_is_told_at_its_end_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        for _ in progress.track(range(4), description="windows"):
            pass

    assert capsys.readouterr().out.count("windows") == 1
