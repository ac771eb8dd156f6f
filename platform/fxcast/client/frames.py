"""Candles of a pandas DataFrame; pandas itself is the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from fxcast.domain.candle import COLUMNS, CandleSeries
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles

if TYPE_CHECKING:
    import pandas as pd


def candles_of(frame: pd.DataFrame, *, symbol: str, timeframe: str) -> CandleSeries:
    """Return the rows of a frame as candles.

    Args:
        frame: Columns open, high, low, close and, unless it is zero throughout, volume; others are left out. The index holds the
            open times, oldest first, with a time zone.
        symbol: Base then quote currency, as in `EURUSD`.
        timeframe: Length of a candle, as in `1h`.

    Raises:
        BadCandles: If a column is missing or holds no numbers, the index holds no times with a zone in whole seconds, or a candle
            is unsound.
        BadRequest: If the timeframe is unknown.
    """
    missing = [name for name in COLUMNS[:4] if name not in frame.columns]
    if missing:
        raise BadCandles("columns", ", ".join(map(str, frame.columns)) or "none", f"{', '.join(COLUMNS)}; {missing[0]} is missing")
    columns = [_numbers(frame, name) if name in frame.columns else np.zeros(len(frame)) for name in COLUMNS]  # each (rows,)
    # Ducks, not isinstance: this module must not import pandas.
    if getattr(frame.index, "tz", None) is None:
        raise BadCandles("index", f"{frame.index.dtype}", "open times with a time zone: a DatetimeIndex in UTC")
    index = cast("pd.DatetimeIndex", frame.index)
    exact = index.tz_convert("UTC").tz_localize(None).to_numpy()
    open_times = exact.astype("datetime64[s]")
    odd = np.flatnonzero(np.isnat(exact) | (open_times != exact))
    if len(odd):
        raise BadCandles(f"index[{odd[0]}]", str(exact[odd[0]]), "a time in whole seconds")
    return CandleSeries(symbol=symbol, timeframe=Timeframe(timeframe), open_times=open_times, values=np.column_stack(columns))


def _numbers(frame: pd.DataFrame, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    try:
        return frame[name].to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadCandles(name, str(error), "numbers") from error
