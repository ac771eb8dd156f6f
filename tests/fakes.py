"""Fakes of the trading ports, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from fxcast.data.windows import window_at
from fxcast.domain.candle import Candle, CandleSeries, to_datetime
from fxcast.domain.forecast import CONTEXT_BARS, LDM4TSPrediction
from fxcast.domain.order import BrokerOrder, Fill, OrderIntent, OrderStatus
from fxcast.domain.portfolio import Account, EquityPoint, Position
from fxcast.domain.signal import Verdict
from fxcast.errors import ForecastUnavailable
from fxcast.trading import fill_simulation
from fxcast.trading.config import PaperMarketConfig
from fxcast.trading.fill_simulation import open_book
from fxcast.trading.ports import ClosedCandle, DecidedSignal, LedgerBatch, OrderRecord, PositionRecord

UNRESOLVED = (OrderStatus.INTENT, OrderStatus.SENT)


@dataclass
class MemoryLedger:
    """A ledger in dictionaries, keyed as the SQL one is."""

    state: str | None = None
    predictions: dict[tuple[str, datetime], LDM4TSPrediction] = field(default_factory=dict[tuple[str, datetime], LDM4TSPrediction])
    signals: dict[str, DecidedSignal] = field(default_factory=dict[str, DecidedSignal])
    order_records: dict[str, OrderRecord] = field(default_factory=dict[str, OrderRecord])
    fills: dict[int, Fill] = field(default_factory=dict[int, Fill])
    positions: dict[str, PositionRecord] = field(default_factory=dict[str, PositionRecord])
    equity: dict[datetime, EquityPoint] = field(default_factory=dict[datetime, EquityPoint])

    def load_state(self) -> str | None:
        return self.state

    def commit(self, state: str, batch: LedgerBatch) -> None:
        self.state = state
        if batch.prediction is not None:
            self.predictions.setdefault((batch.prediction.symbol, batch.prediction.made_at), batch.prediction)
        for decided in batch.signals:
            self.signals.setdefault(decided.signal.signal_id, decided)
        for intent in batch.intents:
            record = OrderRecord(intent=intent, status=OrderStatus.INTENT, broker_order_id="", reason="")
            self.order_records.setdefault(intent.client_order_id, record)
        for fill in batch.fills:
            self.fills.setdefault(fill.sequence, fill)
        for record in batch.positions:
            self.positions[record.position.client_order_id] = record
        if batch.equity is not None:
            self.equity.setdefault(batch.equity.at, batch.equity)

    def unresolved_orders(self) -> tuple[OrderRecord, ...]:
        return tuple(record for record in self.order_records.values() if record.status in UNRESOLVED)

    def mark_order(self, client_order_id: str, status: OrderStatus, *, broker_order_id: str = "", reason: str = "") -> None:
        record = self.order_records[client_order_id]
        self.order_records[client_order_id] = replace(
            record, status=status, broker_order_id=broker_order_id or record.broker_order_id, reason=reason or record.reason
        )

    def orders(self) -> tuple[OrderRecord, ...]:
        return tuple(self.order_records.values())

    def decided(self, verdict: Verdict) -> list[DecidedSignal]:
        """Signals of a verdict, oldest first."""
        return [decided for decided in self.signals.values() if decided.verdict is verdict]


class MemoryBroker:
    """The paper market's book without a file; it survives the runner as a real broker does."""

    def __init__(self, config: PaperMarketConfig) -> None:
        self.book = open_book(config)
        self.fills: list[Fill] = []

    def place_order(self, intent: OrderIntent) -> BrokerOrder:
        self.book, answer = fill_simulation.place(self.book, intent)
        return answer

    def observe(self, symbol: str, candle: Candle, closed_at: datetime) -> None:
        self.book, fills = fill_simulation.observe(self.book, symbol, candle, closed_at)
        self.fills += fills

    def order(self, client_order_id: str) -> BrokerOrder | None:
        return fill_simulation.order(self.book, client_order_id)

    def open_orders(self) -> tuple[BrokerOrder, ...]:
        return fill_simulation.open_orders(self.book)

    def positions(self) -> tuple[Position, ...]:
        return tuple(self.book.positions.values())

    def fills_since(self, sequence: int) -> tuple[Fill, ...]:
        return tuple(fill for fill in self.fills if fill.sequence > sequence)

    def account(self) -> Account:
        return fill_simulation.account(self.book)

    def spread_pips(self, symbol: str) -> float:  # noqa: ARG002  # the port's signature
        return float(self.book.config.spread_pips)


class SeriesFeed:
    """Every candle of a series that has a full window."""

    def __init__(self, series: CandleSeries, clock: SettableClock) -> None:
        self._series = series
        self._clock = clock

    @property
    def symbol(self) -> str:
        return self._series.symbol

    def closed_candles(self, *, after: datetime | None) -> Iterator[ClosedCandle]:
        for close_time in self._series.close_times[CONTEXT_BARS - 1 :]:
            closed_at = to_datetime(close_time)
            if after is None or closed_at > after:
                self._clock.time = closed_at
                yield ClosedCandle(window=window_at(self._series, closed_at))


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

    def forecast(
        self, window: CandleSeries, *, horizons_minutes: Sequence[int], num_samples: int, seed: int, timeout_s: float
    ) -> LDM4TSPrediction:
        del horizons_minutes, num_samples, timeout_s
        self.seeds.append(seed)
        if self.down:
            raise ForecastUnavailable("no replica answered")
        return self.answer(window, seed)


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
