"""OANDA's v20 interface as a server: the pricing stream in chunks of JSON lines, and candles."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from fxcast.adapters.feeds.rest import VendorSettings
from fxcast.domain.tick import Tick
from tests.vendors.script import VendorCandle, Wrong
from tests.vendors.server import RETRY_AFTER_S, Outlet, VendorServer

TOKEN = "0123456789abcdef-fedcba9876543210"  # noqa: S105 - known to this server only
ACCOUNT = "101-004-1234567-001"
MOST_CANDLES = 5000
_LENGTHS = {"M1": timedelta(minutes=1), "M5": timedelta(minutes=5), "H1": timedelta(hours=1)}


class OandaServer(VendorServer):
    """Serves one account."""

    def settings(self, **changes: Any) -> VendorSettings:
        return VendorSettings(oanda_stream_url=self.url, oanda_rest_url=self.url, **changes)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v3/accounts/{account}/pricing/stream", self._stream),
            web.get("/v3/instruments/{instrument}/candles", self._candles),
        ]

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        wrong = self.refusal_of_connect()
        refused = _refused(request, wrong)
        if refused is not None:
            return refused
        if request.match_info["account"] != ACCOUNT:
            return web.json_response({"errorMessage": "Insufficient authorization to perform request."}, status=403)
        symbols = [instrument.replace("_", "") for instrument in request.query["instruments"].split(",")]
        if not set(symbols) <= set(self.script.symbols):
            return _unknown_instrument()
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await self.play(_Lines(request, response), symbols, wrong)
        return response

    async def _candles(self, request: web.Request) -> web.Response:
        wrong = self.refusal_of_history()
        refused = _refused(request, wrong)
        if refused is not None:
            return refused
        query = request.query
        assert (query["price"], query["dailyAlignment"], query["alignmentTimezone"]) == ("BAM", "17", "America/New_York")
        length = _LENGTHS[query["granularity"]]
        instrument = request.match_info["instrument"]
        if instrument.replace("_", "") not in self.script.symbols:
            return _unknown_instrument()
        start, stop = datetime.fromisoformat(query["from"]), datetime.fromisoformat(query["to"])
        if (stop - start) / length > MOST_CANDLES:
            return web.json_response({"errorMessage": "Maximum value for 'count' exceeded"}, status=400)
        candles = [
            _candle(candle, is_complete)
            for candle, is_complete in self.candles(instrument.replace("_", ""), start, stop, wrong, length)
        ]
        return web.json_response({"instrument": instrument, "granularity": query["granularity"], "candles": candles})


class _Lines(Outlet):
    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._request = request
        self._response = response

    async def tick(self, tick: Tick) -> None:
        await self._send(_price(tick.symbol, tick.time, tick.bid, tick.ask, tradeable=True))

    async def heartbeat(self, now: datetime) -> None:
        await self._send({"type": "HEARTBEAT", "time": _stamp(now)})
        await self._send(_price("EURUSD", now, 0.5, 9.5, tradeable=False))  # as when the market is closed

    async def garbage(self) -> None:
        await self._response.write(b'{"type":"PRICE","time":"20\n')

    def abort(self) -> None:
        assert self._request.transport is not None
        self._request.transport.abort()

    async def _send(self, message: dict[str, Any]) -> None:
        await self._response.write(json.dumps(message).encode() + b"\n")


def _refused(request: web.Request, wrong: Wrong | None) -> web.Response | None:
    if request.headers.get("Authorization") != f"Bearer {TOKEN}" or wrong is Wrong.UNAUTHORIZED:
        return web.json_response({"errorMessage": "Insufficient authorization to perform request."}, status=401)
    assert request.headers["Accept-Datetime-Format"] == "RFC3339"
    if wrong is Wrong.LIMITED:
        return web.json_response({"errorMessage": "Too many"}, status=429, headers={"Retry-After": str(RETRY_AFTER_S)})
    if wrong is Wrong.BROKEN:
        return web.Response(status=500, text="<html>sorry</html>")
    return None


def _unknown_instrument() -> web.Response:
    return web.json_response({"errorMessage": "Invalid value specified for 'instruments'"}, status=400)


def _price(symbol: str, time: datetime, bid: float, ask: float, *, tradeable: bool) -> dict[str, Any]:
    return {
        "type": "PRICE",
        "time": _stamp(time),
        "bids": [{"price": str(bid), "liquidity": 1_000_000}, {"price": str(bid * 0.9), "liquidity": 5_000_000}],
        "asks": [{"price": str(ask), "liquidity": 1_000_000}, {"price": str(ask * 1.1), "liquidity": 5_000_000}],
        "closeoutBid": str(bid),
        "closeoutAsk": str(ask),
        "status": "tradeable" if tradeable else "non-tradeable",
        "tradeable": tradeable,
        "instrument": _instrument(symbol),
    }


def _candle(candle: VendorCandle, is_complete: bool) -> dict[str, Any]:
    sides = {"bid": candle.bid, "ask": candle.ask, "mid": candle.mid}
    prices = {side: dict(zip("ohlc", map(str, values), strict=True)) for side, values in sides.items()}
    return {"complete": is_complete, "volume": candle.quotes, "time": _stamp(candle.open_time), **prices}


def _instrument(symbol: str) -> str:
    return f"{symbol[:3]}_{symbol[3:]}"


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
