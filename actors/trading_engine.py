"""The trading engine as a Ray actor: named, detached, restarted without limit.

Its constructor starts trading, so that start and restart are one path: after a kill, Ray runs the constructor again, and the
runner goes on from what the ledger and the broker hold.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from traceback import format_exception
from typing import Any, Self, TypedDict

import numpy as np
import ray
import structlog
from pydantic import AwareDatetime, Field
from ray.actor import ActorHandle

from actors.checked_forecasts import CheckedForecasts
from fxcast.adapters.backoff import backoff
from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.clock import ReplayClock
from fxcast.adapters.feeds.replay import ReplayFeed
from fxcast.adapters.storage.database import absolute_database_url, open_database, show_url
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.config import Settings
from fxcast.data.store import CandleStore, absolute_location
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting, BadSetup, ReconciliationFailed, Refused, Unavailable
from fxcast.serving.client import ServeForecasts
from fxcast.serving.names import APPLICATION
from fxcast.signals.regime import fit_regimes
from fxcast.trading.config import PaperMarketConfig, TradingConfig
from fxcast.trading.engine import EngineConfig
from fxcast.trading.runner import Runner
from fxcast.trading.state import EngineState, KillSwitch, state_from_json

log = structlog.get_logger(__name__)

NAMESPACE = "fxcast"
ENDED = frozenset({"finished", "stopped", "failed"})  # states that an engine does not leave
_REGIME_BARS = 2_000  # candles before the start that the regimes are fitted on, at most


def _broker_file(given: dict[str, Any]) -> Path:
    return Path("runs") / f"paper_broker_{given.get('account', '')}.db"  # one account a file: two engines on one would disagree


class EngineSettings(Settings):
    """What an engine trades and where everything is: candles of the store, against the paper broker."""

    account: str = Field(default="paper", pattern="^[a-z0-9-]+$", description="name of the account; one engine each")
    symbol: str = Field(default="EURUSD", pattern="^[A-Z]{6}$")
    timeframe: str = "1h"
    store: str = Field(default="runs/store", description="root of the candle store")
    database_url: str = Field(default="sqlite:///runs/fxcast.db", repr=False, description="the ledger")  # may hold a password
    broker_file: Path = Field(
        default_factory=_broker_file, description="the paper broker's own books; by default runs/paper_broker_ACCOUNT.db"
    )
    trading: TradingConfig = TradingConfig()
    market: PaperMarketConfig = PaperMarketConfig()
    application: str = Field(default=APPLICATION, description="Serve application that forecasts")

    def absolute(self) -> Self:
        """Return the same setup with absolute paths: the engine's process has another working directory.

        Raises:
            BadSetup: If the database URL can't be read.
        """
        model = self.trading.ldm4ts_checkpoint_path
        return self.model_copy(
            update={
                "store": absolute_location(self.store),
                "database_url": absolute_database_url(self.database_url),
                "broker_file": self.broker_file.absolute(),
                "trading": self.trading.model_copy(update={"ldm4ts_checkpoint_path": None if model is None else model.absolute()}),
            }
        )


class ReplaySetup(EngineSettings):
    """An engine and the period that it replays."""

    start: AwareDatetime = Field(description="the first candle closes at or after it")
    stop: AwareDatetime = Field(description="candles that close at or after it are not replayed")

    def candles(self) -> tuple[CandleSeries, int, int]:
        """Read the symbol's candles; those at positions from the first number up to the second are replayed.

        Raises:
            BadCandles: If the store holds none of the period.
            BadSetting: If the store's URI is unknown.
        """
        series = CandleStore(self.store).read(self.symbol, Timeframe(self.timeframe))
        first, end = (int(np.searchsorted(series.close_times, to_datetime64(moment))) for moment in (self.start, self.stop))
        if first >= end:
            held = f"the store holds {to_datetime(series.open_times[0]):%Y-%m-%d} to {to_datetime(series.close_times[-1]):%Y-%m-%d}"
            found = f"none of {self.symbol} {self.timeframe} from {self.start.isoformat()} to {self.stop.isoformat()}"
            raise BadCandles("candles", found, f"a start and a stop around some; {held}")
        return series, first, end


class EngineStatus(TypedDict):
    """What the engine says of itself; plain types."""

    pid: int
    state: str  # starting, running, waiting (for a broker that does not answer), finished, stopped, failed
    problem: str
    refused: bool  # it failed because the input is wrong: mending that is all it takes
    candles_done: int
    candles_total: int
    last_candle: str
    kill_switch: str
    forecasts_missed: int


@dataclass
class _Progress:
    state: str = "starting"
    problem: str = ""
    refused: bool = False
    done: int = 0
    total: int = 0
    last: datetime | None = None


class EngineShell:
    """Holds the runner and the thread it runs on.

    Args:
        setup: What to trade and where everything is.
        open_broker: Opens the paper broker.
        pauses: Begins the pauses, in seconds, between two tries of what did not answer.
    """

    def __init__(
        self,
        setup: ReplaySetup,
        open_broker: Callable[[Path, PaperMarketConfig], PaperBroker] = PaperBroker,
        pauses: Callable[[], Iterator[float]] = backoff,
    ) -> None:
        self._setup = setup
        self._open_broker = open_broker
        self._pauses = pauses
        self._progress = _Progress()
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # a candle and the kill switch are never handled at once
        self._runner: Runner | None = None
        self._broker: PaperBroker | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def status(self) -> EngineStatus:
        """Say how far the engine is."""
        progress, runner = self._progress, self._runner
        return EngineStatus(
            pid=os.getpid(),
            state=progress.state,
            problem=progress.problem,
            refused=progress.refused,
            candles_done=progress.done,
            candles_total=progress.total,
            last_candle="" if progress.last is None else progress.last.isoformat(),
            kill_switch=KillSwitch.ACTIVE.value if runner is None else runner.state.kill_switch.value,
            forecasts_missed=0 if runner is None else runner.state.forecasts_missed,
        )

    def set_kill_switch(self, kill_switch: str) -> None:
        """Set the kill switch: active, reducing or halted.

        Raises:
            BadSetup: If the engine has not started.
        """
        if self._runner is None:
            problem = f" ({self._progress.problem})" if self._progress.problem else ""
            raise BadSetup(f"the engine is {self._progress.state}{problem} and trades nothing; set the kill switch once it runs")
        with self._lock:
            self._runner.set_kill_switch(KillSwitch(kill_switch))

    def stop(self) -> None:
        """Stop after the candle in hand; what is open stays open, protected at the broker."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            runner = self._prepare()
            if not self._persist(lambda: self._start(runner)):
                return
            for closed in runner.closed_candles():
                if not self._persist(lambda closed=closed: runner.handle(closed)):
                    return
                self._progress.done += 1
                self._progress.last = closed.closed_at
            self._progress.state = "finished"
        except Exception as error:  # noqa: BLE001  # nobody awaits this thread: its status alone can tell the caller of a bug
            self._progress.problem = f"{type(error).__name__}: {error}"
            self._progress.refused = isinstance(error, Refused)
            self._progress.state = "failed"
            # Not log.exception, which may show the variables of each frame: a database's password is among them.
            log.error("engine failed", problem=self._progress.problem, traceback="".join(format_exception(error)))
        finally:
            if self._broker is not None:
                self._broker.close()

    def _persist(self, act: Callable[[], object]) -> bool:
        """Act, and again as long as the broker does not answer; False if the engine was asked to stop before it was done."""
        for pause_s in self._pauses():
            if self._stopping.is_set():
                break
            try:
                with self._lock:
                    act()
            except Unavailable as error:
                self._progress.problem = f"{type(error).__name__}: {error}"
                self._progress.state = "waiting"
                log.warning("engine waits", problem=str(error), pause_s=round(pause_s, 1))
                self._stopping.wait(pause_s)
            else:
                self._progress.problem = ""
                self._progress.state = "running"
                return True
        self._progress.state = "stopped"
        return False

    def _start(self, runner: Runner) -> None:
        try:
            runner.start()
        except ReconciliationFailed as error:
            raise ReconciliationFailed(self._apart(str(error))) from error
        self._runner = runner

    def _apart(self, problem: str) -> str:
        """Say that the ledger and the broker's file tell different stories."""
        setup = self._setup
        return (
            f"the ledger {show_url(setup.database_url)} of account {setup.account!r} and the paper broker's file "
            f"{setup.broker_file} do not belong together: {problem}; set engine.broker_file to the file that this account was "
            "traded with, or begin anew with another engine.account and its own file"
        )

    def _prepare(self) -> Runner:
        setup = self._setup
        series, start, stop = setup.candles()
        ledger = SqlLedger(open_database(setup.database_url), engine_id=setup.account)
        clock = ReplayClock(setup.start)
        self._broker = broker = self._open_broker(setup.broker_file, setup.market)
        saved = _saved_state(ledger)
        if broker.book.sequence < saved.fill_sequence:  # the runner would wait for fills it believes to have had
            problem = f"the ledger has taken in {saved.fill_sequence} fills, and the broker made {broker.book.sequence}"
            raise ReconciliationFailed(self._apart(problem))
        handled = saved.cursors.get(setup.symbol)
        if handled is not None:
            done = int(np.searchsorted(series.close_times, to_datetime64(handled), side="right")) - start
            if done < 0:
                raise BadSetting(self._leaves_out(-done, handled))
            self._progress.done = done
        forecasts = None
        if setup.trading.use_ldm4ts:
            forecasts = CheckedForecasts(ServeForecasts(setup.application), setup.trading, timeframe=setup.timeframe)
        self._progress.total = stop - start
        return Runner(
            EngineConfig(trading=setup.trading),
            feeds=[ReplayFeed(series, start=setup.start, stop=setup.stop, clock=clock)],
            broker=broker,
            ledger=ledger,
            clock=clock,
            forecasts=forecasts,
            observers=[broker],
            regime_models={setup.symbol: fit_regimes(series.slice(max(0, start - _REGIME_BARS), start))},
        )

    def _leaves_out(self, candles: int, handled: datetime) -> str:
        """Say that candles would be skipped between the last one handled and the first one to come."""
        setup = self._setup
        return (
            f"engine.start: found {setup.start.isoformat()}; account {setup.account!r} has traded up to {handled.isoformat()}, and "
            f"{candles} candles of {setup.symbol} in between would be left out, with what they do to its orders and stops; go on "
            "with an earlier start, or begin anew with another engine.account"
        )


def _saved_state(ledger: SqlLedger) -> EngineState:
    saved = ledger.load_state()
    return EngineState() if saved is None else state_from_json(saved)


# Wrapped, not decorated: so the class keeps its type.
EngineActor: Any = ray.remote(EngineShell)


def actor_name(account: str) -> str:
    """Return the name under which an account's engine is found."""
    return f"engine-{account}"


def start_engine(setup: ReplaySetup) -> ActorHandle[Any]:
    """Start an account's engine on the connected cluster.

    Raises:
        BadSetup: If one runs already.
    """
    if find_engine(setup.account) is not None:
        raise BadSetup(
            f"an engine for account {setup.account!r} runs already; attach to it with --attach, or stop it first with --stop"
        )
    options = {
        "name": actor_name(setup.account),
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "max_restarts": -1,
        "max_task_retries": 0,  # a call that died may have run; only the runner may decide to do a thing again
        "max_concurrency": 4,  # status answers while another call waits
        "num_cpus": 0.1,
    }
    return EngineActor.options(**options).remote(setup)


def find_engine(account: str) -> ActorHandle[Any] | None:
    """Return an account's engine if it runs."""
    try:
        return ray.get_actor(actor_name(account), namespace=NAMESPACE)
    except ValueError:
        return None
