"""Many weeks of eight pairs at full speed, under random faults: `python -m tests.soak.long --weeks 10 --seed 1`.

On the real ledger (SQLite) and the real paper broker (its file), both opened anew after each kill. Ends with exit code 1 if
anything was as it must not be (tests/soak/invariants.py), or if the memory grew.
"""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import structlog
from rich.console import Console

from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.domain.order import Fill
from fxcast.domain.timeframe import Timeframe
from fxcast.signals.regime import fit_regimes
from fxcast.terminal import new_console, progress_bar
from fxcast.trading.ports import FittedRegimes
from tests.soak.faults import RandomFaults
from tests.soak.life import Life
from tests.soak.market import Market, make_market
from tests.soak.records import KeptInFiles
from tests.soak.world import Setup, World, soak_market, soak_trading

START = datetime(2017, 2, 5, 22, tzinfo=UTC)  # a Sunday, 17:00 New York; five weeks before clocks change there
_REGIME_BARS = 400
_MOST_VIOLATIONS = 20  # more say nothing new
_DECISIONS_KEPT = timedelta(days=3)
_FEWEST_WEEKS = 4  # for a slope that means something
# By a straight line through the second half of the weeks. What an account keeps for ever grows by less: some hundred orders a week.
_MOST_GROWTH_MB_A_WEEK = 2.0  # of 480 moments: 4 kB each, less than one window of candles


class Fitter:
    """Fits regimes where it is asked; what was asked of a process that was killed is never ready."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._asked: list[tuple[str, datetime]] = []

    def ask(self, symbol: str, at: datetime) -> None:
        self._asked.append((symbol, at))

    def ready(self) -> tuple[FittedRegimes, ...]:
        asked, self._asked = self._asked, []
        return tuple(FittedRegimes(symbol=symbol, at=at, model=fit_regimes(self._known(symbol, at))) for symbol, at in asked)

    def _known(self, symbol: str, at: datetime) -> CandleSeries:
        series = self._market.series[symbol]
        known = int(np.searchsorted(series.close_times, to_datetime64(at), side="right"))
        return series.slice(known - _REGIME_BARS, known)


@dataclass(frozen=True, kw_only=True)
class Week:
    """A simulated week: how long it took, and the resident memory after it."""

    seconds: float
    memory_mb: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak and say what came of it."""
    options = _options(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    console = new_console()
    with tempfile.TemporaryDirectory(prefix="fxcast-soak-") as folder:
        world, weeks = _soak(options, Path(folder), console)
        problems = [*world.watch.violations, *_growth_problem(weeks)]
        _report(world, weeks, problems, console)
        world.setup.kept.close()
    return 1 if problems else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.long", description=__doc__)
    parser.add_argument("--weeks", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeframe", default="15m", help="of the candles: 15m or 1h")
    parser.add_argument("--bold", action="store_true", help="positions so large that the margin may run out")
    parser.add_argument(
        "--fault-rate", type=float, default=0.004, help="of each call to the broker or the ledger; of sends ten times"
    )
    return parser.parse_args(arguments)


def _soak(options: argparse.Namespace, folder: Path, console: Console) -> tuple[World, list[Week]]:
    minutes = Timeframe(options.timeframe).minutes
    console.print(
        f"soak: {options.weeks} weeks of eight pairs, {options.timeframe} candles, seed {options.seed}, "
        f"{'bold' if options.bold else 'usual'} sizes, faults in {options.fault_rate:.2%} of the calls"
    )
    market = make_market(options.timeframe, start=START, weeks=options.weeks, seed=options.seed)
    setup = Setup(
        market=market,
        trading=soak_trading((4 * minutes, 8 * minutes), bold=options.bold),
        kept=KeptInFiles(folder, soak_market(options.seed)),
        seed=options.seed,
        regimes=lambda: Fitter(market),
    )
    rng = np.random.default_rng(options.seed)
    faults = RandomFaults(rng, rate=options.fault_rate, send_rate=10 * options.fault_rate)
    world = World(setup, faults)
    life = Life(world, rng, bars_an_hour=60 // minutes)
    faults.enabled = False  # what a person did before the engine's first start is none of its business
    world.move_on()
    world.follow()
    faults.enabled = True
    weeks: list[Week] = []
    with progress_bar() as bar:
        task = bar.add_task("candles of eight pairs", total=len(market.moments), completed=world.moment + 1)
        for number in range(1, options.weeks + 1):
            began, until = time.perf_counter(), START + number * timedelta(weeks=1)
            while not world.is_over and market.moments[world.moment + 1] <= until and not _is_hopeless(world):
                life.goes_on()
                bar.advance(task)
            world.setup.kept.prune(world.clock.now() - _DECISIONS_KEPT)
            weeks.append(Week(seconds=time.perf_counter() - began, memory_mb=_memory_mb()))
            bar.console.print(
                f"week {number:>2}: {weeks[-1].seconds:5.1f} s, {weeks[-1].memory_mb:6.1f} MB, balance {_balance(world)}, "
                f"{world.counts['crashes']} crashes, {len(world.watch.violations)} violations"
            )
    faults.enabled = False
    world.settles()
    return world, weeks


def _is_hopeless(world: World) -> bool:
    return bool(world.stopped) or len(world.watch.violations) >= _MOST_VIOLATIONS


def _report(world: World, weeks: list[Week], problems: list[str], console: Console) -> None:
    broker = world.setup.kept.broker
    transactions = broker.transactions_since(0)
    fills = Counter(each.reason.value for each in transactions if isinstance(each, Fill))
    seconds = sum(week.seconds for week in weeks)
    console.print(f"candles     {world.counts['candles']:,}")
    console.print(f"orders      {broker.book.orders_taken:,}")
    console.print(f"fills       {fills.total():,} ({_listed(fills)}), interest booked {len(transactions) - fills.total():,} times")
    console.print(f"faults      {world.line.counts.total():,}")
    for kind, count in world.line.counts.most_common():
        console.print(f"            {count:>6,} {kind}")
    console.print(f"a person    {_listed(world.person.acts)}")
    console.print(f"the world   {_listed(world.counts)}")
    console.print(f"checks      {world.watch.checks.total():,} ({_listed(world.watch.checks)})")
    console.print(f"seconds     {seconds:.1f}, {seconds / len(weeks):.1f} a simulated week")
    console.print(f"memory      {' '.join(f'{week.memory_mb:.0f}' for week in weeks)} MB after each week, peak {_peak_mb():.0f} MB")
    if len(weeks) >= _FEWEST_WEEKS:
        console.print(f"growth      {_growth(weeks):+.2f} MB a week in the second half, allowed are {_MOST_GROWTH_MB_A_WEEK:g}")
    console.print(f"violations  {len(problems)}")
    for problem in problems[:_MOST_VIOLATIONS]:
        console.print(f"            {problem}", markup=False)


def _growth(weeks: list[Week]) -> float:
    """Return by how many MB a week the memory of the second half grows."""
    half = [week.memory_mb for week in weeks[len(weeks) // 2 :]]
    return float(np.polyfit(np.arange(len(half)), half, 1)[0])


def _growth_problem(weeks: list[Week]) -> list[str]:
    """Say so if the memory grows by more than it may."""
    if len(weeks) < _FEWEST_WEEKS or _growth(weeks) <= _MOST_GROWTH_MB_A_WEEK:
        return []
    return [f"the memory grows by {_growth(weeks):.2f} MB a week, allowed are {_MOST_GROWTH_MB_A_WEEK:g}"]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.most_common()) or "nothing"


def _balance(world: World) -> str:
    return f"{world.setup.kept.broker.book.balance:,.2f}"


def _memory_mb() -> float:
    return psutil.Process().memory_info().rss / 2**20


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
