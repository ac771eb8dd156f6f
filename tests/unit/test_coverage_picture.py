"""The picture of coverage: a strip a year, a cell a day, coloured by what is there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from fxcast.evaluation.coverage import draw_coverage

Counts = Mapping[date, tuple[int, int]]


def days(year: int, present: int = 24) -> dict[date, tuple[int, int]]:
    every = (date(year, 1, 2) + timedelta(days=day) for day in range(360))
    return {day: (present, 24) for day in every if day.weekday() < 5}


def drawn(path: Path, by_day: Counts) -> NDArray[np.float32]:
    draw_coverage(path, by_day, title="EURUSD 1h")
    return np.asarray(imread(path))[:, :, :3]  # (height, width, colours)


def pixels(image: NDArray[np.float32], colour: str) -> int:
    wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return int((np.abs(image - wanted).max(axis=2) < 0.02).sum())


@pytest.mark.parametrize("years", [1, 3])
def test_the_picture_is_1440_wide_and_grows_with_the_years(tmp_path: Path, years: int) -> None:
    by_day = {day: counts for year in range(2016, 2016 + years) for day, counts in days(year).items()}
    image = drawn(tmp_path / "new folder" / "coverage.png", by_day)
    assert image.shape == (round((1.0 + 1.35 * years) * 120), 1440, 3)


def test_a_missing_day_is_coloured_otherwise_than_a_full_or_a_closed_one(tmp_path: Path) -> None:
    full = days(2017)
    gone = full | {date(2017, 5, 10): (0, 24)}
    shut = full | {date(2017, 5, 10): (0, 0)}
    missing, nothing = "#D55E00", "#EEEEEE"
    images = {name: drawn(tmp_path / f"{name}.png", by_day) for name, by_day in (("full", full), ("gone", gone), ("shut", shut))}
    cell = pixels(images["gone"], missing) - pixels(images["full"], missing)
    assert cell > 100
    assert pixels(images["shut"], nothing) - pixels(images["full"], nothing) == pytest.approx(cell, rel=0.2)
    assert pixels(images["shut"], missing) == pixels(images["full"], missing)


def test_a_day_that_is_half_there_is_neither_full_nor_missing(tmp_path: Path) -> None:
    half = days(2017) | {date(2017, 5, 10): (12, 24)}
    image, whole = drawn(tmp_path / "half.png", half), drawn(tmp_path / "whole.png", days(2017))
    changed = np.abs(image - whole).max(axis=2) > 0.02
    assert 100 < changed.sum() < 2_000


def test_in_a_year_of_54_weeks_no_day_hides_another(tmp_path: Path) -> None:
    christmas_eve, last = date(2012, 12, 24), date(2012, 12, 31)  # two Mondays of a year that began on a Sunday
    picture = drawn(tmp_path / "full.png", {**days(2012), last: (24, 24)})
    for name, day in (("one", christmas_eve), ("other", last)):
        gone = drawn(tmp_path / f"{name}.png", {**days(2012), last: (24, 24), day: (0, 24)})
        assert pixels(gone, "#D55E00") - pixels(picture, "#D55E00") > 100


def test_a_series_without_a_day_is_drawn_empty(tmp_path: Path) -> None:
    assert drawn(tmp_path / "empty.png", {}).shape[1] == 1440
