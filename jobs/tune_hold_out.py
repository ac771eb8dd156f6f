"""The winner and what it is compared with, on the period that no trial has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fxcast.backtest.engine import BacktestSetup
from fxcast.backtest.forecasts import PreparedForecasts, SymbolForecasts
from fxcast.backtest.result import BacktestResult
from fxcast.cluster.backtests import Run, asked_windows, prepare_regimes, run_backtests
from fxcast.cluster.batch_forecast import ForecastSource
from fxcast.domain.candle import to_datetime64
from fxcast.performance.compare import differences
from fxcast.performance.measure import measure
from fxcast.performance.trade import Trade
from fxcast.performance.trades import trades_of
from fxcast.tuning.findings import HoldOutRun
from fxcast.tuning.strategy import traded_with
from fxcast.tuning.trial import Values
from fxcast.tuning.verdict import WINNER
from jobs.backtest_candles import MarketData, open_store, read_market_data
from jobs.tune_market import prepared
from jobs.tune_parameters import shortest_interval
from jobs.tune_plan import TunePlan

_FORECASTS = "forecasts of the hold-out"

Show = Callable[[str, int, int], None]
Ends = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Values that are traded on the hold-out.

    Attributes:
        key: winner, default or random.
        source: Of a fold by its number, the model that forecasts it with these values; None without one.
    """

    key: str
    title: str
    values: Values
    source: Callable[[int], ForecastSource | None]


def hold_out_runs(plan: TunePlan, candidates: list[Candidate], *, show: Show) -> tuple[HoldOutRun, ...]:
    """Trade the hold-out with each candidate, the winner first, on the connected cluster."""
    settings, (start, stop) = plan.settings, plan.hold_out
    data = read_market_data(settings, open_store(settings), start, stop)
    ends = {
        symbol: asked_windows(data.series[symbol], start, stop, interval_bars=shortest_interval(settings))
        for symbol in settings.symbols
    }
    forecasts: dict[str, PreparedForecasts] = {}
    runs: list[Run] = []
    for version in settings.trading.opponents.values():
        forecasts[version] = prepared(plan, plan.models.sources[version], data, ends, partial(show, _FORECASTS))[0]
    for candidate in candidates:
        trading = traded_with(settings.trading, candidate.values, settings.regime)
        own = _own(plan, candidate, data, ends, trading.ldm4ts_num_samples, show)
        if own is not None:
            forecasts[candidate.key] = own
        others = {version: f"{candidate.key} {version}" for version in settings.trading.opponents.values()}
        forecasts |= {name: forecasts[version].first(trading.ldm4ts_num_samples) for version, name in others.items()}
        setup = BacktestSetup(
            name=candidate.key,
            symbols=settings.symbols,
            followed=settings.followed,
            start=start,
            stop=stop,
            trading=trading,
            market=data.market,
        )
        runs.append(Run(setup=setup, own=None if own is None else candidate.key, others=others))
    fits = prepare_regimes(
        data.series, start, stop, refit_bars=settings.trading.regime_refit_bars, show=partial(show, "regimes of the hold-out")
    )
    told = partial(_told, show)
    results = run_backtests(runs, data.series, forecasts, inner=data.inner, fits=fits, show=told)
    traded = {result.name: (result, trades_of(result)) for result in results}
    return tuple(_measured(plan, candidate, traded) for candidate in candidates)


def _told(show: Show, name: str, done: int, total: int) -> None:
    show(f"hold-out: {name}", done, total)


def _measured(plan: TunePlan, candidate: Candidate, traded: Mapping[str, tuple[BacktestResult, tuple[Trade, ...]]]) -> HoldOutRun:
    settings = plan.settings
    result, trades = traded[candidate.key]
    compared = ()
    if candidate.key != WINNER:
        winner, winner_trades = traded[WINNER]
        compared = differences(winner, result, winner_trades, trades, seed=settings.seed, draws=settings.draws)
    return HoldOutRun(
        key=candidate.key,
        title=candidate.title,
        values=candidate.values,
        equity=result.equity,
        measures=measure(result, trades, seed=settings.seed, draws=settings.draws),
        differences=compared,
    )


def _own(
    plan: TunePlan, candidate: Candidate, data: MarketData, ends: Ends, num_samples: int, show: Show
) -> PreparedForecasts | None:
    """Return the forecasts of the whole hold-out: of each of its folds by the model of that fold."""
    if not plan.settings.trading.use_ldm4ts:
        return None
    parts: list[PreparedForecasts] = []
    for number, own_ends in _by_fold(plan, data, ends):
        source = candidate.source(number)
        assert source is not None, "the own model forecasts every fold"
        parts.append(
            prepared(plan, source, data, own_ends, partial(show, _FORECASTS))[0].first(num_samples)
        )  # each as its own model draws them
    return _joined(parts)


def _by_fold(plan: TunePlan, data: MarketData, ends: Ends) -> list[tuple[int, Ends]]:
    """Return the numbers of the folds that are held out, each with the windows that end in it."""
    if plan.walk is None:
        return [(len(plan.folds) + 1, ends)]
    held: list[tuple[int, Ends]] = []
    for fold in plan.walk.folds[len(plan.folds) :]:
        bounds = [to_datetime64(moment) for moment in fold.test]
        inside: dict[str, NDArray[np.int64]] = {}
        for symbol, each in ends.items():
            closes_at = data.series[symbol].close_times[each]
            first, last = np.searchsorted(closes_at, bounds)
            inside[symbol] = each[int(first) : int(last)]
        held.append((fold.number, inside))
    return held


def _joined(parts: list[PreparedForecasts]) -> PreparedForecasts:
    """Return forecasts of one period after the other as one; they are called as the first."""
    first = parts[0]
    symbols = {
        symbol: SymbolForecasts(
            closed_at=np.concatenate([part.symbols[symbol].closed_at for part in parts]),
            price=np.concatenate([part.symbols[symbol].price for part in parts]),
            moves=np.concatenate([part.symbols[symbol].moves for part in parts]),
        )
        for symbol in first.symbols
    }
    return PreparedForecasts(model_version=first.model_version, horizons_minutes=first.horizons_minutes, symbols=symbols)
