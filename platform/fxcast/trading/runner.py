"""The shell around the engine: it asks, calls `step`, commits, and only then sends.

Backtest, paper and live are the same runner; only what is injected differs. Start and restart are one path, and a kill at
any point ends in the same orders, fills and equity as an undisturbed run (tests/property/test_crash_points.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import structlog

from fxcast.domain.candle import CandleSeries
from fxcast.domain.money import missing_rates
from fxcast.domain.order import Fill, OrderStatus
from fxcast.errors import BadSetup, ReconciliationFailed, Unavailable
from fxcast.signals.regime import RegimeModel, RegimeState
from fxcast.trading.batches import batch_of
from fxcast.trading.correlation import return_correlation
from fxcast.trading.engine import EngineConfig, step
from fxcast.trading.events import (
    CandleClosed,
    ChangeAnswered,
    Command,
    Event,
    KillSwitchSet,
    OrderUpdated,
    PositionsSeen,
    RegimesFitted,
    TransactionReceived,
)
from fxcast.trading.execution import holdings_problem
from fxcast.trading.forecasting import Asked, ask_forecasts
from fxcast.trading.log_lines import log_decided, log_fill
from fxcast.trading.news import tell
from fxcast.trading.orders import OrderDesk
from fxcast.trading.ports import (
    Alerts,
    Broker,
    Clock,
    ClosedCandle,
    DecisionRecord,
    Feed,
    ForecastService,
    Ledger,
    LedgerBatch,
    MarketObserver,
    RegimeFitter,
    RiskEvent,
)
from fxcast.trading.replay import decided_something, decision_record
from fxcast.trading.state import EngineState, KillSwitch

log = structlog.get_logger(__name__)

_SETTLED = (OrderStatus.FILLED, OrderStatus.REJECTED, OrderStatus.CANCELLED)
_LOOKS = 3  # at the broker, until its transactions and its positions tell the same


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A state on its way to the ledger, with the commands since the last commit."""

    state: EngineState
    commands: tuple[Command, ...] = ()


class Runner:
    """Runs one engine on the candles of its feed.

    Args:
        forecasts: May be None when every forecaster is off; when one is on, that counts as a service that never answers.
        observers: See each candle before the engine does, as the paper broker must.
        regime_models: By symbol, fitted on candles before the run; a restarted engine keeps those it has.
        regimes: Fits them anew on schedule; None: never.
        alerts: Is told at once of what a person should know.
        records_decisions: Whether what each decision was made from is kept, so that it can be made again.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        feed: Feed,
        broker: Broker,
        ledger: Ledger,
        clock: Clock,
        forecasts: ForecastService | None = None,
        observers: Sequence[MarketObserver] = (),
        regime_models: Mapping[str, RegimeModel] | None = None,
        regimes: RegimeFitter | None = None,
        alerts: Alerts | None = None,
        records_decisions: bool = True,
    ) -> None:
        self._config = config
        self._feed = feed
        self._broker = broker
        self._ledger = ledger
        self._clock = clock
        self._forecasts = forecasts
        self._observers = tuple(observers)
        self._regimes = regimes
        self._alerts = alerts
        self._records_decisions = records_decisions
        models = dict(regime_models or {})
        self._state = EngineState(regimes={symbol: RegimeState(model=model) for symbol, model in models.items()})
        self._windows: dict[str, CandleSeries] = {}
        self._fitting: set[str] = set()
        self._desk = OrderDesk(broker, ledger, clock, state=lambda: self._state, take=self._take)

    @property
    def state(self) -> EngineState:
        """The state committed last."""
        return self._state

    def start(self) -> None:
        """Load the state and reconcile it with the broker; the same for a first start and after a crash.

        Raises:
            BadSetup: If a currency of the feed's pairs can't be converted to the account's.
            ReconciliationFailed: If positions, open orders or transactions differ from the broker's.
            Unavailable: If the broker or the ledger does not answer; nothing was lost, start again.
        """
        saved = self._ledger.load_state()
        if saved is not None:
            self._state = saved
        else:  # what happened in the account before is none of this engine's; what is open in it is compared below
            self._state = replace(self._state, transaction_sequence=self._broker.newest_sequence())
        self._ledger.keep_settings(self._config.hash, self._config.content)
        self._check_currencies()
        for symbol, closed_at in self._state.cursors.items():
            window = self._feed.window(symbol, closed_at) if symbol in self._feed.symbols else None
            if window is not None:
                self._windows[symbol] = window
        self._desk.resolve()
        self._settle(self._controlled(self._caught_up(_Draft(state=self._state))))
        self._check_orders()
        self._desk.send_changes()
        self._ask_for_regimes()
        log.info("engine started", resumed=saved is not None, positions=len(self._state.positions), orders=len(self._state.pending))

    def run(self, *, max_moments: int | None = None) -> int:
        """Start, and handle every moment after the last one handled; return how many."""
        self.start()
        handled = 0
        for closed in islice(self.closed_candles(), max_moments):
            self.handle(closed)
            handled += 1
        return handled

    def closed_candles(self) -> Iterator[tuple[ClosedCandle, ...]]:
        """Yield the candles not handled yet, those that closed at one moment together; an empty tuple if nothing has."""
        return self._feed.closed_candles(after=self._state.cursors)

    def handle(self, closed: Sequence[ClosedCandle]) -> LedgerBatch:
        """Take in what closed at one moment: fills, forecasts, decisions, one commit, orders. Return what was committed.

        A candle handled before does nothing; without any, what is open is looked after.

        Raises:
            ReconciliationFailed: If the broker did something that does not fit what we asked for.
            Unavailable: If the broker or the ledger does not answer; the candles can be handed in again.
        """
        new = [each for each in closed if not self._is_handled(each)]
        self._desk.resolve()
        for each in new:
            for observer in self._observers:
                observer.observe(each.window.symbol, each.candle, each.closed_at)
        draft = self._refitted(self._controlled(self._caught_up(_Draft(state=self._state))))
        decisions: list[DecisionRecord] = []
        if new:
            try:
                draft = self._decided(draft, new, decisions)
            except Unavailable:  # as from Friday to Sunday, when there is no price: what is open is looked after all the same
                self._settle(draft)
                self._desk.send_changes()
                raise
        batch = self._settle(draft, decisions)
        for intent in batch.intents:
            self._desk.send(intent)
        self._desk.send_changes()
        if new:
            self._ask_for_regimes()
        return batch

    @property
    def waits_for_regimes(self) -> bool:
        """Whether regimes that were asked for have not been taken in."""
        return bool(self._fitting)

    def pass_over(self, state: EngineState, window: CandleSeries) -> None:
        """Take the state after candles that changed nothing but the books (`trading.quiet`), the last of them the window's."""
        self._ledger.commit(state, LedgerBatch())
        self._state = state
        self._windows[window.symbol] = window

    def set_kill_switch(self, kill_switch: KillSwitch, *, by: str = "", reason: str = "") -> None:
        """Set the kill switch, durably; it counts at once."""
        event = KillSwitchSet(kill_switch=kill_switch, by=by, reason=reason, at=self._clock.now())
        self._settle(self._stepped(_Draft(state=self._state), event))
        log.warning("kill switch set", kill_switch=kill_switch.value, by=by, reason=reason)

    def note(self, event: RiskEvent) -> None:
        """Keep something that the engine itself could not step through: an outage that is over, or its own end."""
        self._ledger.commit(self._state, LedgerBatch(risk_events=(event,)))

    def _is_handled(self, closed: ClosedCandle) -> bool:
        cursor = self._state.cursors.get(closed.window.symbol)
        return cursor is not None and closed.closed_at <= cursor

    def _check_currencies(self) -> None:
        account_currency = self._broker.account().currency
        traded = self._config.symbols or self._feed.symbols
        missing = missing_rates(traded, account_currency, self._feed.symbols)
        if missing:
            raise BadSetup(
                f"an account in {account_currency} can't trade {', '.join(traded)}: no pair of {', '.join(self._feed.symbols)} "
                f"leads from {', '.join(missing)} to {account_currency}; add one to the symbols that are followed"
            )

    def _decided(self, draft: _Draft, new: Sequence[ClosedCandle], decisions: list[DecisionRecord]) -> _Draft:
        """Step through the candles of one moment."""
        for each in new:
            self._windows[each.window.symbol] = each.window
        asked = ask_forecasts(draft.state, new, self._config, self._forecasts)
        account, rates = self._broker.account(), self._broker.rates()
        quotes = self._broker.quotes([each.window.symbol for each in new])
        for each in new:
            symbol = each.window.symbol
            own = asked.get(symbol, Asked())
            if symbol not in quotes:
                log.warning("no price", symbol=symbol)
            event = CandleClosed(
                window=each.window,
                higher=each.higher,
                predictions=own.predictions,
                forecasts_missed=own.missed,
                account=account,
                quote=quotes.get(symbol),
                rates=rates,
                correlations=self._correlations(draft.state, symbol),
                seen_at=self._clock.now(),
            )
            before = draft.state
            state, commands = step(before, event, self._config)
            draft = _Draft(state=state, commands=(*draft.commands, *commands))
            if self._records_decisions and decided_something(commands):
                decisions.append(decision_record(before, event, commands, self._config))
        return draft

    def _correlations(self, state: EngineState, symbol: str) -> dict[str, float]:
        """Correlate a symbol's returns with those of the others that are held or being opened, as far as they are known."""
        others = {*state.positions, *(order.intent.symbol for order in state.pending.values())} - {symbol}
        if not others:
            return {}
        bars = self._config.trading_for().risk.correlation_bars
        found = {
            other: return_correlation(self._windows[symbol], self._windows[other], bars)
            for other in sorted(others & self._windows.keys())
        }
        return {other: correlation for other, correlation in found.items() if correlation is not None}

    def _stepped(self, draft: _Draft, event: Event) -> _Draft:
        state, commands = step(draft.state, event, self._config)
        return _Draft(state=state, commands=(*draft.commands, *commands))

    def _settle(self, draft: _Draft, decisions: Sequence[DecisionRecord] = ()) -> LedgerBatch:
        """Commit a draft if it changes anything, and tell what a person should know."""
        if not draft.commands and draft.state == self._state:
            return LedgerBatch()
        batch = batch_of(draft.commands, decisions)
        self._ledger.commit(draft.state, batch)
        self._state = draft.state
        log_decided(batch)
        if self._alerts is not None:
            tell(self._alerts, batch)
        return batch

    def _take(self, event: OrderUpdated | ChangeAnswered) -> None:
        self._settle(self._stepped(_Draft(state=self._state), event))

    def _controlled(self, draft: _Draft) -> _Draft:
        """Take in what a person asked of the kill switch since the last look."""
        request = self._ledger.kill_switch_request()
        if request is None or request.sequence <= draft.state.control_sequence:
            return draft
        log.warning("kill switch set", kill_switch=request.kill_switch, by=request.by, reason=request.reason)
        event = KillSwitchSet(
            kill_switch=KillSwitch(request.kill_switch),
            by=request.by,
            reason=request.reason,
            at=request.requested_at,
            sequence=request.sequence,
        )
        return self._stepped(draft, event)

    def _caught_up(self, draft: _Draft) -> _Draft:
        """Take in what the broker did since the last transaction handled, and compare what it holds with what we hold.

        Orders are asked about before transactions: an order reported as settled then has its fills among those that follow. A
        broker may act between two of our questions, so a difference counts only if it stays.

        Raises:
            ReconciliationFailed: If it stays.
        """
        problem = ""
        for _ in range(_LOOKS):
            known = [self._broker.order(client_order_id) for client_order_id in draft.state.pending]
            transactions = self._broker.transactions_since(draft.state.transaction_sequence)
            positions = self._broker.positions()
            for transaction in transactions:
                if isinstance(transaction, Fill):
                    log_fill(transaction, draft.state)
                    self._mark_taken_back(draft.state, transaction)
                draft = self._stepped(draft, TransactionReceived(transaction=transaction))
            for order in known:
                if order is not None and order.status in _SETTLED:
                    self._desk.mark(order)
                    draft = self._stepped(draft, OrderUpdated(order=order, at=self._clock.now()))
            problem = holdings_problem(draft.state, positions)
            if not problem:
                return self._stepped(draft, PositionsSeen(positions=positions, at=self._clock.now()))
        raise ReconciliationFailed(problem)

    def _mark_taken_back(self, state: EngineState, fill: Fill) -> None:
        """Let the ledger say of an order that was given up what the broker says of it now."""
        if fill.client_order_id in state.given_up:
            known = self._broker.order(fill.client_order_id)
            if known is not None:
                self._desk.mark(known)

    def _check_orders(self) -> None:
        # An order without an id of ours is a person's, who may have one wait at the broker.
        waiting = {order.client_order_id for order in self._broker.open_orders() if order.client_order_id}
        unknown = {record.intent.client_order_id for record in self._ledger.unresolved_orders()}
        if waiting - unknown != self._state.pending.keys() - unknown:
            raise ReconciliationFailed(f"open orders: the ledger has {sorted(self._state.pending)}, the broker {sorted(waiting)}")

    def _refitted(self, draft: _Draft) -> _Draft:
        """Take in the regimes that were fitted meanwhile."""
        if self._regimes is None:
            return draft
        for fitted in self._regimes.ready():
            self._fitting.discard(fitted.symbol)
            draft = self._stepped(draft, RegimesFitted(symbol=fitted.symbol, model=fitted.model, at=fitted.at))
        return draft

    def _ask_for_regimes(self) -> None:
        """Have those regimes fitted anew that are due. After a crash the same ones are due at the same candle again."""
        if self._regimes is None:
            return
        for symbol, regime in self._state.regimes.items():
            first = regime.model is None and regime.fitted_at is None and regime.candles_since_fit == 1
            due = first or regime.candles_since_fit >= self._config.trading.regime_refit_bars
            if due and symbol not in self._fitting:
                self._fitting.add(symbol)
                self._regimes.ask(symbol, self._state.cursors[symbol])
