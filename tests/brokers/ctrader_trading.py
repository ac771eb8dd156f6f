"""What tests of cTrader as a broker send, and what they ask."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from fxcast.adapters.brokers.ctrader import CTraderBroker
from fxcast.adapters.clock import SystemClock
from fxcast.domain.order import Fill, OrderIntent, OrderPurpose, ProtectionChange, Side
from fxcast.trading.ports import Broker
from tests.brokers.ctrader_account import CTraderAccount
from tests.brokers.ctrader_server import CTraderServer

SYMBOLS = ("EURUSD", "USDJPY", "EURGBP")
NAME = "EURUSD-20240304T1200"
OPEN, CLOSING = f"{NAME}-open", f"{NAME}-close"


def broker_of(server: CTraderServer, **changes: Any) -> CTraderBroker:
    return CTraderBroker(server.settings(**changes), SYMBOLS, SystemClock())


def intent_of(**changes: Any) -> OrderIntent:
    values: dict[str, Any] = {
        "client_order_id": OPEN,
        "signal_id": NAME,
        "symbol": "EURUSD",
        "side": Side.BUY,
        "units": Decimal(10_000),
        "purpose": OrderPurpose.OPEN,
        "stop": Decimal("1.09500"),
        "target": Decimal("1.11000"),
        "created_at": datetime(2024, 3, 4, 12, tzinfo=UTC),
    }
    return OrderIntent(**(values | changes))


def closing_of(**changes: Any) -> OrderIntent:
    values: dict[str, Any] = {
        "client_order_id": CLOSING,
        "side": Side.SELL,
        "purpose": OrderPurpose.CLOSE,
        "stop": None,
        "target": None,
    }
    return intent_of(**(values | changes))


def change_of(stop: str, target: str | None = "1.11000", client_order_id: str = OPEN) -> ProtectionChange:
    return ProtectionChange(
        change_id=f"{client_order_id}-p1",
        client_order_id=client_order_id,
        symbol="EURUSD",
        stop=Decimal(stop),
        target=None if target is None else Decimal(target),
        reason="trail",
        created_at=datetime(2024, 3, 4, 13, tzinfo=UTC),
    )


def fills_of(broker: Broker, sequence: int = 0) -> list[Fill]:
    return [each for each in broker.transactions_since(sequence) if isinstance(each, Fill)]


def only_one(account: CTraderAccount) -> tuple[int, int]:
    (held,) = account.positions.values()
    return held.position_id, held.volume


def open_by_hand(server: CTraderServer) -> None:
    server.hands(lambda account: account.place({"symbolId": account.symbols["EURUSD"], "tradeSide": 1, "volume": 500_000}))


def charge_swap(server: CTraderServer, cents: int) -> None:
    with server.lock:
        for held in server.account.positions.values():
            held.swap += cents
