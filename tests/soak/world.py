"""A world for the engine to live in: a market, a broker, a ledger, a person, bad luck; and a process that is killed and started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np

from fxcast.adapters.clock import ReplayClock
from fxcast.errors import MustStop, Unavailable
from fxcast.trading.config import ManagementConfig, PaperMarketConfig, RiskLimits, SizingConfig, TradingConfig
from fxcast.trading.engine import EngineConfig
from fxcast.trading.ports import ClosedCandle, LedgerBatch, RegimeFitter
from fxcast.trading.runner import Runner
from fxcast.trading.state import KillSwitch
from tests.fakes import Crash
from tests.soak.faults import Faults, Line
from tests.soak.invariants import Try, Watch
from tests.soak.market import Forecaster, Market, MarketFeed
from tests.soak.person import Person, Screen
from tests.soak.records import Kept

_TRIES = 12  # in vain, before the world goes on without the engine


def soak_trading(horizons_minutes: tuple[int, ...], *, bold: bool = False) -> TradingConfig:
    """Return settings under which a lot happens; bold ones take so much margin that it may run out."""
    return TradingConfig(
        ldm4ts_horizons=horizons_minutes,
        ldm4ts_uncertainty_threshold=1.0,
        ldm4ts_min_strength=0.1,
        ldm4ts_num_samples=20,
        min_quality=0.2,
        sizing=SizingConfig(risk_per_trade_pct=6.0 if bold else 1.0),
        risk=RiskLimits(
            max_positions=5,
            max_symbol_exposure_pct=2500.0 if bold else 250.0,
            max_currency_exposure_pct=2800.0 if bold else 300.0,
            max_correlation=0.98,
            max_daily_loss_pct=60.0 if bold else 8.0,
            max_drawdown_pct=90.0,
            cool_off_losses=5,
            cool_off_minutes=300,
            max_spread_pips=4.0,
            min_free_margin_pct=0.0 if bold else 20.0,
        ),
        management=ManagementConfig(
            break_even_at_r=0.8,
            trail_at_r=1.0,
            trail_distance_r=0.7,
            exit_uncertainty_pct=2.0,
            exit_before_weekend_minutes=None if bold else 60,
        ),
    )


def soak_market(seed: int) -> PaperMarketConfig:
    """Return a paper market with everything that costs money or goes wrong."""
    return PaperMarketConfig(
        spread_pips_by_hour={16: Decimal(3), 17: Decimal(6)},
        slippage_pips=Decimal("0.2"),
        commission_per_million=Decimal(30),
        swap_pct_long={"EURUSD": Decimal(-2), "USDJPY": Decimal("1.5"), "AUDNZD": Decimal("-0.7"), "EURGBP": Decimal(-1)},
        swap_pct_short={"EURUSD": Decimal(1), "USDJPY": Decimal("-2.5"), "GBPUSD": Decimal("0.4"), "EURJPY": Decimal(-1)},
        latency_s=Decimal(2),
        rejection_probability=0.06,
        partial_fill_probability=0.12,
        min_stop_pips=Decimal(1),
        seed=seed,
    )


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a world is made of."""

    market: Market
    trading: TradingConfig
    kept: Kept
    seed: int
    regimes: Callable[[], RegimeFitter] | None = None


class World:
    """The market moves, and the engine follows as far as it can.

    Attributes:
        counts: What happened, by kind.
        stopped: Why the engine refuses to go on; empty as long as it does not.
    """

    def __init__(self, setup: Setup, faults: Faults) -> None:
        rng = np.random.default_rng(setup.seed + 1)
        self.setup = setup
        self.clock = ReplayClock(setup.market.start)
        self.forecaster = Forecaster(setup.market)
        self.person = Person(setup.kept, self.clock, np.random.default_rng(setup.seed + 2))
        self.watch = Watch(setup.kept, self.clock, self.person, setup.trading.risk, np.random.default_rng(setup.seed + 3))
        self.line = Line(faults, calling=self._calling, hand=self._hand)
        self.counts: Counter[str] = Counter()
        self.stopped = ""
        self.moment = -1  # position of the market's last one
        self._rng = rng
        self._runner: Runner | None = None
        self._started = False
        self._candles: Iterator[tuple[ClosedCandle, ...]] = iter(())
        self._in_hand: tuple[ClosedCandle, ...] | None = None
        self._touched = False

    @property
    def is_over(self) -> bool:
        """Whether the market has no candle left."""
        return self.moment + 1 >= len(self.setup.market.moments)

    def move_on(self) -> datetime:
        """Let the next candles close at the broker, whether the engine is there or not."""
        self.moment += 1
        moment = self.setup.market.moments[self.moment]
        self.clock.advance_to(moment)
        for closed in self.setup.market.closing_at(moment):
            self.setup.kept.broker.observe(closed.window.symbol, closed.candle, moment)
            self.counts["candles"] += 1
        self.watch.account()
        return moment

    def follow(self, *, tries: int = _TRIES) -> bool:
        """Let the engine handle what has closed, until it has failed so often; True if it got to the end of it."""
        failures = 0
        while failures < tries and not self.stopped:
            if not self._try():
                failures += 1
                self._pause()
            elif self._in_hand is None and not self._take_next():
                return True
        return False

    def look(self) -> bool:
        """Let the engine look after what is open; True if it could."""
        return self._started and self._in_hand is None and self._try()

    def kill(self) -> None:
        """End the process; what it had in its head is gone."""
        self.counts["crashes"] += 1
        self._runner = None
        self._started = False
        self._in_hand = None
        self._candles = iter(())
        self.setup.kept.reopen()

    def throw(self, kill_switch: KillSwitch, *, directly: bool = False) -> None:
        """Let a person set the kill switch: by a request in the ledger, or directly at the engine if it runs."""
        if directly and self._runner is not None and self._started:
            self._attempt(lambda runner: runner.set_kill_switch(kill_switch, by="a person", reason="a soak"))
        else:
            self.setup.kept.ask_kill_switch(kill_switch, self.clock.now())
        self.counts[f"kill switch {kill_switch.value}"] += 1

    def settles(self) -> None:
        """Let the engine come to rest, where nothing goes wrong any more, and compare everything from the beginning on."""
        self.line.down.clear()
        self.forecaster.down = False
        self.throw(KillSwitch.ACTIVE)
        if self.stopped:
            return
        if self.follow() and self.look():
            self.watch.everything()
        else:
            self.watch.broken("the engine did not come to rest after the last fault")

    def _try(self) -> bool:
        """Start, handle what is in hand, or look; and check what must hold after it."""
        before = self.line.counts.total()
        committed: list[LedgerBatch] = []
        if not self._attempt(self._next_act(committed)):
            return False
        assert self._runner is not None
        if not self._started:
            self._started = True
            self.counts["starts"] += 1
            self._candles = self._runner.closed_candles()
        self._in_hand = None
        if self._touched:  # a person acted in the middle of it: what the engine knows of the broker counts from its next look on
            return True
        at = next((batch.equity.at for batch in committed if batch.equity is not None), None)
        self.watch.agreement(Try(state=self._runner.state, at=at, clean=self.line.counts.total() == before))
        return True

    def _next_act(self, committed: list[LedgerBatch]) -> Callable[[Runner], object]:
        if not self._started:
            return lambda runner: runner.start()
        closed = self._in_hand or ()
        return lambda runner: committed.append(runner.handle(closed))

    def _take_next(self) -> bool:
        """Take the next candles in hand; False if there are none yet."""
        self._in_hand = next(self._candles, None)
        if self._in_hand is None and self._runner is not None:  # there may be some by the next time
            self._candles = self._runner.closed_candles()
        return self._in_hand is not None

    def _attempt(self, act: Callable[[Runner], object]) -> bool:
        """Do something with the engine's process, which may be killed by it or get no answer."""
        if self._runner is None:
            self._runner = self._new_runner()
        self._touched = False
        self.watch.begins(self._runner.state)
        done = False
        try:
            act(self._runner)
            done = True
        except Crash:
            self.kill()
        except Unavailable:
            self.counts["tries in vain"] += 1
        except MustStop as error:
            self.stopped = f"{type(error).__name__}: {error}"
            self.watch.broken(f"the engine stopped: {self.stopped}")
        self._show_state()
        self.watch.account()
        return done

    def _new_runner(self) -> Runner:
        setup, wired = self.setup, self.line.wired
        kept = setup.kept
        return Runner(
            EngineConfig(trading=setup.trading),
            feed=MarketFeed(setup.market, self.clock),
            broker=wired("broker", Screen(kept)),
            ledger=wired("ledger", kept.ledger),
            clock=self.clock,
            forecasts=wired("forecasts", self.forecaster),
            observers=[wired("market", kept.broker)],
            regimes=None if setup.regimes is None else setup.regimes(),
        )

    def _pause(self) -> None:
        """Wait before the next try, but not into the next candle."""
        following = self.setup.market.moments[min(self.moment + 1, len(self.setup.market.moments) - 1)]
        now = self.clock.now()
        later = now + timedelta(seconds=float(self._rng.uniform(0, 90)))
        if later < following:
            self.clock.advance_to(later)

    def _calling(self, name: str, args: tuple[object, ...]) -> None:
        self._show_state()
        self.watch.calling(name, args)

    def _show_state(self) -> None:
        if self._runner is not None:
            self.watch.now_holds(self._runner.state)

    def _hand(self) -> None:
        if not self._touched:  # once a try: the engine looks three times, and then a difference counts
            before = self.person.acts.total()
            self.person.act()
            self._touched = self.person.acts.total() > before
