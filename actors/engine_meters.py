"""What Prometheus reads of an engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from ray.util.metrics import Counter, Histogram

from actors.decision_reasons import reason_kind
from actors.engine_settings import Setup
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.cluster.meters import Board, Meter, harmless
from fxcast.domain.money import rates_from_prices
from fxcast.domain.order import Fill, OrderPurpose, OrderStatus
from fxcast.errors import AccountTaken, DatabaseUnavailable, Disconnected, OutcomeUnknown, RateLimited, StoreUnavailable
from fxcast.trading.config import TradingConfig
from fxcast.trading.ports import DecisionRecord, LedgerBatch, RiskEventKind
from fxcast.trading.risk import currency_exposures
from fxcast.trading.state import EngineState, KillSwitch

STATES = ("starting", "running", "waiting", "finished", "stopped", "failed")
Outage = Literal["", "database", "broker", "store", "account", "other"]
OUTAGES: tuple[Outage, ...] = ("database", "broker", "store", "account", "other")

_ACCOUNT = ("account",)
SEEN = Meter(
    name="fxcast_engine_seen_timestamp_seconds", kind="gauge", labels=_ACCOUNT, unit="s since 1970",
    meaning="When the engine last went round: a candle, a look at what is open, or another try",
)  # fmt: skip
ENDED = Meter(
    name="fxcast_engine_ended_timestamp_seconds", kind="gauge", labels=_ACCOUNT, unit="s since 1970",
    meaning="When it finished, was stopped or failed; missing before",
)  # fmt: skip
STATE = Meter(
    name="fxcast_engine_state", kind="gauge", labels=(*_ACCOUNT, "state"), unit="0, 1", meaning="1 for the state it is in"
)
WAITING = Meter(
    name="fxcast_engine_waiting", kind="gauge", labels=(*_ACCOUNT, "outage"), unit="0, 1",
    meaning="1 while it waits for what does not answer: database, broker, store, or the account that another engine holds",
)  # fmt: skip
CANDLES = Meter(
    name="fxcast_engine_candles_total", kind="total", labels=_ACCOUNT, meaning="Candles handled since the account was begun"
)
DECISIONS = Meter(
    name="fxcast_engine_decisions", kind="counter", labels=(*_ACCOUNT, "verdict", "reason"),
    meaning="Signals decided, by verdict and kind of reason",
)  # fmt: skip
ORDERS = Meter(
    name="fxcast_engine_orders_total", kind="total", labels=(*_ACCOUNT, "purpose", "status"),
    meaning="Orders decided (intent), and what they came to",
)  # fmt: skip
ORDERS_WAITING = Meter(
    name="fxcast_engine_orders_waiting", kind="gauge", labels=_ACCOUNT, meaning="Orders neither filled nor given up"
)
POSITIONS = Meter(name="fxcast_engine_positions", kind="gauge", labels=_ACCOUNT, meaning="Open positions")
FOREIGN = Meter(
    name="fxcast_engine_foreign_positions", kind="gauge", labels=_ACCOUNT,
    meaning="Symbols in which the broker holds a position that is not the engine's",
)  # fmt: skip
EXPOSURE = Meter(
    name="fxcast_engine_exposure", kind="gauge", labels=(*_ACCOUNT, "currency"), unit="account currency",
    meaning="Net exposure to a currency of what is open, above zero if long",
)  # fmt: skip
GROSS_EXPOSURE = Meter(
    name="fxcast_engine_gross_exposure", kind="gauge", labels=_ACCOUNT, unit="account currency",
    meaning="Worth of all positions, long and short added",
)  # fmt: skip
EQUITY = Meter(
    name="fxcast_engine_equity", kind="gauge", labels=_ACCOUNT, unit="account currency", meaning="Equity at the last candle"
)
DRAWDOWN = Meter(
    name="fxcast_engine_drawdown_percent", kind="gauge", labels=_ACCOUNT, unit="%", meaning="How far equity is below its peak"
)
DRAWDOWN_LIMIT = Meter(
    name="fxcast_engine_drawdown_limit_percent", kind="gauge", labels=_ACCOUNT, unit="%",
    meaning="The drawdown at which nothing is opened any more (risk.max_drawdown_pct)",
)  # fmt: skip
KILL_SWITCH = Meter(
    name="fxcast_engine_kill_switch", kind="gauge", labels=(*_ACCOUNT, "kill_switch"), unit="0, 1",
    meaning="1 for where it stands: active, reducing, halted",
)  # fmt: skip
FORECASTS_MISSED = Meter(
    name="fxcast_engine_forecasts_missed_total", kind="total", labels=_ACCOUNT,
    meaning="Forecasts asked for in vain since the account was begun",
)  # fmt: skip
RISK_EVENTS = Meter(
    name="fxcast_engine_risk_events_total", kind="total", labels=(*_ACCOUNT, "kind"),
    meaning="What a person should know of: reconciliation (ledger and broker differ), halt (it stopped itself), others",
)  # fmt: skip
DECISION_LAG = Meter(
    name="fxcast_engine_decision_lag_seconds", kind="histogram", labels=_ACCOUNT, unit="s",
    meaning="From a candle's close until it was decided on and its orders were sent",
    buckets=(0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0, 3600.0),
)  # fmt: skip

ENGINE_METERS = (
    SEEN, ENDED, STATE, WAITING, CANDLES, DECISIONS, ORDERS, ORDERS_WAITING, POSITIONS, FOREIGN, EXPOSURE, GROSS_EXPOSURE, EQUITY,
    DRAWDOWN, DRAWDOWN_LIMIT, KILL_SWITCH, FORECASTS_MISSED, RISK_EVENTS, DECISION_LAG,
)  # fmt: skip

_SETTLED = (OrderStatus.FILLED, OrderStatus.REJECTED, OrderStatus.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What an engine is and has at this moment; `outage` is empty where it waits for nothing."""

    status: str
    outage: Outage
    seen: datetime | None
    state: EngineState


def outage_of(error: Exception) -> Outage:
    """Return what an error says does not answer."""
    match error:
        case DatabaseUnavailable():
            return "database"
        case Disconnected() | RateLimited() | OutcomeUnknown():
            return "broker"
        case StoreUnavailable():
            return "store"
        case AccountTaken():
            return "account"
        case _:
            return "other"


class EngineMeters:
    """Counts what an engine does, and shows what it is and has; never fails it.

    The engine's thread only writes down and counts (some microseconds a candle); a thread of the board looks every two seconds.

    Args:
        glance: Says what the engine is and has; called from the board's thread.
    """

    def __init__(self, setup: Setup, glance: Callable[[], Glance]) -> None:
        self._account = {"account": setup.account}
        self._glance = glance
        self._currency = setup.market.account_currency if getattr(setup, "broker", "paper") == "paper" else ""
        self._traded = dict.fromkeys((currency for symbol in setup.symbols for currency in (symbol[:3], symbol[3:])), 0.0)
        self._waiting: dict[str, str] = {}  # purpose of each order that waits
        self._decisions = Counter(DECISIONS.name, DECISIONS.meaning, DECISIONS.labels)
        self._lag = Histogram(DECISION_LAG.name, DECISION_LAG.meaning, list(DECISION_LAG.buckets), DECISION_LAG.labels)
        self.board = Board(ENGINE_METERS, self._account, self.look)
        self.board.set(DRAWDOWN_LIMIT, setup.trading.risk.max_drawdown_pct)
        for kind in RiskEventKind:
            self.board.add(RISK_EVENTS, 0.0, kind=kind.value)
        for purpose in OrderPurpose:
            for status in (OrderStatus.INTENT, *_SETTLED):
                self.board.add(ORDERS, 0.0, purpose=purpose.value, status=status.value)

    @harmless
    def started(self, state: EngineState, ledger: SqlLedger, trading: TradingConfig) -> None:
        """Begin with the orders that wait; the newest decision tells the account's currency where the settings do not."""
        self.board.set(DRAWDOWN_LIMIT, trading.risk.max_drawdown_pct)
        self._waiting = _waiting_of(state)
        if not self._currency:
            self._learn_currency(ledger.decisions(limit=1))

    @harmless
    def handled(self, batch: LedgerBatch, state: EngineState, ledger: SqlLedger) -> None:
        """Count what a moment brought.

        Args:
            state: After it.
            ledger: Is asked only about an order that is gone without a fill.
        """
        for decided in batch.signals:
            self._decisions.inc(tags={**self._account, "verdict": decided.verdict.value, "reason": reason_kind(decided.reason)})
        for event in batch.risk_events:
            self.board.add(RISK_EVENTS, kind=event.kind.value)
        self._learn_currency(batch.decisions)
        self._count_orders(batch, state, ledger)

    @harmless
    def happened(self, kind: RiskEventKind) -> None:
        """Count a risk event of the shell's own."""
        self.board.add(RISK_EVENTS, kind=kind.value)

    @harmless
    def decided_after(self, lag_s: float) -> None:
        """Count how long after its close a candle was done with; a clock that runs behind counts as no time."""
        self._lag.observe(max(lag_s, 0.0), self._account)

    @harmless
    def ended(self, at: datetime) -> None:
        """Show that the engine has ended."""
        self.board.set(ENDED, at.timestamp())

    @harmless
    def look(self) -> None:
        """Write down what the engine is and has."""
        board, glance = self.board, self._glance()
        state = glance.state
        board.set_each(STATE, "state", {each: float(each == glance.status) for each in STATES})
        board.set_each(WAITING, "outage", {each: float(each == glance.outage) for each in OUTAGES})
        board.set_each(KILL_SWITCH, "kill_switch", {each.value: float(each is state.kill_switch) for each in KillSwitch})
        if glance.seen is not None:
            board.set(SEEN, glance.seen.timestamp())
        board.set(CANDLES, sum(state.candles.values()))
        board.set(FORECASTS_MISSED, state.forecasts_missed)
        board.set(ORDERS_WAITING, len(state.pending))
        board.set(POSITIONS, len(state.positions))
        board.set(FOREIGN, len(state.foreign))
        if state.last_equity is not None and state.peak_equity:
            board.set(EQUITY, float(state.last_equity))
            board.set(DRAWDOWN, float(100 * (state.peak_equity - state.last_equity) / state.peak_equity))
        if self._currency:
            self._show_exposure(state)

    def _show_exposure(self, state: EngineState) -> None:
        held = [each.position for each in state.positions.values()]
        rates = rates_from_prices(state.prices, self._currency)
        if any(each.symbol[:3] not in rates.worth for each in held):  # at a restart, before each pair has had a candle
            return
        exposures = currency_exposures([(each.symbol, each.side, each.units) for each in held], rates)
        net = {currency: float(worth) for currency, worth in exposures.items()}
        self.board.set_each(EXPOSURE, "currency", {**self._traded, **net})
        gross = sum((rates.convert(each.units, each.symbol[:3]) for each in held), Decimal(0))
        self.board.set(GROSS_EXPOSURE, float(gross))

    def _count_orders(self, batch: LedgerBatch, state: EngineState, ledger: SqlLedger) -> None:
        for intent in batch.intents:
            self.board.add(ORDERS, purpose=intent.purpose.value, status=OrderStatus.INTENT.value)
            self._waiting[intent.client_order_id] = intent.purpose.value
        gone = {order: purpose for order, purpose in self._waiting.items() if order not in state.pending}
        self._waiting = _waiting_of(state)
        filled = {each.client_order_id for each in batch.transactions if isinstance(each, Fill)}
        asked: dict[str, str] = {}
        if gone.keys() - filled:  # rare: refused, cancelled, or filled while there was no price
            asked = {record.intent.client_order_id: record.status.value for record in ledger.orders()}
        for order, purpose in gone.items():
            status = OrderStatus.FILLED.value if order in filled else asked.get(order, OrderStatus.CANCELLED.value)
            self.board.add(ORDERS, purpose=purpose, status=status)

    def _learn_currency(self, decisions: Sequence[DecisionRecord]) -> None:
        if decisions and not self._currency:
            self._currency = json.loads(decisions[-1].inputs)["event"]["account"]["currency"]


def _waiting_of(state: EngineState) -> dict[str, str]:
    return {order: waiting.intent.purpose.value for order, waiting in state.pending.items()}
