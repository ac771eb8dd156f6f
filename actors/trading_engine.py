"""The trading engine as a Ray actor: named, detached, restarted without limit.

Its constructor starts trading, so that start and restart are one path: after a kill, Ray runs the constructor again, and the
runner goes on from what the ledger and the broker hold.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from traceback import format_exception
from typing import Any

import ray
import structlog
from ray.actor import ActorHandle
from structlog.contextvars import bind_contextvars, bound_contextvars

from actors.engine_meters import EngineMeters, Glance, outage_of
from actors.engine_parts import EngineParts, SettingsRefused, apart, open_parts
from actors.engine_progress import Progress
from actors.engine_settings import ReplaySetup, Setup
from actors.engine_status import EngineStatus
from actors.engine_terms import TermsInForce
from fxcast import logs, tracing
from fxcast.adapters.alerts import WebhookAlerts
from fxcast.adapters.backoff import backoff
from fxcast.adapters.clock import SystemClock
from fxcast.errors import AccountTaken, BadSetup, FxcastError, ReconciliationFailed, Refused, Unavailable
from fxcast.trading.ports import ClosedCandle, LedgerBatch, RiskEvent, RiskEventKind
from fxcast.trading.state import EngineState, KillSwitch

log = structlog.get_logger(__name__)

NAMESPACE = "fxcast"
ENDED = frozenset({"finished", "stopped", "failed"})  # states that an engine does not leave
_SHOWN = 20  # decisions and risk events of a status
_PRUNE_EVERY_S = 3600.0


class EngineShell:
    """Holds the runner and the thread it runs on.

    Args:
        setup: What to trade and where everything is.
        open_parts: Puts the runner together.
        pauses: Begins the pauses, in seconds, between two tries of what did not answer.
    """

    def __init__(
        self,
        setup: Setup,
        open_parts: Callable[[Setup, Collection[int]], EngineParts] = open_parts,
        pauses: Callable[[], Iterator[float]] = lambda: backoff(longest_s=15.0),
    ) -> None:
        self._setup = setup
        self._open_parts = open_parts
        self._pauses = pauses
        self._progress = Progress()
        self._terms = TermsInForce()
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # a candle and the kill switch are never handled at once
        self._parts: EngineParts | None = None
        self._left = EngineState()  # of the parts that were closed last
        self._started = False
        self._outage: tuple[datetime, str] | None = None  # since when something does not answer, and what
        self._renewed_s = time.monotonic()
        self._pruned_s = float("-inf")
        self.meters = EngineMeters(setup, self._glance)
        self.meters.board.start()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def settings(self) -> Setup:
        """Say what the engine trades; holds no credential but, perhaps, a database's password."""
        return self._setup

    def status(self) -> EngineStatus:
        """Say what the engine does, holds and has decided of late."""
        return self._progress.status(self._setup.account, self._state())

    def set_kill_switch(self, kill_switch: str, by: str = "", reason: str = "") -> None:
        """Set the kill switch at once: active, reducing or halted.

        Raises:
            BadSetup: If the engine has not started.
        """
        with self._lock, bound_contextvars(account=self._setup.account):
            if self._parts is None or not self._started:
                problem = f" ({self._progress.problem})" if self._progress.problem else ""
                raise BadSetup(
                    f"the engine is {self._progress.state}{problem} and trades nothing; set the kill switch once it runs"
                )
            self._parts.runner.set_kill_switch(KillSwitch(kill_switch), by=by, reason=reason)

    def look(self) -> None:
        """Look at once after what is open, and for what a person has asked of the kill switch."""
        with self._lock, bound_contextvars(account=self._setup.account):
            if self._parts is not None and self._started:
                self._note(self._parts.runner.handle(()))

    def stop(self) -> None:
        """Stop after the candle in hand; what is open stays open, protected at the broker."""
        self._stopping.set()
        if self._parts is not None:
            self._parts.stop_feed()
        self._thread.join()

    def _state(self) -> EngineState:
        parts = self._parts
        return self._left if parts is None else parts.runner.state

    def _glance(self) -> Glance:
        progress = self._progress
        return Glance(status=progress.state, outage=progress.outage, seen=progress.seen, state=self._state())

    def _run(self) -> None:
        bind_contextvars(account=self._setup.account)  # in every line of this thread
        end = "failed"
        try:
            end = "finished" if self._traded() and not self._stopping.is_set() else "stopped"
        except Exception as error:  # noqa: BLE001  # nobody awaits this thread: a bug is told by status, ledger and alert alone
            self._fail(error)
        finally:
            try:
                self._close()
            finally:
                self.meters.ended(SystemClock().now())
                self._progress.state = end  # last: whoever sees it may start a successor

    def _traded(self) -> bool:
        """Trade until the candles end; False if the engine was asked to stop before.

        Settings that a person has set are taken before the next candle, on the path of a restart: everything is opened anew.
        """
        while True:
            try:
                traded = self._traded_once()
            except SettingsRefused as refused:
                self._terms.pass_over(refused)
                traded = None
            if traded is not None:
                return traded
            with self._lock:
                self._started = False
                self._close()

    def _traded_once(self) -> bool | None:
        """Trade until the candles end, True, the engine is asked to stop, False, or other settings are in force, None.

        Raises:
            SettingsRefused: If what may be their fault keeps it from trading.
        """
        parts = self._opened()
        if parts is None:
            return False
        self._parts = parts
        self._progress.done, self._progress.total = max(self._progress.done, parts.candles_done), parts.candles_total
        self._progress.describe, self._progress.terms = parts.describe, parts.terms
        log.warning("engine opens its account", account=self._setup.account, what=parts.describe, settings=parts.terms.version)
        try:
            if not self._persist(parts.runner.start):
                return False
            self._started = True
            self.meters.started(parts.runner.state, parts.ledger, parts.terms.trading)
            for closed in parts.runner.closed_candles():
                if self._terms.have_changed(parts):
                    return None
                if not self._persist(partial(self._handle, parts, closed)):
                    return False
                if closed and not self._proved(parts):
                    return False
        except Refused as error:
            if self._terms.may_be_refused(parts):
                raise SettingsRefused(parts.terms.version) from error
            raise
        return True

    def _proved(self, parts: EngineParts) -> bool:
        """Keep that a candle was handled with these settings; False if the engine was asked to stop before."""
        told: list[RiskEvent] = []
        if not self._persist(lambda: told.extend(self._terms.prove(parts, SystemClock().now()))):
            return False
        for event in told:
            self._alert(event.kind.value, event.detail, event.at)
            self._keep(parts, event)
        return True

    def _opened(self) -> EngineParts | None:
        """Open everything; an account whose lease nobody renews is waited for, for its engine was killed."""
        held = ""
        parts: list[EngineParts] = []
        while not parts:
            try:
                if not self._persist(lambda: parts.append(self._open_parts(self._setup, self._terms.passed_over))):
                    return None
            except AccountTaken as error:
                if held and str(error) != held:  # its engine lives: it has renewed the lease
                    raise
                held = str(error)
                self._progress.state, self._progress.problem, self._progress.outage = "waiting", held, outage_of(error)
                if self._stopping.wait(1.0):
                    return None
        return parts[0]

    def _persist(self, act: Callable[[], object]) -> bool:
        """Act, and again as long as something does not answer; False if the engine was asked to stop before it was done."""
        for pause_s in self._pauses():
            if self._stopping.is_set():
                break
            self._progress.seen = SystemClock().now()
            try:
                with self._lock:
                    act()
            except Unavailable as error:
                self._begin_outage(str(error))
                self._progress.problem = f"{type(error).__name__}: {error}"
                self._progress.state, self._progress.outage = "waiting", outage_of(error)
                log.warning("engine waits", problem=str(error), pause_s=round(pause_s, 1))
                self._stopping.wait(pause_s)
                self._keep_lease()
            else:
                self._progress.problem = self._progress.outage = ""
                self._progress.state = "running"
                self._end_outage()
                return True
        return False

    def _begin_outage(self, problem: str) -> None:
        if self._outage is None and self._progress.terms is not None:
            self._outage = (SystemClock().now(), problem)
            self._alert("disconnect", problem, self._outage[0])

    def _alert(self, kind: str, text: str, at: datetime) -> None:
        """Tell a person, also while nothing is open between two versions of the settings."""
        if self._parts is not None:
            self._parts.alerts.send(kind, text, at)
        else:
            with closing(WebhookAlerts(self._setup.alerts, engine_id=self._setup.account)) as alerts:
                alerts.send(kind, text, at)

    def _end_outage(self) -> None:
        """Keep how long something did not answer; the database may have been it, so this comes when it is over."""
        if self._outage is None or self._parts is None:
            return
        (since, problem), self._outage = self._outage, None
        lasted_s = (SystemClock().now() - since).total_seconds()
        detail = f"for {lasted_s:.0f} s: {problem}"
        self._keep(self._parts, RiskEvent(kind=RiskEventKind.DISCONNECT, at=since, symbol="", detail=detail))

    def _keep(self, parts: EngineParts, event: RiskEvent) -> None:
        """Keep a risk event in the ledger, if it answers; a person was told already."""
        self._progress.risk_events.append(event)
        self.meters.happened(event.kind)
        try:
            with self._lock:
                parts.runner.note(event)
        except FxcastError as error:
            log.warning("risk event not kept", kind=event.kind.value, detail=event.detail, problem=str(error))

    def _handle(self, parts: EngineParts, closed: tuple[ClosedCandle, ...]) -> None:
        self._keep_lease()
        if not closed:
            with tracing.span("look after what is open", account=self._setup.account):
                self._note(parts.runner.handle(()))
        else:
            self._note(self._handled(parts, closed))
            self._progress.done += len(closed)
            self._progress.last = closed[0].closed_at
            self._progress.lag_s = (parts.clock.now() - closed[0].closed_at).total_seconds()
            self.meters.decided_after(self._progress.lag_s)
        self._prune(parts)

    def _handled(self, parts: EngineParts, closed: tuple[ClosedCandle, ...]) -> LedgerBatch:
        """Handle the candles of a moment, with the moment's name in every line and span of it."""
        started, moment = time.monotonic(), closed[0].closed_at.isoformat()
        parents = list(dict.fromkeys(each.traceparent for each in closed if each.traceparent is not None))
        symbols = ",".join(each.window.symbol for each in closed)
        about = {"account": self._setup.account, "moment": moment, "symbols": symbols}
        span = tracing.span("handle candles", "consumer", parent=parents[0] if parents else None, links=parents[1:], **about)
        with bound_contextvars(moment=moment), span:
            batch = parts.runner.handle(closed)
            # Most candles bring nothing, and a replay has a hundred thousand of them.
            level = log.info if batch.signals or batch.intents or batch.transactions else log.debug
            took_ms = round(1000 * (time.monotonic() - started), 1)
            level("candles handled", symbols=symbols, signals=len(batch.signals), orders=len(batch.intents), took_ms=took_ms)
        return batch

    def _note(self, batch: LedgerBatch) -> None:
        """Remember what the status shows."""
        self._progress.decisions.extend(batch.signals)
        self._progress.risk_events.extend(batch.risk_events)
        if batch.equity is not None:
            self._progress.equity = str(batch.equity.equity)
        if self._parts is not None:
            self.meters.handled(batch, self._parts.runner.state, self._parts.ledger)

    def _keep_lease(self) -> None:
        """Renew the lease when a third of it has passed. A database that does not answer is told by the next commit."""
        parts = self._parts
        if parts is None or time.monotonic() - self._renewed_s < self._setup.lease_ttl_s / 3:
            return
        try:
            parts.lease.renew(SystemClock().now())
        except Unavailable as error:
            log.warning("lease not renewed", problem=str(error))
        else:
            self._renewed_s = time.monotonic()

    def _prune(self, parts: EngineParts) -> None:
        """Forget the inputs of decisions that are too old, now and then."""
        if time.monotonic() - self._pruned_s < _PRUNE_EVERY_S:
            return
        self._pruned_s = time.monotonic()
        pruned = parts.ledger.prune_decisions(parts.clock.now() - timedelta(days=self._setup.decisions_kept_days))
        if pruned:
            log.info("decisions pruned", count=pruned)

    def _fail(self, error: Exception) -> None:
        problem = f"{type(error).__name__}: {error}"
        if isinstance(error, ReconciliationFailed) and isinstance(self._setup, ReplaySetup):
            problem = apart(self._setup, str(error))
        if self._progress.terms is not None:
            kind = RiskEventKind.RECONCILIATION if isinstance(error, ReconciliationFailed) else RiskEventKind.HALT
            now = SystemClock().now()
            self._alert(kind.value, f"the engine has stopped: {problem}", now)
            if self._parts is not None:
                self._keep(self._parts, RiskEvent(kind=kind, at=now, symbol="", detail=problem))
        self._progress.problem = problem
        self._progress.refused = isinstance(error, Refused)
        # Not log.exception, which may show the variables of each frame: a database's password is among them.
        log.error("engine failed", problem=problem, traceback="".join(format_exception(error)))

    def _close(self) -> None:
        if self._parts is None:
            return
        parts, self._left, self._parts = self._parts, self._parts.runner.state, None  # whose lease is nothing to renew
        try:
            parts.opened.close()
        except Unavailable as error:
            log.warning("lease not given back", problem=str(error))


class TradingEngine(EngineShell):
    """The shell in a process of its own, which it sets up."""

    def __init__(self, setup: Setup) -> None:
        logs.configure_actor()
        tracing.configure("fxcast-engine")
        super().__init__(setup)


# Wrapped, not decorated: so the class keeps its type.
EngineActor: Any = ray.remote(TradingEngine)


def actor_name(account: str) -> str:
    """Return the name under which an account's engine is found."""
    return f"engine-{account}"


def start_engine(setup: Setup) -> ActorHandle[Any]:
    """Start an account's engine on the connected cluster.

    Raises:
        BadSetup: If one runs already.
    """
    if find_engine(setup.account) is not None:
        raise BadSetup(
            f"an engine for account {setup.account!r} runs already; attach to it, or stop it first with "
            f"python -m jobs.control --account {setup.account} --stop"
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
