"""The paper broker on a real file: what it was told survives, each operation whole or not at all."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event

from fxcast.adapters.brokers import paper
from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.domain.order import Fill, FillReason, OrderPurpose, OrderStatus, ProtectionChange, Side
from fxcast.errors import BadSetup
from fxcast.trading.config import PaperMarketConfig
from fxcast.trading.ports import Broker, MarketObserver
from tests.factories import HOUR, NOON, make_candle, make_intent

CONFIG = PaperMarketConfig(
    commission_per_million=Decimal(35),
    partial_fill_probability=0.6,  # fills a part of EURUSD-1-open: seed 0 draws 0.547
    swap_pct_long={"EURUSD": Decimal(-3)},
)
ROOT = Path(__file__).parents[2]
OPERATIONS = 10


def tell(broker: PaperBroker, operation: int) -> None:
    """One operation of a short life.

    A price, an entry, its fill in part, a refused order, another stop, a close, its fill, an entry, its fill and a night, its stop.
    """
    flat, night = (1.1, 1.1, 1.1, 1.1), NOON + 9 * HOUR
    candles = {
        0: (NOON - HOUR, flat),
        2: (NOON, flat),
        6: (NOON + HOUR, flat),
        8: (night, flat),
        9: (night + HOUR, (1.1, 1.1, 1.09, 1.09)),
    }
    if operation in candles:
        at, prices = candles[operation]
        broker.observe("EURUSD", make_candle(*prices, open_time=at), at + HOUR)
    elif operation == 4:
        change = ProtectionChange(
            change_id="EURUSD-1-open-p1",
            client_order_id="EURUSD-1-open",
            symbol="EURUSD",
            stop=Decimal("1.09600"),
            target=None,
            reason="a test",
            created_at=NOON + HOUR,
        )
        assert broker.modify_order(change).accepted
    elif operation == 5:
        (held,) = broker.positions()
        broker.close_position(
            make_intent(
                client_order_id="EURUSD-1-close",
                side=Side.SELL,
                units=str(held.units),
                purpose=OrderPurpose.CLOSE,
                created_at=NOON + HOUR,
            )
        )
    else:
        intents = {
            1: make_intent(),
            3: make_intent(client_order_id="odd", units=7),
            7: make_intent(client_order_id="EURUSD-3-open", created_at=NOON + 2 * HOUR),
        }
        broker.place_order(intents[operation])


def fills(broker: PaperBroker) -> list[Fill]:
    return [each for each in broker.transactions_since(0) if isinstance(each, Fill)]


def test_paper_broker_is_a_broker_that_observes_the_market() -> None:
    memory = PaperBroker(None, CONFIG)
    broker: Broker = memory
    observer: MarketObserver = memory
    observer.observe("EURUSD", make_candle(1.1, 1.1, 1.1, 1.1), NOON + HOUR)
    assert broker.quotes(["EURUSD"])["EURUSD"].at == NOON + HOUR
    assert broker.rates().worth["EUR"] == Decimal("1.1")
    assert broker.instruments(["EURUSD"])["EURUSD"].margin_rate == 1 / Decimal(30)


def test_file_reopened_after_each_operation_holds_the_same_book_and_transactions(tmp_path: Path) -> None:
    path, memory = tmp_path / "deep" / "paper.db", PaperBroker(None, CONFIG)
    for operation in range(OPERATIONS):
        broker = PaperBroker(path, CONFIG)
        tell(broker, operation)
        broker.close()
        tell(memory, operation)
        reopened = PaperBroker(path, CONFIG)
        assert reopened.book == memory.book, f"after operation {operation}"
        assert list(reopened.book.settled) == list(memory.book.settled)
        assert reopened.transactions_since(0) == memory.transactions_since(0)
        assert reopened.account() == memory.account()
        reopened.close()
    seen = memory.transactions_since(0)
    assert [each.reason.value if isinstance(each, Fill) else "interest" for each in seen] == [
        "market",
        "market",
        "market",
        "interest",
        "stop",
    ]
    assert [each.sequence for each in memory.transactions_since(2)] == [3, 4, 5]
    part = memory.order("EURUSD-1-open")
    assert part is not None
    assert (part.status, part.filled_units) == (OrderStatus.CANCELLED, 7_000)


def test_operation_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "paper.db"
    broker = PaperBroker(path, CONFIG)
    for operation in range(2):
        tell(broker, operation)
    before = broker.book

    def fail(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE book"):
            raise OSError("the disk is full")

    event.listen(Engine, "before_cursor_execute", fail)
    with pytest.raises(OSError, match="disk is full"):
        tell(broker, 2)  # would write a settled order and a fill before the book
    event.remove(Engine, "before_cursor_execute", fail)
    assert broker.book == before
    broker.close()
    reopened = PaperBroker(path, CONFIG)
    assert reopened.book == before
    assert reopened.transactions_since(0) == ()
    tell(reopened, 2)
    assert len(reopened.transactions_since(0)) == 1


def test_killed_process_leaves_every_finished_operation(tmp_path: Path) -> None:
    path = tmp_path / "paper.db"
    program = (
        "import os, signal, sys; from pathlib import Path; from fxcast.adapters.brokers.paper import PaperBroker; "
        "from tests.integration.test_paper_broker import CONFIG, tell; broker = PaperBroker(Path(sys.argv[1]), CONFIG); "
        "[tell(broker, operation) for operation in range(3)]; os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}"}
    killed = subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    broker = PaperBroker(path, CONFIG)
    (fill,) = fills(broker)
    assert (fill.client_order_id, fill.reason) == ("EURUSD-1-open", FillReason.MARKET)
    order = broker.order("EURUSD-1-open")
    assert order is not None
    assert order.filled_units == 7_000
    assert [position.units for position in broker.positions()] == [7_000]


def test_file_has_one_user_until_that_process_ends_however_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "paper.db"
    program = (
        "import sys; from pathlib import Path; from fxcast.adapters.brokers.paper import PaperBroker; "
        "from tests.integration.test_paper_broker import CONFIG; broker = PaperBroker(Path(sys.argv[1]), CONFIG); "
        "print('open', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "open\n"
        monkeypatch.setattr(paper, "_LOCK_TIMEOUT_S", 0.05)
        for attempt in (lambda: PaperBroker(path, CONFIG), lambda: paper.require_unused(path)):
            with pytest.raises(BadSetup, match=r"trades the paper account in .*; stop it with python -m jobs.control --stop"):
                attempt()
        user.kill()
    paper.require_unused(path)
    PaperBroker(path, CONFIG).close()


def test_account_opened_with_other_settings_is_refused_with_the_difference(tmp_path: Path) -> None:
    path = tmp_path / "paper.db"
    PaperBroker(path, CONFIG).close()
    with pytest.raises(BadSetup, match=r"leverage 30, not 20"):
        PaperBroker(path, PaperMarketConfig(leverage=Decimal(20)))


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and long enough for SQLite to notice that the header is wrong" * 20)
    with pytest.raises(BadSetup, match="not the file of a paper broker"):
        PaperBroker(path, CONFIG)


def test_file_of_an_older_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "paper.db"
    old = sqlite3.connect(path)
    old.execute("CREATE TABLE book (id INTEGER PRIMARY KEY, content VARCHAR NOT NULL)")
    old.execute("CREATE TABLE fills (sequence INTEGER PRIMARY KEY, client_order_id VARCHAR NOT NULL)")
    old.commit()
    with pytest.raises(BadSetup, match=r"kept by another version of fxcast \(format 1, this one reads 2\); use another file"):
        PaperBroker(path, CONFIG)
    assert old.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall() == [("book",), ("fills",)]
    old.close()


def test_database_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE notes (content TEXT)")
    other.commit()
    with pytest.raises(BadSetup, match="not the file of a paper broker: it has the tables notes; use another file"):
        PaperBroker(path, CONFIG)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("notes",)]
    other.close()
