"""Folds of a walk-forward, with every bound worked by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from fxcast.backtest.folds import Fold, FoldRule, Scheme, cut_folds
from fxcast.domain.candle import TimeArray, to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting

_HOUR = Timeframe("1h")
_START = datetime(2017, 1, 2, tzinfo=UTC)


def at(day: int, hour: int = 0) -> datetime:
    """Return a moment so long after the start."""
    return _START + timedelta(days=day, hours=hour)


def hourly(days: float, *, without: tuple[int, int] | None = None) -> TimeArray:
    """Return open times of an unbroken series, or of one with a gap of some hours."""
    hours = np.arange(int(24 * days))
    if without is not None:
        hours = hours[(hours < without[0]) | (hours >= without[1])]
    return to_datetime64(_START) + (hours * 3600).astype("timedelta64[s]")


def rule(**changes: Any) -> FoldRule:
    """Ten days of training, four of validation, five of test; a purge of two hours."""
    given: dict[str, Any] = {
        "scheme": Scheme.ROLLING,
        "train": timedelta(days=10),
        "validation": timedelta(days=4),
        "test": timedelta(days=5),
        "purge_bars": 2,
    }
    return FoldRule(**(given | changes))


def cut(days: float = 30.0, *, series: dict[str, TimeArray] | None = None, horizon: int = 2, **changes: Any) -> tuple[Fold, ...]:
    return cut_folds(
        rule(**changes),
        {"EURUSD": hourly(days)} if series is None else series,
        _HOUR,
        start=_START,
        stop=at(0) + timedelta(days=days),
        longest_horizon_bars=horizon,
    )


def test_rolling_folds_move_on_by_a_test_and_forget_what_is_older_than_their_training_period() -> None:
    first, second, third = cut()
    # Candles of 00:00 and 01:00 on day 10 are purged before validation, those of 02:00 and 03:00 on day 14 before the test; the
    # second of these closes at 04:00, and the candle that closes at 05:00 is the first one tested.
    assert first == Fold(number=1, train=(at(0), at(10)), validation=(at(10, 2), at(14, 2)), test=(at(14, 5), at(19, 5)))
    assert second == Fold(number=2, train=(at(5), at(15)), validation=(at(15, 2), at(19, 2)), test=(at(19, 5), at(24, 5)))
    assert third.test == (at(24, 5), at(30)), "19 hours more are less than half a test, and no fold of their own"


def test_anchored_folds_train_from_the_start_on() -> None:
    rolling, anchored = cut(), cut(scheme=Scheme.ANCHORED)
    assert [fold.train for fold in anchored] == [(_START, fold.train[1]) for fold in rolling]
    assert [(fold.validation, fold.test) for fold in anchored] == [(fold.validation, fold.test) for fold in rolling]


def test_a_remainder_of_half_a_test_or_more_is_a_fold_of_its_own() -> None:
    assert [fold.test for fold in cut(27.0)] == [(at(14, 5), at(19, 5)), (at(19, 5), at(24, 5)), (at(24, 5), at(27))]


def test_no_more_folds_than_allowed_are_cut_and_they_are_those_that_would_be_the_first() -> None:
    assert cut(max_folds=2) == cut()[:2]
    assert cut(max_folds=9) == cut()


def test_the_embargo_leaves_out_further_candles_before_the_test_alone() -> None:
    without, with_ = cut(max_folds=1)[0], cut(max_folds=1, embargo_bars=24)[0]
    assert with_.train == without.train
    assert with_.validation == without.validation
    assert with_.test[0] == without.test[0] + timedelta(hours=24)


def test_purges_count_candles_and_reach_over_closed_markets() -> None:
    gap = (10 * 24 + 1, 12 * 24)  # after the first candle of day 10 nothing until day 12
    fold = cut(series={"EURUSD": hourly(30, without=gap)})[0]
    assert fold.train[1] == at(10)
    assert fold.validation == (at(12, 1), at(16, 1)), "purged are 00:00 on day 10 and 00:00 on day 12"


def test_the_symbol_with_the_fewest_candles_decides_how_far_a_purge_reaches() -> None:
    sparse = hourly(30)[::3]
    (alone, both) = (cut(series=series)[0] for series in ({"EURUSD": hourly(30)}, {"EURUSD": hourly(30), "GBPUSD": sparse}))
    assert alone.validation[0] == at(10, 2)
    assert (both.train[1], both.validation[0]) == (at(10), at(10, 6)), "its candles of 00:00 and 03:00 are purged"


def test_a_purge_shorter_than_the_longest_horizon_is_refused_with_both() -> None:
    with pytest.raises(BadSetting, match=r"purge_bars: found 63; allowed: at least 64, the candles of the longest horizon"):
        cut(purge_bars=63, horizon=64)


def test_a_fold_longer_than_the_data_is_refused_with_both_lengths() -> None:
    with pytest.raises(
        BadSetting, match=r"train_days 10, validation_days 4, test_days 5: one fold, .*, needs 19.21 days; found 19 d"
    ):
        cut(19.0)
    with pytest.raises(BadSetting, match=r"train_days 10, .* needs more candles than there are; found 5 days, 2017-01-02 00:00 to"):
        cut(5.0)


def test_a_part_of_a_fold_without_candles_is_refused_by_symbol_and_period() -> None:
    with_gap = {"EURUSD": hourly(30), "GBPUSD": hourly(30, without=(19 * 24, 25 * 24))}
    with pytest.raises(
        BadCandles, match=r"found 0 of GBPUSD 1h in the test period of fold 2, 2017-01-21 05:00 to 2017-01-26 05:00"
    ):
        cut(series=with_gap)
    with pytest.raises(BadCandles, match=r"found 0 of EURUSD 1h in the walk-forward"):
        cut_folds(rule(), {"EURUSD": hourly(30)}, _HOUR, start=at(40), stop=at(70), longest_horizon_bars=2)


def test_too_few_candles_to_learn_from_are_refused() -> None:
    with pytest.raises(BadCandles, match=r"found 96 of EURUSD 1h in the validation period of fold 1, .*; allowed: at least 164"):
        cut_folds(rule(), {"EURUSD": hourly(30)}, _HOUR, start=_START, stop=at(30), longest_horizon_bars=2, least_bars=164)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test": timedelta(0)}, "test_days: found 0; allowed: above zero"),
        ({"embargo_bars": -1}, "embargo_bars: found -1; allowed: zero or more"),
        ({"max_folds": 0}, "max_folds: found 0; allowed: 1 or more"),
    ],
)
def test_lengths_and_counts_out_of_range_are_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSetting, match=said):
        rule(**change)
