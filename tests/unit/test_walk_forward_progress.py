"""The time that a walk-forward has left, worked by hand."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from rich.progress import Progress

from fxcast.backtest.folds import Fold
from jobs.walk_forward_progress import FoldBars, in_words, seconds_left


def test_nothing_is_said_of_the_time_left_before_a_fold_is_done() -> None:
    assert seconds_left([], [30.0], 3, 1) is None


@pytest.mark.parametrize(
    ("running", "waiting", "at_once", "left"),
    [
        ([], 3, 1, 300.0),
        ([40.0], 2, 1, 260.0),
        ([40.0, 60.0], 2, 2, 150.0),
        ([130.0], 1, 1, 100.0),  # one that takes longer than the mean may end at any moment
        ([40.0], 0, 4, 60.0),  # what is not there is not done side by side
        ([], 0, 2, 0.0),
    ],
)
def test_the_mean_time_of_finished_folds_is_what_the_others_are_expected_to_take(
    running: list[float], waiting: int, at_once: int, left: float
) -> None:
    assert seconds_left([80.0, 120.0], running, waiting, at_once) == pytest.approx(left)


def test_times_are_told_in_a_persons_units() -> None:
    assert [in_words(each) for each in (12.4, 89.0, 100.0, 3600.0, 9000.0)] == ["12 s", "89 s", "2 min", "60 min", "2.5 h"]


def test_finished_folds_are_told_with_the_time_left_also_off_a_terminal() -> None:
    span = (datetime(2017, 1, 1, tzinfo=UTC), datetime(2017, 1, 1, tzinfo=UTC) + timedelta(days=1))
    folds = [Fold(number=number, train=span, validation=span, test=span) for number in (1, 2, 3)]
    now = 0.0
    said = io.StringIO()
    with Progress(console=Console(file=said, width=120)) as progress:
        bars = FoldBars(progress, folds, known={1: 50.0}, at_once=1, clock=lambda: now)
        bars.begin(folds[1])
        bars.show(folds[1], "denoiser", 5, 40)
        now = 70.0
        bars.finish(folds[1], "12 trades, return +0.10 %")
    lines = said.getvalue().splitlines()
    assert lines[0] == "fold 2 of 3: 12 trades, return +0.10 %; 2 of 3 folds, about 60 s left"
