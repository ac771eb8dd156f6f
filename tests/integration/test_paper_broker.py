"""The paper broker on a real file: what it was told survives, each operation whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event

from fxcast.adapters.brokers import paper
from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.domain.order import FillReason, OrderPurpose, OrderStatus, Side
from fxcast.errors import BadSetup
from fxcast.trading.config import PaperMarketConfig
from tests.factories import HOUR, NOON, make_candle, make_intent

CONFIG = PaperMarketConfig()
ROOT = Path(__file__).parents[2]


def tell(broker: PaperBroker, operation: int) -> None:
    """One operation of a short life: a price, an entry, its fill, a refused order, a close, its fill, an entry, its stop."""
    flat = (1.1, 1.1, 1.1, 1.1)
    candles = {0: (NOON - HOUR, flat), 2: (NOON, flat), 5: (NOON + HOUR, flat), 7: (NOON + 2 * HOUR, (1.1, 1.1, 1.09, 1.09))}
    if operation in candles:
        at, prices = candles[operation]
        broker.observe("EURUSD", make_candle(*prices, open_time=at), at + HOUR)
        return
    intents = {
        1: make_intent(),
        3: make_intent(client_order_id="odd", units=7),
        4: make_intent(client_order_id="EURUSD-1-close", side=Side.SELL, purpose=OrderPurpose.CLOSE, created_at=NOON + HOUR),
        6: make_intent(client_order_id="EURUSD-2-open", created_at=NOON + 2 * HOUR),
    }
    broker.place_order(intents[operation])


def test_file_reopened_after_each_operation_holds_the_same_book_and_fills(tmp_path: Path) -> None:
    path, memory = tmp_path / "deep" / "paper.db", PaperBroker(None, CONFIG)
    for operation in range(8):
        broker = PaperBroker(path, CONFIG)
        tell(broker, operation)
        broker.close()
        tell(memory, operation)
        reopened = PaperBroker(path, CONFIG)
        assert reopened.book == memory.book, f"after operation {operation}"
        assert list(reopened.book.settled) == list(memory.book.settled)
        assert reopened.fills_since(0) == memory.fills_since(0)
        assert reopened.account() == memory.account()
        reopened.close()
    assert [fill.reason for fill in memory.fills_since(0)] == [FillReason.MARKET] * 3 + [FillReason.STOP]
    assert [fill.sequence for fill in memory.fills_since(2)] == [3, 4]


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
    assert reopened.fills_since(0) == ()
    tell(reopened, 2)
    assert len(reopened.fills_since(0)) == 1


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
    (fill,) = broker.fills_since(0)
    assert fill.client_order_id == "EURUSD-1-open"
    order = broker.order("EURUSD-1-open")
    assert order is not None
    assert order.status is OrderStatus.FILLED
    assert [position.units for position in broker.positions()] == [Decimal(10_000)]


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
            with pytest.raises(BadSetup, match=r"another engine trades the paper account in .*; attach to it with --attach"):
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
