"""What a test asks of a vendor directly."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from fxcast.adapters.feeds.port import Heartbeat, QuoteFeed
from fxcast.domain.market import MarketCandles
from fxcast.domain.tick import Tick
from fxcast.domain.timeframe import Timeframe

_PATIENCE_S = 60.0  # a busy machine is no failure


def first_messages(vendor: QuoteFeed, symbols: Sequence[str], count: int) -> list[Tick | Heartbeat]:
    """Return the first messages of a connection; raises what the vendor raises."""

    async def read() -> list[Tick | Heartbeat]:
        messages: list[Tick | Heartbeat] = []
        async with asyncio.timeout(_PATIENCE_S):
            async for message in vendor.quotes(symbols):
                messages.append(message)
                if len(messages) == count:
                    break
        return messages

    return asyncio.run(read())


def history(vendor: QuoteFeed, symbol: str, start: datetime, stop: datetime, timeframe: str = "1m") -> MarketCandles:
    return asyncio.run(vendor.history(symbol, Timeframe(timeframe), start, stop))
