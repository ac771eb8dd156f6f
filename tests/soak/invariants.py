"""What must hold at every event, checked from outside: at the broker's book and at what the ledger has stored.

Of the account, after every try whatever became of it:
- balance = start + Σ(profit − commission) + Σ interest, exactly; equity = balance + open profit, to the cent, where the profit is
  worked out anew from the prices;
- no order id is executed twice, nor for more units than its intent in the ledger;
- at most `max_positions` positions of the engine's, one a symbol; their stops are no looser than any stop that the engine has held
  for them, unless a person loosened them and the engine has not put them back yet.

Between engine and broker, after every try that succeeded (a start, candles, a look):
- the state has taken in every transaction; the ledger's are the broker's;
- the ledger's open positions, the state's and the broker's are the same; each has its stop, and stop and target are those of the
  state, or a change or a close is on its way; after a try without faults it is no longer on its way but done, unless HALTED;
- the orders that wait at the broker are those that the state waits for;
- each new signal has a verdict: accepted with units and an order in the ledger, or rejected with a reason and without one;
- the equity recorded is the account's; negative free margin is recorded as a margin event;
- a sample of the decisions, made again from what the ledger stores, gives the same commands.

At each call of the engine's:
- nothing is sent while HALTED, nothing opened while not ACTIVE: by the state, or by what a person had asked for before the try;
- an order is in the ledger as sent before it goes out, and never goes out if the broker knows its id;
- no stop is sent that is looser than the one seen at the broker at the last look;
- limits bind at the entry: with each accepted intent, the net exposure to its two currencies (positions and entries on their way,
  at the rates of the decision) is within `max_currency_exposure_pct` of equity in the direction in which the intent increases it.
  The market may move it beyond later.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from fxcast.adapters.clock import ReplayClock
from fxcast.domain.money import rates_from_prices
from fxcast.domain.order import Fill, FillReason, OrderIntent, OrderPurpose, OrderStatus, ProtectionChange, Side
from fxcast.domain.portfolio import Position
from fxcast.domain.signal import Verdict
from fxcast.trading.config import RiskLimits
from fxcast.trading.ports import LedgerBatch
from fxcast.trading.replay import decide_again
from fxcast.trading.state import EngineState, HeldPosition, KillSwitch, state_from_json
from tests.soak.person import Person, Screen
from tests.soak.records import Kept

_CENT = Decimal("0.01")
_REPLAYED_SHARE = 0.02
_SETTLED = {OrderStatus.FILLED, OrderStatus.REJECTED, OrderStatus.CANCELLED}


@dataclass(frozen=True, kw_only=True)
class Try:
    """A try of the engine's that succeeded.

    Attributes:
        at: Close of the candles that it has decided and committed; None without.
        clean: No fault happened during it.
    """

    state: EngineState
    at: datetime | None
    clean: bool


class Watch:
    """Looks on, and notes what must not be.

    Attributes:
        violations: What was wrong, in words.
        checks: How often each thing was looked at.
    """

    def __init__(self, kept: Kept, clock: ReplayClock, person: Person, limits: RiskLimits, rng: np.random.Generator) -> None:
        self.violations: list[str] = []
        self.checks: Counter[str] = Counter()
        self._kept = kept
        self._clock = clock
        self._screen = Screen(kept)
        self._person = person
        self._limits = limits
        self._rng = rng
        self._state = EngineState()
        self._asked = KillSwitch.ACTIVE  # by a person, before the try, and not taken in by the state yet
        self._asked_sequence = 0
        self._cash = kept.broker.book.balance
        self._counted = 0  # transactions at the broker
        self._compared = 0  # transactions in the ledger
        self._executed: set[str] = set()
        self._told: set[str] = set()
        self._tightest: dict[str, Decimal] = {}
        self._seen_stops: dict[str, Decimal] = {}
        self._signals_until = datetime.min.replace(tzinfo=UTC)
        self._margin_sound_at = datetime.min.replace(tzinfo=UTC)

    def begins(self, state: EngineState) -> None:
        """Remember what binds a try that begins now."""
        self._state = state
        request = self._kept.ledger.kill_switch_request()
        if request is not None:
            self._asked, self._asked_sequence = KillSwitch(request.kill_switch), request.sequence

    def now_holds(self, state: EngineState) -> None:
        """Follow the state that is committed."""
        self._state = state

    def calling(self, name: str, args: tuple[Any, ...]) -> None:
        """Look at a call before it is made."""
        match name:
            case "broker.place_order" | "broker.close_position":
                self._sending_order(args[0])
            case "broker.modify_order":
                self._sending_change(args[0])
            case "broker.positions":
                seen = self._screen.positions()
                self._seen_stops = {each.client_order_id: each.stop for each in seen if each.stop is not None}
            case "ledger.commit":
                self._committing(args[1])
            case _:
                pass

    def account(self) -> None:
        """Check what must hold whatever the engine does."""
        book = self._kept.broker.book
        for transaction in self._kept.broker.transactions_since(self._counted):
            self._counted = transaction.sequence
            if isinstance(transaction, Fill):
                self._cash += transaction.profit - transaction.commission
                self._executing(transaction)
            else:
                self._cash += transaction.amount
        self._expect(
            "balance", book.balance == self._cash, f"the balance is {book.balance}, its transactions add up to {self._cash}"
        )
        account = self._kept.broker.account()
        equity = book.balance + self._open_profit(list(book.positions.values()))
        told = f"the equity is told as {account.equity}, balance and open profit are {equity}"
        self._expect("equity", abs(account.equity - equity) < _CENT, told)
        self._check_held()

    def agreement(self, done: Try) -> None:
        """Check that engine, ledger and broker tell the same after a try that succeeded."""
        state = self._state = done.state
        self._check_transactions(state)
        self._check_positions(done)
        self._check_orders(state)
        self._check_signals()
        self._expect(
            "kill switch taken in",
            state.control_sequence >= self._asked_sequence,
            f"the request {self._asked_sequence} of the kill switch is not taken in",
        )
        if done.at is not None:
            self._check_equity(done.at)
            self._check_margin(done.at)
            self._replay(done.at)

    def everything(self) -> None:
        """Compare ledger and broker from the beginning on."""
        ours, theirs = self._kept.transactions_after(0), self._kept.broker.transactions_since(0)
        self._expect(
            "whole ledger", ours == theirs, f"the ledger has {len(ours)} transactions, the broker {len(theirs)}, or others"
        )
        for record in self._kept.ledger.orders():
            client_order_id = record.intent.client_order_id
            known = self._kept.broker.order(client_order_id)
            waits = client_order_id in self._state.pending
            lost = f"{client_order_id} is {record.status.value}, and nobody waits for it"
            self._expect("no order lost", record.status in _SETTLED or waits, lost)
            if known is not None and record.status in _SETTLED:
                same = (record.status, record.broker_order_id) == (known.status, known.broker_order_id)
                told = f"{client_order_id} is {record.status.value} in the ledger, {known.status.value} at the broker"
                self._expect("order status", same, told)
            if known is None and not waits:
                told = f"{client_order_id} is {record.status.value}, and the broker does not know it"
                self._expect("order status", record.status is OrderStatus.CANCELLED, told)
        foreign = [each for each in theirs if not each.client_order_id]
        theirs_cash = sum((_cash_of(each) for each in foreign), Decimal(0))
        held = sum((each.realised for each in self._state.positions.values()), Decimal(0))
        start = self._kept.broker.book.config.starting_balance
        cash = start + self._kept.closed_profit() + held + theirs_cash
        told = f"positions' profits and a person's add up to {cash}, the balance is {self._kept.broker.book.balance}"
        self._expect("profits of positions", cash == self._kept.broker.book.balance, told)

    def broken(self, what: str) -> None:
        """Note that something is as it must not be."""
        if what not in self._told:
            self._told.add(what)
            self.violations.append(f"{self._clock.now():%Y-%m-%d %H:%M:%S} {what}")

    def _expect(self, name: str, holds: bool, otherwise: str) -> None:
        self.checks[name] += 1
        if not holds:
            self.broken(f"{name}: {otherwise}")

    def _sending_order(self, intent: OrderIntent) -> None:
        client_order_id, opens = intent.client_order_id, intent.purpose is OrderPurpose.OPEN
        self._check_switch(f"{intent.purpose.value} order {client_order_id}", opens=opens)
        record = self._kept.order(client_order_id)
        sent = record is not None and record.intent == intent and record.status is OrderStatus.SENT
        self._expect("in the ledger before sent", sent, f"{client_order_id} goes out, and the ledger has {record}")
        known = self._kept.broker.order(client_order_id)
        self._expect("sent once", known is None, f"{client_order_id} goes out, and the broker has it: {known}")

    def _sending_change(self, change: ProtectionChange) -> None:
        self._check_switch(f"change {change.change_id}", opens=False)
        position = self._kept.broker.book.positions.get(change.symbol)
        seen = self._seen_stops.get(change.client_order_id)
        if position is not None and seen is not None and position.client_order_id == change.client_order_id:
            looser = position.side.sign * (change.stop - seen) < 0
            self._expect("never sent looser", not looser, f"{change.change_id} sends the stop {change.stop}, seen was {seen}")

    def _check_switch(self, what: str, *, opens: bool) -> None:
        binding = [self._state.kill_switch]
        if self._asked_sequence > self._state.control_sequence:
            binding.append(self._asked)
        forbidden = KillSwitch.HALTED in binding or (opens and KillSwitch.REDUCING in binding)
        self._expect("kill switch", not forbidden, f"{what} goes out while {', '.join(each.value for each in binding)}")

    def _committing(self, batch: LedgerBatch) -> None:
        for intent in batch.intents:
            if intent.purpose is OrderPurpose.OPEN:
                inputs = [each.inputs for each in batch.decisions if each.symbol == intent.symbol]
                self._expect("decision stored", len(inputs) == 1, f"{intent.client_order_id} has {len(inputs)} decisions")
                self._check_exposure(intent, json.loads(inputs[0]))

    def _check_exposure(self, intent: OrderIntent, inputs: dict[str, Any]) -> None:
        state, event = state_from_json(inputs["state"]), inputs["event"]
        worth = {currency: Decimal(each) for currency, each in event["rates"]["worth"].items()}
        equity = Decimal(event["account"]["balance"]) + Decimal(event["account"]["open_profit"])
        limit = equity * Decimal(str(self._limits.max_currency_exposure_pct)) / 100
        entries = [each.intent for each in state.pending.values() if each.intent.purpose is OrderPurpose.OPEN]
        exposures: Counter[str] = Counter()
        for each in (*(held.position for held in state.positions.values()), *entries, intent):
            value = each.side.sign * each.units * worth[each.symbol[:3]]
            exposures[each.symbol[:3]] += value  # pyright: ignore[reportArgumentType]  # Decimal counts as well
            exposures[each.symbol[3:]] -= value  # pyright: ignore[reportArgumentType]  # the same
        base, quote, sign = intent.symbol[:3], intent.symbol[3:], intent.side.sign
        for currency, exposure in ((base, sign * exposures[base]), (quote, -sign * exposures[quote])):
            told = f"{intent.client_order_id} makes the {currency} exposure {exposure}, limit {limit}"
            self._expect("exposure at entry", exposure <= limit, told)
        count = len({each.symbol for each in entries} | set(state.positions)) + 1
        told = f"{intent.client_order_id} is the {count}th position, limit {self._limits.max_positions}"
        self._expect("positions at entry", count <= self._limits.max_positions, told)
        taken = intent.symbol in state.positions or any(each.symbol == intent.symbol for each in entries)
        self._expect("one a symbol at entry", not taken, f"{intent.client_order_id} opens where something is open")

    def _executing(self, fill: Fill) -> None:
        if fill.reason is not FillReason.MARKET:
            return
        record = self._kept.order(fill.client_order_id)
        fits = record is not None and fill.units <= record.intent.units and fill.side is record.intent.side
        self._expect("executed as decided", fits, f"fill {fill.sequence} of {fill.client_order_id} fits no intent of the ledger")
        again = fill.client_order_id in self._executed
        self._expect("executed once", not again, f"{fill.client_order_id} is executed again by fill {fill.sequence}")
        self._executed.add(fill.client_order_id)

    def _open_profit(self, positions: Sequence[Position]) -> Decimal:
        """Work the open profit out: each at the side that would close it, in dollars by the mids of the quotes."""
        quotes = self._kept.broker.book.marks
        mids = {symbol: quote.mid for symbol, quote in quotes.items()}
        profit = Decimal(0)
        for each in positions:
            closing = quotes[each.symbol].bid if each.side is Side.BUY else quotes[each.symbol].ask
            worth = rates_from_prices({**mids, each.symbol: closing}, "USD").worth[each.symbol[3:]]
            profit += (closing - each.entry_price) * each.units * each.side.sign * worth
        return profit

    def _check_held(self) -> None:
        ours = [each for each in self._kept.broker.book.positions.values() if each.client_order_id]
        ids = {each.client_order_id for each in ours}
        self._expect("positions", len(ours) <= self._limits.max_positions, f"{len(ours)} positions are open")
        self._expect("one a symbol", len({each.symbol for each in ours}) == len(ours), f"of {sorted(ids)} two share a symbol")
        self._tightest = {key: stop for key, stop in self._tightest.items() if key in ids}
        self._person.loosened &= ids
        for held in self._state.positions.values():
            self._check_stop(held)
        for position in ours:
            tightest = self._tightest.get(position.client_order_id) or self._first_stop(position)
            looser = position.side.sign * (position.stop - tightest) < 0
            excused = position.client_order_id in self._person.loosened
            told = f"{position.client_order_id} has the stop {position.stop} at the broker, it had {tightest}"
            self._expect("stop never loosened", not looser or excused, told)
            if not looser:
                self._person.loosened.discard(position.client_order_id)

    def _first_stop(self, position: Position) -> Decimal:
        """Return the stop that a position was opened with, where the engine does not know yet that it was."""
        record = self._kept.order(position.client_order_id)
        return position.stop if record is None or record.intent.stop is None else record.intent.stop

    def _check_stop(self, held: HeldPosition) -> None:
        position = held.position
        tightest = self._tightest.get(position.client_order_id, position.stop)
        looser = position.side.sign * (position.stop - tightest) < 0
        self._expect("engine's stop never loosened", not looser, f"{position.client_order_id}: {tightest} → {position.stop}")
        self._tightest[position.client_order_id] = tightest if looser else position.stop

    def _check_transactions(self, state: EngineState) -> None:
        newest = self._kept.broker.newest_sequence()
        told = f"the state is at transaction {state.transaction_sequence}, the broker at {newest}"
        self._expect("transactions taken in", state.transaction_sequence == newest, told)
        stored = self._kept.transactions_after(self._compared)
        theirs = self._kept.broker.transactions_since(self._compared)
        self._expect("ledger = broker", stored == theirs, f"after {self._compared} the ledger has {stored}, the broker {theirs}")
        self._compared = newest

    def _check_positions(self, done: Try) -> None:
        state = done.state
        ours = {each.client_order_id: each for each in self._screen.positions() if each.client_order_id}
        stored = {each.client_order_id: each for each in self._kept.open_positions()}
        held = {each.position.client_order_id: each for each in state.positions.values()}
        same_ids = ours.keys() == stored.keys() == held.keys()
        told = f"the broker holds {sorted(ours)}, the ledger {sorted(stored)}, the state {sorted(held)}"
        self._expect("positions = broker", same_ids, told)
        for client_order_id in ours.keys() & held.keys() & stored.keys():
            seen, mine, position = ours[client_order_id], held[client_order_id], held[client_order_id].position
            same = all(
                getattr(position, name) == getattr(seen, name) for name in ("symbol", "side", "units", "entry_price", "opened_at")
            )
            same = same and stored[client_order_id] == position
            told = f"{client_order_id}: state {position}, ledger {stored[client_order_id]}, broker {seen}"
            self._expect("position = broker", same, told)
            closing = bool(state.pending_of(position.symbol, OrderPurpose.CLOSE))
            on_its_way = mine.change is not None or closing or mine.stop_lost
            protected = seen.stop is not None and (seen.stop, seen.target) == (position.stop, position.target)
            told = f"{client_order_id} has stop {seen.stop}, target {seen.target}; wanted {position.stop}, {position.target}"
            self._expect("protected", protected or on_its_way, told)
            if done.clean and state.kill_switch is not KillSwitch.HALTED:
                waits = f"{client_order_id}: the change {mine.change} was not sent"
                self._expect("protected at once", closing or (mine.change is None and not mine.stop_lost), waits)

    def _check_orders(self, state: EngineState) -> None:
        waiting = {each.client_order_id for each in self._kept.broker.open_orders()}
        unknown = {record.intent.client_order_id for record in self._kept.ledger.unresolved_orders()}
        told = f"the state waits for {sorted(state.pending)}, the broker has {sorted(waiting)}, in doubt are {sorted(unknown)}"
        self._expect("orders = broker", waiting - unknown == state.pending.keys() - unknown, told)

    def _check_signals(self) -> None:
        for decided in self._kept.signals_after(self._signals_until):
            signal_id = decided.signal.signal_id
            self._signals_until = max(self._signals_until, decided.signal.made_at)
            order = self._kept.order(f"{signal_id}-open")
            if decided.verdict is Verdict.ACCEPTED:
                sound = decided.units > 0 and order is not None and order.intent.units == decided.units
            else:
                sound = decided.units == 0 and bool(decided.reason) and order is None
            told = f"{signal_id} is {decided.verdict.value}, {decided.units} units, reason {decided.reason!r}, order {order}"
            self._expect("verdict", sound, told)

    def _check_equity(self, at: datetime) -> None:
        point, account = self._kept.equity_at(at), self._kept.broker.account()
        same = point is not None and (point.balance, point.open_profit) == (account.balance, account.open_profit)
        self._expect("equity recorded", same, f"at {at} the ledger has {point}, the broker {account}")

    def _check_margin(self, at: datetime) -> None:
        if self._kept.broker.account().free_margin >= 0:
            self._margin_sound_at = at
            return
        newest = self._kept.newest_margin_event()
        noticed = newest is not None and newest > self._margin_sound_at
        free = self._kept.broker.account().free_margin
        self._expect("margin noticed", noticed, f"the free margin is {free} at {at}, and no margin event says so")

    def _replay(self, at: datetime) -> None:
        for symbol in self._kept.broker.book.marks:
            if self._rng.random() >= _REPLAYED_SHARE:
                continue
            record = self._kept.decision(symbol, at)
            if record is None:
                continue
            settings = self._kept.settings(record.settings_hash)
            again = None if settings is None else decide_again(record, settings)
            self._expect("decided again", again == record.commands, f"{symbol} at {at}: {record.commands}, then {again}")


def _cash_of(transaction: Any) -> Decimal:
    return transaction.profit - transaction.commission if isinstance(transaction, Fill) else transaction.amount
