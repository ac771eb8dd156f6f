"""OANDA's v20 interface as a server, with the faults that trading over a network has.

It follows the documentation, and in these points what practice accounts were seen to do: a client's order id that was used before
is taken again and executed again; transactions name a closed trade by the broker's id only.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.brokers.oanda_account import Json, OandaAccount, OrderRefused
from tests.brokers.oanda_messages import instruments, pending_orders, pricing, summary, trade_message
from tests.ports import free_port

TOKEN = "0123456789abcdef-fedcba9876543210"  # noqa: S105 - known to this server only
RETRY_AFTER_S = 7
_ANSWERS = "/v3/accounts/{account}"


class Fault(StrEnum):
    """What goes wrong with a call; `after` it was executed, or before."""

    DROP_BEFORE = "the connection is lost before"
    DROP_AFTER = "the connection is lost after"
    SILENT_BEFORE = "no answer ever, and nothing done"
    SILENT_AFTER = "no answer ever, but done"
    LATE = "no answer ever, and done when `run_late` is called"
    ERROR_BEFORE = "503, and nothing done"
    ERROR_AFTER = "500, but done"
    GATEWAY_AFTER = "504, but done"
    GARBAGE_AFTER = "a page of a proxy with 200, but done"
    LIMITED = "429"
    UNAUTHORIZED = "401"


_SILENT = {Fault.SILENT_BEFORE, Fault.SILENT_AFTER, Fault.LATE}
_NOT_DONE = {Fault.DROP_BEFORE, Fault.SILENT_BEFORE, Fault.LATE, Fault.ERROR_BEFORE, Fault.LIMITED, Fault.UNAUTHORIZED}


@dataclass(kw_only=True)
class _Planned:
    fault: Fault
    method: str
    path: str
    skip: int


class OandaServer:
    """Serves one account from a thread of its own; a context manager, and usable from any process by its `url`.

    `account` is what a test looks at and moves, inside `with server.lock:` where the server may be asked at the same moment.

    Args:
        account: By default one in US dollars with three pairs.

    Attributes:
        every_call: A fault of every call, until it is None again.
        reject_next: The reason to reject the next order for.
        cancel_next: The reason to cancel the next order for.
        most_units_next: The units that there are for the next order.
        refuse_change_next: The reason to refuse the next change of protection for.
        page: Transactions that one answer holds at most.
        shuffle: Seed by which answers list transactions in another order, None for their own.
        seen: Method and path of the calls, without the account.
    """

    def __init__(self, account: OandaAccount | None = None) -> None:
        self.account = account or OandaAccount()
        self.lock = threading.RLock()
        self.every_call: Fault | None = None
        self.reject_next = self.cancel_next = self.refuse_change_next = ""
        self.most_units_next: int | None = None
        self.page = 1000
        self.shuffle: int | None = None
        self.seen: list[str] = []
        self._planned: list[_Planned] = []
        self._late: list[Callable[[], web.Response]] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="OandaServer")
        self._port = free_port()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60), "the server did not start"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def fail(self, fault: Fault, path: str = "orders", method: str = "POST", *, skip: int = 0) -> None:
        """Plan a fault of the next call whose method and path (behind the account, its beginning) are these; it happens once."""
        with self.lock:
            self._planned.append(_Planned(fault=fault, method=method, path=path, skip=skip))

    def run_late(self) -> None:
        """Do now what calls with the fault LATE asked for."""
        with self.lock:
            while self._late:
                self._late.pop(0)()

    def calls(self, begin: str) -> int:
        """Count the calls whose method and path begin so."""
        with self.lock:
            return sum(call.startswith(begin) for call in self.seen)

    def _fault_of(self, call: str) -> Fault | None:
        for planned in self._planned:
            if call.startswith(f"{planned.method} {planned.path}"):
                if planned.skip:
                    planned.skip -= 1
                    continue
                self._planned.remove(planned)
                return planned.fault
        return self.every_call

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Refuse, spoil or answer a call."""
        body = await request.json() if request.can_read_body else {}
        page = request.match_info["page"]
        call = f"{request.method} {page}"
        with self.lock:
            self.seen.append(call)
            fault = self._fault_of(call)

            def execute() -> web.Response:
                with self.lock:
                    return self._execute(request, page, body)

            if request.headers.get("Authorization") != f"Bearer {TOKEN}" or fault is Fault.UNAUTHORIZED:
                return _error(401, "Insufficient authorization to perform request.")
            if request.match_info["account"] != self.account.account_id:
                return _error(403, "Insufficient authorization to perform request.")
            if fault is Fault.LATE:
                self._late.append(execute)
            response = web.Response() if fault in _NOT_DONE else execute()
        if fault in _SILENT:
            await self._stop.wait()
        match fault:
            case Fault.DROP_BEFORE | Fault.DROP_AFTER:
                assert request.transport is not None
                request.transport.abort()
            case Fault.LIMITED:
                return web.json_response({"errorMessage": "Too many"}, status=429, headers={"Retry-After": str(RETRY_AFTER_S)})
            case Fault.ERROR_BEFORE:
                return _error(503, "The service is down for maintenance")
            case Fault.ERROR_AFTER:
                return _error(500, "Internal server error")
            case Fault.GATEWAY_AFTER:
                return web.Response(status=504, text="<html>sorry</html>")
            case Fault.GARBAGE_AFTER:
                return web.Response(text="<html>welcome</html>")
            case _:
                pass
        return response

    def _execute(self, request: web.Request, page: str, body: Json) -> web.Response:
        account, query = self.account, request.query
        match request.method, *page.split("/"):
            case "GET", "summary":
                return web.json_response(summary(account))
            case "GET", "instruments":
                return web.json_response(instruments(account))
            case "GET", "pricing":
                names = query["instruments"].split(",")
                if not set(names) <= account.prices.keys():
                    return _error(400, "Invalid value specified for 'instruments'")
                return web.json_response(pricing(account, names, conversions=query.get("includeHomeConversions") == "true"))
            case "GET", "openTrades":
                return self._trades([trade_message(trade) for trade in account.open_trades])
            case "GET", "trades":
                assert query["state"] == "ALL"
                ids = query["ids"].split(",")
                return self._trades([trade_message(account.trades[number]) for number in ids if number in account.trades])
            case "GET", "trades", specifier:
                trade = account.find_trade(specifier)
                if trade is None:
                    return _error(404, "The trade ID specified does not exist", errorCode="NO_SUCH_TRADE")
                return web.json_response({"trade": trade_message(trade), "lastTransactionID": account.last_id})
            case "PUT", "trades", specifier, "orders":
                return self._change(specifier, body)
            case "GET", "pendingOrders":
                return web.json_response(pending_orders(account))
            case "POST", "orders":
                return self._order(body["order"])
            case "GET", "transactions", "sinceid":
                return self._transactions(int(query["id"]))
            case _:
                return _error(404, "The path does not exist")

    def _order(self, order: Json) -> web.Response:
        if order["instrument"] not in self.account.prices:
            code = "oanda::rest::core::InvalidParameterException"
            return _error(400, "Invalid value specified for 'order.instrument'", errorCode=code)
        most = None if self.most_units_next is None else Decimal(self.most_units_next)
        refuse, cancel = self.reject_next, self.cancel_next
        self.reject_next, self.cancel_next, self.most_units_next = "", "", None
        try:
            answer = self.account.order(order, refuse=refuse, cancel=cancel, most=most)
        except OrderRefused as refused:
            reject = refused.args[0]
            return self._refused(400, reject["rejectReason"], orderRejectTransaction=reject)
        return web.json_response({**answer, "lastTransactionID": self.account.last_id}, status=201)

    def _change(self, specifier: str, request: Json) -> web.Response:
        trade = self.account.find_trade(specifier)
        if trade is None or not trade.is_open:
            return self._refused(404, "TRADE_DOESNT_EXIST")
        reason, self.refuse_change_next = self.refuse_change_next, ""
        if reason:
            details = {"tradeID": trade.id, "rejectReason": reason}
            return self._refused(400, reason, stopLossOrderRejectTransaction=self.account.add("STOP_LOSS_ORDER_REJECT", **details))
        return web.json_response({**self.account.protect(trade, request), "lastTransactionID": self.account.last_id})

    def _transactions(self, since: int) -> web.Response:
        page = self.account.transactions[since : since + self.page]
        if self.shuffle is not None:
            page = random.Random(self.shuffle).sample(page, len(page))
        return web.json_response({"transactions": page, "lastTransactionID": self.account.last_id})

    def _trades(self, trades: list[Json]) -> web.Response:
        return web.json_response({"trades": trades[::-1], "lastTransactionID": self.account.last_id})  # newest first, as there

    def _refused(self, status: int, reason: str, **transactions: Json) -> web.Response:
        return _error(status, reason, errorCode=reason, lastTransactionID=self.account.last_id, **transactions)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._run())
        self._loop.close()

    async def _run(self) -> None:
        application = web.Application()
        application.router.add_route("*", _ANSWERS + "/{page:.+}", self._answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()
        rest = asyncio.all_tasks() - {asyncio.current_task()}  # handlers that were silent
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


def _error(status: int, message: str, **details: Any) -> web.Response:
    return web.json_response({"errorMessage": message, **details}, status=status)
