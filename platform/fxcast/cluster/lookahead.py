"""Run again without the future, on the cluster: every rerun is a task, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import ray
from ray import ObjectRef

from fxcast.backtest.engine import BacktestEngine, BacktestSetup
from fxcast.backtest.forecasts import PreparedForecasts, PreparedService
from fxcast.backtest.inner import InnerCandles
from fxcast.backtest.lookahead import CutCheck, compare_forecasts, compare_runs, run_until, together
from fxcast.backtest.regimes import FitTable
from fxcast.backtest.result import BacktestResult
from fxcast.cluster.backtests import Run, Show, quieten
from fxcast.cluster.batch_forecast import ForecastSource
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecaster import Forecaster
from fxcast.models.load import move_to_gpu
from fxcast.signals.regime import RegimeModel

RERUNS, FORECASTS = "reruns without the future", "forecasts made again"


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """What a run is made of, in the cluster's shared memory; a task that is given it loads only what it needs."""

    setup: BacktestSetup
    series: Mapping[str, ObjectRef[CandleSeries]]
    own: ObjectRef[PreparedForecasts] | None
    others: Mapping[str, ObjectRef[PreparedForecasts]]
    inner: ObjectRef[dict[str, InnerCandles]]
    fits: ObjectRef[dict[tuple[str, datetime], RegimeModel | None]]


def check_lookahead(
    runs: Sequence[Run],
    series: Mapping[str, CandleSeries],
    forecasts: Mapping[str, PreparedForecasts],
    sources: Mapping[str, ForecastSource],
    cuts: Sequence[datetime],
    *,
    inner: Mapping[str, InnerCandles] | None = None,
    fits: FitTable | None = None,
    gpus_each: float = 0.0,
    show: Show | None = None,
) -> tuple[CutCheck, ...]:
    """Compare runs with reruns whose future is cut off, and forecasts with those made again; see `fxcast.backtest.lookahead`.

    Args:
        forecasts: By name, as the runs speak of them.
        sources: Their forecasters, by the same names.
        cuts: Ascending.
        fits: What the whole run's regimes are; a rerun fits its own.
        gpus_each: GPUs of each forecaster.
        show: Called with what is being done, how much of it is done, and all.

    Returns:
        One a cut, in their order.
    """
    prepared = {name: ray.put(each) for name, each in forecasts.items()}
    candles = {symbol: ray.put(each) for symbol, each in series.items()}
    shorter, regimes = ray.put(dict(inner or {})), ray.put(dict(fits or {}))
    ask: Any = _forecast_task  # Ray's types know no options of a task
    reruns: dict[ObjectRef[Any], str] = {}
    asked: dict[ObjectRef[Any], str] = {}
    for run in runs:
        world = _World(
            setup=run.setup,
            series={symbol: candles[symbol] for symbol in run.setup.followed or candles},
            own=None if run.own is None else prepared[run.own],
            others={version: prepared[name] for version, name in run.others.items()},
            inner=shorter,
            fits=regimes,
        )
        whole = _whole_task.remote(world)
        # In a list, for it is awaited only when the rerun is done.
        reruns |= {_rerun_task.remote(world, cut, [whole]): RERUNS for cut in cuts}
    for name, each in forecasts.items():
        for symbol in each.symbols:
            arguments = (sources[name].load, prepared[name], candles[symbol], tuple(cuts), gpus_each > 0)
            asked[ask.options(num_gpus=gpus_each or None).remote(*arguments)] = FORECASTS
    _await({**reruns, **asked}, show)
    found: dict[datetime, list[CutCheck]] = {cut: [] for cut in cuts}
    for check in [*ray.get(list(reruns)), *(check for checks in ray.get(list(asked)) for check in checks)]:
        found[check.cut].append(check)
    return tuple(together(checks) for checks in found.values())


def _await(tasks: Mapping[ObjectRef[Any], str], show: Callable[[str, int, int], None] | None) -> None:
    names = list(tasks.values())
    waiting = list(tasks)
    while waiting:
        _, waiting = ray.wait(waiting)
        if show is not None:
            left = [tasks[each] for each in waiting]
            for name in dict.fromkeys(names):
                show(name, names.count(name) - left.count(name), names.count(name))


# A process runs one of these and ends: what a source or a forecaster keeps in a module would else reach from a run that saw more
# into one that must not.
@ray.remote(num_cpus=1, max_retries=3, max_calls=1)
def _whole_task(world: _World) -> BacktestResult:
    quieten()
    own, others = _forecasts(world)
    service = None if own is None and not others else PreparedService(own, others)
    series = {symbol: ray.get(each) for symbol, each in world.series.items()}
    engine = BacktestEngine(world.setup, series, forecasts=service, inner=ray.get(world.inner), fits=ray.get(world.fits))
    return engine.run()


@ray.remote(num_cpus=1, max_retries=3, max_calls=1)
def _rerun_task(world: _World, cut: datetime, whole: list[ObjectRef[BacktestResult]]) -> CutCheck:
    quieten()
    own, others = _forecasts(world)
    series = {symbol: ray.get(each) for symbol, each in world.series.items()}
    rerun = run_until(world.setup, series, cut, own=own, others=others, inner=ray.get(world.inner))
    return compare_runs(ray.get(whole[0]), rerun, cut)


@ray.remote(num_cpus=1, max_retries=3, max_calls=1)
def _forecast_task(
    load: Callable[[], Forecaster],
    prepared: PreparedForecasts,
    series: CandleSeries,
    cuts: tuple[datetime, ...],
    has_gpu: bool,  # Ray's types know positional arguments alone
) -> list[CutCheck]:
    """Ask a forecaster that has seen nothing, and then what lies before one cut after the other."""
    forecaster = load()
    if has_gpu:
        move_to_gpu(forecaster)
    return [compare_forecasts(prepared, forecaster, series, cut) for cut in sorted(cuts)]


def _forecasts(world: _World) -> tuple[PreparedForecasts | None, dict[str, PreparedForecasts]]:
    own = None if world.own is None else ray.get(world.own)
    return own, {version: ray.get(each) for version, each in world.others.items()}
