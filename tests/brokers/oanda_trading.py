"""What tests of OANDA as a broker send, and what they ask."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from fxcast.adapters.brokers.oanda import OandaBroker, OandaBrokerSettings
from fxcast.domain.order import (
    Fill,
    OrderIntent,
    OrderPurpose,
    ProtectionChange,
    Side,
)
from fxcast.trading.ports import Broker
from tests.brokers.oanda_server import Fault, OandaServer
from tests.factories import NOON

ENTRY = OrderIntent(
    client_order_id="entry-1",
    signal_id="signal-1",
    symbol="EURUSD",
    side=Side.BUY,
    units=Decimal(10_000),
    purpose=OrderPurpose.OPEN,
    stop=Decimal("1.09500"),
    target=Decimal("1.11000"),
    created_at=NOON,
)
EXIT = replace(
    ENTRY, client_order_id="exit-1", side=Side.SELL, purpose=OrderPurpose.CLOSE, stop=None, target=None, reason="horizon"
)
CHANGE = ProtectionChange(
    change_id="entry-1-p1",
    client_order_id="entry-1",
    symbol="EURUSD",
    stop=Decimal("1.09700"),
    target=Decimal("1.11500"),
    reason="trail",
    created_at=NOON,
)
LOST_AFTER = (Fault.DROP_AFTER, Fault.SILENT_AFTER, Fault.ERROR_AFTER, Fault.GATEWAY_AFTER, Fault.GARBAGE_AFTER)
LOST_BEFORE = (Fault.DROP_BEFORE, Fault.SILENT_BEFORE, Fault.ERROR_BEFORE)
SILENCE_S = 1.0  # enough for a busy machine's answers


def broker_of(server: OandaServer, **changes: object) -> OandaBroker:
    return OandaBroker(
        OandaBrokerSettings.model_validate({"rest_url": server.url, "request_timeout_s": SILENCE_S, **changes}),
        ("EURUSD", "USDJPY"),
    )


def fills_of(broker: Broker, since: int = 0) -> list[Fill]:
    return [transaction for transaction in broker.transactions_since(since) if isinstance(transaction, Fill)]
