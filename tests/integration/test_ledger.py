"""The ledger on real databases."""

from __future__ import annotations

import pickle
import threading
from dataclasses import replace
from datetime import timedelta, timezone
from decimal import Decimal

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.ledger_rows import ChangeRecord
from fxcast.adapters.storage.tables import PredictionRow
from fxcast.domain.order import ChangeAnswer, OrderPurpose, OrderStatus
from fxcast.errors import ReconciliationFailed
from fxcast.trading.ports import Ledger, LedgerBatch
from fxcast.trading.state import EngineState
from tests.ledger_factories import (
    NOON,
    RECORDED,
    change,
    closed,
    contents,
    decided,
    decision,
    equity,
    fill,
    financing,
    full_batch,
    intent,
    opened,
    position,
    risk_event,
)


@pytest.fixture
def ledger(database: Engine) -> SqlLedger:
    return SqlLedger(database, "demo")


def test_a_ledger_that_was_never_written_is_empty(ledger: SqlLedger) -> None:
    port: Ledger = ledger

    assert port.load_state() is None
    assert port.orders() == port.unresolved_orders() == ()
    assert port.kill_switch_request() is None
    assert ledger.signals() == ledger.fills() == ledger.equity_curve() == ledger.open_positions() == ()
    assert ledger.financings() == ledger.changes() == ledger.risk_events() == ledger.decisions() == ()
    assert ledger.decision("EURUSD", NOON) is None
    assert ledger.settings("c0ffee") is None


def test_everything_of_a_batch_comes_back_as_it_was_after_opening_the_file_again(ledger: SqlLedger, url: str) -> None:
    ledger.commit(EngineState(control_sequence=1), full_batch())

    again = SqlLedger(open_database(url), "demo")

    assert again.load_state() == EngineState(control_sequence=1)
    assert again.signals() == (decided(),)
    assert [order.intent for order in again.orders()] == [intent()]
    assert [order.status for order in again.orders()] == [OrderStatus.INTENT]
    assert again.changes() == (ChangeRecord(change=change(), answer=None),)
    assert again.fills() == (fill(),)
    assert again.financings() == (financing(),)
    assert again.risk_events() == (risk_event(),)
    assert again.decisions() == (decision(),)
    assert again.positions() == (opened(),)
    assert again.open_positions() == (position(),)
    assert again.equity_curve() == (equity(),)


def test_prices_and_money_keep_every_digit(ledger: SqlLedger) -> None:
    ledger.commit(EngineState(), full_batch())

    assert str(ledger.fills()[0].price) == "1.084650000000000000001"
    assert str(ledger.open_positions()[0].entry_price) == "1.084650000000000000001"
    assert str(ledger.orders()[0].intent.stop) == "1.08010"
    assert str(ledger.equity_curve()[0].balance) == "10000.10"


def test_times_come_back_in_utc_whatever_zone_they_came_in(ledger: SqlLedger) -> None:
    in_tokyo = NOON.astimezone(timezone(timedelta(hours=9)))

    ledger.commit(EngineState(), LedgerBatch(equity=equity(in_tokyo), intents=(intent(at=in_tokyo),)))

    assert ledger.equity_curve()[0].at.isoformat() == "2024-03-04T12:00:00+00:00"
    assert ledger.orders()[0].intent.created_at.isoformat() == "2024-03-04T12:00:00+00:00"


def test_a_forecast_is_one_row_per_horizon(ledger: SqlLedger, database: Engine) -> None:
    ledger.commit(EngineState(), full_batch())

    with Session(database) as session:
        found = session.scalars(select(PredictionRow).order_by(PredictionRow.horizon_minutes)).all()
    assert [row.horizon_minutes for row in found] == [240, 960]
    assert found[0].samples == [1.08, 1.1]
    assert found[0].made_at == NOON
    assert found[0].uncertainty_pct == pytest.approx(100 * 0.0013 / 1.0846)
    assert found[0].actual_price is None


def test_the_same_batch_again_changes_not_one_row(ledger: SqlLedger, database: Engine) -> None:
    ledger.commit(EngineState(control_sequence=1), full_batch())
    before = contents(database)

    ledger.commit(EngineState(control_sequence=1), full_batch())

    assert contents(database) == before
    assert all(before.values()), "every table should hold something"


def test_an_order_keeps_its_later_status_when_its_batch_comes_again(ledger: SqlLedger) -> None:
    ledger.commit(EngineState(), full_batch())
    ledger.mark_order("EURUSD-open", OrderStatus.FILLED, broker_order_id="b-7", reason="at market")

    ledger.commit(EngineState(), full_batch())

    (order,) = ledger.orders()
    assert (order.status, order.broker_order_id, order.reason) == (OrderStatus.FILLED, "b-7", "at market")


def test_a_closed_position_is_not_opened_by_its_first_batch_coming_again(ledger: SqlLedger) -> None:
    ledger.commit(EngineState(), full_batch())
    ledger.commit(EngineState(), LedgerBatch(positions=(closed(),)))

    ledger.commit(EngineState(), full_batch())

    assert ledger.open_positions() == ()
    assert ledger.positions() == (closed(),)


def test_of_candles_that_close_together_the_last_equity_counts(ledger: SqlLedger) -> None:
    after_both = replace(equity(), open_profit=Decimal("7.70"))
    ledger.commit(EngineState(), LedgerBatch(equity=equity()))

    ledger.commit(EngineState(), LedgerBatch(equity=after_both))

    assert ledger.equity_curve() == (after_both,)


def test_an_open_position_takes_its_new_stop(ledger: SqlLedger) -> None:
    ledger.commit(EngineState(), full_batch())
    moved = replace(position(), stop=Decimal("1.08460"))

    ledger.commit(EngineState(), LedgerBatch(positions=(replace(opened(), position=moved),)))

    assert ledger.open_positions() == (moved,)


@pytest.mark.parametrize("table", RECORDED)
def test_a_failure_at_any_table_leaves_the_state_before(ledger: SqlLedger, database: Engine, table: str) -> None:
    ledger.commit(EngineState(control_sequence=0), LedgerBatch())
    before = contents(database)

    def fail(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith(f"INSERT INTO {table} "):
            raise OSError("the disk is full")

    event.listen(database, "after_cursor_execute", fail)
    with pytest.raises(OSError, match="the disk is full"):
        ledger.commit(EngineState(control_sequence=1), full_batch())
    event.remove(database, "after_cursor_execute", fail)

    assert contents(database) == before
    ledger.commit(EngineState(control_sequence=1), full_batch())
    assert len(ledger.fills()) == 1


def test_a_batch_with_a_naive_time_is_refused_whole(ledger: SqlLedger) -> None:
    with pytest.raises(StatementError, match="no time zone"):
        ledger.commit(EngineState(), replace(full_batch(), equity=equity(NOON.replace(tzinfo=None))))

    assert ledger.load_state() is None
    assert ledger.orders() == ()


def test_another_fill_under_a_recorded_sequence_stops_the_engine(ledger: SqlLedger) -> None:
    ledger.commit(EngineState(control_sequence=1), full_batch())

    with pytest.raises(ReconciliationFailed, match="fill 1 of engine demo is already recorded with another price") as raised:
        ledger.commit(EngineState(control_sequence=2), LedgerBatch(transactions=(fill(3), fill(1, price=Decimal("1.09")))))

    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)  # noqa: S301 (our own exception)
    assert ledger.load_state() == EngineState(control_sequence=1)
    assert ledger.fills() == (fill(),)


def test_unresolved_orders_are_intents_and_sent_ones_oldest_first(ledger: SqlLedger) -> None:
    names = [status.value for status in OrderStatus]
    intents = tuple(intent(name, NOON + timedelta(hours=10 - place)) for place, name in enumerate(names))
    ledger.commit(EngineState(), LedgerBatch(intents=intents))
    for status in OrderStatus:
        ledger.mark_order(status.value, status)

    assert [order.intent.client_order_id for order in ledger.unresolved_orders()] == ["sent", "intent"]


def test_orders_of_one_candle_keep_the_order_they_were_decided_in(ledger: SqlLedger) -> None:
    ledger.commit(EngineState(), LedgerBatch(intents=(intent("z-close"), intent("a-open"))))

    assert [order.intent.client_order_id for order in ledger.unresolved_orders()] == ["z-close", "a-open"]


def test_marking_an_order_without_details_keeps_those_that_are_known(ledger: SqlLedger) -> None:
    ledger.commit(EngineState(), full_batch())
    ledger.mark_order("EURUSD-open", OrderStatus.ACCEPTED, broker_order_id="b-7")

    ledger.mark_order("EURUSD-open", OrderStatus.REJECTED, reason="no margin")

    (order,) = ledger.orders()
    assert (order.status, order.broker_order_id, order.reason) == (OrderStatus.REJECTED, "b-7", "no margin")


def test_marking_an_order_that_does_not_exist_is_an_error(ledger: SqlLedger) -> None:
    with pytest.raises(LookupError, match="engine demo has no order nothing"):
        ledger.mark_order("nothing", OrderStatus.SENT)


def test_engines_do_not_see_each_other(ledger: SqlLedger, database: Engine) -> None:
    other = SqlLedger(database, "other")
    ledger.commit(EngineState(control_sequence=1), full_batch())
    other.commit(EngineState(control_sequence=2), full_batch())
    ledger.mark_order("EURUSD-open", OrderStatus.FILLED)

    assert other.load_state() == EngineState(control_sequence=2)
    assert [order.status for order in other.orders()] == [OrderStatus.INTENT]
    assert len(ledger.fills()) == len(other.fills()) == 1


def test_an_order_of_an_engine_without_state_cannot_exist(ledger: SqlLedger, database: Engine) -> None:
    ledger.commit(EngineState(), full_batch())

    with pytest.raises(IntegrityError, match=r"(?i)FOREIGN KEY"), database.begin() as connection:
        connection.execute(text("UPDATE orders SET engine_id = 'nobody'"))


def test_engines_that_write_at_the_same_time_wait_for_each_other(url: str) -> None:
    failures: list[Exception] = []

    def write(name: str) -> None:
        ledger = SqlLedger(open_database(url), name)
        try:
            for hour in range(25):
                ledger.commit(
                    EngineState(control_sequence=hour),
                    LedgerBatch(transactions=(fill(hour),), equity=equity(NOON + timedelta(hours=hour))),
                )
        except Exception as error:  # noqa: BLE001 (a thread's failure must reach the test)
            failures.append(error)

    threads = [threading.Thread(target=write, args=(f"engine-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert all(len(SqlLedger(open_database(url), f"engine-{number}").equity_curve()) == 25 for number in range(4))


def test_interest_under_the_sequence_of_a_fill_stops_the_engine(ledger: SqlLedger) -> None:
    ledger.commit(EngineState(control_sequence=1), full_batch())

    with pytest.raises(ReconciliationFailed, match="transaction 1 of engine demo is a fill, and interest as well"):
        ledger.commit(EngineState(control_sequence=2), LedgerBatch(transactions=(financing(1),)))
    with pytest.raises(ReconciliationFailed, match="interest 2 of engine demo is already recorded with another amount"):
        ledger.commit(EngineState(control_sequence=2), LedgerBatch(transactions=(financing(2, amount=Decimal(7)),)))

    assert ledger.load_state() == EngineState(control_sequence=1)
    assert ledger.financings() == (financing(),)


def test_a_fill_and_interest_may_be_of_a_broker_that_counts_beyond_32_bits(ledger: SqlLedger) -> None:
    ledger.commit(EngineState(), LedgerBatch(transactions=(fill(2**40), financing(2**40 + 1))))

    assert [ledger.fills()[0].sequence, ledger.financings()[0].sequence] == [2**40, 2**40 + 1]


def test_why_a_position_is_closed_stays_apart_from_what_the_broker_said(ledger: SqlLedger) -> None:
    closing = replace(intent("EURUSD-close"), purpose=OrderPurpose.CLOSE, stop=None, reason="the horizon has passed")
    ledger.commit(EngineState(), LedgerBatch(intents=(closing,)))

    ledger.mark_order("EURUSD-close", OrderStatus.REJECTED, reason="market closed")

    (order,) = ledger.orders()
    assert (order.intent.reason, order.reason) == ("the horizon has passed", "market closed")


def test_a_change_keeps_its_answer_when_its_batch_comes_again(ledger: SqlLedger) -> None:
    ledger.commit(EngineState(), LedgerBatch(changes=(change(1), change(2, NOON + timedelta(hours=1)))))
    refusal = ChangeAnswer(accepted=False, reason="too close to the price")

    ledger.mark_change("EURUSD-open-p1", refusal)
    ledger.commit(EngineState(), LedgerBatch(changes=(change(1),)))

    assert [record.answer for record in ledger.changes()] == [refusal, None]


def test_of_two_answers_to_a_change_the_last_counts(ledger: SqlLedger) -> None:
    ledger.commit(EngineState(), LedgerBatch(changes=(change(),)))

    ledger.mark_change("EURUSD-open-p1", ChangeAnswer(accepted=False, reason="too close to the price"))
    ledger.mark_change("EURUSD-open-p1", ChangeAnswer(accepted=True))

    assert ledger.changes()[0].answer == ChangeAnswer(accepted=True)


def test_answering_a_change_that_does_not_exist_is_an_error(ledger: SqlLedger) -> None:
    with pytest.raises(LookupError, match="engine demo has no change nothing"):
        ledger.mark_change("nothing", ChangeAnswer(accepted=True))


def test_the_newest_signals_come_newest_first(ledger: SqlLedger) -> None:
    made = [decided(NOON + timedelta(hours=hour)) for hour in range(5)]
    ledger.commit(EngineState(), LedgerBatch(signals=tuple(made)))

    assert ledger.last_signals(2) == (made[4], made[3])


def test_decisions_are_found_by_symbol_and_moment_and_limited_to_the_newest(ledger: SqlLedger) -> None:
    later = NOON + timedelta(minutes=1)
    made = (decision(), decision("GBPUSD"), decision(at=later), decision("GBPUSD", later))
    ledger.commit(EngineState(), LedgerBatch(decisions=made))

    assert ledger.decisions() == made
    assert ledger.decisions(limit=3) == made[1:]
    assert ledger.decisions("GBPUSD") == (made[1], made[3])
    assert ledger.decisions("GBPUSD", limit=1) == (made[3],)
    assert ledger.decision("EURUSD", later) == made[2]


def test_old_decisions_are_removed_and_newer_and_other_engines_ones_stay(ledger: SqlLedger, database: Engine) -> None:
    other, later = SqlLedger(database, "other"), NOON + timedelta(days=1)
    for each in (ledger, other):
        each.commit(EngineState(), LedgerBatch(decisions=(decision(), decision("GBPUSD"), decision(at=later))))

    assert ledger.prune_decisions(later) == 2

    assert ledger.decisions() == (decision(at=later),)
    assert len(other.decisions()) == 3
    assert ledger.prune_decisions(later) == 0


def test_a_decision_takes_less_room_than_its_json(ledger: SqlLedger, database: Engine) -> None:
    ledger.commit(EngineState(), LedgerBatch(decisions=(replace(decision(), inputs='{"price": 1.0846}' * 600),)))

    with database.connect() as connection:
        assert connection.scalar(text("SELECT length(inputs) FROM decisions")) < 1000
    assert ledger.decisions()[0].inputs == '{"price": 1.0846}' * 600


def test_settings_are_kept_once_and_need_no_engine_that_ever_ran(ledger: SqlLedger) -> None:
    ledger.keep_settings("c0ffee", '{"min_quality": 0.45}')
    ledger.keep_settings("c0ffee", '{"min_quality": 0.45}')

    assert ledger.settings("c0ffee") == '{"min_quality": 0.45}'
