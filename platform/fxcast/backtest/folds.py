"""Cut a period into the folds of a walk-forward: train, purge, validation, purge and embargo, test, in this order of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np

from fxcast.domain.candle import TimeArray, to_datetime, to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting

Span = tuple[datetime, datetime]  # half-open


class Scheme(StrEnum):
    """Whether training forgets: rolling trains on a period of fixed length, anchored on all since the start."""

    ROLLING = "rolling"
    ANCHORED = "anchored"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldRule:
    """How a period is cut.

    A window's outcome lies up to its longest horizon ahead. The purge leaves out that many candles before a later period, so that
    no outcome which was learned from lies in what is validated or tested. What remains is that neighbouring days are alike (a
    volatile week is volatile on both sides of a cut); the embargo widens the gap before the test by further candles. In
    cross-validation an embargo follows a test, because later data train the same model. Here only the past does: the candles of a
    test are trained on by later folds alone, whose own tests lie later still, again behind purge and embargo; so the gap before a
    test is all there is.

    Attributes:
        train: Length of the training period; with the anchored scheme of the first fold's, and the others' grows.
        validation: For early stopping and calibration.
        test: Of each fold; the last one's may be up to half longer, or down to half as long, for the tests to reach the end.
        purge_bars: Candles left out between training and validation, and between validation and test.
        embargo_bars: Further candles left out between validation and test.
        max_folds: No more than these, the oldest; None for as many as the period holds.

    Raises:
        BadSetting: If a length is not above zero, or a number of candles below it.
    """

    scheme: Scheme
    train: timedelta
    validation: timedelta
    test: timedelta
    purge_bars: int
    embargo_bars: int = 0
    max_folds: int | None = None

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            if getattr(self, name) <= timedelta(0):
                raise BadSetting(f"{name}_days: found {_days(getattr(self, name))}; allowed: above zero")
        for name in ("purge_bars", "embargo_bars"):
            if getattr(self, name) < 0:
                raise BadSetting(f"{name}: found {getattr(self, name)}; allowed: zero or more")
        if self.max_folds is not None and self.max_folds < 1:
            raise BadSetting(f"max_folds: found {self.max_folds}; allowed: 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One fold; the number counts from 1.

    A candle belongs to training or validation if it opens in that period, and to the test if it closes in it, as an engine sees it.
    """

    number: int
    train: Span
    validation: Span
    test: Span


def cut_folds(
    rule: FoldRule,
    open_times: Mapping[str, TimeArray],
    timeframe: Timeframe,
    *,
    start: datetime,
    stop: datetime,
    longest_horizon_bars: int,
    least_bars: int = 1,
) -> tuple[Fold, ...]:
    """Return the folds of [start, stop), oldest first; their tests follow each other without a gap.

    The first fold's training begins at the start. Purge and embargo count candles of that series which reaches furthest with them.

    Args:
        open_times: By symbol, of all candles, (n,) datetime64[s] ascending.
        longest_horizon_bars: Of the forecasts that are learned; the purge may not be shorter.
        least_bars: Candles that a training and a validation period need of every symbol.

    Raises:
        BadSetting: If the purge is shorter than the longest horizon, or one fold is longer than the period.
        BadCandles: If a symbol has no candle in the period, or too few in a part of a fold.
    """
    if rule.purge_bars < longest_horizon_bars:
        raise BadSetting(
            f"purge_bars: found {rule.purge_bars}; allowed: at least {longest_horizon_bars}, the candles of the longest horizon, "
            "or outcomes that were learned from would be tested"
        )
    candles = _Candles(open_times=open_times, timeframe=timeframe)
    candles.require(1, (start, stop), "the walk-forward")
    first = _first_test(rule, candles, start)
    if first is None or first + rule.test > stop:
        raise BadSetting(_too_long(rule, start, stop, first))
    tests: list[Span] = []
    test_start = first
    while test_start < stop:
        is_last = stop - test_start < 1.5 * rule.test  # less than half a test is no fold of its own
        tests.append((test_start, stop if is_last else test_start + rule.test))
        test_start = tests[-1][1]
    folds = tuple(_fold(rule, candles, number, start, test) for number, test in enumerate(tests[: rule.max_folds], start=1))
    for fold in folds:
        candles.require(least_bars, fold.train, f"the training period of fold {fold.number}")
        candles.require(least_bars, fold.validation, f"the validation period of fold {fold.number}")
        candles.require(1, fold.test, f"the test period of fold {fold.number}", by_close=True)
    return folds


def _first_test(rule: FoldRule, candles: _Candles, start: datetime) -> datetime | None:
    validation_start = candles.after(start + rule.train, rule.purge_bars)
    if validation_start is None:
        return None
    validation_stop = validation_start + rule.validation
    return candles.after(validation_stop, rule.purge_bars + rule.embargo_bars, by_close=True)


def _fold(rule: FoldRule, candles: _Candles, number: int, start: datetime, test: Span) -> Fold:
    """Go back from a test: the gaps are the shortest that hold enough candles, and the periods have their lengths."""
    validation_stop = candles.before(test[0], rule.purge_bars + rule.embargo_bars, by_close=True)
    validation_start = validation_stop - rule.validation
    train_stop = candles.before(validation_start, rule.purge_bars)
    train_start = start if rule.scheme is Scheme.ANCHORED else max(start, train_stop - rule.train)
    return Fold(number=number, train=(train_start, train_stop), validation=(validation_start, validation_stop), test=test)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candles:
    open_times: Mapping[str, TimeArray]
    timeframe: Timeframe

    def after(self, moment: datetime, bars: int, *, by_close: bool = False) -> datetime | None:
        """Return the first moment that has so many candles of every symbol between `moment` and itself; None if there is none.

        Args:
            by_close: Whether they must have closed before it; else it is enough that they have opened.
        """
        found = [moment]
        for times in self.open_times.values():
            last = int(np.searchsorted(times, to_datetime64(moment))) + bars - 1
            if last >= len(times):
                return None
            if bars:
                found.append(to_datetime(times[last]) + (2 if by_close else 1) * self.timeframe.duration)
        return max(found)

    def before(self, moment: datetime, bars: int, *, by_close: bool = False) -> datetime:
        """Return the last moment that has so many candles of every symbol between itself and `moment`."""
        found = [moment]
        for times in self.open_times.values():
            first = int(np.searchsorted(times, self._open_of(moment, by_close=by_close))) - bars
            assert first >= 0, "the first test leaves room for every gap"
            if bars:
                found.append(to_datetime(times[first]))
        return min(found)

    def require(self, least: int, span: Span, what: str, *, by_close: bool = False) -> None:
        """Raise BadCandles if a symbol has fewer candles in a span."""
        bounds = [self._open_of(moment, by_close=by_close) for moment in span]
        for symbol, times in self.open_times.items():
            first, last = (int(np.searchsorted(times, bound)) for bound in bounds)
            if last - first < least:
                period = f"{span[0]:%Y-%m-%d %H:%M} to {span[1]:%Y-%m-%d %H:%M} UTC"
                found = f"{max(0, last - first)} of {symbol} {self.timeframe} in {what}, {period}"
                raise BadCandles("candles", found, f"at least {least} of each symbol")

    def _open_of(self, moment: datetime, *, by_close: bool) -> np.datetime64:
        """Return the open time from which on candles belong to what begins at a moment."""
        return to_datetime64(moment) - (self.timeframe.step if by_close else np.timedelta64(0, "s"))


def _too_long(rule: FoldRule, start: datetime, stop: datetime, first: datetime | None) -> str:
    lengths = ", ".join(f"{name}_days {_days(getattr(rule, name))}" for name in ("train", "validation", "test"))
    gaps = f"purge_bars {rule.purge_bars} twice" + (f" and embargo_bars {rule.embargo_bars}" if rule.embargo_bars else "")
    needs = "more candles than there are" if first is None else f"{_days(first + rule.test - start)} days"
    return (
        f"{lengths}: one fold, with {gaps}, needs {needs}; found {_days(stop - start)} days, "
        f"{start:%Y-%m-%d %H:%M} to {stop:%Y-%m-%d %H:%M} UTC; allowed: shorter periods, or more candles"
    )


def _days(length: timedelta) -> str:
    return f"{length / timedelta(days=1):.4g}"
