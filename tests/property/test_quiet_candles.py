"""A backtest that passes over quiet candles does what one does that looks at each: over random walks, settings and markets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from fxcast.backtest import stretches
from fxcast.backtest.engine import BacktestEngine, BacktestSetup
from fxcast.backtest.forecasts import PreparedForecasts, PreparedService, SymbolForecasts
from fxcast.backtest.inner import InnerCandles
from fxcast.backtest.regimes import FitTable, first_candle, fit_moments
from fxcast.backtest.result import BacktestResult
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.order import Fill, FillReason, Financing
from fxcast.domain.signal import Regime, SignalSource
from fxcast.domain.timeframe import Timeframe
from fxcast.signals.regime import RegimeModel
from fxcast.trading.config import CandleSide, ManagementConfig, PaperMarketConfig, RiskLimits, SizingConfig, TradingConfig
from fxcast.trading.simulation.tape import QuoteTape, quote_tape
from fxcast.trading.tuned import TunedParameters, Value

_GROUPS, _CASES_EACH = 20, 10
_HISTORY = 120  # candles before the first that is traded
_WEDNESDAY = datetime(2024, 3, 6, 18, tzinfo=UTC)  # the week after, New York's clock goes forward
_PRICES = {"EURUSD": 1.10, "USDJPY": 150.0}  # in an account of USD, the quote currency and the base currency
_SAMPLES = 20

Tape = Callable[[PaperMarketConfig, CandleSeries], QuoteTape]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A backtest."""

    setup: BacktestSetup
    series: CandleSeries
    forecasts: PreparedService
    inner: InnerCandles | None
    fits: FitTable

    def run(self, *, passes_over: bool) -> tuple[BacktestEngine, BacktestResult]:
        symbol = self.series.symbol
        engine = BacktestEngine(
            self.setup,
            {symbol: self.series},
            forecasts=self.forecasts,
            inner={} if self.inner is None else {symbol: self.inner},
            fits=self.fits,
            passes_over=passes_over,
        )
        return engine, engine.run()


def random_case(seed: int) -> Case:
    """Draw a market, its prices and the settings of whoever trades it."""
    rng = np.random.default_rng(seed)
    symbol = "EURUSD" if rng.random() < 0.6 else "USDJPY"
    timeframe = Timeframe(str(rng.choice(["1m", "1m", "5m", "1h"])))
    series, inner = _candles(rng, symbol, timeframe)
    start, stop = to_datetime(series.close_times[_HISTORY]), to_datetime(series.close_times[-1]) + timedelta(minutes=1)
    trading = _trading(rng, timeframe)
    ends = np.arange(first_candle(series, start), len(series), trading.forecast_interval_bars)
    prepared = [_forecasts(rng, series, ends, trading.ldm4ts_horizons, name) for name in ("own", "other")]
    moments = fit_moments(series, start, stop, refit_bars=trading.regime_refit_bars)
    return Case(
        setup=BacktestSetup(name="random", symbols=(symbol,), start=start, stop=stop, trading=trading, market=_market(rng, symbol)),
        series=series,
        forecasts=PreparedService(prepared[0], {"other": prepared[1]}),
        inner=inner,
        fits={(symbol, moment): _regimes(rng) if rng.random() < 0.8 else None for moment in moments},
    )


def _candles(rng: np.random.Generator, symbol: str, timeframe: Timeframe) -> tuple[CandleSeries, InnerCandles | None]:
    """Walk at random, with gaps, over a weekend more often than not; sometimes with what the candles look like from inside."""
    bars, parts = int(rng.integers(350, 500)), 4  # prices inside a candle
    step_s = timeframe.minutes * 60
    started = to_datetime64(_WEDNESDAY + timedelta(minutes=timeframe.minutes * int(rng.integers(-24, 24))))
    if timeframe.name == "1m" and rng.random() < 0.6:
        started += np.timedelta64(2 * 24 * 60 - int(rng.integers(0, 6 * 60)), "m")  # the rest of Friday, and Sunday night
    opens = started + (np.arange(3 * bars + 49 * 3600 // step_s) * step_s).astype("timedelta64[s]")
    opens = opens[open_mask(opens)]
    opens = opens[rng.random(len(opens)) > rng.choice([0.0, 0.01, 0.1])][:bars]
    volatility = 0.0001 * float(rng.choice([1, 3, 10])) * np.sqrt(timeframe.minutes)
    jumps = rng.normal(0, volatility, len(opens)) * (rng.random(len(opens)) < 0.05) * 4
    moves = rng.normal(0, volatility / np.sqrt(parts), (len(opens), parts))
    moves[:, 0] += jumps
    digits = 3 if symbol.endswith("JPY") else 5
    prices = _PRICES[symbol] * np.exp(np.cumsum(moves.ravel())).reshape(moves.shape)
    prices = prices.round(digits + int(rng.choice([0, 0, 1])))  # beyond the tick: mids of quotes
    prices[:, 0] = np.where(rng.random(len(opens)) < 0.7, np.append(prices[:1, 0], prices[:-1, -1]), prices[:, 0])  # else a gap
    values = np.column_stack([prices[:, 0], prices.max(axis=1), prices.min(axis=1), prices[:, -1], np.ones(len(opens))])
    series = CandleSeries(symbol=symbol, timeframe=timeframe, open_times=opens, values=values)
    if timeframe.name != "1h" or rng.random() < 0.5:
        return series, None
    inside = np.repeat(prices, 12 // parts, axis=1)  # an hour's prices as candles of 5 minutes
    times = opens[:, None] + (np.arange(inside.shape[1]) * 300).astype("timedelta64[s]")
    flat = np.column_stack([inside.ravel()] * 4 + [np.ones(inside.size)])
    return series, InnerCandles(CandleSeries(symbol=symbol, timeframe=Timeframe("5m"), open_times=times.ravel(), values=flat))


def _trading(rng: np.random.Generator, timeframe: Timeframe) -> TradingConfig:
    def sometimes(*values: float) -> Any:
        return None if rng.random() < 0.5 else type(values[0])(rng.choice(values))

    # Small stops and no limits make positions that the margin can't carry.
    daring = bool(rng.random() < 0.4)
    settings = TradingConfig(
        ldm4ts_horizons=tuple(each * timeframe.minutes for each in (5, 20, int(rng.choice([60, 200])))),
        ldm4ts_uncertainty_threshold=50.0,
        ldm4ts_min_strength=float(rng.choice([0.1, 0.3])),
        opponents={SignalSource.GARCH_FORECAST: "other"} if rng.random() < 0.2 else {},
        forecast_interval_bars=int(rng.choice([7, 15, 15, 60, 100])),
        use_trend=False,
        use_mean_reversion=False,
        min_quality=0.0,
        spread_pips=0.1,
        sizing=SizingConfig(risk_per_trade_pct=10.0 if daring else 1.0),
        risk=RiskLimits(
            max_symbol_exposure_pct=1e6 if daring else 1000.0,
            max_currency_exposure_pct=1e6 if daring else 1000.0,
            min_free_margin_pct=0.0 if daring else 50.0,
            max_daily_loss_pct=100.0,
            max_drawdown_pct=100.0,
            max_spread_pips=1000.0,
            max_candle_age_s=36_000.0,
            cool_off_losses=int(rng.choice([2, 4])),
            cool_off_minutes=int(rng.choice([0, 60])),
            max_forecast_age_bars=int(rng.choice([0, 0, 1, 3])),
        ),
        management=ManagementConfig(
            follow_targets=bool(rng.random() < 0.5),
            min_target_change_pips=float(rng.choice([0.5, 2.0])),
            exit_uncertainty_pct=sometimes(0.2, 1.0),
            exit_at_horizon=bool(rng.random() < 0.7),
            exit_before_weekend_minutes=sometimes(5, 30, 90),
            break_even_at_r=sometimes(0.2, 0.5, 1.0),
            trail_at_r=sometimes(0.3, 1.0),
            trail_distance_r=float(rng.choice([0.2, 1.0])),
            stop_multiple=float(rng.choice([1.0, 1.0, 0.5, 2.0])),
            target_multiple=float(rng.choice([1.0, 1.0, 0.5, 2.0])),
            holding_multiple=float(rng.choice([1.0, 1.0, 0.1, 0.7, 1.5])),
        ),
        regime_refit_bars=int(rng.choice([50, 130, 5000])),
    )
    return TradingConfig.model_validate({**dict(settings), "tuned": _tuned(rng) if rng.random() < 0.5 else ()})


def _tuned(rng: np.random.Generator) -> tuple[TunedParameters, ...]:
    """Draw what differs by symbol and regime among the settings that decide which candles are quiet."""

    def values() -> dict[str, Value]:
        drawn: dict[str, Value] = {
            "management.holding_multiple": float(rng.choice([0.2, 0.5, 1.0, 2.0])),
            "management.exit_at_horizon": bool(rng.random() < 0.7),
            "management.exit_before_weekend_minutes": int(rng.choice([5, 120, 400])),
            "management.break_even_at_r": float(rng.choice([0.1, 0.4])),
            "management.trail_at_r": float(rng.choice([0.1, 0.6])),
            "management.target_multiple": float(rng.choice([0.5, 1.5])),
            "risk.max_forecast_age_bars": int(rng.choice([0, 2, 5])),
            "sizing.regime_multipliers.ranging": 0.5,
        }
        return {path: value for path, value in drawn.items() if rng.random() < 0.4}

    scopes = [(symbol, regime) for symbol in (None, *_PRICES) for regime in (None, *Regime) if rng.random() < 0.25]
    return tuple(TunedParameters(symbol=symbol, regime=regime, values=values()) for symbol, regime in scopes)


def _market(rng: np.random.Generator, symbol: str) -> PaperMarketConfig:
    hours = dict(zip(rng.choice(24, 5, replace=False).tolist(), (0, Decimal("0.7"), 3, 12, 25), strict=True))
    return PaperMarketConfig(
        account_currency="USD",
        starting_balance=Decimal(int(rng.choice([300, 3_000, 100_000]))),
        leverage=Decimal(int(rng.choice([30, 200, 500]))),
        margin_closeout_pct=Decimal(int(rng.choice([0, 50, 120]))),
        spread_pips=Decimal(str(rng.choice([0.0, 0.3, 1.0, 1.1]))),
        spread_pips_by_hour={hour: Decimal(pips) for hour, pips in hours.items()} if rng.random() < 0.5 else {},
        spread_pips_by_symbol={symbol: {16: Decimal("0.5"), 17: Decimal(40)}} if rng.random() < 0.3 else {},
        slippage_pips=Decimal(str(rng.choice([0.0, 0.1, 0.5]))),
        commission_per_million=Decimal(int(rng.choice([0, 30]))),
        swap_pct_long={symbol: Decimal("-4.5")} if rng.random() < 0.5 else {},
        swap_pct_short={symbol: Decimal("1.5")} if rng.random() < 0.5 else {},
        latency_s=Decimal(str(rng.choice([0.0, 0.2, 90.0]))),
        rejection_probability=float(rng.choice([0.0, 0.2])),
        partial_fill_probability=float(rng.choice([0.0, 0.3])),
        min_stop_pips=Decimal(str(rng.choice([0.0, 1.0]))),
        candle_side=CandleSide(str(rng.choice([each.value for each in CandleSide]))),
    )


def _forecasts(
    rng: np.random.Generator, series: CandleSeries, ends: np.ndarray[Any, np.dtype[np.int64]], horizons: tuple[int, ...], name: str
) -> PreparedForecasts:
    scale = np.diff(np.log(series.closes)).std() * np.sqrt(np.array(horizons) / series.timeframe.minutes)  # (horizons,)
    drift = rng.normal(0, 1.5, (len(ends), 1, 1))
    moves = scale * float(rng.choice([0.5, 1.0, 2.0])) * (rng.normal(0, 1, (len(ends), _SAMPLES, len(horizons))) + drift)
    known = rng.random(len(ends)) < rng.choice([0.9, 1.0])  # the others are asked for in vain
    return PreparedForecasts(
        model_version=name,
        horizons_minutes=horizons,
        symbols={series.symbol: SymbolForecasts.of(series, ends[known], moves[known].astype(np.float32))},
    )


def _regimes(rng: np.random.Generator) -> RegimeModel:
    transition = rng.uniform(0.02, 1, (3, 3)) + 5 * np.eye(3)
    return RegimeModel(
        start=np.full(3, 1 / 3),
        transition=transition / transition.sum(axis=1, keepdims=True),
        means=rng.normal(0, 1, (3, 2)),
        variances=rng.uniform(0.3, 2, (3, 2)),
        center=np.array([0.3, -8.0]),
        scale=np.array([0.2, 0.7]),
        labels=(Regime.RANGING, Regime.TRENDING, Regime.VOLATILE),
    )


def differences(case: Case) -> list[str]:
    """Return in what the two ways to run a case differ."""
    (fast_engine, fast), (slow_engine, slow) = case.run(passes_over=True), case.run(passes_over=False)
    assert slow_engine.passed_over == 0
    names = ("candles", "transactions", "fill_costs", "orders", "signals", "positions", "risk_events", "forecasts_missed")
    found = [name for name in names if getattr(fast, name) != getattr(slow, name)]
    if fast_engine.state != slow_engine.state:
        found.append("state")
    # A profit is rounded to a hundredth of a cent, an exposure is the rounded margin times the leverage: here and there only.
    rounding = {"balance": 1e-9, "open_profit": 1e-4, "exposure": 1e-4 * float(case.setup.market.leverage)}
    if not np.array_equal(fast.equity.times, slow.equity.times):
        return [*found, "times"]
    for name, tolerance in rounding.items():
        if not np.allclose(getattr(fast.equity, name), getattr(slow.equity, name), rtol=1e-9, atol=tolerance):
            found.append(name)
    return found


@pytest.mark.parametrize("group", range(_GROUPS))
def test_passing_over_quiet_candles_changes_no_result(group: int) -> None:
    seeds = range(group * _CASES_EACH, (group + 1) * _CASES_EACH)
    assert {seed: found for seed in seeds if (found := differences(random_case(seed)))} == {}


def _fast_runs(seeds: Iterable[int]) -> list[tuple[BacktestEngine, BacktestResult]]:
    return [random_case(seed).run(passes_over=True) for seed in seeds]


def test_most_candles_of_the_random_cases_are_passed_over_and_all_that_can_happen_happens() -> None:
    runs = _fast_runs(range(60))
    shares = [engine.passed_over / result.candles for engine, result in runs]
    assert float(np.median(shares)) > 0.5
    transactions = [each for _, result in runs for each in result.transactions]
    reasons = {each.reason for each in transactions if isinstance(each, Fill)}
    assert reasons == {FillReason.MARKET, FillReason.STOP, FillReason.TARGET, FillReason.MARGIN_CLOSEOUT}
    assert any(isinstance(each, Financing) for each in transactions)
    closing = " ".join(order.intent.reason for _, result in runs for order in result.orders)
    assert "the horizon of" in closing
    assert "the week closes in" in closing
    assert sum(np.mean(result.equity.exposure > 0) for _, result in runs) > len(runs) / 6  # positions are held meanwhile


def _without_inside(config: PaperMarketConfig, series: CandleSeries) -> QuoteTape:
    tape = quote_tape(config, series)
    return replace(tape, low_bid=tape.close_bid, low_ask=tape.close_ask, high_bid=tape.close_bid, high_ask=tape.close_ask)


def _without_spread(config: PaperMarketConfig, series: CandleSeries) -> QuoteTape:
    tape = quote_tape(config, series)
    return replace(tape, low_ask=tape.low_bid, high_ask=tape.high_bid)


def _without_targets(config: PaperMarketConfig, series: CandleSeries) -> QuoteTape:
    tape = quote_tape(config, series)
    return replace(tape, high_bid=tape.low_bid, low_ask=tape.high_ask)


@pytest.mark.parametrize("wrong_tape", [_without_inside, _without_spread, _without_targets])
def test_a_wrong_look_at_the_candles_would_be_found_out(monkeypatch: pytest.MonkeyPatch, wrong_tape: Tape) -> None:
    monkeypatch.setattr(stretches, "quote_tape", wrong_tape)
    assert any(differences(random_case(seed)) for seed in range(40))
