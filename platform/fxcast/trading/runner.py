"""The shell around the engine: it asks, calls `step`, commits, and only then sends.

Backtest, paper and live are the same runner; only what is injected differs. Start and restart are one path, and a kill at
any point ends in the same orders, fills and equity as an undisturbed run (tests/property/test_crash_points.py).
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

import structlog

from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.order import BrokerOrder, Fill, OrderIntent, OrderPurpose, OrderStatus
from fxcast.domain.portfolio import EquityPoint, Position
from fxcast.errors import ForecastUnavailable, OutcomeUnknown, ReconciliationFailed
from fxcast.signals.regime import RegimeModel
from fxcast.trading.engine import EngineConfig, step, wants_forecast
from fxcast.trading.events import (
    CandleClosed,
    Command,
    Event,
    FillReceived,
    KillSwitchSet,
    OrderUpdated,
    PlaceOrder,
    RecordEquity,
    RecordFill,
    RecordPosition,
    RecordPrediction,
    RecordSignal,
)
from fxcast.trading.ports import (
    Broker,
    Clock,
    ClosedCandle,
    DecidedSignal,
    Feed,
    ForecastService,
    Ledger,
    LedgerBatch,
    MarketObserver,
    PositionRecord,
)
from fxcast.trading.sizing import check_currency
from fxcast.trading.state import EngineState, KillSwitch, state_from_json

log = structlog.get_logger(__name__)

_DEAD = (OrderStatus.REJECTED, OrderStatus.CANCELLED)
_SETTLED = (OrderStatus.FILLED, *_DEAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A state on its way to the ledger, with the commands since the last commit."""

    state: EngineState
    commands: tuple[Command, ...] = ()


class Runner:
    """Runs one engine on the candles of its feeds.

    Args:
        feeds: One per symbol.
        forecasts: May be None when LDM4TS is off; when it is on, that counts as a service that never answers.
        observers: See each candle before the engine does, as the paper broker must.
        regime_models: By symbol, fitted on candles before the run; a restarted engine keeps those it has.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        feeds: Sequence[Feed],
        broker: Broker,
        ledger: Ledger,
        clock: Clock,
        forecasts: ForecastService | None = None,
        observers: Sequence[MarketObserver] = (),
        regime_models: Mapping[str, RegimeModel] | None = None,
    ) -> None:
        self._config = config
        self._feeds = tuple(feeds)
        self._broker = broker
        self._ledger = ledger
        self._clock = clock
        self._forecasts = forecasts
        self._observers = tuple(observers)
        self._state = EngineState(regime_models=dict(regime_models or {}))

    @property
    def state(self) -> EngineState:
        """The state committed last."""
        return self._state

    def start(self) -> None:
        """Load the state and reconcile it with the broker; the same for a first start and after a crash.

        Raises:
            BadSetup: If the account's currency is neither currency of a feed's pair.
            ReconciliationFailed: If positions, open orders or fills differ from the broker's.
            Unavailable: If the broker does not answer; nothing was lost, start again.
        """
        saved = self._ledger.load_state()
        if saved is not None:
            self._state = state_from_json(saved)
        currency = self._broker.account().currency
        for feed in self._feeds:
            check_currency(feed.symbol, currency)
        self._resolve_orders()
        draft = self._catch_up(_Draft(state=self._state))
        if draft.commands or draft.state != self._state:
            self._commit(draft)
        self._compare()
        log.info("engine started", resumed=saved is not None, positions=len(self._state.positions), orders=len(self._state.pending))

    def run(self, *, max_candles: int | None = None) -> int:
        """Start, and handle every candle after the last one handled; return how many."""
        self.start()
        handled = 0
        for closed in islice(self.closed_candles(), max_candles):
            self.handle(closed)
            handled += 1
        return handled

    def closed_candles(self) -> Iterator[ClosedCandle]:
        """Yield the candles not handled yet, of all feeds, by close time and then symbol."""
        streams = [feed.closed_candles(after=self._state.cursors.get(feed.symbol)) for feed in self._feeds]
        return heapq.merge(*streams, key=lambda closed: (closed.closed_at, closed.window.symbol))

    def handle(self, closed: ClosedCandle) -> LedgerBatch:
        """Take a closed candle in: fills, forecast, decision, commit, orders. Return what was committed.

        A candle handled before does nothing.

        Raises:
            ReconciliationFailed: If the broker filled something that is not ours.
            Unavailable: If the broker does not answer; the candle can be handed in again.
        """
        symbol, closed_at = closed.window.symbol, closed.closed_at
        cursor = self._state.cursors.get(symbol)
        if cursor is not None and closed_at <= cursor:
            return LedgerBatch()
        self._resolve_orders()
        for observer in self._observers:
            observer.observe(symbol, closed.candle, closed_at)
        draft = self._catch_up(_Draft(state=self._state))
        wanted = wants_forecast(draft.state, symbol, self._config)
        prediction = self._forecast(closed) if wanted else None
        event = CandleClosed(
            window=closed.window,
            prediction=prediction,
            forecast_missed=wanted and prediction is None,
            account=self._broker.account(),
            spread_pips=self._broker.spread_pips(symbol),
        )
        batch = self._commit(self._stepped(draft, event))
        for intent in batch.intents:
            self._send(intent)
        return batch

    def set_kill_switch(self, kill_switch: KillSwitch) -> None:
        """Set the kill switch, durably, from the next candle on."""
        self._commit(self._stepped(_Draft(state=self._state), KillSwitchSet(kill_switch=kill_switch)))
        log.warning("kill switch set", kill_switch=kill_switch.value)

    def _stepped(self, draft: _Draft, event: Event) -> _Draft:
        state, commands = step(draft.state, event, self._config)
        return _Draft(state=state, commands=(*draft.commands, *commands))

    def _commit(self, draft: _Draft) -> LedgerBatch:
        batch = _batch(draft.commands)
        self._ledger.commit(draft.state.to_json(), batch)
        self._state = draft.state
        return batch

    def _resolve_orders(self) -> None:
        """Ask the broker about every order that may or may not have reached it."""
        for record in self._ledger.unresolved_orders():
            client_order_id = record.intent.client_order_id
            known = self._broker.order(client_order_id)
            if known is not None:
                self._take(known)
            elif self._may_send_again(record.intent):
                self._send(record.intent)
            else:
                reason = "it never reached the broker and is no longer valid"
                self._take(
                    BrokerOrder(client_order_id=client_order_id, broker_order_id="", status=OrderStatus.CANCELLED, reason=reason)
                )

    def _may_send_again(self, intent: OrderIntent) -> bool:
        if self._state.kill_switch is KillSwitch.HALTED:
            return False
        if intent.purpose is OrderPurpose.CLOSE:
            return True
        pending = self._state.pending.get(intent.client_order_id)
        active = self._state.kill_switch is KillSwitch.ACTIVE
        return active and pending is not None and self._clock.now() < pending.valid_until

    def _send(self, intent: OrderIntent) -> None:
        self._ledger.mark_order(intent.client_order_id, OrderStatus.SENT)
        try:
            answer = self._broker.place_order(intent)
        except OutcomeUnknown:
            answer = self._ask(intent.client_order_id)
        if answer is None:
            log.warning("order outcome unknown", client_order_id=intent.client_order_id)
        else:
            self._take(answer)

    def _ask(self, client_order_id: str) -> BrokerOrder | None:
        try:
            return self._broker.order(client_order_id)
        except OutcomeUnknown:
            return None

    def _take(self, order: BrokerOrder) -> None:
        """Save what the broker says of an order; one that is dead leaves the state too."""
        self._mark(order)
        if order.status in _DEAD:
            self._commit(self._stepped(_Draft(state=self._state), OrderUpdated(order=order)))

    def _mark(self, order: BrokerOrder) -> None:
        self._ledger.mark_order(order.client_order_id, order.status, broker_order_id=order.broker_order_id, reason=order.reason)
        level = log.warning if order.status in _DEAD else log.info
        level("order taken", client_order_id=order.client_order_id, status=order.status.value, reason=order.reason)

    def _catch_up(self, draft: _Draft) -> _Draft:
        """Take in what the broker did since the last fill handled.

        Orders are asked about before fills: an order reported as filled then has its fill among those that follow.
        """
        known = [self._broker.order(client_order_id) for client_order_id in draft.state.pending]
        fills = self._broker.fills_since(draft.state.fill_sequence)
        settled = [order for order in known if order is not None and order.status in _SETTLED]
        for order in settled:
            self._mark(order)
        for fill in fills:
            _log_fill(fill)
            draft = self._stepped(draft, FillReceived(fill=fill))
        for order in settled:
            draft = self._stepped(draft, OrderUpdated(order=order))
        return draft

    def _compare(self) -> None:
        ours = {held.position.client_order_id: held.position for held in self._state.positions.values()}
        theirs = {position.client_order_id: position for position in self._broker.positions()}
        for client_order_id in sorted(ours.keys() | theirs.keys()):
            mine, found = ours.get(client_order_id), theirs.get(client_order_id)
            if mine is None or found is None or _essentials(mine) != _essentials(found):
                raise ReconciliationFailed(f"position {client_order_id}: the ledger has {mine}, the broker {found}")
        waiting = {order.client_order_id for order in self._broker.open_orders()}
        unknown = {record.intent.client_order_id for record in self._ledger.unresolved_orders()}
        if waiting - unknown != self._state.pending.keys() - unknown:
            raise ReconciliationFailed(f"open orders: the ledger has {sorted(self._state.pending)}, the broker {sorted(waiting)}")

    def _forecast(self, closed: ClosedCandle) -> LDM4TSPrediction | None:
        """Ask for a forecast; None if none came in time or it is not of this candle."""
        trading = self._config.trading
        symbol, closed_at = closed.window.symbol, closed.closed_at
        try:
            if self._forecasts is None:
                raise ForecastUnavailable("there is no forecast service")
            prediction = self._forecasts.forecast(
                closed.window,
                horizons_minutes=trading.ldm4ts_horizons,
                num_samples=trading.ldm4ts_num_samples,
                seed=forecast_seed(symbol, closed_at),
                timeout_s=trading.forecast_timeout_s,
            )
            if (prediction.symbol, prediction.made_at) != (symbol, closed_at):
                raise ForecastUnavailable(f"the answer is of {prediction.symbol} at {prediction.made_at.isoformat()}")
        except ForecastUnavailable as error:
            log.warning("no forecast", symbol=symbol, closed_at=closed_at.isoformat(), problem=str(error))
            return None
        return prediction


def forecast_seed(symbol: str, closed_at: datetime) -> int:
    """Return the seed of a candle's forecast: the same candle asks for the same forecast after a restart."""
    digest = hashlib.sha256(f"{symbol} {closed_at.isoformat()}".encode()).digest()
    return int.from_bytes(digest[:4])


def _essentials(position: Position) -> Position:
    """A position without the time it was opened, which brokers tell to different precision."""
    return replace(position, opened_at=datetime.min)  # noqa: DTZ901  # a placeholder on both sides


def _log_fill(fill: Fill) -> None:
    log.info(
        "order filled",
        client_order_id=fill.client_order_id,
        side=fill.side.value,
        units=str(fill.units),
        price=str(fill.price),
        reason=fill.reason.value,
        profit=str(fill.profit),
    )


def _batch(commands: Sequence[Command]) -> LedgerBatch:
    """Sort commands into what one transaction saves."""
    prediction: LDM4TSPrediction | None = None
    equity: EquityPoint | None = None
    signals: list[DecidedSignal] = []
    intents: list[OrderIntent] = []
    fills: list[Fill] = []
    positions: list[PositionRecord] = []
    for command in commands:
        match command:
            case RecordPrediction():
                prediction = command.prediction
            case RecordSignal():
                signals.append(command.decided)
            case PlaceOrder():
                intents.append(command.intent)
            case RecordFill():
                fills.append(command.fill)
            case RecordPosition():
                positions.append(command.record)
            case RecordEquity():
                equity = command.point
    return LedgerBatch(
        prediction=prediction,
        signals=tuple(signals),
        intents=tuple(intents),
        fills=tuple(fills),
        positions=tuple(positions),
        equity=equity,
    )
