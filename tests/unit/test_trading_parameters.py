"""The trader's settings by path: what a search or a promotion may read and set, and what it is told where it may not."""

from __future__ import annotations

from typing import Any

import pytest

from fxcast.domain.signal import DIMENSIONS, Regime
from fxcast.errors import BadSetting
from fxcast.trading.config import SizingConfig, SizingMethod, TradingConfig
from fxcast.trading.parameters import ASKING, FIXED, check_searchable, searchable_paths, value_of, with_values

DEFAULT = TradingConfig()
TIMING = DIMENSIONS.index("timing")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("min_quality", 0.45),
        ("ldm4ts_horizons", (15, 60, 240)),
        ("use_trend", True),
        ("sizing.kelly_fraction", 0.25),
        ("sizing.method", "fixed_fraction"),
        ("management.stop_multiple", 1.0),
        ("management.exit_uncertainty_pct", None),
        ("risk.max_positions", 3),
        ("quality.weights.timing", 1.0),
        ("quality.weights.volatile.timing", 1.0),
        ("quality.min_total.trending", 0.45),
        ("sizing.regime_multipliers.ranging", 1.0),
    ],
)
def test_a_path_has_its_default_value(path: str, value: object) -> None:
    found = value_of(DEFAULT, path)
    assert (found, type(found)) == (value, type(value))


def test_every_searchable_path_holds_a_plain_value() -> None:
    assert len(searchable_paths()) > 50
    for path in searchable_paths():
        assert type(value_of(DEFAULT, path)) in (bool, int, float, str, type(None), tuple), path


def test_values_are_set_together_and_nothing_else_changes() -> None:
    values = {"sizing.method": "kelly", "risk.max_positions": 5, "ldm4ts_horizons": (60, 240), "management.trail_at_r": 2}
    changed = with_values(DEFAULT, values)
    assert changed.sizing == SizingConfig(method=SizingMethod.KELLY)
    assert (changed.risk.max_positions, changed.ldm4ts_horizons, changed.management.trail_at_r) == (5, (60, 240), 2.0)
    assert with_values(changed, {path: value_of(DEFAULT, path) for path in values}) == DEFAULT


def test_a_horizon_list_as_a_file_has_it_is_a_tuple_afterwards() -> None:
    listed: Any = [15, 60]
    assert with_values(DEFAULT, {"ldm4ts_horizons": listed}).ldm4ts_horizons == (15, 60)


def test_a_weights_factor_counts_in_every_regime_and_rows_still_add_up_to_1() -> None:
    changed = with_values(DEFAULT, {"quality.weights.timing": 2.0}).quality.weights
    for regime, row in DEFAULT.quality.weights.items():
        assert sum(changed[regime]) == pytest.approx(1.0, abs=1e-12)
        # twice as much beside each of the others, whose proportions stay
        assert changed[regime][TIMING] / changed[regime][0] == pytest.approx(2 * row[TIMING] / row[0])
        assert changed[regime][1] / changed[regime][0] == pytest.approx(row[1] / row[0])


def test_a_weights_factor_in_one_regime_leaves_the_others_alone() -> None:
    changed = with_values(DEFAULT, {"quality.weights.volatile.timing": 3.0}).quality.weights
    assert {regime for regime in Regime if changed[regime] != DEFAULT.quality.weights[regime]} == {Regime.VOLATILE}


def test_factors_everywhere_and_in_one_regime_are_multiplied() -> None:
    both = with_values(DEFAULT, {"quality.weights.timing": 2.0, "quality.weights.volatile.timing": 3.0}).quality.weights
    one = with_values(DEFAULT, {"quality.weights.volatile.timing": 6.0}).quality.weights
    assert both[Regime.VOLATILE] == pytest.approx(one[Regime.VOLATILE])


def test_the_least_quality_of_a_regime_is_its_own_once_it_is_set() -> None:
    changed = with_values(DEFAULT, {"quality.min_total.volatile": 0.6, "min_quality": 0.5})
    assert value_of(changed, "quality.min_total.volatile") == 0.6
    assert value_of(changed, "quality.min_total.ranging") == 0.5


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("sizing.kelly_fractoin", "sizing.kelly_fraction"),
        ("stop_multiple", "management.stop_multiple"),
        ("quality.weights.timming", "quality.weights.timing"),
        ("quality.weights.trendy.timing", "quality.weights.trending.timing"),
        ("sizing.regime_multipliers.volatil", "sizing.regime_multipliers.volatile"),
    ],
)
def test_an_unknown_path_is_refused_with_the_nearest_known(path: str, near: str) -> None:
    for refuse in (lambda: value_of(DEFAULT, path), lambda: with_values(DEFAULT, {path: 1.0}), lambda: check_searchable(path)):
        with pytest.raises(BadSetting, match=f"unknown path '{path}'; did you mean '{near}'"):
            refuse()


@pytest.mark.parametrize("path", sorted(FIXED))
def test_what_is_no_number_of_a_strategy_cannot_be_searched(path: str) -> None:
    with pytest.raises(BadSetting, match=f"^{path}: can't be searched; allowed: "):
        check_searchable(path)
    with pytest.raises(BadSetting, match=f"^{path}: can't be searched"):
        with_values(DEFAULT, {path: 1})


def test_what_is_asked_of_the_service_can_be_searched() -> None:
    for path in ASKING:
        check_searchable(path)


@pytest.mark.parametrize("path", ["quality", "sizing", "quality.weights", "quality.weights.volatile", "sizing.regime_multipliers"])
def test_a_section_is_no_value(path: str) -> None:
    with pytest.raises(BadSetting, match=f"^{path}: holds several values; allowed: one of them, as in {path}\\."):
        check_searchable(path)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("sizing.kelly_fraction", 2.0, "found 2.0: Input should be less than or equal to 1"),
        ("sizing.kelly_fraction", "0.3", "found '0.3': Input should be a valid number"),
        ("sizing.kelly_fraction", None, "found None: Input should be a valid number"),
        ("risk.max_positions", 2.5, "found 2.5: Input should be a valid integer"),
        ("risk.max_positions", True, "found True: Input should be a valid integer"),
        ("use_trend", 1, "found 1: Input should be a valid boolean"),
        ("sizing.method", "kely", "found 'kely': Input should be 'fixed_fraction', 'kelly' or 'volatility_target'"),
        ("management.stop_multiple", 0.0, "found 0.0: Input should be greater than 0"),
        ("ldm4ts_uncertainty_threshold", float("inf"), "found inf: Input should be a finite number"),
        ("min_quality", float("nan"), "found nan: Input should be a finite number"),
        ("quality.weights.timing", -1.0, "found -1.0: Input should be greater than or equal to 0"),
        ("quality.min_total.volatile", 1.5, "found 1.5: Input should be less than or equal to 1"),
        ("sizing.regime_multipliers.volatile", 1.5, "found 1.5: Input should be less than or equal to 1"),
        ("ldm4ts_horizons", (60, 15), "ldm4ts_horizons must ascend from above zero, found \\[60, 15\\]"),
        ("ldm4ts_horizons", (), "found \\(\\): Tuple should have at least 1 item"),
    ],
)
def test_a_bad_value_is_refused_by_its_path(path: str, value: Any, words: str) -> None:
    with pytest.raises(BadSetting, match=f"^{path}: .*{words}"):
        with_values(DEFAULT, {path: value})


def test_a_number_of_another_library_is_refused_by_its_path() -> None:
    number: Any = object()
    with pytest.raises(BadSetting, match=r"^min_quality: found .*; allowed: a plain number, text or null"):
        with_values(DEFAULT, {"min_quality": number})


def test_weights_that_are_all_taken_away_are_refused() -> None:
    with pytest.raises(BadSetting, match=r"quality\.weights\.timing.*: found no weight above zero in trending"):
        with_values(DEFAULT, {f"quality.weights.{name}": 0.0 for name in DIMENSIONS})
