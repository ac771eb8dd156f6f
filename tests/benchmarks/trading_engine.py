"""Time the engine on 28 pairs of one-minute candles: a step, a candle's close to its order, the share of a core. `make bench`.

Forecasts are made beforehand and cost nothing here. Every part runs over the same hours: engine, runner, ledger (SQLite) and paper
broker (a file) are the real ones.
"""

from __future__ import annotations

import cProfile
import gc
import os
import pstats
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import structlog

from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.clock import ReplayClock, SystemClock
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.lease import acquire
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.cluster.local import REPOSITORY
from fxcast.domain.candle import FloatArray
from fxcast.domain.order import BrokerOrder, OrderIntent
from fxcast.trading.config import PaperMarketConfig
from fxcast.trading.engine import step
from fxcast.trading.events import CandleClosed
from fxcast.trading.execution import Stepped
from fxcast.trading.ports import ClosedCandle, LedgerBatch
from fxcast.trading.replay import decision_record
from fxcast.trading.runner import Runner
from fxcast.trading.state import EngineState
from tests.benchmarks.engine_world import CONFIG, EQUITY, MINUTES, PAIRS, START, Market, StepWorld, make_market
from tests.benchmarks.result import Against, Figure

_COMMAND = "python -m tests.benchmarks.trading_engine"
_FOLDER = REPOSITORY / "runs" / "bench"
_TARGET_STEP_MS, _TARGET_ORDER_MS, _TARGET_CORE_PCT = 1.0, 20.0, 50.0

_REPEATS = 5
# The parts of a step by the function that does them; each is one of a kind.
_PARTS = {
    "books_and_regime": "_advanced",
    "sources": "_opinions",
    "fusion": "fuse",
    "quality": "_scored",
    "sizing": "_sized",
    "gates": "apply_gates",
    "gates_view": "_risk_view",
    "management": "_managed",
}


def time_steps(market: Market) -> StepWorld:
    """Time every step of the hours, several times over, and profile them once more."""
    taken_ms: list[list[float]] = []

    def timed(state: EngineState, event: CandleClosed) -> Stepped:
        started = time.perf_counter()
        stepped = step(state, event, CONFIG)
        taken_ms[-1].append((time.perf_counter() - started) * 1000.0)
        return stepped

    world = StepWorld(market=market, candle_step=timed)
    for _ in range(_REPEATS):
        taken_ms.append([])
        world = StepWorld(market=market, candle_step=timed)
        world.play()
    for percentile in (50, 99):
        each = sorted(float(np.percentile(times, percentile)) for times in taken_ms)
        # What else runs on the machine only ever adds to it.
        _publish(f"step_p{percentile}", each[0], Against(name="target", value=_TARGET_STEP_MS))
        print(f"the least of {', '.join(f'{value:.2f}' for value in each)} ms")
    _publish_parts(market, float(np.median(taken_ms)))
    print(f"{_REPEATS} times {len(world.held):,} steps with {world.sequence} fills and {np.mean(world.held):.1f} positions open")
    return world


def _publish_parts(market: Market, median_ms: float) -> None:
    profile = cProfile.Profile()
    StepWorld(market=market, candle_step=lambda state, event: profile.runcall(step, state, event, CONFIG)).play()
    functions = pstats.Stats(profile).get_stats_profile().func_profiles
    whole = Against(name="median step, shared out as under cProfile", value=median_ms)
    for part, function in _PARTS.items():
        share = functions[function].cumtime / functions["step"].cumtime
        _publish(f"step_{part}", share * median_ms, whole)


class _TimedBroker(PaperBroker):
    """Remembers when its orders had been taken."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, PaperMarketConfig(starting_balance=EQUITY))
        self.taken_at_s: list[float] = []

    def place_order(self, intent: OrderIntent) -> BrokerOrder:
        answer = super().place_order(intent)
        self.taken_at_s.append(time.perf_counter())
        return answer


class _TimedLedger(SqlLedger):
    """Remembers how long the commits took after which an order was sent."""

    commits_ms: list[float]

    def commit(self, state: EngineState, batch: LedgerBatch) -> None:
        started = time.perf_counter()
        super().commit(state, batch)
        if batch.intents:
            self.commits_ms.append((time.perf_counter() - started) * 1000.0)


@dataclass(kw_only=True)
class _Replayed:
    """What a replay took.

    Attributes:
        first_ms: From the candles' close to the first order's answer, of each moment that had one.
        last_ms: To the last one's.
        handling_ms: Of a moment as a whole.
        orders: In all.
        cpu_s: Of this process, for everything.
    """

    first_ms: list[float] = field(default_factory=list[float])
    last_ms: list[float] = field(default_factory=list[float])
    handling_ms: list[float] = field(default_factory=list[float])
    commits_ms: list[float] = field(default_factory=list[float])
    orders: int = 0
    cpu_s: float = 0.0


def replay(market: Market, folder: Path, *, together: bool) -> _Replayed:
    """Run the hours through the runner, the candles of a minute together or one by one."""
    url = f"sqlite:///{folder / 'ledger.db'}"
    migrate(url)
    database = open_database(url)
    clock, replayed = ReplayClock(START), _Replayed()
    lease = acquire(database, "bench", "bench", ttl_s=3600.0, now=SystemClock().now())
    broker, ledger = _TimedBroker(folder / "broker.db"), _TimedLedger(database, "bench", lease=lease)
    ledger.commits_ms = replayed.commits_ms
    feed = market.feed(clock)
    runner = Runner(
        CONFIG,
        feed=feed,
        broker=broker,
        ledger=ledger,
        clock=clock,
        forecasts=market,
        observers=[broker],
        regime_models=market.regimes,
    )
    for symbol in PAIRS:  # prices of all, or the first orders could not be converted
        window = feed.window(symbol, START)
        assert window is not None, "the history holds it"
        broker.observe(symbol, window.candle(-1), START)
    runner.start()
    began_s = time.process_time()
    for closed in runner.closed_candles():
        for candles in [closed] if together else [(each,) for each in closed]:
            _handle(runner, candles, broker, replayed)
    replayed.cpu_s = time.process_time() - began_s
    broker.close()
    database.dispose()
    return replayed


def _handle(runner: Runner, candles: Sequence[ClosedCandle], broker: _TimedBroker, replayed: _Replayed) -> None:
    broker.taken_at_s.clear()
    started = time.perf_counter()
    runner.handle(candles)
    replayed.handling_ms.append((time.perf_counter() - started) * 1000.0)
    if broker.taken_at_s:
        replayed.orders += len(broker.taken_at_s)
        replayed.first_ms.append((broker.taken_at_s[0] - started) * 1000.0)
        replayed.last_ms.append((broker.taken_at_s[-1] - started) * 1000.0)


def time_orders(market: Market, root: Path) -> None:
    """Time the way from candle to order, and the core that all of it takes."""
    target = Against(name="target", value=_TARGET_ORDER_MS)
    (root / "alone").mkdir()
    alone = replay(market, root / "alone", together=False)
    _publish_times("order_of_1_candle", alone.last_ms, target)
    _publish_commits("commit_of_1_candle", alone)
    (root / "together").mkdir()
    together = replay(market, root / "together", together=True)
    _publish_times("first_order_of_28", together.first_ms, target)
    _publish_times("last_order_of_28", together.last_ms, target)
    _publish_commits("commit_of_28_candles", together)
    share_pct = 100 * together.cpu_s / (MINUTES * 60)
    core = Against(name="target", value=_TARGET_CORE_PCT)
    Figure(name="engine_share_of_a_core", value=share_pct, unit="%", against=core, command=_COMMAND).publish(_FOLDER)
    print(f"{1000 * together.cpu_s / MINUTES:.0f} ms of CPU a minute of the market, feed included, forecasts excluded")


def _publish_commits(name: str, found: _Replayed) -> None:
    whole = Against(name="median to the first order", value=float(np.median(found.first_ms)))
    _publish_times(name, found.commits_ms, whole)
    print(f"{found.orders} orders at {len(found.first_ms)} of {len(found.handling_ms):,} moments")


def time_records(world: StepWorld) -> None:
    """Time what is written for each candle and each decision."""
    state, event = world.last[-1]
    _, commands = step(state, event, CONFIG)
    target = Against(name="target from candle to order", value=_TARGET_ORDER_MS)
    _publish("state_as_json", _median_ms(state.to_json), target)
    _publish("decision_as_json", _median_ms(lambda: decision_record(state, event, commands, CONFIG)), target)
    print(
        f"the state has {len(state.to_json()):,} bytes, a decision {len(decision_record(state, event, commands, CONFIG).inputs):,}"
    )


def _median_ms(work: Callable[[], object]) -> float:
    taken: list[float] = []
    for _ in range(101):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000.0)
    return float(np.median(taken))


def _publish_times(name: str, taken_ms: Sequence[float], against: Against) -> None:
    times: FloatArray = np.array(taken_ms)
    for percentile in (50, 99):
        _publish(f"{name}_p{percentile}", float(np.percentile(times, percentile)), against)


def _publish(name: str, value_ms: float, against: Against) -> None:
    Figure(name=f"engine_{name}", value=value_ms, unit="ms", against=against, command=_COMMAND).publish(_FOLDER)


def main() -> None:
    """Run the benchmark."""
    market = make_market()
    gc.collect()
    gc.freeze()  # a live engine does not hold three hours of forecasts that the collector would walk through
    time_records(time_steps(market))
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(nowhere))  # its lines are made, and not shown
        time_orders(market, Path(folder))
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
