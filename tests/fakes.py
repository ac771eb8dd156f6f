"""Fakes of the trading ports, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np

from fxcast.data.windows import window_at
from fxcast.domain.candle import Candle, CandleSeries, to_datetime
from fxcast.domain.forecast import CONTEXT_BARS, LDM4TSPrediction
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Quote, Rates
from fxcast.domain.order import (
    BrokerOrder,
    ChangeAnswer,
    Fill,
    Financing,
    OrderIntent,
    OrderPurpose,
    OrderStatus,
    ProtectionChange,
    Transaction,
)
from fxcast.domain.portfolio import Account, BrokerPosition, EquityPoint
from fxcast.domain.signal import Verdict
from fxcast.errors import ForecastUnavailable, ReconciliationFailed
from fxcast.trading import fill_simulation
from fxcast.trading.config import PaperMarketConfig
from fxcast.trading.fill_simulation import open_book
from fxcast.trading.ports import (
    ClosedCandle,
    DecidedSignal,
    DecisionRecord,
    ForecastAnswer,
    ForecastQuestion,
    KillSwitchRequest,
    LedgerBatch,
    OrderRecord,
    PositionRecord,
    RiskEvent,
)
from fxcast.trading.state import EngineState

UNRESOLVED = (OrderStatus.INTENT, OrderStatus.SENT)


@dataclass
class MemoryLedger:
    """A ledger in dictionaries, keyed and behaving as the SQL one (test_ledger_in_memory.py compares the two)."""

    state: EngineState | None = None
    predictions: dict[tuple[str, str, datetime, str, int], LDM4TSPrediction] = field(
        default_factory=dict[tuple[str, str, datetime, str, int], LDM4TSPrediction]
    )
    signals: dict[str, DecidedSignal] = field(default_factory=dict[str, DecidedSignal])
    order_records: dict[str, OrderRecord] = field(default_factory=dict[str, OrderRecord])
    places: dict[str, int] = field(default_factory=dict[str, int])  # of orders in the batch that brought them
    changes: dict[str, ProtectionChange] = field(default_factory=dict[str, ProtectionChange])
    answers: dict[str, ChangeAnswer] = field(default_factory=dict[str, ChangeAnswer])
    transactions: dict[int, Transaction] = field(default_factory=dict[int, Transaction])
    positions: dict[str, PositionRecord] = field(default_factory=dict[str, PositionRecord])
    equity: dict[datetime, EquityPoint] = field(default_factory=dict[datetime, EquityPoint])
    risk_events: dict[tuple[datetime, str, str], RiskEvent] = field(default_factory=dict[tuple[datetime, str, str], RiskEvent])
    decisions: dict[tuple[datetime, str], DecisionRecord] = field(default_factory=dict[tuple[datetime, str], DecisionRecord])
    settings: dict[str, str] = field(default_factory=dict[str, str])
    requests: list[KillSwitchRequest] = field(default_factory=list[KillSwitchRequest])  # what people asked for: tests add to it

    @property
    def fills(self) -> dict[int, Fill]:
        return {sequence: each for sequence, each in self.transactions.items() if isinstance(each, Fill)}

    @property
    def financings(self) -> dict[int, Financing]:
        return {sequence: each for sequence, each in self.transactions.items() if isinstance(each, Financing)}

    def load_state(self) -> EngineState | None:
        return self.state

    def commit(self, state: EngineState, batch: LedgerBatch) -> None:
        transactions = dict(self.transactions)
        for transaction in batch.transactions:
            if transactions.setdefault(transaction.sequence, transaction) != transaction:
                raise ReconciliationFailed(f"transaction {transaction.sequence} is already recorded as another one")
        self.state = state
        self.transactions = transactions
        for made in batch.predictions:
            key = (made.symbol, made.timeframe.name, made.made_at, made.model_version, made.num_samples)
            self.predictions.setdefault(key, made)
        for decided in batch.signals:
            self.signals.setdefault(decided.signal.signal_id, decided)
        for place, intent in enumerate(batch.intents):
            record = OrderRecord(intent=intent, status=OrderStatus.INTENT, broker_order_id="", reason="")
            self.order_records.setdefault(intent.client_order_id, record)
            self.places.setdefault(intent.client_order_id, place)
        for change in batch.changes:
            self.changes.setdefault(change.change_id, change)
        for record in batch.positions:
            before = self.positions.get(record.position.client_order_id)
            if before is None or before.closed_at is None:
                self.positions[record.position.client_order_id] = record
        if batch.equity is not None:
            self.equity[batch.equity.at] = batch.equity
        for event in batch.risk_events:
            self.risk_events.setdefault((event.at, event.kind.value, event.symbol), event)
        for decision in batch.decisions:
            self.decisions.setdefault((decision.at, decision.symbol), decision)

    def unresolved_orders(self) -> tuple[OrderRecord, ...]:
        return tuple(record for record in self.orders() if record.status in UNRESOLVED)

    def mark_order(self, client_order_id: str, status: OrderStatus, *, broker_order_id: str = "", reason: str = "") -> None:
        record = self.order_records[client_order_id]
        self.order_records[client_order_id] = replace(
            record, status=status, broker_order_id=broker_order_id or record.broker_order_id, reason=reason or record.reason
        )

    def mark_change(self, change_id: str, answer: ChangeAnswer) -> None:
        if change_id not in self.changes:
            raise LookupError(f"there is no change {change_id}")
        self.answers[change_id] = answer

    def orders(self) -> tuple[OrderRecord, ...]:
        def decided_at(record: OrderRecord) -> tuple[datetime, int, str]:
            order_id = record.intent.client_order_id
            return record.intent.created_at, self.places[order_id], order_id

        return tuple(sorted(self.order_records.values(), key=decided_at))

    def kill_switch_request(self) -> KillSwitchRequest | None:
        return max(self.requests, key=lambda request: request.sequence, default=None)

    def keep_settings(self, settings_hash: str, content: str) -> None:
        self.settings.setdefault(settings_hash, content)

    def decided(self, verdict: Verdict) -> list[DecidedSignal]:
        """Signals of a verdict, oldest first."""
        return [decided for decided in self.signals.values() if decided.verdict is verdict]


class MemoryBroker:
    """The paper market's book without a file; it survives the runner as a real broker does."""

    def __init__(self, config: PaperMarketConfig) -> None:
        self.book = open_book(config)
        self.transactions: list[Transaction] = []

    @property
    def fills(self) -> list[Fill]:
        return [each for each in self.transactions if isinstance(each, Fill)]

    def instruments(self, symbols: Sequence[str]) -> Mapping[str, Instrument]:
        return fill_simulation.instruments(self.book, symbols)

    def account(self) -> Account:
        return fill_simulation.account(self.book)

    def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        return fill_simulation.quotes(self.book, symbols)

    def rates(self) -> Rates:
        return fill_simulation.rates(self.book)

    def place_order(self, intent: OrderIntent) -> BrokerOrder:
        self.book, answer = fill_simulation.place(self.book, intent)
        return answer

    def close_position(self, intent: OrderIntent) -> BrokerOrder:
        assert intent.purpose is OrderPurpose.CLOSE, f"order {intent.client_order_id} opens a position"
        return self.place_order(intent)

    def modify_order(self, change: ProtectionChange) -> ChangeAnswer:
        self.book, answer = fill_simulation.modify(self.book, change)
        return answer

    def observe(self, symbol: str, candle: Candle, closed_at: datetime) -> None:
        self.book, transactions = fill_simulation.observe(self.book, symbol, candle, closed_at)
        self.transactions += transactions

    def order(self, client_order_id: str) -> BrokerOrder | None:
        return fill_simulation.order(self.book, client_order_id)

    def open_orders(self) -> tuple[BrokerOrder, ...]:
        return fill_simulation.open_orders(self.book)

    def positions(self) -> tuple[BrokerPosition, ...]:
        return fill_simulation.positions(self.book)

    def newest_sequence(self) -> int:
        return self.book.sequence

    def transactions_since(self, sequence: int) -> tuple[Transaction, ...]:
        return tuple(each for each in self.transactions if each.sequence > sequence)


class SeriesFeed:
    """Every candle of each series that has a full window."""

    def __init__(self, *series: CandleSeries, clock: SettableClock) -> None:
        self._series = {each.symbol: each for each in series}
        self._clock = clock

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._series)

    def window(self, symbol: str, closed_at: datetime) -> CandleSeries | None:
        return window_at(self._series[symbol], closed_at)

    def closed_candles(self, *, after: Mapping[str, datetime]) -> Iterator[tuple[ClosedCandle, ...]]:
        moments = sorted({to_datetime(close) for series in self._series.values() for close in series.close_times})
        for closed_at in moments:
            self._clock.time = max(self._clock.time, closed_at)
            closed = [
                ClosedCandle(window=window_at(series, closed_at))
                for symbol, series in sorted(self._series.items())
                if closed_at in _windowed(series) and closed_at > after.get(symbol, datetime.min.replace(tzinfo=UTC))
            ]
            if closed:
                yield tuple(closed)


@cache
def _closes(times: bytes) -> frozenset[datetime]:
    return frozenset(to_datetime(close) for close in np.frombuffer(times, dtype="datetime64[s]"))


def _windowed(series: CandleSeries) -> frozenset[datetime]:
    """Closes of the candles that end a full window."""
    return _closes(series.close_times[CONTEXT_BARS - 1 :].tobytes())


@dataclass
class SettableClock:
    """Shows the time it was set to."""

    time: datetime

    def now(self) -> datetime:
        return self.time


@dataclass
class ScriptedForecasts:
    """A forecast service that answers with a function of window and seed, and not at all while `down`."""

    answer: Callable[[CandleSeries, int], LDM4TSPrediction]
    down: bool = False
    seeds: list[int] = field(default_factory=list[int])

    def ask(self, questions: Sequence[ForecastQuestion], *, timeout_s: float) -> tuple[ForecastAnswer, ...]:
        del timeout_s
        self.seeds += [question.seed for question in questions]
        if self.down:
            return (ForecastUnavailable("no replica answered"),) * len(questions)
        return tuple(self.answer(question.window, question.seed) for question in questions)


class Crash(BaseException):
    """The process was killed; no `except Exception` may catch it."""


class CallCounter:
    """Counts calls across several objects and crashes before or after the n-th."""

    def __init__(self, *, crash_at: int | None = None, after: bool = False) -> None:
        self.calls = 0
        self._crash_at = crash_at
        self._after = after

    def watched(self, target: Any) -> Any:
        """Return the object with its methods counted."""
        return _Watched(target, self)

    def call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        strikes = self.calls == self._crash_at
        if strikes and not self._after:
            raise Crash
        result = method(*args, **kwargs)
        if strikes:
            raise Crash
        return result


class _Watched:
    def __init__(self, target: Any, counter: CallCounter) -> None:
        self._target = target
        self._counter = counter

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            return self._counter.call(method, *args, **kwargs)

        return counted
