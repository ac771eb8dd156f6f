"""Tiingo's interface as a server: the FX websocket, and candles of the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import WSMsgType, web

from fxcast.adapters.feeds.rest import VendorSettings
from fxcast.domain.tick import Tick
from tests.vendors.script import Fault, Script, Wrong
from tests.vendors.server import RETRY_AFTER_S, Outlet, VendorServer

TOKEN = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567"  # noqa: S105 - known to this server only
_LENGTHS = {"1min": timedelta(minutes=1), "1hour": timedelta(hours=1)}
_CODES = {Wrong.UNAUTHORIZED: 401, Wrong.LIMITED: 429, Wrong.BROKEN: 500}


class TiingoServer(VendorServer):
    """Serves one token.

    Args:
        says_why: A connect is refused by a message after the handshake, not by the handshake's status.
    """

    def __init__(
        self, script: Script, *, begin: datetime, faults: Sequence[Fault] = (), in_step: bool = False, says_why: bool = False
    ) -> None:
        super().__init__(script, begin=begin, faults=faults, in_step=in_step)
        self._says_why = says_why

    def settings(self, **changes: Any) -> VendorSettings:
        return VendorSettings(tiingo_stream_url=f"{self.websocket_url}/fx", tiingo_rest_url=self.url, **changes)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/fx", self._stream), web.get("/tiingo/fx/{ticker}/prices", self._prices)]

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        wrong = self.refusal_of_connect()
        code = _code(wrong)
        if code is not None and not self._says_why:
            return _refusal(code)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        first = await socket.receive()
        if first.type is not WSMsgType.TEXT:
            return socket
        asked = json.loads(first.data)
        assert asked["eventName"] == "subscribe"
        assert asked["eventData"]["thresholdLevel"] == 5
        symbols = [ticker.upper() for ticker in asked["eventData"]["tickers"]]
        if asked["authorization"] != TOKEN:
            await _send_error(socket, 401, "authorization failed")
        elif code is not None:
            await _send_error(socket, code, "sorry")
        elif not set(symbols) <= set(self.script.symbols):
            await _send_error(socket, 400, "no such ticker")
        else:
            if wrong is not Wrong.SILENT:
                answer = {"messageType": "I", "data": {"subscriptionId": 61}, "response": {"code": 200, "message": "Success"}}
                await socket.send_json(answer)
            playing = asyncio.create_task(self.play(_Messages(request, socket), symbols, wrong))
            if wrong is not Wrong.SILENT:
                leaving = asyncio.create_task(socket.receive())  # answers the client's good-bye
                await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
                leaving.cancel()
            await playing
        return socket

    async def _prices(self, request: web.Request) -> web.Response:
        wrong = self.refusal_of_history()
        if request.headers.get("Authorization") != f"Token {TOKEN}":
            return _refusal(401)
        code = _code(wrong)
        if code is not None:
            return _refusal(code)
        length = _LENGTHS[request.query["resampleFreq"]]
        symbol = request.match_info["ticker"].upper()
        if symbol not in self.script.symbols:
            return web.json_response({"detail": f"Error: Ticker '{symbol}' not found"}, status=404)
        start, last_day = (datetime.fromisoformat(request.query[name]).replace(tzinfo=UTC) for name in ("startDate", "endDate"))
        candles = self.candles(symbol, start, last_day + timedelta(days=1), wrong, length)  # the last one may still be open
        return web.json_response(
            [
                {
                    "date": candle.open_time.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                    "ticker": symbol.lower(),
                    **dict(zip(("open", "high", "low", "close"), candle.mid, strict=True)),
                }
                for candle, _ in candles
            ]
        )


class _Messages(Outlet):
    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self._request = request
        self._socket = socket

    async def tick(self, tick: Tick) -> None:
        mid = round((tick.bid + tick.ask) / 2, 6)
        data = ["Q", tick.symbol.lower(), tick.time.isoformat(), 1e6, tick.bid, mid, 1e6, tick.ask]
        await self._socket.send_json({"messageType": "A", "service": "fx", "data": data})

    async def heartbeat(self, now: datetime) -> None:
        del now  # the vendor does not tell it
        await self._socket.send_json({"messageType": "H", "response": {"code": 200, "message": "HeartBeat"}})

    async def garbage(self) -> None:
        await self._socket.send_str('{"messageType":"A","service":"fx","data":["Q","eurusd"]}')

    def abort(self) -> None:
        assert self._request.transport is not None
        self._request.transport.abort()


def _code(wrong: Wrong | None) -> int | None:
    return None if wrong is None else _CODES.get(wrong)


async def _send_error(socket: web.WebSocketResponse, code: int, message: str) -> None:
    await socket.send_json({"messageType": "E", "response": {"code": code, "message": message}})


def _refusal(code: int) -> web.Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if code == 429 else {}
    return web.json_response({"detail": "sorry"}, status=code, headers=headers)
