"""What reading a file gives: candles, and an account of every row that is not among them as it stood."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.candle import CandleSeries
from fxcast.domain.market import MarketCandles


class Reason(StrEnum):
    """Why a row was refused."""

    FIELD_COUNT = "wrong number of fields"
    UNREADABLE_TIME = "unreadable time"
    NO_SUCH_LOCAL_TIME = "local time that never was"
    AMBIGUOUS_LOCAL_TIME = "ambiguous local time"
    NO_OFFSET = "time without the offset that others have"
    OFF_GRID = "time off the timeframe's grid"
    UNREADABLE_NUMBER = "unreadable number"
    NOT_FINITE = "number not finite"
    PRICE_NOT_POSITIVE = "price not positive"
    IMPLAUSIBLE_PRICE = "implausible price"
    NEGATIVE_VOLUME = "negative volume"
    HIGH_BELOW_LOW = "high below low"
    OUTSIDE_RANGE = "open or close outside high and low"
    CROSSED_QUOTE = "ask below bid"
    OTHER_SIDE_MISSING = "bid without ask, or ask without bid"
    IDENTICAL_DUPLICATE = "duplicate time, identical candle"
    CONFLICTING_DUPLICATE = "duplicate time, conflicting candle"
    OUT_OF_ORDER = "time out of order"
    FUTURE = "time in the future"
    FAR_OFF = "price far from both neighbours"
    FILLER = "flat filler in the closed market"


CROSSED_KEPT = "ask below bid: the mid is kept, without bid, ask and spread"


class Repair(StrEnum):
    """What may be put right if it is asked for; each repair made is named in the report."""

    ORDER = "order"
    RANGE = "range"
    SPIKES = "spikes"
    CLOSED_MARKET = "closed-market"
    CROSSED = "crossed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """A row that was not taken; `line` counts from 1, the first of the file, and `text` is the line as it stands there."""

    line: int
    reason: Reason
    detail: str
    text: str
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairedRow:
    """A row that was taken otherwise than it stands, or taken out, because that repair was asked for."""

    line: int
    repair: Repair
    detail: str
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What was read.

    Attributes:
        source: The file, or files.
        format: How it was read, in words.
        zone: The clock of its times.
        data: The candles taken.
        lines: For each of them the line that it stands on, (n,) int64.
        refused, repaired: In the order of the file.
        rows_read: Rows, not lines: blank lines and headers are none.
        notes: What a reader should know of how it was read; warnings among them begin with "warning:".
        pairs: How many rows have one of the other side to make a candle with; 0 where a row is a candle by itself.
    """

    source: str
    format: str
    zone: str
    data: MarketCandles
    lines: NDArray[np.int64]
    refused: tuple[RefusedRow, ...]
    rows_read: int
    repaired: tuple[RepairedRow, ...] = ()
    notes: tuple[str, ...] = ()
    pairs: int = 0

    @property
    def series(self) -> CandleSeries:
        """The candles without what else is known of them."""
        return self.data.candles
