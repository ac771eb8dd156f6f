"""Does what is computed for a moment know what came after it? Change the future, compute it again, and compare."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias, cast

import numpy as np
from torch import Tensor

from fxcast.data.windows import known_at
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import CandleSeries, FloatArray, to_datetime
from fxcast.domain.timeframe import Timeframe
from tests.factories import make_series

Market: TypeAlias = tuple[CandleSeries, ...]  # the pair in question first, then others
# What is computed of a whole data set for one moment. Numbers, strings, arrays and tensors, in any containers or dataclasses.
Look: TypeAlias = Callable[[Market, datetime], object]

PAIRS = ("EURUSD", "GBPUSD")

_Change: TypeAlias = Callable[[Market, Sequence[int], np.random.Generator], Market]


def make_market(seed: int, *, bars: int = 260, timeframe: str = "1h", missing: float = 0.1) -> Market:
    """Return `PAIRS` without weekends, each with gaps of its own, and with volumes that change from candle to candle."""
    weekends = 4 * 2880 // Timeframe(timeframe).minutes
    enough = round(1.2 * bars / (1.0 - missing)) + 50
    enough += max(weekends, enough // 2)
    return tuple(
        _as_traded(
            make_series(bars=enough, symbol=symbol, timeframe=timeframe, seed=seed + number, range_width=2e-4),
            bars,
            missing,
            np.random.default_rng([seed, number]),
        )
        for number, symbol in enumerate(PAIRS)
    )


def _as_traded(series: CandleSeries, bars: int, missing: float, rng: np.random.Generator) -> CandleSeries:
    there = open_mask(series.open_times) & (rng.random(len(series)) >= missing)
    kept = np.flatnonzero(there)[:bars]
    assert len(kept) == bars
    values = series.values[kept]
    values[:, 4] = np.round(rng.uniform(0.0, 500.0, len(kept)))
    return replace(series, open_times=series.open_times[kept], values=values)


def moment_of(market: Market, known: int) -> datetime:
    """Return the moment at which so many candles of the first pair are known."""
    return to_datetime(market[0].close_times[known - 1])


def leaks(
    look: Look,
    market: Market,
    moment: datetime,
    rng: np.random.Generator,
    *,
    tolerance: float = 0.0,
    futures: Collection[str] | None = None,
) -> tuple[str, ...]:
    """Return which changes of the future change what is computed for a moment; none for what does not look ahead.

    Args:
        market: Its first series has candles that close after the moment, as have the others if there are any.
        moment: Candles that close at or before it are known.
        tolerance: What may differ, as a share of the largest number of an array: above zero only where the same window is computed
            in batches of several sizes, for there a float is rounded in several ways.
        futures: Names of the changes to try, of `FUTURES`; by default all.
    """
    known = [len(known_at(one, moment)) for one in market]
    assert all(count < len(one) for count, one in zip(known, market, strict=True)), "there is no future to change"
    before = list(_parts(look(market, moment)))
    found: list[str] = []
    for name in FUTURES if futures is None else futures:
        after = list(_parts(look(FUTURES[name](market, known, rng), moment)))
        if not _same(before, after, tolerance):
            found.append(name)
    return tuple(found)


def heeds_the_past(look: Look, market: Market, moment: datetime, rng: np.random.Generator) -> bool:
    """Tell whether what is computed changes with the known candles: if not, that it has no leak says nothing."""
    known = len(known_at(market[0], moment))
    series = market[0]
    shaken = series.values[:known].copy()
    shaken[:, :4] *= np.exp(rng.normal(0.0, 0.01, known))[:, None]
    shaken[:, 4] *= rng.uniform(0.2, 5.0, known)
    changed = replace(series, values=np.concatenate([shaken, series.values[known:]]))
    return not _same(list(_parts(look(market, moment))), list(_parts(look((changed, *market[1:]), moment))), 0.0)


def _prices(market: Market, known: Sequence[int], rng: np.random.Generator) -> Market:
    return (_with(market[0], known[0], prices=_other_prices(market[0], known[0], rng)), *market[1:])


def _volume(market: Market, known: Sequence[int], rng: np.random.Generator) -> Market:
    return (_with(market[0], known[0], volume=_other_volume(market[0], known[0], rng)), *market[1:])


def _next_candle(market: Market, known: Sequence[int], rng: np.random.Generator) -> Market:
    series, first = market[0], known[0]
    prices, volume = _other_prices(series, first, rng), _other_volume(series, first, rng)
    prices[1:], volume[1:] = series.values[first + 1 :, :4], series.values[first + 1 :, 4]
    return (_with(series, first, prices=prices, volume=volume), *market[1:])


def _gaps(market: Market, known: Sequence[int], rng: np.random.Generator) -> Market:
    series, first = market[0], known[0]
    kept = np.concatenate([np.ones(first, dtype=np.bool_), rng.random(len(series) - first) < 0.5])
    kept[first] = False  # the next candle is missing too
    return (replace(series, open_times=series.open_times[kept], values=series.values[kept]), *market[1:])


def _ends(market: Market, known: Sequence[int], rng: np.random.Generator) -> Market:
    del rng
    return tuple(one.slice(0, count) for one, count in zip(market, known, strict=True))


def _goes_on(market: Market, known: Sequence[int], rng: np.random.Generator) -> Market:
    del known
    series = market[0]
    more = int(rng.integers(1, 80))
    times = series.open_times[-1] + np.arange(1, more + 1) * series.timeframe.step
    longer = replace(
        series,
        open_times=np.concatenate([series.open_times, times]),
        values=np.concatenate([series.values, np.repeat(series.values[-1:], more, axis=0)]),
    )
    return (_with(longer, len(series), prices=_other_prices(longer, len(series), rng)), *market[1:])


def _other_pairs(market: Market, known: Sequence[int], rng: np.random.Generator) -> Market:
    changed = [
        _with(one, count, prices=_other_prices(one, count, rng), volume=_other_volume(one, count, rng))
        for one, count in zip(market[1:], known[1:], strict=True)
    ]
    return (market[0], *changed)


FUTURES: Mapping[str, _Change] = {
    "prices": _prices,
    "volume": _volume,
    "next candle": _next_candle,
    "gaps": _gaps,
    "the data set ends": _ends,
    "the data set goes on": _goes_on,
    "other pairs": _other_pairs,
}
# Those after which a training window still has an outcome.
WITH_OUTCOMES = tuple(name for name in FUTURES if name not in {"gaps", "the data set ends"})


def _with(series: CandleSeries, first: int, *, prices: FloatArray | None = None, volume: FloatArray | None = None) -> CandleSeries:
    """Return a series with other prices, (n, 4), or volumes, (n,), from a position on."""
    values = series.values.copy()
    if prices is not None:
        values[first:, :4] = prices
    if volume is not None:
        values[first:, 4] = volume
    return replace(series, values=values)


def _other_prices(series: CandleSeries, first: int, rng: np.random.Generator) -> FloatArray:
    """Return a jump and then a wilder walk, (n, 4), for the candles from a position on."""
    usual = max(float(np.diff(np.log(series.closes)).std()), 1e-5)
    steps = rng.normal(0.0, usual * rng.uniform(3.0, 8.0), len(series) - first)
    steps[:1] += rng.choice([-0.3, 0.3])
    closes = series.closes[first - 1] * np.exp(np.cumsum(steps))
    opens = np.concatenate([series.closes[first - 1 : first], closes[:-1]])
    beyond = np.exp(rng.uniform(0.0, 5.0 * usual, len(closes)))
    return np.column_stack([opens, np.maximum(opens, closes) * beyond, np.minimum(opens, closes) / beyond, closes])


def _other_volume(series: CandleSeries, first: int, rng: np.random.Generator) -> FloatArray:
    return (series.values[first:, 4] + 1.0) * rng.uniform(3.0, 30.0, len(series) - first)


def _parts(value: object) -> Iterator[object]:
    """Yield arrays and plain values, in a fixed order."""
    if isinstance(value, Tensor):
        yield value.numpy()
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key, held in cast("Mapping[Any, object]", value).items():
            yield key
            yield from _parts(held)
    elif isinstance(value, tuple | list):
        for held in cast("Sequence[object]", value):
            yield from _parts(held)
    else:
        yield value


def _same(before: Sequence[object], after: Sequence[object], tolerance: float) -> bool:
    return len(before) == len(after) and all(_equal(one, other, tolerance) for one, other in zip(before, after, strict=True))


def _equal(one: object, other: object, tolerance: float) -> bool:
    if not isinstance(one, np.ndarray | float):
        return one == other
    first, second = np.asarray(one), np.asarray(other)
    if first.shape != second.shape:
        return False
    if tolerance and first.size and np.issubdtype(first.dtype, np.floating):
        return bool(np.allclose(first, second, rtol=0.0, atol=tolerance * float(np.abs(first).max()), equal_nan=True))
    return bool(np.array_equal(first, second, equal_nan=np.issubdtype(first.dtype, np.floating)))
