"""What the broker did, and what the engine makes of it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from fxcast.domain.order import (
    BrokerOrder,
    ChangeAnswer,
    Fill,
    FillReason,
    Financing,
    OrderPurpose,
    OrderStatus,
    ProtectionChange,
    Side,
)
from fxcast.domain.portfolio import BrokerPosition
from fxcast.errors import ReconciliationFailed
from fxcast.trading.config import RiskLimits
from fxcast.trading.events import (
    ChangeAnswered,
    ChangeProtection,
    Command,
    PlaceOrder,
    PositionsSeen,
    RecordPosition,
    RecordRiskEvent,
    TransactionReceived,
)
from fxcast.trading.execution import (
    change_protection,
    close_position,
    is_held,
    take_answer,
    take_order,
    take_positions,
    take_transaction,
)
from fxcast.trading.ports import RiskEventKind
from fxcast.trading.state import EngineState, PendingOrder
from tests.factories import HOUR, NOON, make_intent

LIMITS = RiskLimits(cool_off_losses=2, cool_off_minutes=60)
INTENT = make_intent(units=10_000)
WAITING = EngineState(
    pending={INTENT.client_order_id: PendingOrder(intent=INTENT, horizon_bars=4, valid_until=NOON + HOUR)},
)


def fill(sequence: int, **changes: object) -> Fill:
    usual = Fill(
        sequence=sequence,
        client_order_id=INTENT.client_order_id,
        symbol="EURUSD",
        side=Side.BUY,
        units=Decimal(10_000),
        price=Decimal("1.10000"),
        reason=FillReason.MARKET,
        profit=Decimal(0),
        filled_at=NOON,
    )
    return replace(usual, **changes)  # pyright: ignore[reportArgumentType]  # named fields of Fill


def exit_fill(sequence: int, **changes: object) -> Fill:
    usual = {"side": Side.SELL, "reason": FillReason.STOP, "price": Decimal("1.09500"), "profit": Decimal(-50)}
    return fill(sequence, **(usual | changes))


def after(state: EngineState, *transactions: Fill | Financing) -> tuple[EngineState, list[Command]]:
    commands: list[Command] = []
    for transaction in transactions:
        state, more = take_transaction(state, TransactionReceived(transaction=transaction), LIMITS)
        commands += more
    return state, commands


def opened() -> EngineState:
    return after(WAITING, fill(1))[0]


def kinds(commands: list[Command] | tuple[Command, ...]) -> list[RiskEventKind]:
    return [command.event.kind for command in commands if isinstance(command, RecordRiskEvent)]


def seen(**changes: object) -> BrokerPosition:
    usual = BrokerPosition(
        client_order_id=INTENT.client_order_id,
        symbol="EURUSD",
        side=Side.BUY,
        units=Decimal(10_000),
        entry_price=Decimal("1.10000"),
        stop=Decimal("1.09500"),
        target=Decimal("1.11000"),
        opened_at=NOON,
    )
    return replace(usual, **changes)  # pyright: ignore[reportArgumentType]  # named fields of BrokerPosition


def looked(state: EngineState, *positions: BrokerPosition) -> tuple[EngineState, tuple[Command, ...]]:
    return take_positions(state, PositionsSeen(positions=positions, at=NOON))


def test_order_filled_in_parts_is_one_position_at_their_mean_price() -> None:
    first = fill(1, units=Decimal(4_000), price=Decimal("1.10000"))
    state, _ = after(WAITING, first)
    assert state.positions["EURUSD"].position.units == Decimal(4_000)
    assert state.pending[INTENT.client_order_id].filled_units == Decimal(4_000)
    state, _ = after(state, fill(2, units=Decimal(6_000), price=Decimal("1.10010")))
    position = state.positions["EURUSD"].position
    assert (position.units, position.entry_price) == (Decimal(10_000), Decimal("1.10006"))
    assert state.pending == {}


def test_order_whose_rest_is_cancelled_leaves_the_filled_part_as_a_protected_position() -> None:
    state, _ = after(WAITING, fill(1, units=Decimal(4_000)))
    order = BrokerOrder(
        client_order_id=INTENT.client_order_id, broker_order_id="7", status=OrderStatus.CANCELLED, filled_units=Decimal(4_000)
    )
    state, commands = take_order(state, order, NOON)
    assert state.pending == {}
    assert (state.positions["EURUSD"].position.units, state.positions["EURUSD"].position.stop) == (Decimal(4_000), INTENT.stop)
    assert kinds(commands) == [RiskEventKind.REJECTION]


def test_entry_that_was_given_up_and_is_filled_all_the_same_is_taken_over_with_its_stop() -> None:
    never_came = BrokerOrder(client_order_id=INTENT.client_order_id, broker_order_id="", status=OrderStatus.CANCELLED)
    state, _ = take_order(WAITING, never_came, NOON)
    assert state.pending == {}
    state, commands = after(state, fill(1))
    assert (state.positions["EURUSD"].position.stop, state.given_up) == (INTENT.stop, {})
    assert kinds(commands) == [RiskEventKind.RECONCILIATION]


def test_entry_that_the_broker_refused_is_not_expected_to_be_filled() -> None:
    refused = BrokerOrder(client_order_id=INTENT.client_order_id, broker_order_id="7", status=OrderStatus.REJECTED)
    state, _ = take_order(WAITING, refused, NOON)
    with pytest.raises(ReconciliationFailed, match="fill 1"):
        after(state, fill(1))


def test_more_than_was_ordered_stops_the_engine() -> None:
    with pytest.raises(ReconciliationFailed, match="fill 2"):
        after(WAITING, fill(1, units=Decimal(6_000)), fill(2, units=Decimal(6_000)))


def test_position_closed_in_parts_books_the_sum_of_its_profits_less_commission() -> None:
    state, _ = after(WAITING, fill(1, commission=Decimal("0.35")))
    half = {"units": Decimal(5_000), "profit": Decimal(20), "reason": FillReason.TARGET, "commission": Decimal("0.10")}
    state, commands = after(state, exit_fill(2, **half), exit_fill(3, **half))
    records = [command.record for command in commands if isinstance(command, RecordPosition)]
    assert [(record.position.units, record.profit) for record in records] == [(5_000, None), (5_000, Decimal("39.45"))]
    assert state.positions == {}


def test_interest_belongs_to_the_position_it_was_paid_for() -> None:
    interest = Financing(
        sequence=2, client_order_id=INTENT.client_order_id, symbol="EURUSD", amount=Decimal("-1.20"), booked_at=NOON
    )
    state, commands = after(opened(), interest, exit_fill(3))
    (record,) = [command.record for command in commands if isinstance(command, RecordPosition)]
    assert record.profit == Decimal("-51.20")
    assert state.transaction_sequence == 3


def test_losses_in_a_row_end_trading_for_a_while_and_a_gain_starts_the_count_anew() -> None:
    state = replace(opened(), losses_in_row=1)
    cooled, commands = after(state, exit_fill(2))
    assert cooled.cool_off_until == NOON + HOUR
    assert kinds(commands) == [RiskEventKind.COOL_OFF]
    gained, commands = after(state, exit_fill(2, profit=Decimal(5)))
    assert (gained.losses_in_row, gained.cool_off_until, kinds(commands)) == (0, None, [])


@pytest.mark.parametrize(
    ("reason", "kind"), [(FillReason.MANUAL, RiskEventKind.HAND_CHANGE), (FillReason.MARGIN_CLOSEOUT, RiskEventKind.MARGIN)]
)
def test_closing_that_nobody_here_asked_for_is_told(reason: FillReason, kind: RiskEventKind) -> None:
    state, commands = after(opened(), exit_fill(2, reason=reason, profit=Decimal(1)))
    assert state.positions == {}
    assert kinds(commands) == [kind]


def test_close_on_its_way_is_forgotten_when_the_stop_was_faster_and_the_broker_has_cancelled_it() -> None:
    state = opened()
    state, commands = close_position(state, state.positions["EURUSD"], NOON, "a test")
    (intent,) = [command.intent for command in commands if isinstance(command, PlaceOrder)]
    assert (intent.purpose, intent.reason) == (OrderPurpose.CLOSE, "a test")
    state, _ = after(state, exit_fill(2))
    assert (list(state.pending), state.positions) == ([intent.client_order_id], {})
    cancelled = BrokerOrder(client_order_id=intent.client_order_id, broker_order_id="2", status=OrderStatus.CANCELLED)
    state, told = take_order(state, cancelled, NOON)
    assert (state.pending, told) == ({}, ()), "that there is nothing left to close is no rejection"


def test_trade_of_a_person_in_the_same_account_is_recorded_and_told_and_stops_nothing() -> None:
    state, commands = after(opened(), fill(2, client_order_id="", symbol="GBPUSD"))
    assert list(state.positions) == ["EURUSD"]
    assert kinds(commands) == [RiskEventKind.FOREIGN_POSITION]


def test_position_of_a_person_blocks_its_symbol_until_it_is_gone_and_is_told_once() -> None:
    foreign = seen(client_order_id="", symbol="GBPUSD")
    state, first = looked(opened(), seen(), foreign)
    state, again = looked(state, seen(), foreign)
    assert (state.foreign, kinds(first), kinds(again)) == (("GBPUSD",), [RiskEventKind.FOREIGN_POSITION], [])
    assert looked(state, seen())[0].foreign == ()


@pytest.mark.parametrize("lost", [None, Decimal("1.09400")], ids=["no stop", "a looser one"])
def test_stop_that_is_missing_or_looser_is_put_back(lost: Decimal | None) -> None:
    state, commands = looked(opened(), seen(stop=lost))
    (change,) = [command.change for command in commands if isinstance(command, ChangeProtection)]
    assert (change.stop, change.target) == (INTENT.stop, INTENT.target)
    assert kinds(commands) == [RiskEventKind.STOP_MISSING]
    assert looked(state, seen(stop=lost))[1] == (), "it is told and sent once"


def test_lost_stop_that_the_broker_does_not_take_back_closes_the_position() -> None:
    state, commands = looked(opened(), seen(stop=None))
    (change,) = [command.change for command in commands if isinstance(command, ChangeProtection)]
    refused = ChangeAnswered(change=change, answer=ChangeAnswer(accepted=False, reason="beyond the price"), at=NOON)
    state, commands = take_answer(state, refused)
    (closing,) = [command.intent for command in commands if isinstance(command, PlaceOrder)]
    assert closing.purpose is OrderPurpose.CLOSE
    assert "lost" in closing.reason


def test_stop_that_a_person_tightened_is_kept_and_told() -> None:
    state, commands = looked(opened(), seen(stop=Decimal("1.09800"), target=None))
    assert (state.positions["EURUSD"].position.stop, state.positions["EURUSD"].position.target) == (Decimal("1.09800"), None)
    assert kinds(commands) == [RiskEventKind.HAND_CHANGE]


def changing(state: EngineState, stop: str) -> tuple[EngineState, ProtectionChange]:
    state, commands = change_protection(state, state.positions["EURUSD"], Decimal(stop), INTENT.target, NOON, "a test")
    (change,) = [command.change for command in commands if isinstance(command, ChangeProtection)]
    return state, change


def test_stop_counts_as_moved_once_the_broker_has_accepted_it() -> None:
    state, change = changing(opened(), "1.09900")
    assert state.positions["EURUSD"].position.stop == INTENT.stop
    assert looked(state, seen())[1] == (), "the broker need not have it yet"
    state, _ = take_answer(state, ChangeAnswered(change=change, answer=ChangeAnswer(accepted=True), at=NOON))
    held = state.positions["EURUSD"]
    assert (held.position.stop, held.change) == (Decimal("1.09900"), None)
    assert changing(state, "1.09950")[1].change_id == "EURUSD-1-open-p2"


def test_refused_change_leaves_the_stop_and_is_told() -> None:
    state, change = changing(opened(), "1.09900")
    answer = ChangeAnswer(accepted=False, reason="too near")
    state, commands = take_answer(state, ChangeAnswered(change=change, answer=answer, at=NOON))
    held = state.positions["EURUSD"]
    assert (held.position.stop, held.change, kinds(commands)) == (INTENT.stop, None, [RiskEventKind.REJECTION])


@pytest.mark.parametrize("lost", [None, Decimal("1.09400")], ids=["no stop", "a looser one"])
def test_stop_that_is_lost_while_a_change_is_on_its_way_is_put_back_instead(lost: Decimal | None) -> None:
    state, _ = changing(opened(), "1.09900")
    state, commands = looked(state, seen(stop=lost))
    (change,) = [command.change for command in commands if isinstance(command, ChangeProtection)]
    assert (change.stop, state.positions["EURUSD"].change) == (INTENT.stop, change)
    assert kinds(commands) == [RiskEventKind.STOP_MISSING]


def test_change_on_its_way_does_not_loosen_what_a_person_has_tightened_further() -> None:
    state, _ = changing(opened(), "1.09900")
    state, commands = looked(state, seen(stop=Decimal("1.09950")))
    held = state.positions["EURUSD"]
    assert (held.position.stop, held.change, kinds(commands)) == (Decimal("1.09950"), None, [RiskEventKind.HAND_CHANGE])


def test_close_that_never_arrived_does_not_close_the_next_position_in_its_symbol() -> None:
    state = opened()
    state, commands = close_position(state, state.positions["EURUSD"], NOON, "a test")
    (close,) = [command.intent for command in commands if isinstance(command, PlaceOrder)]
    assert is_held(state, close)
    state, _ = after(state, exit_fill(2))
    following = make_intent(client_order_id="EURUSD-2-open", signal_id="EURUSD-2")
    pending = {**state.pending, following.client_order_id: replace(WAITING.pending[INTENT.client_order_id], intent=following)}
    state, _ = after(replace(state, pending=pending), fill(3, client_order_id=following.client_order_id))
    assert not is_held(state, close)
    assert close_position(state, state.positions["EURUSD"], NOON, "a test")[1], "the old one does not stand in its way"


def test_answer_to_a_change_that_is_no_longer_wanted_changes_nothing() -> None:
    state, change = changing(opened(), "1.09900")
    newer, _ = changing(state, "1.09950")
    assert take_answer(newer, ChangeAnswered(change=change, answer=ChangeAnswer(accepted=True), at=NOON)) == (newer, ())


@pytest.mark.parametrize(
    "positions",
    [
        (),
        (seen(units=Decimal(9_000)),),
        (seen(side=Side.SELL),),
        (seen(), seen(client_order_id="unknown", symbol="GBPUSD")),
    ],
    ids=["gone", "smaller", "other side", "unknown id"],
)
def test_position_that_differs_from_the_brokers_stops_the_engine(positions: tuple[BrokerPosition, ...]) -> None:
    with pytest.raises(ReconciliationFailed, match="the ledger has"):
        looked(opened(), *positions)
