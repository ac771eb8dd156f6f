"""Candles: one, and a series of them as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles

FloatArray = NDArray[np.float64]
TimeArray = NDArray[np.datetime64]

_SECONDS = np.dtype("datetime64[s]")

COLUMNS = ("open", "high", "low", "close", "volume")

# No rate of two currencies lies outside, nor does gold in rupiah (7e7): what does is a unit or a decimal point gone wrong,
# and arithmetic on it overflows.
MIN_PRICE, MAX_PRICE = 1e-8, 1e8


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """One candle, stamped by its open time (UTC) and known only at its close; prices in quote currency."""

    open_time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float

    def __post_init__(self) -> None:
        if self.open_time.utcoffset() != timedelta(0):
            raise BadCandles("open_time", self.open_time.isoformat(), "a time in UTC")
        problem = candle_problem(self.open, self.high, self.low, self.close, self.volume)
        if problem is not None:
            raise BadCandles(*problem)


def candle_problem(open_: float, high: float, low: float, close: float, volume: float) -> tuple[str, str, str] | None:
    """Return (field, found, allowed) of the first rule that a candle breaks, or None if it is sound."""
    for name, value in (("open", open_), ("high", high), ("low", low), ("close", close)):
        if not np.isfinite(value):
            return name, str(value), "a finite price"
        if value <= 0:
            return name, f"{value:g}", "a price above zero"
        if not MIN_PRICE <= value <= MAX_PRICE:
            return name, f"{value:g}", f"a price from {MIN_PRICE:g} to {MAX_PRICE:g}"
    if not np.isfinite(volume) or volume < 0:
        return "volume", f"{volume:g}", "a finite volume of zero or more"
    if high < low:
        return "high", f"{high:g} below low {low:g}", "high at or above low"
    if high < max(open_, close):
        return "high", f"{high:g} below open {open_:g} or close {close:g}", "high at or above open and close"
    if low > min(open_, close):
        return "low", f"{low:g} above open {open_:g} or close {close:g}", "low at or below open and close"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleSeries:
    """Candles of one symbol and timeframe, oldest first.

    Attributes:
        symbol: Six letters, base then quote currency, as in `EURUSD`.
        open_times: (n,) datetime64[s], UTC, strictly increasing; gaps are gaps.
        values: (n, 5) float64, columns open, high, low, close, volume.

    Raises:
        BadCandles: If shapes differ, times are out of order, or a candle is unsound (names the first).
    """

    symbol: str
    timeframe: Timeframe
    open_times: TimeArray
    values: FloatArray

    def __post_init__(self) -> None:
        if len(self.symbol) != 6 or not self.symbol.isalpha() or not self.symbol.isupper():
            raise BadCandles("symbol", repr(self.symbol), "six capital letters, as in EURUSD")
        if self.values.shape != (len(self.open_times), 5):
            raise BadCandles("values", f"shape {self.values.shape}", f"({len(self.open_times)}, 5)")
        check_series(self.open_times, self.values)

    def __len__(self) -> int:
        return len(self.open_times)

    @property
    def closes(self) -> FloatArray:
        """Closing prices, (n,)."""
        return self.values[:, 3]

    @property
    def close_times(self) -> TimeArray:
        """When each candle became known, (n,) datetime64[s], UTC."""
        return self.open_times + np.timedelta64(self.timeframe.minutes * 60, "s")

    def close_time(self, index: int) -> datetime:
        """Return when one candle, by its position, became known."""
        return datetime.fromtimestamp(self._open_second(index) + self.timeframe.minutes * 60, UTC)

    def candle(self, index: int) -> Candle:
        """Return one candle by its position."""
        open_time = datetime.fromtimestamp(self._open_second(index), UTC)
        open_, high, low, close, volume = self.values[index].tolist()
        return _unchecked(Candle, open_time=open_time, open=open_, high=high, low=low, close=close, volume=volume)

    def slice(self, start: int, stop: int) -> CandleSeries:
        """Return the candles from position `start` up to and without `stop`."""
        return _unchecked(
            CandleSeries,
            symbol=self.symbol,
            timeframe=self.timeframe,
            open_times=self.open_times[start:stop],
            values=self.values[start:stop],
        )

    def _open_second(self, index: int) -> int:
        """Return when one candle opened, in seconds since 1970 UTC."""
        # As an array: numpy takes several times as long to convert a single time.
        return self.open_times.astype(_SECONDS, copy=False).view(np.int64).item(index)


_Checked = TypeVar("_Checked", Candle, CandleSeries)


def _unchecked(kind: type[_Checked], **fields: object) -> _Checked:
    """Build a candle or a series from what was taken out of a checked series.

    Part of a sound series is sound, and to check a window of 100 candles again costs as much as all else done with a quiet one.
    """
    made = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)  # the classes are frozen, and their constructors are what is passed by
    return made


def check_series(open_times: TimeArray, values: FloatArray) -> None:
    """Raise BadCandles for the first candle out of order or unsound."""
    disorder = np.flatnonzero(open_times[1:] <= open_times[:-1])
    if len(disorder):
        later = int(disorder[0]) + 1
        raise BadCandles(
            f"candles[{later}].open_time", f"{open_times[later]} after {open_times[later - 1]}", "strictly increasing times"
        )
    sound = sound_rows(values)
    if not sound.all():
        first = int(np.flatnonzero(~sound)[0])
        problem = candle_problem(*(float(value) for value in values[first]))
        assert problem is not None, "candle_problem and check_series disagree"
        field, found, allowed = problem
        raise BadCandles(f"candles[{first}].{field}", found, allowed)


def sound_rows(values: FloatArray) -> NDArray[np.bool_]:
    """Tell which rows, (n, 5), are sound candles: those without a `candle_problem`, (n,)."""
    open_, high, low, close, volume = values.T  # each (n,)
    with np.errstate(invalid="ignore"):
        # Nothing that is NaN passes a comparison, and what lies between low and high lies within their bounds.
        bounded = (low >= MIN_PRICE) & (high <= MAX_PRICE) & (volume >= 0) & (volume < np.inf)
        return bounded & (low <= open_) & (open_ <= high) & (low <= close) & (close <= high)


def to_datetime64(moment: datetime) -> np.datetime64:
    """Convert an aware time to datetime64[s] in UTC.

    Raises:
        BadCandles: If the time has no time zone.
    """
    if moment.tzinfo is None:
        raise BadCandles("time", f"{moment.isoformat()} without a time zone", "a time with a time zone")
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "s")


def to_datetime(moment: np.datetime64) -> datetime:
    """Convert datetime64 (UTC) to an aware datetime."""
    return datetime.fromtimestamp(int(moment.astype("datetime64[s]").astype(np.int64)), tz=UTC)
