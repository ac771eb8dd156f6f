"""Time the engine on 28 pairs of one-minute candles: a step, a candle's close to its order, the share of a core. `make bench`.

Forecasts are made beforehand and cost nothing here. Every part runs over the same hours: engine, runner, ledger (SQLite) and paper
broker (a file) are the real ones.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np

from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.clock import ReplayClock
from fxcast.adapters.feeds.replay import ReplayFeed
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.cluster.local import REPOSITORY
from fxcast.domain.candle import CandleSeries, FloatArray, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction, summarize
from fxcast.domain.money import Quote, Rates, rates_from_prices
from fxcast.domain.order import BrokerOrder, ChangeAnswer, Fill, FillReason, OrderIntent, OrderPurpose
from fxcast.domain.portfolio import Account
from fxcast.signals.regime import RegimeModel, RegimeState, fit_regimes
from fxcast.trading.config import ManagementConfig, PaperMarketConfig, RiskLimits, TradingConfig
from fxcast.trading.correlation import return_correlation
from fxcast.trading.engine import EngineConfig, step
from fxcast.trading.events import CandleClosed, ChangeAnswered, ChangeProtection, Command, Event, PlaceOrder, TransactionReceived
from fxcast.trading.execution import Stepped
from fxcast.trading.ports import ClosedCandle, ForecastAnswer, ForecastQuestion, LedgerBatch
from fxcast.trading.replay import decision_record
from fxcast.trading.runner import Runner
from fxcast.trading.source_list import wanted_timeframes
from fxcast.trading.state import EngineState
from tests.benchmarks.result import Against, Figure
from tests.factories import make_series

_COMMAND = "python -m tests.benchmarks.trading_engine"
_FOLDER = REPOSITORY / "runs" / "bench"
_TARGET_STEP_MS, _TARGET_ORDER_MS, _TARGET_CORE = 1.0, 20.0, 0.5

_CURRENCIES = ("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF", "JPY")
_WORTH = (1.08, 1.27, 0.66, 0.61, 1.0, 0.74, 1.13, 0.0067)  # in dollars
_PAIRS = tuple(base + quote for at, base in enumerate(_CURRENCIES) for quote in _CURRENCIES[at + 1 :])
_VOLATILITY = 0.00012  # of a currency in a minute
_HORIZONS = (15, 60, 240)
_SAMPLES = 50
_REPEATS = 5
_REGIME_BARS = 1000
_HISTORY = 27 * 240  # minutes: enough candles of 4h for their average
_MINUTES = 180
_START = datetime(2024, 3, 7, 12, tzinfo=UTC)  # a Thursday, London and New York
_EQUITY = Decimal(1_000_000)
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

_CONFIG = EngineConfig(
    trading=TradingConfig(
        ldm4ts_horizons=_HORIZONS,
        use_pattern=True,
        use_multi_timeframe=True,
        min_quality=0.3,
        risk=RiskLimits(max_positions=14, max_currency_exposure_pct=1000.0, cool_off_minutes=0),
        management=ManagementConfig(break_even_at_r=0.5, trail_at_r=1.0),
    )
)


@dataclass(frozen=True, kw_only=True)
class _Market:
    """What every part trades on."""

    series: tuple[CandleSeries, ...]
    forecasts: Mapping[tuple[str, datetime], LDM4TSPrediction]
    regimes: Mapping[str, RegimeModel]

    def feed(self, clock: ReplayClock) -> ReplayFeed:
        stop = _START + timedelta(minutes=_MINUTES)
        return ReplayFeed(self.series, start=_START, stop=stop, clock=clock, timeframes=wanted_timeframes(_CONFIG.sources))

    def ask(self, questions: Sequence[ForecastQuestion], *, timeout_s: float) -> tuple[ForecastAnswer, ...]:
        """Answer as a forecast service does, at once."""
        del timeout_s
        return tuple(self.forecasts[each.window.symbol, to_datetime(each.window.close_times[-1])] for each in questions)


def make_market() -> _Market:
    """Let eight currencies walk at random, all pairs being their ratios, and forecast each minute."""
    rng = np.random.default_rng(0)
    bars = _HISTORY + _MINUTES
    worth = np.array(_WORTH)[:, None] * np.exp(np.cumsum(rng.normal(0.0, _VOLATILITY, (len(_WORTH), bars)), axis=1))
    series: list[CandleSeries] = []
    for pair in _PAIRS:
        base, quote = _CURRENCIES.index(pair[:3]), _CURRENCIES.index(pair[3:])
        closes: list[float] = (worth[base] / worth[quote]).tolist()
        start = _START - timedelta(minutes=_HISTORY)
        made = make_series(closes, symbol=pair, timeframe="1m", start=start, range_width=closes[0] * _VOLATILITY / 2)
        volumes = rng.lognormal(5.0, 0.5, bars)
        digits = 3 if pair.endswith("JPY") else 5
        series.append(replace(made, values=np.column_stack([made.values[:, :4].round(digits), volumes.round()])))
    forecasts = {
        (each.symbol, to_datetime(each.close_times[at])): _forecast(each, at, rng)
        for each in series
        for at in range(_HISTORY - 1, bars)
    }
    regimes = {each.symbol: fit_regimes(each.slice(_HISTORY - _REGIME_BARS, _HISTORY)) for each in series}
    return _Market(series=tuple(series), forecasts=forecasts, regimes=regimes)


def _forecast(series: CandleSeries, at: int, rng: np.random.Generator) -> LDM4TSPrediction:
    price, drift = float(series.closes[at]), float(rng.normal(0.0, 0.5))
    deviations = [2**0.5 * _VOLATILITY * minutes**0.5 for minutes in _HORIZONS]
    return LDM4TSPrediction(
        symbol=series.symbol,
        timeframe=series.timeframe,
        made_at=to_datetime(series.close_times[at]),
        price=price,
        horizons={
            minutes: summarize(price * np.exp(deviation * (drift + rng.standard_normal(_SAMPLES))))
            for minutes, deviation in zip(_HORIZONS, deviations, strict=True)
        },
        inference_time_ms=1.0,
        num_samples=_SAMPLES,
        model_version="scripted",
    )


Steps = Callable[[EngineState, CandleClosed], Stepped]


@dataclass
class _StepWorld:
    """The engine's step alone: fills follow at once, so that positions are open, managed and closed as they are in a run.

    Attributes:
        candle_step: Takes the steps that are measured.
        held: Positions open at each of them.
        last: What the last of them was made from.
    """

    market: _Market
    candle_step: Steps
    state: EngineState = field(default_factory=EngineState)
    sequence: int = 0
    held: list[int] = field(default_factory=list[int])
    last: list[tuple[EngineState, CandleClosed]] = field(default_factory=list[tuple[EngineState, CandleClosed]])

    def play(self) -> None:
        self.state = EngineState(regimes={symbol: RegimeState(model=model) for symbol, model in self.market.regimes.items()})
        windows: dict[str, CandleSeries] = {}
        for closed in self.market.feed(ReplayClock(_START)).closed_candles(after={}):
            windows |= {each.window.symbol: each.window for each in closed}
            prices = {symbol: Decimal(repr(float(window.closes[-1]))) for symbol, window in windows.items()}
            rates = rates_from_prices(prices, "USD")
            for each in closed:
                event = self._event(each, windows, rates)
                self.held.append(len(self.state.positions))
                self.last = [(self.state, event)]
                self._take(self.candle_step(self.state, event))

    def _event(self, closed: ClosedCandle, windows: Mapping[str, CandleSeries], rates: Rates) -> CandleClosed:
        symbol, at = closed.window.symbol, closed.closed_at
        instrument = _CONFIG.instrument(symbol)
        bid = instrument.round_price(float(closed.window.closes[-1]))
        bars = _CONFIG.trading.risk.correlation_bars
        found = {other: return_correlation(windows[symbol], windows[other], bars) for other in self.state.positions}
        return CandleClosed(
            window=closed.window,
            higher=closed.higher,
            predictions={_CONFIG.trading.forecast_source.value: self.market.forecasts[symbol, at]},
            account=Account(currency="USD", balance=_EQUITY, open_profit=Decimal(0)),
            quote=Quote(bid=bid, ask=bid + instrument.pip, at=at),
            rates=rates,
            correlations={other: each for other, each in found.items() if each is not None},
            seen_at=at,
        )

    def _take(self, stepped: Stepped) -> None:
        self.state, commands = stepped
        for command in commands:
            answer = self._answer(command)
            if answer is not None:
                self._take(step(self.state, answer, _CONFIG))

    def _answer(self, command: Command) -> Event | None:
        match command:
            case PlaceOrder():
                self.sequence += 1
                return TransactionReceived(transaction=_filled(command.intent, self.sequence, self.state))
            case ChangeProtection():
                return ChangeAnswered(change=command.change, answer=ChangeAnswer(accepted=True), at=command.change.created_at)
            case _:
                return None


def _filled(intent: OrderIntent, sequence: int, state: EngineState) -> Fill:
    return Fill(
        sequence=sequence,
        client_order_id=intent.client_order_id,
        symbol=intent.symbol,
        side=intent.side,
        units=intent.units,
        price=state.prices[intent.symbol],
        reason=FillReason.MARKET,
        profit=Decimal(0),
        filled_at=intent.created_at,
    )


def time_steps(market: _Market) -> _StepWorld:
    """Time every step of the hours, several times over, and profile them once more."""
    taken_ms: list[list[float]] = []

    def timed(state: EngineState, event: CandleClosed) -> Stepped:
        started = time.perf_counter()
        stepped = step(state, event, _CONFIG)
        taken_ms[-1].append((time.perf_counter() - started) * 1000.0)
        return stepped

    world = _StepWorld(market=market, candle_step=timed)
    for _ in range(_REPEATS):
        taken_ms.append([])
        world = _StepWorld(market=market, candle_step=timed)
        world.play()
    for percentile in (50, 99):
        each = [float(np.percentile(times, percentile)) for times in taken_ms]
        _publish(f"step_p{percentile}", float(np.median(each)), Against(name="target", value=_TARGET_STEP_MS))
        print(f"the median of {', '.join(f'{value:.2f}' for value in sorted(each))} ms")
    _publish_parts(market, float(np.mean(taken_ms)))
    print(f"{_REPEATS} times {len(world.held):,} steps with {world.sequence} fills and {np.mean(world.held):.1f} positions open")
    return world


def _publish_parts(market: _Market, mean_ms: float) -> None:
    profile = cProfile.Profile()
    _StepWorld(market=market, candle_step=lambda state, event: profile.runcall(step, state, event, _CONFIG)).play()
    functions = pstats.Stats(profile).get_stats_profile().func_profiles
    whole = Against(name="mean step (parts: its share under cProfile)", value=mean_ms)
    for part, function in _PARTS.items():
        share = functions[function].cumtime / functions["step"].cumtime
        _publish(f"step_{part}", share * mean_ms, whole)


class _TimedBroker(PaperBroker):
    """Remembers when its orders had been taken."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, PaperMarketConfig(starting_balance=_EQUITY))
        self.taken_at_s: list[float] = []

    def place_order(self, intent: OrderIntent) -> BrokerOrder:
        answer = super().place_order(intent)
        self.taken_at_s.append(time.perf_counter())
        return answer


class _TimedLedger(SqlLedger):
    """Remembers how long its commits took, and the last one that sent an order."""

    commits_ms: list[float]

    def commit(self, state: str, batch: LedgerBatch) -> None:
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


def replay(market: _Market, folder: Path, *, together: bool) -> _Replayed:
    """Run the hours through the runner, the candles of a minute together or one by one."""
    url = f"sqlite:///{folder / 'ledger.db'}"
    migrate(url)
    database = open_database(url)
    clock, replayed = ReplayClock(_START), _Replayed()
    broker, ledger = _TimedBroker(folder / "broker.db"), _TimedLedger(database, "bench")
    ledger.commits_ms = replayed.commits_ms
    feed = market.feed(clock)
    runner = Runner(
        _CONFIG,
        feed=feed,
        broker=broker,
        ledger=ledger,
        clock=clock,
        forecasts=market,
        observers=[broker],
        regime_models=market.regimes,
    )
    for symbol in _PAIRS:  # prices of all, or the first orders could not be converted
        window = feed.window(symbol, _START)
        assert window is not None, "the history holds it"
        broker.observe(symbol, window.candle(-1), _START)
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


def time_orders(market: _Market, root: Path) -> None:
    """Time the way from candle to order, and the core that all of it takes."""
    target = Against(name="target", value=_TARGET_ORDER_MS)
    results: dict[bool, _Replayed] = {}
    for together, name in ((False, "one_candle"), (True, "28_candles")):
        folder = root / name
        folder.mkdir()
        results[together] = found = replay(market, folder, together=together)
        _publish_times(f"{name}_to_first_order", found.first_ms, target)
        _publish_times(f"{name}_to_last_order", found.last_ms, target)
        _publish_times(f"{name}_commit", found.commits_ms, Against(name="to its first order", value=float(np.median(found.first_ms))))
        print(f"{found.orders} orders in {len(found.first_ms)} of {len(found.handling_ms):,} moments")
    share = results[True].cpu_s / (_MINUTES * 60)
    core = Against(name="target", value=_TARGET_CORE)
    Figure(name="engine_share_of_a_core", value=share, unit="core", against=core, command=_COMMAND).publish(_FOLDER)
    print(f"{1000 * results[True].cpu_s / _MINUTES:.0f} ms of CPU a minute of the market, feed included, forecasts excluded")


def time_records(world: _StepWorld) -> None:
    """Time what is written for each candle and each decision."""
    state, event = world.last[-1]
    _, commands = step(state, event, _CONFIG)
    target = Against(name="target of a candle to its order", value=_TARGET_ORDER_MS)
    _publish("state_as_json", _median_ms(state.to_json), target)
    _publish("decision_as_json", _median_ms(lambda: decision_record(state, event, commands, _CONFIG)), target)
    print(f"the state has {len(state.to_json()):,} bytes, a decision {len(decision_record(state, event, commands, _CONFIG).inputs):,}")


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
    world = time_steps(market)
    time_records(world)
    with tempfile.TemporaryDirectory() as folder:
        time_orders(market, Path(folder))
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
