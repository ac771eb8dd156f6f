"""One quote of one symbol."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Tick(NamedTuple):
    """The best bid and ask at a moment (UTC); a tuple, because a hundred thousand a second are made of them."""

    symbol: str
    time: datetime
    bid: float
    ask: float
