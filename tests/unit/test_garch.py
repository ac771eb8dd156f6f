"""GARCH filters and simulates as arch does, learns what made the returns, and knows nothing but its own window."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from arch import arch_model
from arch.univariate import GARCH
from pydantic import ValidationError

from fxcast.domain.candle import CandleSeries, FloatArray
from fxcast.domain.forecaster import WindowBatch, predict
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles
from fxcast.models.baselines.garch import Garch, GarchParameters, fit_parameters
from tests.factories import make_series

HORIZONS = (15, 60, 240)
SCALE = 1e-4


def law(*, alpha: float = 0.08, beta: float = 0.9, freedom: float | None = None, omega: float = 0.02) -> GarchParameters:
    return GarchParameters(scale=SCALE, omega=omega, alpha=alpha, beta=beta, freedom=freedom, log_likelihood=0.0, returns=1)


def garch(parameters: GarchParameters, horizons: tuple[int, ...] = HORIZONS) -> Garch:
    return Garch(timeframe=Timeframe("1m"), horizons_minutes=horizons, by_symbol={"EURUSD": parameters}, pooled=parameters)


def simulated_returns(parameters: GarchParameters, bars: int, seed: int) -> FloatArray:
    generator = np.random.default_rng(seed)
    freedom = parameters.freedom
    unit = generator.standard_normal(bars)
    if freedom is not None:
        unit = generator.standard_t(freedom, bars) * np.sqrt((freedom - 2) / freedom)
    returns, variance = np.empty(bars), 1.0
    for bar, draw in enumerate(unit):
        returns[bar] = np.sqrt(variance) * draw
        variance = parameters.omega + parameters.alpha * returns[bar] ** 2 + parameters.beta * variance
    return returns * parameters.scale


def series_of(returns: FloatArray, *, symbol: str = "EURUSD") -> CandleSeries:
    closes = 1.1 * np.exp(np.cumsum(np.concatenate([[0.0], returns])))
    return make_series(closes.tolist(), symbol=symbol, timeframe="1m", start=datetime(2024, 1, 8, tzinfo=UTC))


def window_of(parameters: GarchParameters, *, seed: int = 1, symbol: str = "EURUSD") -> WindowBatch:
    series = series_of(simulated_returns(parameters, 99, seed), symbol=symbol)
    return WindowBatch.ending_at(series, np.array([99]))


@pytest.mark.parametrize(("alpha", "beta"), [(0.08, 0.9), (0.2, 0.5), (0.05, 0.95)])
def test_the_filter_is_archs_own_recursion_from_a_variance_expected_half_a_window_on(alpha: float, beta: float) -> None:
    parameters = law(alpha=alpha, beta=beta)
    windows = window_of(parameters)
    returns = np.diff(np.log(windows.candles[0, :, 3])) / SCALE
    before = float((returns**2).mean())
    for _ in range(50):
        before = parameters.omega + (alpha + beta) * before
    padded = np.append(returns, 0.0)  # arch gives the variance of each return; that of the bar after the window is the last
    variances = np.empty(100)
    GARCH(1, 0, 1).compute_variance(
        np.array([parameters.omega, alpha, beta]), padded, variances, before, np.tile([0.0, 1e6], (100, 1))
    )
    assert garch(parameters).variances(windows)[0] == pytest.approx(variances[-1] * SCALE**2, rel=1e-9)


@pytest.mark.parametrize("freedom", [None, 6.0])
def test_simulated_moves_have_archs_analytic_variance_and_the_quantiles_of_its_simulation(freedom: float | None) -> None:
    parameters = law(freedom=freedom)
    windows = window_of(parameters)
    model = garch(parameters)
    drawn = model.sample(windows, num_samples=40_000, seeds=[7])[0] / SCALE  # (samples, horizons)
    returns = np.diff(np.log(windows.candles[0, :, 3])) / SCALE
    fixed = [parameters.omega, parameters.alpha, parameters.beta, *([] if freedom is None else [freedom])]
    reference = arch_model(
        returns, mean="Zero", vol="GARCH", p=1, q=1, dist="normal" if freedom is None else "t", rescale=False
    ).fix(fixed)
    # arch starts its filter from another variance: what the last return leaves of that is taken off.
    first = model.variances(windows)[0] / SCALE**2
    analytic = [first]
    for _ in range(239):
        analytic.append(parameters.omega + (parameters.alpha + parameters.beta) * analytic[-1])
    theirs = np.asarray(reference.forecast(horizon=240, method="analytic").variance)[-1]
    assert theirs == pytest.approx(analytic, rel=0.05), "one filter and one recursion, but for the start"
    for column, bars in enumerate(HORIZONS):
        assert drawn[:, column].var() == pytest.approx(sum(analytic[:bars]), rel=0.06)
        assert abs(drawn[:, column].mean()) < 4 * drawn[:, column].std() / np.sqrt(len(drawn)), "driftless"
    np.random.seed(3)  # noqa: NPY002 - arch's simulation takes the global one
    paths = reference.forecast(horizon=240, method="simulation", simulations=20_000).simulations
    assert paths is not None
    assert paths.values is not None
    theirs = np.asarray(paths.values)[-1].cumsum(axis=1)[:, [bars - 1 for bars in HORIZONS]]
    levels = [0.05, 0.25, 0.75, 0.95]
    assert np.quantile(drawn, levels, axis=0) == pytest.approx(np.quantile(theirs, levels, axis=0), rel=0.06)


def test_a_law_that_never_forgets_starts_from_the_window_and_one_that_does_from_the_unconditional_variance() -> None:
    calm = make_series(bars=100, timeframe="1m", volatility=SCALE / 10)
    windows = WindowBatch.of(calm)
    never = garch(law(alpha=0.0, beta=1.0, omega=1e-9)).variances(windows)[0]
    assert never == pytest.approx(np.diff(np.log(calm.closes)).var(), rel=0.1)
    soon = garch(law(alpha=0.0, beta=0.5, omega=0.5)).variances(windows)[0]
    assert soon == pytest.approx(SCALE**2)


@pytest.mark.parametrize("freedom", [None, 5.0])
def test_a_fit_finds_what_made_the_returns(freedom: float | None) -> None:
    made_by = law(freedom=freedom)
    series = series_of(simulated_returns(made_by, 30_000, seed=4))
    fitted = Garch.fit([series], HORIZONS, innovations="normal" if freedom is None else "t").by_symbol["EURUSD"]
    assert fitted.alpha == pytest.approx(made_by.alpha, abs=0.012)
    assert fitted.beta == pytest.approx(made_by.beta, abs=0.02)
    variance = fitted.omega * fitted.scale**2 / (1 - fitted.alpha - fitted.beta)
    assert variance == pytest.approx(SCALE**2, rel=0.15)
    assert fitted.freedom == (None if freedom is None else pytest.approx(freedom, rel=0.1))


def test_a_fit_is_at_least_as_likely_as_archs_own_from_its_usual_start() -> None:
    returns = simulated_returns(law(alpha=0.02, beta=0.978, omega=0.002, freedom=3.5), 8_000, seed=9)
    usual = arch_model(returns / returns.std(), mean="Zero", vol="GARCH", dist="t", rescale=False).fit(
        disp="off", show_warning=False
    )
    assert fit_parameters(returns).log_likelihood >= usual.loglikelihood - 0.1


def test_an_unknown_symbol_gets_the_pooled_law_in_units_of_its_own_volatility() -> None:
    known = {
        name: series_of(simulated_returns(law(), 3000, seed=seed), symbol=name) for seed, name in enumerate(("EURUSD", "GBPUSD"))
    }
    model = Garch.fit(list(known.values()), HORIZONS, innovations="normal")
    assert model.pooled.returns == 6000
    quiet = window_of(law(), symbol="USDJPY")
    loud = np.log(quiet.candles / quiet.candles[:, :1, :]) * 30
    loud[:, :, 4] = 0.0
    louder = replace(quiet, candles=150.0 * np.exp(loud))
    drawn = [model.sample(each, num_samples=50, seeds=[1]) for each in (quiet, louder)]
    assert drawn[1] == pytest.approx(30 * drawn[0], rel=1e-4)
    other = model.sample(replace(quiet, symbols=("EURUSD",)), num_samples=50, seeds=[1])
    assert (other != drawn[0]).all(), "a known symbol has its own law"


def test_samples_are_the_same_alone_in_a_batch_and_whatever_symbols_are_beside_them() -> None:
    model = replace(garch(law(freedom=5.0)), by_symbol={"EURUSD": law(freedom=5.0), "GBPUSD": law()})
    series = series_of(simulated_returns(law(), 400, seed=2))
    windows = WindowBatch.ending_at(series, np.arange(99, 399))  # more than are simulated at once
    mixed = replace(windows, symbols=("EURUSD", "GBPUSD", "USDJPY") * 100)
    together = model.sample(mixed, num_samples=6, seeds=range(300))
    for position in (0, 1, 2, 127, 128, 299):
        alone = model.sample(mixed.take(np.array([position])), num_samples=6, seeds=[position])
        assert alone[0] == pytest.approx(together[position], rel=1e-6), "to within the rounding of single precision"
    assert (model.sample(mixed.take(np.array([0])), num_samples=6, seeds=[1])[0] != together[0]).any()
    answer = predict(model, series.slice(0, 100), horizons_minutes=(60,), num_samples=50, seed=1)
    assert answer.model_version == "garch"
    assert answer.horizons[60].q05 < answer.price < answer.horizons[60].q95


def test_prices_that_stood_still_give_a_forecast_of_finite_width() -> None:
    still = WindowBatch.of(make_series([1.1] * 100, timeframe="1m"))
    for model in (garch(law()), replace(garch(law()), by_symbol={})):
        drawn = model.sample(still, num_samples=50, seeds=[1])
        assert np.isfinite(drawn).all()
        assert (drawn.std(axis=1) > 0).all()


def test_what_can_not_be_fitted_is_refused() -> None:
    with pytest.raises(BadCandles, match="100 of EURUSD in the training period; allowed: at least 501 of each symbol"):
        Garch.fit([make_series(timeframe="1m")], HORIZONS)
    with pytest.raises(BadCandles, match="at one price all through the training period"):
        Garch.fit([make_series([1.1] * 600, timeframe="1m")], HORIZONS)
    with pytest.raises(ValidationError, match=r"alpha \+ beta must be at most 1, found 1\.1"):
        law(alpha=0.2, beta=0.9)
