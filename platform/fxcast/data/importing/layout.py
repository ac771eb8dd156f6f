"""Where a file keeps what: its columns, its clock, the side and the unit of its prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from fxcast.data.importing.stamps import StampKind
from fxcast.domain.candle import COLUMNS
from fxcast.domain.market import ASK, BID, PriceSide


class FileFormat(StrEnum):
    """The formats that are told apart."""

    METATRADER = "metatrader"
    HISTDATA = "histdata"
    DUKASCOPY = "dukascopy"
    LEAN = "lean"
    PLAIN = "plain"


PRICES = COLUMNS[:4]
# What a column may hold, by the names that settings use for it.
ROLES = ("time", "clock", *COLUMNS, "tick_volume", "real_volume", "spread", "spread_points", *BID, *ASK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one file is to be read.

    Attributes:
        header_lines: Lines before the first row.
        columns: Position by role, roles of `ROLES`; either the four prices, or bid and ask, or both.
        side: What the four prices are prices of.
        zone: The clock that the format itself states, None if it states none.
        midnight: The day of times that count from midnight.
        decimal_comma: Numbers are written as in 1,0675.
        notes: What was found out on the way that a reader should know.
    """

    format: FileFormat
    delimiter: str
    header_lines: int
    field_count: int
    columns: Mapping[str, int]
    stamp: StampKind
    side: PriceSide
    zone: str | None
    day_first: bool = False
    midnight: date | None = None
    decimal_comma: bool = False
    notes: tuple[str, ...] = ()

    @property
    def quotes_both_sides(self) -> bool:
        """Whether rows hold bid and ask."""
        return "bid_open" in self.columns and "ask_open" in self.columns

    def describe(self) -> str:
        """Say in words how the file is read."""
        delimiter = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "spaces"}.get(self.delimiter, repr(self.delimiter))
        columns = ", ".join(sorted(self.columns, key=lambda role: self.columns[role]))
        return f"{self.format.value}, {delimiter}: {columns}"
