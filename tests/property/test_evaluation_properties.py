"""What holds of every evaluation: no look-ahead, grids that nest, tests that mirror."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxcast.cluster.forecast_cache import window_hashes
from fxcast.domain.candle import to_datetime
from fxcast.domain.forecaster import WindowBatch
from fxcast.evaluation.rolling import rolling_ends
from fxcast.evaluation.significance import diebold_mariano
from tests.factories import make_series

_SERIES = make_series(bars=400, seed=5)


@given(changed=st.integers(0, 399), column=st.sampled_from([1, 4]), step_bars=st.integers(1, 12))
def test_a_changed_candle_makes_other_windows_of_those_that_hold_it_and_of_no_other(
    changed: int, column: int, step_bars: int
) -> None:
    start, stop = to_datetime(_SERIES.open_times[0]), to_datetime(_SERIES.close_times[-1]) + timedelta(hours=1)
    values = _SERIES.values.copy()
    values[changed, column] *= 1.01
    other = type(_SERIES)(symbol=_SERIES.symbol, timeframe=_SERIES.timeframe, open_times=_SERIES.open_times, values=values)
    ends = rolling_ends(_SERIES, start, stop, step_bars=step_bars)
    before, after = (window_hashes(WindowBatch.ending_at(series, ends)) for series in (_SERIES, other))
    holds = (ends >= changed) & (changed > ends - 100)
    np.testing.assert_array_equal(before != after, holds)


@given(begin=st.integers(0, 300), length=st.integers(60, 100), step_bars=st.integers(1, 12))
def test_a_part_of_a_period_asks_for_a_part_of_its_windows(begin: int, length: int, step_bars: int) -> None:
    closes = _SERIES.close_times
    first, last = to_datetime(closes[max(begin, 150)]), to_datetime(closes[min(max(begin, 150) + length, 399)])
    whole = rolling_ends(_SERIES, to_datetime(closes[0]), to_datetime(closes[-1]) + timedelta(hours=1), step_bars=step_bars)
    part = rolling_ends(_SERIES, first, last, step_bars=step_bars)
    inside = (closes[whole] >= np.datetime64(first.replace(tzinfo=None))) & (
        closes[whole] < np.datetime64(last.replace(tzinfo=None))
    )
    np.testing.assert_array_equal(part, whole[inside])


@given(seed=st.integers(0, 2**32 - 1), overlap=st.integers(1, 20), scale=st.floats(1e-3, 1e3))
def test_the_test_mirrors_and_knows_no_unit(seed: int, overlap: int, scale: float) -> None:
    draws = np.random.default_rng(seed)
    one, other = draws.gamma(2.0, 1.0, 60), draws.gamma(2.0, 1.1, 60)
    found, mirrored = diebold_mariano(one, other, overlap=overlap), diebold_mariano(other, one, overlap=overlap)
    assert found.statistic == pytest.approx(-mirrored.statistic)
    assert found.p_value == pytest.approx(mirrored.p_value)
    assert 0.0 <= found.p_lower <= 1.0
    assert diebold_mariano(one * scale, other * scale, overlap=overlap).statistic == pytest.approx(found.statistic, rel=1e-6)
