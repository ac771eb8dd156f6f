"""What tests and benchmarks ask a running service."""

from __future__ import annotations

import time
from typing import Any

import httpx

from fxcast.domain.candle import CandleSeries, to_datetime

_NAMES = ("open", "high", "low", "close", "volume")


def body_of(window: CandleSeries, **options: object) -> dict[str, Any]:
    """Return a window as the body of POST /v1/forecast."""
    candles = [
        {"time": to_datetime(moment).isoformat(), **dict(zip(_NAMES, row, strict=True))}
        for moment, row in zip(window.open_times, window.values.tolist(), strict=True)
    ]
    return {"symbol": window.symbol, "timeframe": window.timeframe.name, "candles": candles, **options}


def wait_until_ready(url: str) -> dict[str, Any]:
    """Return what /readyz says as soon as it is 200: a replica that computes may be slow to answer."""
    deadline = time.monotonic() + 120
    while True:
        answer = httpx.get(f"{url}/readyz", trust_env=False, timeout=60.0)
        if answer.status_code == 200:
            return answer.json()
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)  # nothing announces what another process does: it is looked at again
