"""A strategy that looks ahead is caught by cutting the future off; one that does not is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

import numpy as np
import pytest
import structlog

from fxcast.backtest.engine import BacktestEngine, BacktestSetup
from fxcast.backtest.forecasts import PreparedForecasts, PreparedService, SymbolForecasts
from fxcast.backtest.inner import InnerCandles
from fxcast.backtest.lookahead import (
    WINDOWS_A_CUT,
    CutCheck,
    choose_cuts,
    compare_forecasts,
    compare_runs,
    cut_off,
    run_until,
    together,
    without_later,
)
from fxcast.backtest.regimes import FitTable, first_candle
from fxcast.backtest.result import BacktestResult, EquityCurve
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import Forecaster, WindowBatch
from fxcast.domain.order import Financing, OrderStatus
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.signals.sources import SourceSpec
from fxcast.trading.config import PaperMarketConfig, TradingConfig
from fxcast.trading.forecasting import forecast_seed
from tests import peeking_sources
from tests.factories import make_series
from tests.look_ahead import make_market
from tests.peeking_sources import PeekingWalk, RememberingWalk, peeking_fits

HOUR = Timeframe("1h")
HORIZONS = (240, 960)
REFIT_BARS = 40
SEEDS = (1, 2, 3)
CUTS = 3
FIRST, BARS = 330, 430  # candles before the start, for the regimes, and in all

EVERYTHING = {
    "ldm4ts_horizons": HORIZONS,
    "use_pattern": True,
    "use_multi_timeframe": True,
    "min_quality": 0.0,
    "regime_refit_bars": REFIT_BARS,
    "forecast_interval_bars": 2,
}


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    peeking_sources.REMEMBERED.clear()
    yield
    peeking_sources.REMEMBERED.clear()


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():  # a line for each order
        yield


@pytest.fixture(scope="module")
def result() -> BacktestResult:
    """What a run left behind that had everything: fills, interest, closed positions, a source that failed."""
    world = make_world(1, source="Failing")
    result = run_until(world.setup, world.series, world.setup.stop, own=world.prepared)
    assert any(isinstance(each, Financing) for each in result.transactions)
    assert result.risk_events
    assert any(each.closed_at is not None for each in result.positions)
    return result


@dataclass(frozen=True, kw_only=True)
class World:
    """A market of two pairs, a strategy, and forecasts of it."""

    series: Mapping[str, CandleSeries]
    setup: BacktestSetup
    prepared: PreparedForecasts
    forecaster: Forecaster
    cuts: tuple[datetime, ...]
    fits: FitTable = field(default_factory=dict)
    inner: Mapping[str, InnerCandles] = field(default_factory=dict)

    def checks(self) -> list[CutCheck]:
        """Rerun to one cut after the other and only then with all of the future, as if each were in a process of its own."""
        reruns = [run_until(self.setup, self.series, cut, own=self.prepared, inner=self.inner) for cut in self.cuts]
        engine = BacktestEngine(self.setup, self.series, forecasts=PreparedService(self.prepared), inner=self.inner, fits=self.fits)
        whole = engine.run()
        for done in (whole.signals, whole.orders, whole.transactions):
            assert done, "a strategy that does nothing proves nothing"
        return [
            together(
                [
                    compare_runs(whole, rerun, cut),
                    *(compare_forecasts(self.prepared, self.forecaster, each, cut) for each in self.series.values()),
                ]
            )
            for cut, rerun in zip(self.cuts, reruns, strict=True)
        ]


def make_world(
    seed: int,
    *,
    source: str | None = None,
    forecaster: Forecaster | None = None,
    fits: bool = False,
) -> World:
    market = make_market(seed, bars=BARS)
    series = {each.symbol: each for each in market}
    start, stop = to_datetime(market[0].close_times[FIRST]), to_datetime(market[0].close_times[-1])
    sources = () if source is None else (SourceSpec.model_validate({"class": f"tests.peeking_sources:{source}"}),)
    trading = TradingConfig.model_validate({**EVERYTHING, "sources": sources})
    market_config = PaperMarketConfig.model_validate(
        {"swap_pct_long": dict.fromkeys(series, -2), "swap_pct_short": dict.fromkeys(series, 1)}
    )
    forecaster = forecaster or RandomWalk(timeframe=HOUR, horizons_minutes=HORIZONS)
    return World(
        series=series,
        setup=BacktestSetup(name="checked", symbols=tuple(series), start=start, stop=stop, trading=trading, market=market_config),
        prepared=prepared_by(forecaster, series, start),
        forecaster=forecaster if not isinstance(forecaster, RememberingWalk) else RememberingWalk(HOUR, HORIZONS),
        cuts=choose_cuts(series.values(), start, stop, count=CUTS, seed=seed),
        fits={
            key: model for each in market for key, model in peeking_fits(each, start, stop, refit_bars=REFIT_BARS, bars=60).items()
        }
        if fits
        else {},
    )


def prepared_by(forecaster: Forecaster, series: Mapping[str, CandleSeries], start: datetime) -> PreparedForecasts:
    """Forecast every window of a period in one batch."""
    symbols: dict[str, SymbolForecasts] = {}
    for symbol, each in series.items():
        ends = np.arange(first_candle(each, start), len(each))
        seeds = [forecast_seed(symbol, to_datetime(each.close_times[end])) for end in ends]
        moves = forecaster.sample(WindowBatch.ending_at(each, ends), num_samples=20, seeds=seeds)
        symbols[symbol] = SymbolForecasts.of(each, ends, moves.astype(np.float32))
    return PreparedForecasts(model_version=forecaster.model_version, horizons_minutes=HORIZONS, symbols=symbols)


# --- No cry of wolf ---


@pytest.mark.parametrize("seed", SEEDS)
def test_every_source_of_fxcast_and_an_honest_one_decide_the_same_without_the_future(seed: int) -> None:
    checks = make_world(seed, source="Honest").checks()
    assert [check.differences for check in checks] == [()] * CUTS
    assert all(check.differing == 0 for check in checks)
    assert sum(check.decisions for check in checks) > 100
    assert all(check.forecasts == 2 * WINDOWS_A_CUT for check in checks[1:])  # there may be fewer before the first


def test_candles_inside_candles_that_know_nothing_later_change_no_decision() -> None:
    seed = 5
    minutes = make_series(bars=BARS * 4, timeframe="15m", seed=seed, range_width=2e-4)
    hours = hours_of(minutes)
    start, stop = to_datetime(hours.close_times[FIRST]), to_datetime(hours.close_times[-1])
    series = {"EURUSD": hours}
    walk = RandomWalk(timeframe=HOUR, horizons_minutes=HORIZONS)
    world = World(
        series=series,
        setup=BacktestSetup(
            name="inner", symbols=("EURUSD",), start=start, stop=stop, trading=TradingConfig.model_validate(EVERYTHING)
        ),
        prepared=prepared_by(walk, series, start),
        forecaster=walk,
        cuts=choose_cuts([hours], start, stop, count=CUTS, seed=seed),
        inner={"EURUSD": InnerCandles(minutes)},
    )
    assert [check.differences for check in world.checks()] == [()] * CUTS
    assert world.inner["EURUSD"].resolved > 0


def hours_of(quarters: CandleSeries) -> CandleSeries:
    """Put four quarters of an hour together."""
    four = quarters.values.reshape(-1, 4, 5)  # (hours, quarters, columns)
    values = np.column_stack(
        [four[:, 0, 0], four[:, :, 1].max(axis=1), four[:, :, 2].min(axis=1), four[:, -1, 3], four[:, :, 4].sum(axis=1)]
    )
    return CandleSeries(symbol=quarters.symbol, timeframe=HOUR, open_times=quarters.open_times[::4], values=values)


# --- What is planted is found ---


@pytest.mark.parametrize("source", ["BeneathTheWindow", "Rememberer"])
def test_a_source_that_knows_what_comes_is_caught_at_every_cut(source: str) -> None:
    world = make_world(4, source=source)
    for check in world.checks():
        assert "risk event" not in {each.what for each in check.differences}, "the source failed, which is no peek"
        first = check.differences[0]
        assert first.what == "signal"
        # It looks three candles ahead: what it said before those it could say without the rest as well.
        series = world.series[first.symbol]
        known = int(np.searchsorted(series.close_times, to_datetime64(check.cut), side="right"))
        assert to_datetime(series.close_times[known - 3]) <= first.at <= check.cut
        assert first.with_future != first.without


@pytest.mark.parametrize("kind", [PeekingWalk, RememberingWalk])
def test_a_forecaster_that_is_scaled_by_later_windows_is_caught(kind: type[PeekingWalk | RememberingWalk]) -> None:
    checks = make_world(4, forecaster=kind(HOUR, HORIZONS)).checks()
    found = [check.differences[0] for check in checks if check.differences]
    assert found
    assert {each.what for each in found} == {f"forecast of {kind.model_version}"}
    assert all("in 240 min" in each.with_future and each.with_future != each.without for each in found)


def test_regimes_fitted_on_later_candles_are_caught() -> None:
    checks = make_world(4, fits=True).checks()
    assert all(check.differences for check in checks)
    assert {check.differences[0].what for check in checks} == {"signal"}


# --- Its parts ---


def test_cuts_lie_one_in_each_part_of_the_period_and_leave_a_future() -> None:
    series = make_series(bars=400)
    start, stop = to_datetime(series.close_times[200]), to_datetime(series.close_times[-1])
    cuts = choose_cuts([series], start, stop, count=10, seed=4)
    traded = series.close_times[200:-2]  # the last one traded has no future, and the one that closes at the stop is not traded
    parts = np.array_split(traded, 10)
    assert all(part[0] <= to_datetime64(cut) <= part[-1] for part, cut in zip(parts, cuts, strict=True))
    assert cuts == choose_cuts([series], start, stop, count=10, seed=4)
    assert cuts != choose_cuts([series], start, stop, count=10, seed=5)


def test_as_many_cuts_as_there_are_moments_is_the_most() -> None:
    series = make_series(bars=CONTEXT_BARS + 4)
    start, stop = to_datetime(series.close_times[-5]), to_datetime(series.close_times[-1])
    assert [to_datetime64(cut) for cut in choose_cuts([series], start, stop, count=50)] == list(series.close_times[-5:-2])


def test_a_period_of_one_candle_has_no_future_to_cut_off() -> None:
    series = make_series(bars=CONTEXT_BARS)
    moment = to_datetime(series.close_times[-1])
    with pytest.raises(BadSetting, match=r"found 1 of them .* two or more"):
        choose_cuts([series], moment, moment.replace(year=2030), count=3)


def test_nothing_later_hangs_on_a_series_that_is_cut_off() -> None:
    series = make_series(bars=150)
    cut = cut_off(series, to_datetime(series.close_times[99]))
    assert len(cut) == 100
    for array, whole in ((cut.values, series.values), (cut.open_times, series.open_times)):
        assert array.base is None
        np.testing.assert_array_equal(array, whole[:100])


def test_forecasts_of_later_windows_are_gone_after_a_cut() -> None:
    world = make_world(1)
    cut = world.cuts[1]
    for symbol, known in without_later(world.prepared, cut).symbols.items():
        assert int(known.closed_at[-1]) <= cut.timestamp() < int(world.prepared.symbols[symbol].closed_at[len(known.closed_at)])
        assert len(known.moves) == len(known.price) == len(known.closed_at)
        assert known.moves.base is None


def test_what_was_decided_once_and_not_the_other_time_is_told() -> None:
    world = make_world(1)
    cut = world.cuts[2]
    whole = run_until(world.setup, world.series, cut, own=world.prepared)
    quiet = run_until(
        BacktestSetup(
            name="quiet",
            symbols=world.setup.symbols,
            start=world.setup.start,
            stop=world.setup.stop,
            trading=TradingConfig(use_ldm4ts=False, use_trend=False, use_mean_reversion=False),
        ),
        world.series,
        cut,
    )
    check = compare_runs(whole, quiet, cut)
    kinds = {each.what: each for each in check.differences}
    assert kinds["signal"].without == kinds["order"].without == "nothing"
    assert kinds["signal"].at == whole.signals[0].signal.made_at
    assert check.decisions == len(whole.signals)
    assert check.differing > len(whole.signals)


Change = Callable[[BacktestResult], BacktestResult]


def _another_reason(result: BacktestResult) -> BacktestResult:
    last = replace(result.signals[-1], reason="another")
    return replace(result, signals=(*result.signals[:-1], last))


def _another_member(result: BacktestResult) -> BacktestResult:
    decided = result.signals[-1]
    member = replace(decided.signal.members[0], strength=decided.signal.members[0].strength / 2 + 0.1)
    return replace(
        result,
        signals=(
            *result.signals[:-1],
            replace(decided, signal=replace(decided.signal, members=(member, *decided.signal.members[1:]))),
        ),
    )


def _another_stop(result: BacktestResult) -> BacktestResult:
    order = result.orders[0]
    assert order.intent.stop is not None
    moved = replace(order, intent=replace(order.intent, stop=order.intent.stop - Decimal("0.00001")))
    return replace(result, orders=(moved, *result.orders[1:]))


def _another_end_of_an_order(result: BacktestResult) -> BacktestResult:
    return replace(result, orders=(replace(result.orders[0], status=OrderStatus.REJECTED), *result.orders[1:]))


def _a_fill_less(result: BacktestResult) -> BacktestResult:
    return replace(result, transactions=result.transactions[1:])


def _another_interest(result: BacktestResult) -> BacktestResult:
    changed = [
        replace(each, amount=each.amount + Decimal("0.01")) if isinstance(each, Financing) else each for each in result.transactions
    ]
    return replace(result, transactions=tuple(changed))


def _another_profit(result: BacktestResult) -> BacktestResult:
    closed = next(each for each in result.positions if each.profit is not None)
    changed = [replace(each, profit=Decimal(7)) if each is closed else each for each in result.positions]
    return replace(result, positions=tuple(changed))


def _a_failure_less(result: BacktestResult) -> BacktestResult:
    return replace(result, risk_events=result.risk_events[1:])


def _another_cent(result: BacktestResult) -> BacktestResult:
    balance = result.equity.balance.copy()
    balance[5] += 0.01
    return replace(result, equity=replace(result.equity, balance=balance))


def _a_moment_less(result: BacktestResult) -> BacktestResult:
    curve = result.equity
    shorter = EquityCurve(
        times=curve.times[1:], balance=curve.balance[1:], open_profit=curve.open_profit[1:], exposure=curve.exposure[1:]
    )
    return replace(result, equity=shorter)


CHANGES: Mapping[str, tuple[str, Change]] = {
    "a verdict's reason": ("signal", _another_reason),
    "what one source said": ("signal", _another_member),
    "an order's stop": ("order", _another_stop),
    "an order's end": ("order", _another_end_of_an_order),
    "a fill": ("fill or interest", _a_fill_less),
    "interest": ("fill or interest", _another_interest),
    "a position's profit": ("position", _another_profit),
    "a source's failure": ("risk event", _a_failure_less),
    "a cent": ("equity", _another_cent),
    "a moment": ("equity", _a_moment_less),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("in_rerun", [False, True])
def test_whatever_is_otherwise_is_told(result: BacktestResult, name: str, *, in_rerun: bool) -> None:
    kind, change = CHANGES[name]
    changed, cut = change(result), to_datetime(result.equity.times[-1])
    check = compare_runs(result, changed, cut) if in_rerun else compare_runs(changed, result, cut)
    assert [each.what for each in check.differences] == [kind]
    assert check.differing >= 1
    assert check.differences[0].with_future != check.differences[0].without


def test_a_run_is_equal_to_itself_and_nothing_after_the_cut_counts(result: BacktestResult) -> None:
    end = to_datetime(result.equity.times[-1])
    assert compare_runs(result, result, end) == CutCheck(cut=end, decisions=len(result.signals))
    middle = to_datetime(result.equity.times[len(result.equity) // 2])
    world = make_world(1, source="Failing")
    rerun = run_until(world.setup, world.series, middle, own=world.prepared)
    assert compare_runs(_another_reason(result), rerun, middle).differences == ()
    assert len(rerun.signals) < len(result.signals)
