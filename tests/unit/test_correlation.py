"""Correlation of returns: which candles count."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fxcast.domain.candle import CandleSeries
from fxcast.trading.correlation import return_correlation
from tests.factories import make_series

START = datetime(2017, 3, 1, tzinfo=UTC)


def from_returns(returns: list[float], *, symbol: str = "EURUSD", start: datetime = START) -> CandleSeries:
    closes = [float(close) for close in 1.1 * np.exp(np.cumsum([0.0, *returns]))]
    return make_series(closes, symbol=symbol, start=start)


def returns(seed: int, count: int = 99) -> list[float]:
    return [float(value) for value in np.random.default_rng(seed).normal(0.0, 0.001, count)]


def test_a_symbol_goes_with_itself_and_against_its_mirror() -> None:
    moves = returns(1)
    ours, mirror = from_returns(moves), from_returns([-move for move in moves], symbol="USDCHF")
    assert return_correlation(ours, ours, 60) == pytest.approx(1.0)
    assert return_correlation(ours, mirror, 60) == pytest.approx(-1.0)


def test_it_is_pearsons_of_the_last_bars() -> None:
    first, second = returns(1), returns(2)
    expected = float(np.corrcoef(first[-60:], second[-60:])[0, 1])
    assert return_correlation(from_returns(first), from_returns(second, symbol="GBPUSD"), 60) == pytest.approx(expected)


def test_four_returns_by_hand_repeated() -> None:
    # x = 1, −1, 2, −2 and y = 1, −1, −2, 2 (thousandths): means 0, Σxy = 1 + 1 − 4 − 4 = −6, Σx² = Σy² = 10
    first, second = [0.001, -0.001, 0.002, -0.002] * 5, [0.001, -0.001, -0.002, 0.002] * 5
    assert return_correlation(from_returns(first), from_returns(second), 20) == pytest.approx(-0.6)


def test_older_candles_do_not_count() -> None:
    moves = returns(3)
    other = [-move for move in moves[:69]] + moves[69:]
    assert return_correlation(from_returns(moves), from_returns(other), 30) == pytest.approx(1.0)


def test_what_only_one_knows_already_does_not_count() -> None:
    moves = returns(4)
    # the other symbol's window ends one candle later, and lacks the first
    other = from_returns([*moves[1:], 0.05], symbol="GBPUSD", start=START + timedelta(hours=1))
    assert return_correlation(from_returns(moves), other, 60) == pytest.approx(1.0)


def test_a_gap_of_one_is_spanned_in_both() -> None:
    series = from_returns(returns(5))
    kept = np.ones(len(series), dtype=bool)
    kept[[50, 51, 77]] = False
    gappy = replace(series, open_times=series.open_times[kept], values=series.values[kept])
    assert return_correlation(series, gappy, 60) == pytest.approx(1.0)


def test_too_few_common_candles_tell_nothing() -> None:
    moves = returns(6)
    series = from_returns(moves)
    assert return_correlation(series, from_returns(moves[:20]), 60) is not None
    assert return_correlation(series, from_returns(moves[:19]), 60) is None
    assert return_correlation(series, from_returns(moves, start=START + timedelta(days=30)), 60) is None


def test_a_price_that_stands_still_goes_with_nothing() -> None:
    flat = make_series([1.1] * 100)
    assert return_correlation(flat, from_returns(returns(7)), 60) is None
    steady = from_returns([0.001] * 99)
    assert return_correlation(steady, from_returns(returns(7)), 60) is None
