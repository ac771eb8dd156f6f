"""Time backtests of simulated minutes: a year on one core, its memory, and several symbols on two cores. `make bench`.

The year trades on fresh forecasts only, which are made beforehand, as the job's cache has them; so are the fits of the regimes,
whose time is a figure of its own. Its times are of CPU: a backtest is one thread, and what else runs on the machine
is not its doing.

    python -m tests.benchmarks.backtest                all of it
    python -m tests.benchmarks.backtest separately     only the symbols side by side, on a Ray of this machine
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import structlog

from fxcast.backtest.engine import BacktestEngine, BacktestSetup
from fxcast.backtest.forecasts import PreparedForecasts, PreparedService, SymbolForecasts
from fxcast.backtest.regimes import FitTable, fit_moments
from fxcast.cluster.backtests import Run, asked_windows, run_backtests
from fxcast.cluster.local import REPOSITORY, ray_session
from fxcast.data.store import CandleStore
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.trading.config import PaperMarketConfig, RiskLimits, TradingConfig
from fxcast.trading.regime_fitting import regimes_known_at
from tests.benchmarks.result import Against, Figure

_COMMAND = "python -m tests.benchmarks.backtest"
_FOLDER = REPOSITORY / "runs" / "bench"
_YEAR, _HISTORY = 372_000, 2_100  # candles
_TARGET_S, _TARGET_MB, _TARGET_TIMES = 15.0, 1024.0, 1.7
_MINUTE = Timeframe("1m")
_STARTED = datetime(2023, 1, 2, tzinfo=UTC)
_VOLATILITY = 8e-5  # of a minute
_DRIFT = 0.05  # standard deviation of a forecast's mean, in those of its horizon
_SAMPLES = 50
_FEW = 20_000  # candles, where a year would take long
# In dollars, the account's currency, either way round.
_PRICES = {
    "EURUSD": 1.08,
    "GBPUSD": 1.25,
    "AUDUSD": 0.66,
    "NZDUSD": 0.61,
    "USDJPY": 145.0,
    "USDCHF": 0.88,
    "USDCAD": 1.36,
    "USDSEK": 10.4,
}
_SEPARATE = 40_000  # candles of each

# Limits that would end the trading of a strategy without a merit are far away.
_LIMITS = RiskLimits(max_forecast_age_bars=0, max_drawdown_pct=99.0, max_daily_loss_pct=99.0, cool_off_minutes=0)
ONLY_FORECASTS = TradingConfig(forecast_interval_bars=15, use_trend=False, use_mean_reversion=False, risk=_LIMITS)
ALL_SOURCES = TradingConfig(
    forecast_interval_bars=15,
    risk=RiskLimits(max_forecast_age_bars=15, max_drawdown_pct=99.0, max_daily_loss_pct=99.0, cool_off_minutes=0),
)


def simulated_minutes(symbol: str, bars: int) -> CandleSeries:
    """Walk at random through the minutes of the open market."""
    rng = np.random.default_rng(sorted(_PRICES).index(symbol))
    minutes = to_datetime64(_STARTED) + np.arange(2 * (bars + _HISTORY)) * np.timedelta64(60, "s")
    opens = minutes[open_mask(minutes)][: bars + _HISTORY]
    busy = 1 + 0.5 * np.sin(np.arange(len(opens)) * 2 * np.pi / 1440)  # days have quiet hours
    parts = rng.normal(0.0, 0.5 * _VOLATILITY, (len(opens), 4)) * busy[:, None]
    digits = 3 if symbol.endswith("JPY") else 5
    prices = (_PRICES[symbol] * np.exp(np.cumsum(parts))).reshape(parts.shape).round(digits)
    volumes = rng.integers(1, 500, len(opens)).astype(np.float64)
    values = np.column_stack([prices[:, 0], prices.max(axis=1), prices.min(axis=1), prices[:, -1], volumes])
    return CandleSeries(symbol=symbol, timeframe=_MINUTE, open_times=opens, values=values)


def setup_of(series: CandleSeries, trading: TradingConfig) -> BacktestSetup:
    """Trade a series after its history."""
    start = to_datetime(series.close_times[_HISTORY])
    stop = to_datetime(series.close_times[-1]) + timedelta(minutes=1)
    market = PaperMarketConfig.model_validate({"candle_side": "bid"})
    symbols = (series.symbol,)
    return BacktestSetup(
        name=series.symbol, symbols=symbols, followed=symbols, start=start, stop=stop, trading=trading, market=market
    )


def forecasts_of(series: CandleSeries, setup: BacktestSetup) -> PreparedForecasts:
    """Forecast random walks that drift now and then."""
    rng, horizons = np.random.default_rng(7), setup.trading.ldm4ts_horizons
    ends = asked_windows(series, setup.start, setup.stop, interval_bars=setup.trading.forecast_interval_bars)
    drawn = rng.normal(0.0, 1.0, (len(ends), _SAMPLES, len(horizons))) + rng.normal(0.0, _DRIFT, (len(ends), 1, len(horizons)))
    moves = (drawn * _VOLATILITY * np.sqrt(np.array(horizons))).astype(np.float32)
    symbols = {series.symbol: SymbolForecasts.of(series, ends, moves)}
    return PreparedForecasts(model_version="simulated", horizons_minutes=horizons, symbols=symbols)


def year_alone(folder: Path) -> dict[str, float]:
    """Trade the year from what lies in a folder; run in a process of its own, so that its peak memory is the backtest's alone."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # as a task of the cluster does
    started = time.process_time()
    series = CandleStore(folder / "store").read("EURUSD", _MINUTE)
    loaded = time.process_time()
    forecasts, fits = pickle.loads((folder / "prepared").read_bytes())  # noqa: S301  # ours, written a moment ago
    setup = setup_of(series, ONLY_FORECASTS)
    began, began_wall = time.process_time(), time.perf_counter()
    engine = BacktestEngine(setup, {"EURUSD": series}, forecasts=PreparedService(forecasts), fits=fits)
    result = engine.run()
    return {
        "load_s": loaded - started,
        "run_s": time.process_time() - began,
        "wall_s": time.perf_counter() - began_wall,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "candles": result.candles,
        "passed_over": engine.passed_over,
        "trades": len(result.positions),
    }


def time_year() -> None:
    """Time the year, what is prepared for it, and a public library on the same candles."""
    series = simulated_minutes("EURUSD", _YEAR)
    setup = setup_of(series, ONLY_FORECASTS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        CandleStore(folder / "store").append(series)
        fits, fits_s = _fitted(series, setup)
        (folder / "prepared").write_bytes(pickle.dumps((forecasts_of(series, setup), fits)))
        command = [sys.executable, "-m", "tests.benchmarks.backtest", "year", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    days = _YEAR / 1440
    _publish("backtest_year", found["run_s"], "s", Against(name="target", value=_TARGET_S))
    _publish("backtest_year_peak_memory", found["memory_mb"], "MB", Against(name="target", value=_TARGET_MB))
    each_us = 1e6 * found["run_s"] / found["candles"]
    _publish("backtest_candle", each_us, "µs", Against(name="target", value=1e6 * _TARGET_S / _YEAR))
    share, trades = 100 * found["passed_over"] / found["candles"], found["trades"] / days
    print(f"{found['candles']:,.0f} candles, {share:.0f} % of them passed over at once; {trades:.1f} trades a day")
    print(f"by the clock {found['wall_s']:.1f} s; to load the candles from the store {found['load_s']:.2f} s")
    whole = Against(name="the year without them", value=found["run_s"])
    _publish("backtest_year_regimes", fits_s, "s", whole)
    print(f"to fit {len(fits):,} regimes beforehand, on one core")
    _time_library(series, found["run_s"])


def _time_library(series: CandleSeries, year_s: float) -> None:
    """Time crosses of moving averages, as many a day as the year has trades, in the library that the tests compare with."""
    from tests.oracle import CrossRule, run_oracle  # loads the library: not in the process that is measured

    started = time.process_time()
    trades = run_oracle(series, CrossRule(fast_bars=20, slow_bars=60, hold_bars=45))
    taken = time.process_time() - started
    _publish("backtest_year_raptorbt", taken, "s", Against(name="the year here", value=year_s))
    print(f"raptorbt 0.13, a strategy in Python that is called at each candle: {len(trades) / (_YEAR / 1440):.1f} trades a day")


def time_all_sources() -> None:
    """Time candles at each of which a source has an opinion, so that none is passed over."""
    series = simulated_minutes("EURUSD", _FEW)
    setup = setup_of(series, ALL_SOURCES)
    fits, _ = _fitted(series, setup)
    engine = BacktestEngine(setup, {"EURUSD": series}, forecasts=PreparedService(forecasts_of(series, setup)), fits=fits)
    started = time.process_time()
    result = engine.run()
    each_us = 1e6 * (time.process_time() - started) / result.candles
    _publish("backtest_candle_all_sources", each_us, "µs", Against(name="target of the other", value=1e6 * _TARGET_S / _YEAR))
    print(f"{result.candles:,} candles, {engine.passed_over} passed over; {len(result.signals):,} signals judged")


def time_separately() -> None:
    """Trade eight symbols on one core of a Ray of this machine, then on two."""
    series = {symbol: simulated_minutes(symbol, _SEPARATE) for symbol in _PRICES}
    setups = {symbol: setup_of(each, ONLY_FORECASTS) for symbol, each in series.items()}
    forecasts = {symbol: forecasts_of(series[symbol], setup) for symbol, setup in setups.items()}
    one_fit = regimes_known_at(series["EURUSD"], setups["EURUSD"].start)  # for all: what a fit takes is not measured here
    table: FitTable = {
        (symbol, moment): one_fit
        for symbol, setup in setups.items()
        for moment in fit_moments(series[symbol], setup.start, setup.stop, refit_bars=setup.trading.regime_refit_bars)
    }
    runs = [Run(setup=setup, own=symbol) for symbol, setup in setups.items()]
    taken: list[float] = []
    for cores in (1, 2):
        with ray_session(num_cpus=cores):
            short = [Run(setup=_shortened(run.setup), own=run.own) for run in runs[: 2 * cores]]
            run_backtests(short, series, forecasts, fits=table)  # the workers have started, and imported what they need
            started = time.perf_counter()
            results = run_backtests(runs, series, forecasts, fits=table)
            taken.append(time.perf_counter() - started)
        print(f"{cores} core(s): {sum(each.candles for each in results):,} candles in {taken[-1]:.1f} s")
    target = Against(name="target", value=_TARGET_TIMES)
    _publish("backtest_two_cores", taken[0] / taken[1], "×", target)
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def _shortened(setup: BacktestSetup) -> BacktestSetup:
    return replace(setup, stop=setup.start + timedelta(hours=8))


def _fitted(series: CandleSeries, setup: BacktestSetup) -> tuple[FitTable, float]:
    """Return the regimes that the engine will ask for, and the seconds that their fits took."""
    started = time.process_time()
    moments = fit_moments(series, setup.start, setup.stop, refit_bars=setup.trading.regime_refit_bars)
    fits = {(series.symbol, moment): regimes_known_at(series, moment) for moment in moments}
    return fits, time.process_time() - started


def _publish(name: str, value: float, unit: str, against: Against) -> None:
    Figure(name=name, value=value, unit=unit, against=against, command=_COMMAND).publish(_FOLDER)


def main(arguments: list[str]) -> None:
    """Run the benchmark, or a part of it."""
    match arguments:
        case ["year", folder]:
            print(json.dumps(year_alone(Path(folder))))
        case ["separately"]:
            time_separately()
        case _:
            structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
            time_year()
            time_all_sources()
            time_separately()


if __name__ == "__main__":
    main(sys.argv[1:])
