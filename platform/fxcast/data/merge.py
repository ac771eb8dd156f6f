"""Put two records of one series together: what both know must agree, and what one lacks the other completes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.candle import CandleSeries
from fxcast.domain.market import DETAILS, MarketCandles
from fxcast.errors import BadCandles

BoolArray = NDArray[np.bool_]

_VOLUME = 4  # its column in the values of a series
_TICK, _REAL = DETAILS.index("tick_volume"), DETAILS.index("real_volume")


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The union of stored and given candles, and what became of each given one.

    Attributes:
        data: All of them; where they conflict, the stored one.
        added, completed, conflicting: (given,) masks: new; stored with less detail; stored and different. The rest was there.
    """

    data: MarketCandles
    added: BoolArray
    completed: BoolArray
    conflicting: BoolArray


def merge(stored: MarketCandles, given: MarketCandles) -> Merged:
    """Merge candles of one series.

    Two candles of one time conflict if a price differs, or a detail or the volume that both know. A volume of zero that no detail
    confirms is unknown: many vendors write it for want of one.

    Raises:
        BadCandles: If they are of different symbols, timeframes or sides.
    """
    kind, wanted = ((each.symbol, each.timeframe.name, each.side.value) for each in (given, stored))
    if kind != wanted:
        raise BadCandles("series", f"{' '.join(kind)} prices", f"{' '.join(wanted)} prices, as stored")
    _, given_at, stored_at = np.intersect1d(given.open_times, stored.open_times, assume_unique=True, return_indices=True)
    added = np.ones(len(given), dtype=bool)
    added[given_at] = False
    completed, conflicting = np.zeros(len(given), dtype=bool), np.zeros(len(given), dtype=bool)
    values, details = stored.candles.values, stored.details
    if len(given_at):
        new, old = given.candles.values[given_at], values[stored_at]  # each (both, 5)
        new_details, old_details = given.details[given_at], details[stored_at]  # each (both, 11)
        known, known_before = ~np.isnan(new_details), ~np.isnan(old_details)
        volume, volume_before = _volume_known(new, known), _volume_known(old, known_before)
        differs = (new[:, :_VOLUME] != old[:, :_VOLUME]).any(axis=1)
        differs |= (known & known_before & (new_details != old_details)).any(axis=1)
        # Ticks and real units are no contradiction; a volume of unknown kind is one of either.
        other_kind = (known[:, _TICK] & ~known_before[:, _TICK] & known_before[:, _REAL]) | (
            known_before[:, _TICK] & ~known[:, _TICK] & known[:, _REAL]
        )
        differs |= volume & volume_before & ~other_kind & (new[:, _VOLUME] != old[:, _VOLUME])
        fills = ~differs & ((known & ~known_before).any(axis=1) | (volume & ~volume_before))
        completed[given_at], conflicting[given_at] = fills, differs
        if fills.any():
            values, details = values.copy(), details.copy()
            at = stored_at[fills]
            details[at] = np.where(known_before[fills], old_details[fills], new_details[fills])
            values[at, _VOLUME] = _best_volume(details[at], np.where(volume_before, old[:, _VOLUME], new[:, _VOLUME])[fills])
    times = np.concatenate([stored.open_times, given.open_times[added]])
    order = np.argsort(times, kind="stable")
    candles = CandleSeries(
        symbol=stored.symbol,
        timeframe=stored.timeframe,
        open_times=times[order],
        values=np.concatenate([values, given.candles.values[added]])[order],
    )
    merged = MarketCandles(candles=candles, side=stored.side, details=np.concatenate([details, given.details[added]])[order])
    return Merged(data=merged, added=added, completed=completed, conflicting=conflicting)


def _volume_known(values: NDArray[np.float64], known: BoolArray) -> BoolArray:
    return (values[:, _VOLUME] > 0) | known[:, _TICK] | known[:, _REAL]


def _best_volume(details: NDArray[np.float64], otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return tick volume, else real volume, else what is given, (n,)."""
    real = np.where(np.isnan(details[:, _REAL]), otherwise, details[:, _REAL])
    return np.where(np.isnan(details[:, _TICK]), real, details[:, _TICK])
