"""The ledger on a real SQLite file."""

from __future__ import annotations

import pickle
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.tables import PredictionRow
from fxcast.domain.forecast import HorizonForecast, LDM4TSPrediction
from fxcast.domain.order import Fill, FillReason, OrderIntent, OrderPurpose, OrderStatus, Side
from fxcast.domain.portfolio import EquityPoint, Position
from fxcast.domain.signal import Direction, FusedSignal, QualityScore, Regime, Signal, SignalSource, Verdict
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import ReconciliationFailed
from fxcast.trading.ports import DecidedSignal, Ledger, LedgerBatch, PositionRecord

NOON = datetime(2024, 3, 4, 12, 0, tzinfo=UTC)
PRICE = Decimal("1.084650000000000000001")  # no float holds this


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'fx.db'}"
    migrate(url)
    return url


@pytest.fixture
def database(url: str) -> Engine:
    return open_database(url)


@pytest.fixture
def ledger(database: Engine) -> SqlLedger:
    return SqlLedger(database, "demo")


def decided(at: datetime = NOON) -> DecidedSignal:
    member = Signal(
        source=SignalSource.LDM4TS_FORECAST,
        symbol="EURUSD",
        made_at=at,
        horizon_minutes=240,
        direction=Direction.BULL,
        strength=0.61,
        price=1.0846,
        stop=1.0801,
        target=1.0899,
    )
    trend = replace(member, source=SignalSource.TREND, direction=Direction.NEUTRAL, strength=0.1)
    quality = QualityScore(
        consistency=0.1,
        confirmation=0.2,
        strength=0.3,
        timing=0.4,
        risk_reward=0.5,
        regime_alignment=0.6,
        weighted_mean=0.35,
        uncertainty_penalty=0.2,
        total=0.28,
    )
    fused = FusedSignal(
        symbol="EURUSD",
        made_at=at,
        horizon_minutes=240,
        direction=Direction.BULL,
        strength=0.55,
        price=1.0846,
        stop=1.0801,
        target=1.0899,
        uncertainty_pct=0.12,
        regime=Regime.TRENDING,
        quality=quality,
        members=(member, trend),
    )
    return DecidedSignal(
        signal=fused, verdict=Verdict.ACCEPTED, reason="within limits", base_units=Decimal(20_000), units=Decimal(15000)
    )


def intent(client_order_id: str = "EURUSD-open", at: datetime = NOON) -> OrderIntent:
    return OrderIntent(
        client_order_id=client_order_id,
        signal_id="EURUSD-20240304T1200",
        symbol="EURUSD",
        side=Side.BUY,
        units=Decimal(15000),
        purpose=OrderPurpose.OPEN,
        stop=Decimal("1.08010"),
        target=None,
        created_at=at,
    )


def fill(sequence: int = 1, *, price: Decimal = PRICE) -> Fill:
    return Fill(
        sequence=sequence,
        client_order_id="EURUSD-open",
        symbol="EURUSD",
        side=Side.BUY,
        units=Decimal(15000),
        price=price,
        reason=FillReason.MARKET,
        profit=Decimal("0.00"),
        filled_at=NOON,
    )


def position() -> Position:
    return Position(
        client_order_id="EURUSD-open",
        symbol="EURUSD",
        side=Side.BUY,
        units=Decimal(15000),
        entry_price=PRICE,
        stop=Decimal("1.08010"),
        target=Decimal("1.08990"),
        opened_at=NOON,
    )


def opened() -> PositionRecord:
    return PositionRecord(position=position(), closed_at=None, exit_price=None, profit=None)


def closed() -> PositionRecord:
    return PositionRecord(
        position=position(), closed_at=NOON + timedelta(hours=4), exit_price=Decimal("1.08990"), profit=Decimal("78.75")
    )


def forecast() -> LDM4TSPrediction:
    horizon = HorizonForecast(mean=1.0899, std=0.0013, q05=1.0801, q50=1.0898, q95=1.0990, samples=(1.08, 1.1))
    return LDM4TSPrediction(
        symbol="EURUSD",
        timeframe=Timeframe("1h"),
        made_at=NOON,
        price=1.0846,
        horizons={240: horizon, 960: horizon},
        inference_time_ms=124.0,
        num_samples=50,
        model_version="tiny-1",
    )


def equity(at: datetime = NOON) -> EquityPoint:
    return EquityPoint(at=at, balance=Decimal("10000.10"), open_profit=Decimal("-3.20"))


def full_batch() -> LedgerBatch:
    return LedgerBatch(
        prediction=forecast(),
        signals=(decided(),),
        intents=(intent(),),
        fills=(fill(),),
        positions=(opened(),),
        equity=equity(),
    )


def contents(engine: Engine) -> dict[str, list[Any]]:
    """Every row of every table that an engine writes."""
    tables = ("engine_states", "ldm4ts_predictions", "signals", "orders", "fills", "positions", "equity")
    with engine.connect() as connection:
        return {table: list(connection.execute(text(f"SELECT * FROM {table}")).all()) for table in tables}  # noqa: S608 (names above)


def test_a_ledger_that_was_never_written_is_empty(ledger: SqlLedger) -> None:
    port: Ledger = ledger

    assert port.load_state() is None
    assert port.orders() == port.unresolved_orders() == ()
    assert ledger.signals() == ledger.fills() == ledger.equity_curve() == ledger.open_positions() == ()


def test_everything_of_a_batch_comes_back_as_it_was_after_opening_the_file_again(ledger: SqlLedger, url: str) -> None:
    ledger.commit('{"n": 1}', full_batch())

    again = SqlLedger(open_database(url), "demo")

    assert again.load_state() == '{"n": 1}'
    assert again.signals() == (decided(),)
    assert [order.intent for order in again.orders()] == [intent()]
    assert [order.status for order in again.orders()] == [OrderStatus.INTENT]
    assert again.fills() == (fill(),)
    assert again.positions() == (opened(),)
    assert again.open_positions() == (position(),)
    assert again.equity_curve() == (equity(),)


def test_prices_and_money_keep_every_digit(ledger: SqlLedger) -> None:
    ledger.commit("{}", full_batch())

    assert str(ledger.fills()[0].price) == "1.084650000000000000001"
    assert str(ledger.open_positions()[0].entry_price) == "1.084650000000000000001"
    assert str(ledger.orders()[0].intent.stop) == "1.08010"
    assert str(ledger.equity_curve()[0].balance) == "10000.10"


def test_times_come_back_in_utc_whatever_zone_they_came_in(ledger: SqlLedger) -> None:
    in_tokyo = NOON.astimezone(timezone(timedelta(hours=9)))

    ledger.commit("{}", LedgerBatch(equity=equity(in_tokyo), intents=(intent(at=in_tokyo),)))

    assert ledger.equity_curve()[0].at.isoformat() == "2024-03-04T12:00:00+00:00"
    assert ledger.orders()[0].intent.created_at.isoformat() == "2024-03-04T12:00:00+00:00"


def test_a_forecast_is_one_row_per_horizon(ledger: SqlLedger, database: Engine) -> None:
    ledger.commit("{}", full_batch())

    with Session(database) as session:
        found = session.scalars(select(PredictionRow).order_by(PredictionRow.horizon_minutes)).all()
    assert [row.horizon_minutes for row in found] == [240, 960]
    assert found[0].samples == [1.08, 1.1]
    assert found[0].made_at == NOON
    assert found[0].uncertainty_pct == pytest.approx(100 * 0.0013 / 1.0846)
    assert found[0].actual_price is None


def test_the_same_batch_again_changes_not_one_row(ledger: SqlLedger, database: Engine) -> None:
    ledger.commit('{"n": 1}', full_batch())
    before = contents(database)

    ledger.commit('{"n": 1}', full_batch())

    assert contents(database) == before
    assert all(before.values()), "every table should hold something"


def test_an_order_keeps_its_later_status_when_its_batch_comes_again(ledger: SqlLedger) -> None:
    ledger.commit("{}", full_batch())
    ledger.mark_order("EURUSD-open", OrderStatus.FILLED, broker_order_id="b-7", reason="at market")

    ledger.commit("{}", full_batch())

    (order,) = ledger.orders()
    assert (order.status, order.broker_order_id, order.reason) == (OrderStatus.FILLED, "b-7", "at market")


def test_a_closed_position_is_not_opened_by_its_first_batch_coming_again(ledger: SqlLedger) -> None:
    ledger.commit("{}", full_batch())
    ledger.commit("{}", LedgerBatch(positions=(closed(),)))

    ledger.commit("{}", full_batch())

    assert ledger.open_positions() == ()
    assert ledger.positions() == (closed(),)


def test_of_candles_that_close_together_the_last_equity_counts(ledger: SqlLedger) -> None:
    after_both = replace(equity(), open_profit=Decimal("7.70"))
    ledger.commit("{}", LedgerBatch(equity=equity()))

    ledger.commit("{}", LedgerBatch(equity=after_both))

    assert ledger.equity_curve() == (after_both,)


def test_an_open_position_takes_its_new_stop(ledger: SqlLedger) -> None:
    ledger.commit("{}", full_batch())
    moved = replace(position(), stop=Decimal("1.08460"))

    ledger.commit("{}", LedgerBatch(positions=(replace(opened(), position=moved),)))

    assert ledger.open_positions() == (moved,)


@pytest.mark.parametrize("table", ["ldm4ts_predictions", "signals", "orders", "fills", "positions", "equity"])
def test_a_failure_at_any_table_leaves_the_state_before(ledger: SqlLedger, database: Engine, table: str) -> None:
    ledger.commit('{"n": 0}', LedgerBatch())
    before = contents(database)

    def fail(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith(f"INSERT INTO {table} "):
            raise OSError("the disk is full")

    event.listen(database, "after_cursor_execute", fail)
    with pytest.raises(OSError, match="the disk is full"):
        ledger.commit('{"n": 1}', full_batch())
    event.remove(database, "after_cursor_execute", fail)

    assert contents(database) == before
    ledger.commit('{"n": 1}', full_batch())
    assert len(ledger.fills()) == 1


def test_a_batch_with_a_naive_time_is_refused_whole(ledger: SqlLedger) -> None:
    with pytest.raises(StatementError, match="no time zone"):
        ledger.commit("{}", replace(full_batch(), equity=equity(NOON.replace(tzinfo=None))))

    assert ledger.load_state() is None
    assert ledger.orders() == ()


def test_another_fill_under_a_recorded_sequence_stops_the_engine(ledger: SqlLedger) -> None:
    ledger.commit('{"n": 1}', full_batch())

    with pytest.raises(ReconciliationFailed, match="fill 1 of engine demo is already recorded with another price") as raised:
        ledger.commit('{"n": 2}', LedgerBatch(fills=(fill(2), fill(1, price=Decimal("1.09")))))

    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)  # noqa: S301 (our own exception)
    assert ledger.load_state() == '{"n": 1}'
    assert ledger.fills() == (fill(),)


def test_unresolved_orders_are_intents_and_sent_ones_oldest_first(ledger: SqlLedger) -> None:
    names = [status.value for status in OrderStatus]
    intents = tuple(intent(name, NOON + timedelta(hours=10 - place)) for place, name in enumerate(names))
    ledger.commit("{}", LedgerBatch(intents=intents))
    for status in OrderStatus:
        ledger.mark_order(status.value, status)

    assert [order.intent.client_order_id for order in ledger.unresolved_orders()] == ["sent", "intent"]


def test_orders_of_one_candle_keep_the_order_they_were_decided_in(ledger: SqlLedger) -> None:
    ledger.commit("{}", LedgerBatch(intents=(intent("z-close"), intent("a-open"))))

    assert [order.intent.client_order_id for order in ledger.unresolved_orders()] == ["z-close", "a-open"]


def test_marking_an_order_without_details_keeps_those_that_are_known(ledger: SqlLedger) -> None:
    ledger.commit("{}", full_batch())
    ledger.mark_order("EURUSD-open", OrderStatus.ACCEPTED, broker_order_id="b-7")

    ledger.mark_order("EURUSD-open", OrderStatus.REJECTED, reason="no margin")

    (order,) = ledger.orders()
    assert (order.status, order.broker_order_id, order.reason) == (OrderStatus.REJECTED, "b-7", "no margin")


def test_marking_an_order_that_does_not_exist_is_an_error(ledger: SqlLedger) -> None:
    with pytest.raises(LookupError, match="engine demo has no order nothing"):
        ledger.mark_order("nothing", OrderStatus.SENT)


def test_engines_do_not_see_each_other(ledger: SqlLedger, database: Engine) -> None:
    other = SqlLedger(database, "other")
    ledger.commit('{"n": 1}', full_batch())
    other.commit('{"n": 2}', full_batch())
    ledger.mark_order("EURUSD-open", OrderStatus.FILLED)

    assert other.load_state() == '{"n": 2}'
    assert [order.status for order in other.orders()] == [OrderStatus.INTENT]
    assert len(ledger.fills()) == len(other.fills()) == 1


def test_an_order_of_an_engine_without_state_cannot_exist(ledger: SqlLedger, database: Engine) -> None:
    ledger.commit("{}", full_batch())

    with pytest.raises(IntegrityError, match="FOREIGN KEY"), database.begin() as connection:
        connection.execute(text("UPDATE orders SET engine_id = 'nobody'"))


def test_engines_that_write_at_the_same_time_wait_for_each_other(url: str) -> None:
    failures: list[Exception] = []

    def write(name: str) -> None:
        ledger = SqlLedger(open_database(url), name)
        try:
            for hour in range(25):
                ledger.commit(f"{hour}", LedgerBatch(fills=(fill(hour),), equity=equity(NOON + timedelta(hours=hour))))
        except Exception as error:  # noqa: BLE001 (a thread's failure must reach the test)
            failures.append(error)

    threads = [threading.Thread(target=write, args=(f"engine-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert all(len(SqlLedger(open_database(url), f"engine-{number}").equity_curve()) == 25 for number in range(4))
