"""Keep the closed candles of longer timeframes while shorter ones come in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import numpy as np

from fxcast.data.resample import resample
from fxcast.domain.candle import CandleSeries, FloatArray
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.market import without_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles


@dataclass(frozen=True, slots=True, kw_only=True)
class _Growing:
    """A longer candle whose close is not reached: when it opens and closes (seconds since 1970), and the candles inside it."""

    opens_s: int
    closes_s: int
    rows: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HigherTimeframes:
    """The longer candles of one symbol, made of the shorter candles known: those that `resample` calls complete, and no others.

    A longer candle is known when a shorter one closes at its close or later; while it grows it is not seen.

    Attributes:
        symbol: Of all candles.
        timeframe: Of the shorter candles.
        candles: By timeframe the last `CONTEXT_BARS` closed ones; a timeframe without any is missing.
        known_until_s: Close of the last shorter candle taken in, seconds since 1970.
    """

    symbol: str
    timeframe: Timeframe
    candles: Mapping[str, CandleSeries]
    known_until_s: int
    _growing: Mapping[str, tuple[_Growing, ...]]

    @classmethod
    def of(cls, history: CandleSeries, names: Iterable[str]) -> Self:
        """Start from the shorter candles known so far.

        Args:
            history: Oldest first; longer candles begin where it begins, so the first may lack its beginning.
            names: The timeframes wanted; those that are not longer than the history's are left out.

        Raises:
            BadCandles: If there is no history, a timeframe is unknown, or a candle lies in two candles of a longer one.
        """
        if not len(history):
            raise BadCandles("history", "no candles", "the shorter candles known so far")
        longer = [each for each in map(Timeframe, dict.fromkeys(names)) if each.minutes > history.timeframe.minutes]
        closed: dict[str, CandleSeries] = {}
        growing: dict[str, tuple[_Growing, ...]] = {}
        for timeframe in longer:
            resampled = resample(without_details(history), timeframe)
            complete = resampled.complete.candles
            if len(complete):
                closed[timeframe.name] = _newest(complete)
            opens = timeframe.opening(history.open_times)
            growing[timeframe.name] = tuple(
                _Growing(
                    opens_s=_seconds(opened),
                    closes_s=_seconds(opened + timeframe.step),
                    rows=tuple(_row(values) for values in history.values[opens == opened]),
                )
                for opened in resampled.data.open_times[len(complete) :]
            )
        return cls(
            symbol=history.symbol,
            timeframe=history.timeframe,
            candles=closed,
            known_until_s=_seconds(history.close_times[-1]),
            _growing=growing,
        )

    def advanced_with(self, candles: CandleSeries) -> HigherTimeframes:
        """Take in the shorter candles that are new among some; those taken in before change nothing.

        Args:
            candles: Oldest first, up to now. What lies between them and the last one taken in is taken for a gap.

        Raises:
            BadCandles: If they are another symbol's or timeframe's, or one lies in two candles of a longer timeframe.
        """
        found, wanted = f"{candles.symbol} {candles.timeframe}", f"{self.symbol} {self.timeframe}"
        if found != wanted:
            raise BadCandles("candles", found, wanted)
        known = np.datetime64(self.known_until_s, "s") - self.timeframe.step  # open of the last one, at least
        grown = self
        for position in range(int(np.searchsorted(candles.open_times, known, side="right")), len(candles)):
            grown = grown._with(_seconds(candles.open_times[position]), _row(candles.values[position]))
        return grown

    def _with(self, opens_s: int, row: tuple[float, ...]) -> HigherTimeframes:
        known_until_s = opens_s + self.timeframe.minutes * 60
        closed, growing = dict(self.candles), dict(self._growing)
        for name, open_ones in self._growing.items():
            joined = _joined(Timeframe(name), open_ones, opens_s, known_until_s, row)
            done = [each for each in joined if each.closes_s <= known_until_s]
            if done:
                closed[name] = self._with_closed(Timeframe(name), done)
            growing[name] = joined[len(done) :]
        return replace(self, candles=closed, known_until_s=known_until_s, _growing=growing)

    def _with_closed(self, timeframe: Timeframe, done: list[_Growing]) -> CandleSeries:
        times = np.array([each.opens_s for each in done], dtype=np.int64).astype("datetime64[s]")
        values = np.array([_merged(each.rows) for each in done])  # (done, 5)
        before = self.candles.get(timeframe.name)
        if before is not None:
            times, values = np.concatenate([before.open_times, times]), np.concatenate([before.values, values])
        return CandleSeries(
            symbol=self.symbol, timeframe=timeframe, open_times=times[-CONTEXT_BARS:], values=values[-CONTEXT_BARS:]
        )


def _joined(
    timeframe: Timeframe, open_ones: tuple[_Growing, ...], opens_s: int, closes_s: int, row: tuple[float, ...]
) -> tuple[_Growing, ...]:
    """Put a candle into the growing one that holds it, or begin one."""
    opening_s = _opening_s(timeframe, opens_s)
    if open_ones and open_ones[-1].opens_s == opening_s:
        last = replace(open_ones[-1], rows=(*open_ones[-1].rows, row))
        joined = (*open_ones[:-1], last)
    else:
        last = _Growing(opens_s=opening_s, closes_s=opening_s + timeframe.minutes * 60, rows=(row,))
        joined = (*open_ones, last)
    if closes_s > last.closes_s:
        moment = np.datetime64(opens_s, "s")
        raise BadCandles("open_time", f"{moment}, in two candles of {timeframe}", f"candles that lie within one of {timeframe}")
    return joined


def _merged(rows: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    opens, highs, lows, closes, volumes = zip(*rows, strict=True)
    # numpy adds in another order than Python does, and the sum is to be that of `resample` to the last digit.
    volume = float(np.add.reduceat(np.array(volumes), [0])[0])
    return opens[0], max(highs), min(lows), closes[-1], volume


@lru_cache(maxsize=256)  # all symbols of an engine ask for the same moments
def _opening_s(timeframe: Timeframe, moment_s: int) -> int:
    return _seconds(timeframe.opening(np.array([moment_s], dtype=np.int64).astype("datetime64[s]"))[0])


def _newest(candles: CandleSeries) -> CandleSeries:
    """Return the newest closed candles, without holding on to the memory of the others."""
    newest = candles.slice(max(0, len(candles) - CONTEXT_BARS), len(candles))
    return replace(newest, open_times=newest.open_times.copy(), values=newest.values.copy())


def _row(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _seconds(moment: np.datetime64) -> int:
    return int(moment.astype("datetime64[s]").astype(np.int64))
