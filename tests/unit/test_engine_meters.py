"""What an engine and a feed show to Prometheus, without Ray."""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from actors.decision_reasons import NO_REASON, OTHER_REASON, REASON_KINDS, reason_kind
from actors.engine_meters import (
    CANDLES,
    DRAWDOWN,
    ENDED,
    ENGINE_METERS,
    EQUITY,
    EXPOSURE,
    GROSS_EXPOSURE,
    ORDERS,
    RISK_EVENTS,
    STATE,
    WAITING,
    EngineMeters,
    Glance,
    outage_of,
)
from actors.feed_meters import NEWEST_CLOSE, OVERDUE, PUBLISHED, REFUSED, FeedMeters
from actors.trading_engine import ENDED as ENDED_STATES
from actors.trading_engine import EngineShell
from fxcast.adapters.feeds.port import FeedCandles, FeedStatus, Origin
from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.cluster.meters import Board, Meter, harmless
from fxcast.domain.market import without_details
from fxcast.domain.order import OrderStatus, Side
from fxcast.domain.portfolio import Position
from fxcast.errors import AccountTaken, DatabaseUnavailable, Disconnected, Unavailable
from fxcast.trading import decision, gates
from fxcast.trading.ports import LedgerBatch
from fxcast.trading.state import EngineState, HeldPosition
from tests.engine_factories import make_setup
from tests.factories import NOON, make_series
from tests.waiting import wait_for

Values = dict[tuple[str, ...], float]


def values(board: Board, meter: Meter) -> Values:
    """Return what a board shows of a meter by the labels that are its own."""
    own = meter.labels[1:]
    return {
        tuple(dict(labels)[each] for each in own): value for (name, labels), value in board.shown().items() if name == meter.name
    }


def sentences(function: object) -> Iterator[str]:
    """Yield the sentences of a function's source, each value in them a 1."""
    body = ast.parse(inspect.getsource(function)).body[0].body[1:]  # type: ignore[arg-type,attr-defined]  # a function, its docstring left out
    nodes = [each for part in body for each in ast.walk(part)]
    formats = {id(node.format_spec) for node in nodes if isinstance(node, ast.FormattedValue)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr) and id(node) not in formats:
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in node.values)


@pytest.mark.parametrize("gate", [*gates.REFUSALS, *gates.CUTS], ids=lambda gate: gate.__name__)
def test_what_a_gate_says_is_of_the_kind_that_it_is_named_after(gate: object) -> None:
    name = gate.__name__.removesuffix("_gate").removesuffix("_cut")  # type: ignore[attr-defined]  # a function
    found = [*sentences(gate)]
    assert found
    assert {reason_kind(sentence) for sentence in found} == {name}


def test_what_a_decision_says_is_of_a_known_kind() -> None:
    kinds = [reason_kind(sentence) for sentence in sentences(decision._refusal)]  # pyright: ignore[reportPrivateUsage]  # for its sentences
    assert len(set(kinds)) == len(kinds) == 6
    assert OTHER_REASON not in kinds


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("", NO_REASON),
        ("the market is closed", "weekend"),
        (
            "one symbol is limited to 9 % of equity: 9 cut to 8; USD exposure is limited to 3 % of equity: 8 cut to 1",
            "currency_exposure",
        ),
        ("an idea of somebody's: 4711", OTHER_REASON),
    ],
)
def test_reasons_are_of_few_kinds(reason: str, kind: str) -> None:
    assert reason_kind(reason) == kind
    assert kind in REASON_KINDS


def test_a_replayed_engine_shows_what_its_ledger_holds(tmp_path: Path) -> None:
    setup = make_setup(tmp_path)
    shell = EngineShell(setup)
    wait_for(lambda: shell.status()["state"] in ENDED_STATES)
    board = shell.meters.board
    shell.meters.look()

    ledger = SqlLedger(open_database(setup.database_url), engine_id=setup.account)
    orders, state = ledger.orders(), ledger.load_state()
    assert orders, "the replay trades"
    assert state is not None
    assert values(board, CANDLES) == {(): 80.0}
    assert values(board, STATE)["finished",] == 1.0
    assert sum(values(board, STATE).values()) == 1.0
    assert set(values(board, WAITING).values()) == {0.0}
    assert values(board, ENDED)
    assert values(board, EQUITY) == {(): float(state.last_equity or 0)}
    assert 0 <= values(board, DRAWDOWN)[()] < 100
    shown = values(board, ORDERS)
    decided = Counter(record.intent.purpose.value for record in orders)
    assert {purpose: shown[purpose, "intent"] for purpose in decided} == decided
    settled = Counter((each.intent.purpose.value, each.status.value) for each in orders if each.status is not OrderStatus.ACCEPTED)
    assert {key: count for key, count in shown.items() if count and key[1] != "intent"} == settled
    assert not {OTHER_REASON} & {reason_kind(decided.reason) for decided in ledger.signals()}


def held(symbol: str, side: Side, units: int) -> HeldPosition:
    price = Decimal("1.1")
    position = Position(
        client_order_id=f"{symbol}-open",
        symbol=symbol,
        side=side,
        units=Decimal(units),
        entry_price=price,
        stop=price,
        target=None,
        opened_at=NOON,
    )
    return HeldPosition(position=position, signal_id=symbol, horizon_bars=4, bars_held=0, first_stop=price, best_price=price)


def test_exposure_is_net_by_currency_and_gross_over_all_and_falls_to_zero_when_all_is_closed(tmp_path: Path) -> None:
    prices = {"EURUSD": Decimal("1.1"), "GBPUSD": Decimal("1.25")}
    positions = {"EURUSD": held("EURUSD", Side.BUY, 10_000), "GBPUSD": held("GBPUSD", Side.SELL, 4_000)}
    states = [EngineState(prices=prices, positions=positions), EngineState(prices=prices)]
    now = iter(states)
    meters = EngineMeters(make_setup(tmp_path), lambda: Glance(status="running", outage="", seen=NOON, state=next(now)))
    meters.look()
    assert values(meters.board, EXPOSURE) == {("EUR",): 11_000.0, ("GBP",): -5_000.0, ("USD",): -6_000.0}
    assert values(meters.board, GROSS_EXPOSURE) == {(): 16_000.0}
    meters.look()
    assert set(values(meters.board, EXPOSURE).values()) == {0.0}
    assert values(meters.board, GROSS_EXPOSURE) == {(): 0.0}


def test_every_kind_of_risk_event_is_shown_before_the_first(tmp_path: Path) -> None:
    meters = EngineMeters(make_setup(tmp_path), lambda: Glance(status="running", outage="", seen=None, state=EngineState()))
    assert values(meters.board, RISK_EVENTS)["reconciliation",] == 0.0


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (DatabaseUnavailable("away"), "database"),
        (Disconnected("away"), "broker"),
        (AccountTaken("taken"), "account"),
        (Unavailable("something"), "other"),
    ],
)
def test_outages_are_told_apart(error: Exception, outage: str) -> None:
    assert outage_of(error) == outage


def test_what_can_not_be_counted_is_logged_once_and_stops_nothing(tmp_path: Path) -> None:
    class BrokenLedger:
        """Stands for whatever fails inside."""

    meters = EngineMeters(make_setup(tmp_path), lambda: 1 / 0)  # type: ignore[arg-type,return-value]  # it fails, as it should
    with capture_logs() as logs:
        meters.look()
        meters.look()
        meters.handled(LedgerBatch(), EngineState(), BrokenLedger())  # type: ignore[arg-type]  # asked for nothing
    assert [each["event"] for each in logs].count("not counted") <= 1


def test_a_failure_of_each_method_is_told_once() -> None:
    class Counting:
        @harmless
        def count(self, number: int) -> None:
            raise ValueError(number)

    with capture_logs() as logs:
        for number in range(3):
            Counting().count(number)
    assert [(each["event"], each["problem"]) for each in logs] == [("not counted", "ValueError: 0")]


def test_a_board_takes_no_label_that_its_meter_lacks() -> None:
    meter = Meter(name="fxcast_test_gauge", kind="gauge", labels=("a",), meaning="for this test")
    with pytest.raises(ValueError, match=r"found labels \['b'\]; allowed: \['a'\]"):
        Board([meter], {}).set(meter, 1.0, b="x")


@pytest.mark.parametrize(
    ("name", "kind", "meaning"), [("fxcast_x_total", "gauge", "x"), ("fxcast_x", "total", "x"), ("fxcast_x", "gauge", "90 – 91")]
)
def test_a_meter_that_would_be_exported_under_another_name_or_not_at_all_is_refused(name: str, kind: str, meaning: str) -> None:
    with pytest.raises(ValueError, match=name):
        Meter(name=name, kind=kind, meaning=meaning)  # type: ignore[arg-type]  # one of the kinds


def test_labels_are_few_and_names_are_ours() -> None:
    assert all(len(meter.labels) <= 3 and meter.name.startswith("fxcast_engine_") for meter in ENGINE_METERS)


class SetClock:
    """A clock that stands where it was put."""

    def __init__(self, now: datetime) -> None:
        self.moment = now

    def now(self) -> datetime:
        return self.moment


def published(closes: datetime, bars: int = 3) -> Sequence[FeedCandles]:
    series = make_series(bars=bars, timeframe="1m", start=closes - timedelta(minutes=bars))
    return [FeedCandles(data=without_details(series), origin=Origin.LIVE)]


def feed_meters(clock: SetClock, **status: object) -> FeedMeters:
    said = {**FeedStatus().to_dict(), "pending": 0, "conflicting": 0, **status}
    return FeedMeters("oanda", ["EURUSD", "GBPUSD"], timedelta(minutes=1), lambda: said, clock)


def test_a_feed_shows_how_late_its_next_candle_is_by_symbol() -> None:
    clock = SetClock(NOON)
    meters = feed_meters(clock, malformed=2)
    meters.look()
    meters.published(published(NOON + timedelta(minutes=1)))
    clock.moment = NOON + timedelta(minutes=4)
    meters.look()
    assert values(meters.board, OVERDUE) == {("EURUSD",): 120.0, ("GBPUSD",): 180.0}
    assert values(meters.board, NEWEST_CLOSE) == {("EURUSD",): (NOON + timedelta(minutes=1)).timestamp()}
    assert values(meters.board, PUBLISHED) == {("EURUSD",): 3.0, ("GBPUSD",): 0.0}
    assert values(meters.board, REFUSED)["malformed",] == 2.0


def test_no_candle_is_late_at_the_weekend_nor_at_the_first_minute_after_it() -> None:
    sunday = datetime(2017, 3, 5, 12, tzinfo=UTC)
    clock = SetClock(sunday)
    meters = feed_meters(clock)
    meters.published(published(datetime(2017, 3, 3, 22, tzinfo=UTC)))
    meters.look()
    assert set(values(meters.board, OVERDUE).values()) == {0.0}
    clock.moment = datetime(2017, 3, 5, 22, 0, 30, tzinfo=UTC)  # 17:00 New York
    meters.look()
    assert set(values(meters.board, OVERDUE).values()) == {0.0}
    clock.moment += timedelta(minutes=2)
    meters.look()
    assert set(values(meters.board, OVERDUE).values()) == {60.0}
