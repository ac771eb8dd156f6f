"""Whatever the market, a size stays within its risk and its margin, and falls with uncertainty."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.domain.forecast import HorizonForecast, summarize
from fxcast.domain.instrument import default_instrument
from fxcast.domain.money import rates_from_prices
from fxcast.domain.order import Side
from fxcast.trading.config import SizingConfig, SizingMethod
from fxcast.trading.kelly import TradeOutcomes, growth_optimal_share, trade_outcomes
from fxcast.trading.sizing import SizeView, margin_needed, size_position

PRICE = Decimal("1.10000")
DISTANCES = st.decimals("0.00010", "0.05", places=5)
CONFIGS = st.builds(
    SizingConfig,
    method=st.sampled_from(SizingMethod),
    risk_per_trade_pct=st.floats(0.01, 10),
    kelly_fraction=st.floats(0.01, 1),
    volatility_target_pct=st.floats(0.01, 5),
)


@st.composite
def forecasts(draw: st.DrawFn) -> HorizonForecast:
    mean, std = 1.1 + draw(st.floats(-0.01, 0.01)), draw(st.floats(0.0001, 0.02))
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 1000)))
        return summarize(mean + std * rng.standard_normal(draw(st.integers(2, 60))))
    return HorizonForecast(mean=mean, std=std, q05=mean - 1.645 * std, q50=mean, q95=mean + 1.645 * std)


@st.composite
def views(draw: st.DrawFn) -> SizeView:
    side, horizon = draw(st.sampled_from(Side)), draw(st.none() | forecasts())
    equity = draw(st.decimals("0", "10000000", places=2))
    prices = {"EURUSD": PRICE, "GBPUSD": Decimal("1.27")}
    return SizeView(
        equity=equity,
        free_margin=equity * draw(st.decimals("-0.1", "1", places=3)),
        price=PRICE,
        stop=PRICE - side.sign * draw(DISTANCES),
        target=PRICE + side.sign * draw(DISTANCES),
        spread=draw(st.decimals("0", "0.0010", places=5)),
        side=side,
        instrument=default_instrument("EURUSD"),
        rates=rates_from_prices(prices, draw(st.sampled_from(["USD", "EUR", "GBP"]))),
        horizon=horizon,
        forecast_price=None if horizon is None else 1.1 + draw(st.floats(-0.005, 0.005)),
        bar_volatility=draw(st.floats(0.0, 0.01)),
        horizon_bars=draw(st.integers(1, 240)),
        uncertainty_pct=draw(st.none() | st.floats(0, 2)),
        uncertainty_threshold=draw(st.floats(0.1, 2)),
    )


@settings(deadline=None)
@given(view=views(), config=CONFIGS)
def test_no_size_risks_more_at_the_stop_than_allowed(view: SizeView, config: SizingConfig) -> None:
    size = size_position(view, config)
    assert 0 <= size.units <= size.base_units
    assert size.units % 1000 == 0
    assert size.base_units % 1000 == 0
    distance = abs(view.price - view.stop) + view.spread
    loss = size.base_units * view.rates.convert(distance, "USD")
    if view.rates.currency == "EUR":  # what a dollar is worth when the stop is hit
        loss = max(loss, size.base_units * distance / view.stop)
    assert loss <= view.equity * Decimal(str(config.risk_per_trade_pct)) / 100
    assert size.units == 0 or margin_needed("EURUSD", size.units, view.instrument, view.rates) <= view.free_margin


@settings(deadline=None)
@given(view=views(), config=CONFIGS, uncertainties=st.tuples(st.floats(0, 2), st.floats(0, 2)))
def test_size_falls_with_uncertainty_to_zero_at_the_threshold(
    view: SizeView, config: SizingConfig, uncertainties: tuple[float, float]
) -> None:
    low, high = sorted(uncertainties)
    none, less, more = (size_position(replace(view, uncertainty_pct=each), config) for each in (None, low, high))
    assert more.units <= less.units <= none.units
    assert more.base_units == less.base_units == none.base_units
    assert size_position(replace(view, uncertainty_pct=view.uncertainty_threshold), config).units == 0


@settings(deadline=None)
@given(view=views(), config=CONFIGS)
def test_the_arithmetic_ends_at_the_units_and_starts_from_the_equity(view: SizeView, config: SizingConfig) -> None:
    size = size_position(view, config)
    assert size.arithmetic
    if not size.units:
        return
    assert Decimal(size.arithmetic[-1].rpartition(": ")[2].replace(",", "")) == size.units
    risk = next(line for line in size.arithmetic if line.startswith("equity"))
    found = re.fullmatch(r"equity ([\d,.]+) ... × ([\de.-]+) % = ([\d,.]+) ... at risk", risk)
    assert found is not None
    equity, share, risked = (float(number.replace(",", "")) for number in found.groups())
    assert equity == pytest.approx(float(view.equity))
    assert equity * share / 100 == pytest.approx(risked, rel=1e-3, abs=0.01)
    assert share <= config.risk_per_trade_pct * 1.001


@settings(deadline=None)
@given(view=views(), spread=st.decimals("0.0001", "0.0010", places=5))
def test_kelly_bets_nothing_on_a_fair_game_that_costs(view: SizeView, spread: Decimal) -> None:
    fair = HorizonForecast(mean=1.1, std=0.002, q05=1.0967, q50=1.1, q95=1.1033)
    costly = replace(view, horizon=fair, forecast_price=1.1, spread=spread)
    assert size_position(costly, SizingConfig(method=SizingMethod.KELLY)).units == 0


@settings(deadline=None)
@given(forecast=forecasts(), side=st.sampled_from(Side), stop=st.floats(0.0001, 0.05), target=st.floats(0.0001, 0.05))
def test_how_a_trade_may_end_is_a_distribution_and_its_kelly_share_the_best(
    forecast: HorizonForecast, side: Side, stop: float, target: float
) -> None:
    ended = trade_outcomes(forecast, origin=1.1, price=1.1, side=side, stop_distance=stop, target_distance=target, spread=0.0001)
    assert ended.probabilities.min() >= 0.0
    assert ended.probabilities.sum() == pytest.approx(1.0)
    assert ended.profits.min() >= -1.0 - 1e-12
    assert ended.profits.max() <= (target - 0.0001) / (stop + 0.0001) + 1e-12
    share = growth_optimal_share(ended)
    assert 0.0 <= share < 1.0
    for other in (0.0, share / 2, share + 0.01, (1.0 + share) / 2):
        assert other >= 1.0 or growth(ended, share) >= growth(ended, other) - 1e-9


def growth(ended: TradeOutcomes, share: float) -> float:
    return float(ended.probabilities @ np.log1p(share * np.maximum(ended.profits, -1.0)))
