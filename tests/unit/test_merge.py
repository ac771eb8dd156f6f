"""What two records of one candle must agree in, and what one completes of the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fxcast.data.merge import merge
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.domain.market import DETAILS, MarketCandles, PriceSide, no_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting


def one_candle(volume: float, **details: float) -> MarketCandles:
    known = no_details(1).copy()
    for name, value in details.items():
        known[0, DETAILS.index(name)] = value
    series = CandleSeries(
        symbol="EURUSD",
        timeframe=Timeframe("1m"),
        open_times=np.array(["2024-01-02T00:00"], dtype="datetime64[s]"),
        values=np.array([[1.1, 1.2, 1.0, 1.1, volume]]),
    )
    return MarketCandles(candles=series, side=PriceSide.BID, details=known)


@pytest.mark.parametrize(
    ("stored", "given", "fate", "volume"),
    [
        (one_candle(0.0), one_candle(5.0, tick_volume=5.0), "completed", 5.0),  # a zero for want of a volume
        (one_candle(5.0, tick_volume=5.0), one_candle(0.0), "there", 5.0),
        (one_candle(1.0), one_candle(500.0, tick_volume=500.0), "conflicting", 1.0),  # of unknown kind, and another number
        (one_candle(500.0), one_candle(500.0, tick_volume=500.0), "completed", 500.0),
        (one_candle(7e6, real_volume=7e6), one_candle(5.0, tick_volume=5.0), "completed", 5.0),  # units and ticks
        (one_candle(5.0, tick_volume=5.0), one_candle(6.0, tick_volume=6.0), "conflicting", 5.0),
        (one_candle(5.0), one_candle(6.0), "conflicting", 5.0),
        (one_candle(5.0, spread=0.0001), one_candle(5.0, spread=0.0002), "conflicting", 5.0),
        (one_candle(5.0), one_candle(5.0, spread=0.0002), "completed", 5.0),
    ],
)
def test_volumes_and_details_complete_each_other_or_conflict(
    stored: MarketCandles, given: MarketCandles, fate: str, volume: float
) -> None:
    merged = merge(stored, given)
    fates = {"completed": bool(merged.completed[0]), "conflicting": bool(merged.conflicting[0])}
    assert fates == {"completed": fate == "completed", "conflicting": fate == "conflicting"}
    assert merged.data.candles.values[0, 4] == volume
    assert merged.data.candles.values[0, :4].tolist() == [1.1, 1.2, 1.0, 1.1]


def test_a_key_in_a_stores_uri_is_refused_without_repeating_it() -> None:
    with pytest.raises(BadSetting, match="a URI with a key in it") as refused:
        CandleStore("s3://AKIAKEY:SECRET@bucket/candles?x=1")
    assert "SECRET" not in str(refused.value)


def test_an_append_of_nothing_changes_nothing(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    assert store.append(one_candle(1.0).slice(0, 0)).added == 0
    assert store.symbols() == ()
