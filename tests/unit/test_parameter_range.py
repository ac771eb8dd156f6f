"""One parameter's range: what lies beside a value, and how it is told."""

from __future__ import annotations

import pytest
import yaml

from fxcast.trading.parameters import Value
from fxcast.tuning.ranges import ParameterRange


def one(text: str) -> ParameterRange:
    return ParameterRange.model_validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("text", "value", "beside"),
    [
        ("{low: 0.3, high: 0.7}", 0.7, (0.63,)),  # nothing above
        ("{low: 0.3, high: 0.7}", 0.68, (0.612, 0.7)),  # clipped
        ("{low: 0.0, high: 2.0}", 0.0, (0.2,)),  # a share of the range
        ("{low: -1.0, high: 1.0}", 0.0, (-0.2, 0.2)),
        ("{low: -1.0, high: 1.0}", -0.5, (-0.55, -0.45)),
        ("{low: 10, high: 100}", 50, (45, 55)),
        ("{low: 10, high: 100, step: 10}", 50, (40, 60)),
        ("{low: 0.3, high: 0.7, step: 0.1}", 0.6, (0.5, 0.7)),
        ("{low: 0.0, high: 10.0, step: 0.1}", 6.0, (5.4, 6.6)),
        ("{low: 1.0e-5, high: 1.0e-3, log: true}", 1e-4, (9e-5, 1.1e-4)),
        ("{choices: [1, 2, 3]}", 1, (2,)),
        ("{choices: [1, 2, 3]}", 3, (2,)),
    ],
)
def test_neighbours_stay_in_the_range_and_on_its_grid(text: str, value: Value, beside: tuple[Value, ...]) -> None:
    assert one(text).neighbours(value, 0.1) == pytest.approx(beside, rel=1e-12)


def test_neighbours_at_another_share() -> None:
    assert one("{low: 0.0, high: 2.0}").neighbours(1.0, 0.25) == (0.75, 1.25)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{low: 0.3, high: 0.7}", "0.3 to 0.7"),
        ("{low: 2, high: 8}", "2 to 8"),
        ("{low: 1, high: 64, log: true}", "1 to 64, log"),
        ("{low: 2, high: 8, step: 2.0}", "2 to 8 in steps of 2"),
        ("{low: 0.3, high: 0.7, step: 0.05}", "0.3 to 0.7 in steps of 0.05"),
        ("{choices: [null, true, 1.5, kelly, [15, 60]]}", "null | true | 1.5 | kelly | [15, 60]"),
    ],
)
def test_a_range_is_described_in_words(text: str, words: str) -> None:
    assert one(text).describe() == words
