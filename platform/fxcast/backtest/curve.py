"""Record the account at each candle's close, as it comes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fxcast.backtest.result import EquityCurve
from fxcast.domain.candle import FloatArray

_FIRST_ROOM = 4096


class CurveRecorder:
    """A curve that grows."""

    def __init__(self) -> None:
        self._times = np.empty(_FIRST_ROOM, dtype=np.int64)  # seconds since 1970 UTC
        self._values = np.empty((3, _FIRST_ROOM))  # balance, open profit, exposure
        self._length = 0

    def add(self, closed_s: NDArray[np.int64], balance: float, open_profit: FloatArray, exposure: FloatArray) -> None:
        """Add moments, (n,) seconds since 1970 UTC, with one balance."""
        start, stop = self._grown(len(closed_s))
        self._times[start:stop] = closed_s
        self._values[0, start:stop] = balance
        self._values[1, start:stop] = open_profit
        self._values[2, start:stop] = exposure

    def add_flat(self, closed_s: NDArray[np.int64], balance: float) -> None:
        """Add moments without a position."""
        start, stop = self._grown(len(closed_s))
        self._times[start:stop] = closed_s
        self._values[0, start:stop] = balance
        self._values[1:, start:stop] = 0.0

    def add_one(self, closed_s: int, balance: float, open_profit: float, exposure: float) -> None:
        """Add a moment."""
        start, _ = self._grown(1)
        self._times[start] = closed_s
        self._values[:, start] = (balance, open_profit, exposure)

    def curve(self) -> EquityCurve:
        """Return what was recorded."""
        balance, open_profit, exposure = self._values[:, : self._length].copy()
        times = self._times[: self._length].astype("datetime64[s]")
        return EquityCurve(times=times, balance=balance, open_profit=open_profit, exposure=exposure)

    def _grown(self, count: int) -> tuple[int, int]:
        start, stop = self._length, self._length + count
        if stop > len(self._times):
            room = max(stop, 2 * len(self._times))
            self._times = np.resize(self._times, room)
            self._values = np.concatenate([self._values, np.empty((3, room - self._values.shape[1]))], axis=1)
        self._length = stop
        return start, stop
