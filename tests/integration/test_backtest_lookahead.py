"""The check for a look ahead on a cluster: each rerun is in a process of its own, and the command says what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest
import ray

from fxcast.backtest.engine import BacktestSetup
from fxcast.backtest.lookahead import WINDOWS_A_CUT, CutCheck, choose_cuts
from fxcast.cluster.backtests import Run, asked_windows, prepare_forecasts, prepare_regimes
from fxcast.cluster.batch_forecast import Workers, parameter_source
from fxcast.cluster.forecast_cache import ForecastCache
from fxcast.cluster.local import REPOSITORY
from fxcast.cluster.lookahead import FORECASTS, RERUNS, check_lookahead
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecaster import Forecaster
from fxcast.domain.timeframe import Timeframe
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.trading.config import TradingConfig
from tests.look_ahead import PAIRS, make_market
from tests.peeking_sources import PeekingWalk

pytestmark = pytest.mark.usefixtures("dashboard_url")

HOUR = Timeframe("1h")
HORIZONS = (240, 960)
FIRST, BARS = 330, 430  # candles before the start, for the regimes, and in all


@pytest.fixture(scope="module")
def market() -> Mapping[str, CandleSeries]:
    return {each.symbol: each for each in make_market(6, bars=BARS)}


def period_of(market: Mapping[str, CandleSeries]) -> tuple[datetime, datetime]:
    closes = market["EURUSD"].close_times
    return to_datetime(closes[FIRST]), to_datetime(closes[-1])


def checked(
    market: Mapping[str, CandleSeries], forecaster: Forecaster, folder: Path, shown: dict[str, tuple[int, int]], *, cuts: int
) -> tuple[CutCheck, ...]:
    """Forecast on the cluster as a backtest does, and check each pair on an account of its own."""
    start, stop = period_of(market)
    source = parameter_source(forecaster, parameters=repr(forecaster))
    trading = TradingConfig.model_validate(
        {
            "ldm4ts_horizons": HORIZONS,
            "min_quality": 0.0,
            "regime_refit_bars": 40,
            "sources": [{"class": "tests.peeking_sources:FirstRun"}],
        }
    )
    prepared, _ = prepare_forecasts(
        source,
        market,
        {symbol: asked_windows(each, start, stop, interval_bars=1) for symbol, each in market.items()},
        num_samples=20,
        cache=ForecastCache(folder),
        workers=Workers(actors=2),
    )
    runs = [
        Run(setup=BacktestSetup(name=symbol, symbols=(symbol,), start=start, stop=stop, trading=trading), own="own")
        for symbol in PAIRS
    ]
    return check_lookahead(
        runs,
        market,
        {"own": prepared},
        {"own": source},
        choose_cuts(market.values(), start, stop, count=cuts, seed=1),
        fits=prepare_regimes(market, start, stop, refit_bars=40),
        show=lambda name, done, total: shown.update({name: (done, total)}),
    )


def test_every_run_is_in_a_process_of_its_own_and_an_honest_forecaster_passes(
    market: Mapping[str, CandleSeries], tmp_path: Path
) -> None:
    shown: dict[str, tuple[int, int]] = {}
    # Two accounts, whole and with four cuts, are ten runs on four CPUs.
    checks = checked(market, RandomWalk(timeframe=HOUR, horizons_minutes=HORIZONS), tmp_path, shown, cuts=4)
    assert [check.differences for check in checks] == [()] * 4
    assert all(check.decisions > 0 for check in checks)
    assert all(check.forecasts == 2 * WINDOWS_A_CUT for check in checks[1:])
    assert shown == {RERUNS: (8, 8), FORECASTS: (2, 2)}


def test_a_forecaster_that_looks_at_the_later_windows_of_its_batch_is_caught(
    market: Mapping[str, CandleSeries], tmp_path: Path
) -> None:
    checks = checked(market, PeekingWalk(HOUR, HORIZONS), tmp_path, {}, cuts=2)
    whats = {each.what for check in checks for each in check.differences}
    assert whats == {"forecast of peeking-walk"}


def command(market: Mapping[str, CandleSeries], folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Run the job on the shared cluster, on a store of the market, with a source of the user's own beside all of fxcast's."""
    store = CandleStore(folder / "store")
    for each in market.values():
        store.append(each)
    start, stop = period_of(market)
    return subprocess.run(
        [
            *(sys.executable, "-m", "jobs.backtest", "--check-lookahead", "--cuts", "3", "--store", str(folder / "store")),
            *("--symbols", json.dumps(PAIRS), "--model", "random-walk", "--benchmarks", "[]"),
            *("--from", start.isoformat(), "--to", stop.isoformat(), "--forecasts", str(folder / "forecasts")),
            *("--database-url", f"sqlite:///{folder / 'none.db'}", "--trading.ldm4ts-horizons", json.dumps(HORIZONS)),
            *("--trading.min-quality", "0", "--trading.use-pattern", "--trading.use-multi-timeframe"),
            *("--trading.sources", json.dumps([{"class": f"tests.peeking_sources:{source}"}])),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": "platform:.", "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_command_passes_all_sources_of_fxcast_and_an_honest_one(market: Mapping[str, CandleSeries], tmp_path: Path) -> None:
    done = command(market, tmp_path, "Honest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no decision depends on the future: " in done.stdout
    assert "at 3 cuts" in done.stdout


@pytest.mark.long
def test_the_command_catches_a_source_that_remembers_another_run(market: Mapping[str, CandleSeries], tmp_path: Path) -> None:
    done = command(market, tmp_path, "Rememberer")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "it depends on the future: at 3 of 3 cuts" in done.stdout
    assert ", signal: " in done.stdout
    assert "risk event" not in done.stdout, "the source failed, which is no peek"
    assert "; without the future: " in done.stdout
