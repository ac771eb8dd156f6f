"""What happens at a vendor: quotes in simulated time, the candles that follow from them, and what goes wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np

from fxcast.domain.tick import Tick
from tests.factories import NOON

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class VendorCandle:
    """A candle as a vendor would publish it; prices are (open, high, low, close)."""

    open_time: datetime
    close_time: datetime
    bid: tuple[float, ...]
    ask: tuple[float, ...]
    mid: tuple[float, ...]
    quotes: int


@dataclass(frozen=True, kw_only=True)
class Script:
    """Quotes of several symbols in the order of their times, no two at the same."""

    ticks: tuple[Tick, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(sorted({tick.symbol for tick in self.ticks}))

    def position(self, moment: datetime) -> int:
        """Return the position of the first tick at or after a moment."""
        return sum(tick.time < moment for tick in self.ticks)

    def candles(self, symbol: str, now: datetime, length: timedelta = MINUTE) -> list[VendorCandle]:
        """Return the candles of a symbol (of up to an hour) by its quotes up to a moment; the last may still be open then."""
        grouped: dict[datetime, list[Tick]] = {}
        for tick in self.ticks:
            if tick.symbol == symbol and tick.time <= now:
                hour = tick.time.replace(minute=0, second=0, microsecond=0)
                grouped.setdefault(hour + (tick.time - hour) // length * length, []).append(tick)
        return [
            VendorCandle(
                open_time=open_time,
                close_time=open_time + length,
                bid=_ohlc([tick.bid for tick in ticks]),
                ask=_ohlc([tick.ask for tick in ticks]),
                mid=_ohlc([(tick.bid + tick.ask) / 2 for tick in ticks]),
                quotes=len(ticks),
            )
            for open_time, ticks in grouped.items()
        ]


def _ohlc(prices: Sequence[float]) -> tuple[float, ...]:
    return prices[0], max(prices), min(prices), prices[-1]


def make_script(
    *, minutes: int = 30, start: datetime = NOON, symbols: Sequence[str] = ("EURUSD", "USDJPY"), seed: int = 0
) -> Script:
    """Quotes every second on average, from one symbol or another; the last symbol is quiet in every seventh minute."""
    rng = np.random.default_rng(seed)
    prices = {symbol: 110.0 if symbol.endswith("JPY") else 1.1 for symbol in symbols}
    ticks: list[Tick] = []
    time = start
    while True:
        time += timedelta(milliseconds=int(rng.integers(200, 1800)))
        if time >= start + minutes * MINUTE:
            return Script(ticks=tuple(ticks))
        symbol = symbols[int(rng.integers(len(symbols)))]
        prices[symbol] *= math.exp(rng.normal(0.0, 5e-5))
        digits = 3 if symbol.endswith("JPY") else 5
        bid = round(prices[symbol], digits)
        ask = round(bid * (1 + float(rng.uniform(2e-5, 2e-4))), digits)
        if symbol != symbols[-1] or time.minute % 7 != 6:
            ticks.append(Tick(symbol, time, bid, ask))


class Wrong(StrEnum):
    """What goes wrong."""

    UNAUTHORIZED = "401"  # on connecting, or of history
    LIMITED = "429"  # the same, with Retry-After
    BROKEN = "500"  # the same
    CLOSE = "accept and close"  # on connecting
    SILENT = "silent"  # on connecting, or at a tick: the connection stays, nothing comes
    DROP = "drop"  # at a tick, as all below
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    DELAY = "delay"  # everything from the tick on comes later
    LATE = "late"  # the tick comes when its candle is closed
    MALFORMED = "malformed"
    UNEXPECTED = "unexpected"  # quotes of a symbol that nobody asked for
    LAG = "lag"  # history lacks the latest of the candles asked for


@dataclass(frozen=True, kw_only=True)
class OnConnect:
    """The connects numbered so, from 1, go wrong."""

    wrong: Wrong
    numbers: Sequence[int] = (1,)


@dataclass(frozen=True, kw_only=True)
class AtTick:
    """The next `count` ticks go wrong, so long after the stream began; after a loss, `missed` passes until the next connect."""

    wrong: Wrong
    after: timedelta
    count: int = 1
    missed: timedelta = timedelta(0)


@dataclass(frozen=True, kw_only=True)
class OnHistory:
    """The requests of history numbered so, from 1, go wrong."""

    wrong: Wrong
    numbers: Sequence[int] = (1,)


Fault = OnConnect | AtTick | OnHistory
