"""What a live feed has handed out, whatever connection it came from."""

from __future__ import annotations

import asyncio
from datetime import datetime

import numpy as np

from fxcast.adapters.feeds.port import Emit, FeedCandles, FeedStatus, Origin
from fxcast.domain.candle import to_datetime, to_datetime64
from fxcast.domain.market import MarketCandles
from fxcast.errors import BadCandles


class Emitted:
    """What a feed has handed out: kept from one connection to the next, so that each candle comes once and in order.

    Args:
        closes: The close of the last candle of each symbol that was handed out or stored before, None where there is none.
    """

    def __init__(self, closes: dict[str, datetime | None], emit: Emit, status: FeedStatus) -> None:
        self._closes = closes
        self._emit = emit
        self._status = status
        self.lock = asyncio.Lock()  # held from handing a candle out until that is noted

    def last_close(self, symbol: str) -> datetime | None:
        """Return the close of a symbol's last candle."""
        return self._closes[symbol]

    def refuse_later_than(self, limit: datetime, now: datetime) -> None:
        """Refuse candles that were stored of a time to come: nothing that a vendor sends would be newer.

        Raises:
            BadCandles: If one closes after the limit.
        """
        for symbol, close in self._closes.items():
            if close is not None and close > limit:
                found = f"the last one closes at {close.isoformat()}"
                told = now.isoformat(timespec="seconds")
                raise BadCandles(
                    f"stored candles of {symbol}", found, f"a close before now, {told}; was a file of a wrong zone imported?"
                )

    async def hand_out(self, candles: MarketCandles, origin: Origin) -> bool:
        """Hand out what is new; tell whether anything was."""
        async with self.lock:
            last = self._closes[candles.symbol]
            if last is not None:
                known = int(np.searchsorted(candles.open_times, to_datetime64(last)))
                candles = candles.slice(known, len(candles))
            if not len(candles):
                return False
            await self._emit(FeedCandles(data=candles, origin=origin))
            close = to_datetime(candles.candles.close_times[-1])
            self._closes[candles.symbol] = close
            status = self._status
            status.candles_emitted += len(candles)
            status.candles_backfilled += len(candles) if origin is Origin.BACKFILL else 0
            status.last_candle = close if status.last_candle is None else max(status.last_candle, close)
            return True
