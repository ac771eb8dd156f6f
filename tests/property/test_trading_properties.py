"""Invariants of quality, size, risk, fills and state."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.instrument import default_instrument
from fxcast.domain.order import Fill, FillReason, OrderPurpose, OrderStatus, Side
from fxcast.domain.signal import Direction, QualityScore, Regime, Signal, SignalSource
from fxcast.signals.fusion import fuse
from fxcast.signals.quality import SignalQualityScorer
from fxcast.signals.regime import RegimeView
from fxcast.trading.config import CandleSide, PaperMarketConfig, RiskLimits
from fxcast.trading.fill_simulation import account, book_from_json, observe, open_book, place
from fxcast.trading.risk import GATES, RiskView, apply_gates
from fxcast.trading.sizing import size_position
from fxcast.trading.state import EngineState, KillSwitch, LastForecast, state_from_json
from tests.factories import HOUR, NOON, make_candle, make_intent, make_prediction, make_series

FRACTIONS = st.floats(0.0, 1.0)
MONEY = st.decimals("0", "1000000", places=2)
MOMENTS = st.datetimes(datetime(2017, 1, 1), datetime(2018, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # zone given beside


@st.composite
def signals(draw: st.DrawFn, *, at: datetime) -> Signal:
    direction = draw(st.sampled_from(Direction))
    reach = st.floats(1e-5, 0.05)
    return Signal(
        source=draw(st.sampled_from(SignalSource)),
        symbol="EURUSD",
        made_at=at,
        horizon_minutes=240,
        direction=direction,
        strength=draw(FRACTIONS),
        price=1.10,
        stop=1.10 - direction.sign * draw(reach),
        target=1.10 + direction.sign * draw(reach),
    )


@st.composite
def views(draw: st.DrawFn) -> RegimeView:
    weights = [draw(st.floats(1e-6, 1.0)) for _ in Regime]
    probabilities = {regime: weight / sum(weights) for regime, weight in zip(Regime, weights, strict=True)}
    return RegimeView(regime=max(Regime, key=lambda regime: probabilities[regime]), probabilities=probabilities)


@settings(deadline=None)
@given(data=st.data())
def test_every_dimension_lies_within_its_bounds_and_total_falls_with_uncertainty(data: st.DataObject) -> None:
    at = data.draw(MOMENTS)
    consensus = fuse(data.draw(st.lists(signals(at=at), min_size=1, max_size=6)), made_at=at, price=1.10)
    if consensus is None:
        return
    scorer = SignalQualityScorer(uncertainty_threshold=0.5, max_spread_pips=3.0, forecast_spread_pips=1.0)
    prediction: LDM4TSPrediction | None = data.draw(st.sampled_from([None, make_prediction()]))
    window = make_series(bars=100, seed=data.draw(st.integers(0, 50)))
    spread, regimes = data.draw(st.floats(0, 20)), data.draw(views())

    def score(uncertainty_pct: float | None) -> QualityScore:
        return scorer.score(
            consensus,
            window=window,
            prediction=prediction,
            spread_pips=spread,
            regimes=regimes,
            uncertainty_pct=uncertainty_pct,
        )

    low, high = sorted(data.draw(st.tuples(st.floats(0, 2), st.floats(0, 2))))
    # QualityScore refuses values outside [0, 1] by itself.
    less, more = score(low), score(high)
    assert more.total <= less.total <= score(None).total
    assert less.total == less.weighted_mean * (1 - less.uncertainty_penalty)


@given(
    equity=MONEY,
    distance=st.decimals("0.00001", "0.1", places=5),
    spread=st.decimals("0", "5", places=1),
    side=st.sampled_from(Side),
    currency=st.sampled_from(["USD", "EUR"]),
    uncertainties=st.tuples(st.floats(0, 2), st.floats(0, 2)),
)
def test_size_never_risks_more_than_its_share_and_falls_with_uncertainty(
    equity: Decimal, distance: Decimal, spread: Decimal, side: Side, currency: str, uncertainties: tuple[float, float]
) -> None:
    price = Decimal("1.10000")
    stop = price - side.sign * distance
    sizes = [
        size_position(
            equity=equity,
            risk_pct=Decimal("0.5"),
            price=price,
            stop=stop,
            spread_pips=spread,
            instrument=default_instrument("EURUSD"),
            account_currency=currency,
            uncertainty_pct=uncertainty,
            uncertainty_threshold=0.5,
        )
        for uncertainty in sorted(uncertainties)
    ]
    loss = sizes[0].base_units * distance / (1 if currency == "USD" else stop)
    assert loss <= equity * Decimal("0.005")
    assert sizes[1].units <= sizes[0].units <= sizes[0].base_units == sizes[1].base_units
    assert all(size.units % 1000 == 0 for size in sizes)


@st.composite
def risk_views(draw: st.DrawFn) -> RiskView:
    exposure = st.decimals("-1000000", "1000000", places=2)
    return RiskView(
        at=draw(MOMENTS),
        instrument=default_instrument("EURUSD"),
        side=draw(st.sampled_from(Side)),
        unit_value=draw(st.decimals("0.5", "2", places=5)),
        equity=draw(st.decimals("-1000", "1000000", places=2)),
        peak_equity=draw(MONEY),
        day_first_equity=draw(MONEY),
        open_symbols=tuple(draw(st.lists(st.sampled_from(["EURUSD", "GBPUSD", "USDJPY"]), unique=True))),
        exposures={currency: draw(exposure) for currency in ("EUR", "USD", "GBP")},
        spread_pips=draw(st.floats(0, 10)),
        forecast_age_bars=draw(st.none() | st.integers(0, 20)),
        forecast_required=draw(st.booleans()),
        kill_switch=draw(st.sampled_from(KillSwitch)),
        limits=RiskLimits(),
    )


@given(view=risk_views(), lots=st.integers(1, 1000))
def test_no_gate_ever_increases_a_size_and_each_reduction_has_a_reason(view: RiskView, lots: int) -> None:
    units = Decimal(1000) * lots
    for gate in GATES:
        result = gate(units, view)
        assert 0 <= result.units <= units
        assert bool(result.reason) == (result.units < units)
    assert apply_gates(units, view).units <= min(gate(units, view).units for gate in GATES)


@given(view=risk_views(), lots=st.integers(1, 1000))
def test_what_passes_the_gates_keeps_both_currencies_within_their_limit(view: RiskView, lots: int) -> None:
    units = apply_gates(Decimal(1000) * lots, view).units
    limit = view.equity * 3
    for currency, sign in (("EUR", view.side.sign), ("USD", -view.side.sign)):
        before = view.exposures[currency]
        after = before + sign * units * view.unit_value
        assert not units or sign * after <= limit


CONFIGS = st.builds(
    PaperMarketConfig,
    account_currency=st.sampled_from(["USD", "EUR"]),
    spread_pips=st.decimals("0", "3", places=1),
    slippage_pips=st.decimals("0", "1", places=1),
    candle_side=st.sampled_from(CandleSide),
)


@settings(deadline=None, max_examples=60)
@given(config=CONFIGS, seed=st.integers(0, 10_000))
def test_equity_adds_up_and_fills_stay_inside_their_candle(config: PaperMarketConfig, seed: int) -> None:
    rng = np.random.default_rng(seed)
    book, fills = open_book(config), list[Fill]()
    close, opened_at = 1.1, NOON
    room = Decimal("0.0001") * (config.spread_pips + config.slippage_pips) + Decimal("0.00001")
    for number in range(40):
        start = round(close + float(rng.normal(0, 0.0010)), 5)  # candles may open with a gap
        close = round(start + float(rng.normal(0, 0.0020)), 5)
        high = round(max(start, close) + abs(float(rng.normal(0, 0.0010))), 5)
        low = round(min(start, close) - abs(float(rng.normal(0, 0.0010))), 5)
        target_before = book.positions["EURUSD"].target if book.positions else None
        candle = make_candle(start, high, low, close, open_time=opened_at)
        book, new = observe(book, "EURUSD", candle, opened_at + HOUR)
        assert observe(book, "EURUSD", candle, opened_at + HOUR) == (book, ())
        for fill in new:
            # The one exception: a gap beyond the target still fills at the target.
            inside = Decimal(str(low)) - room <= fill.price <= Decimal(str(high)) + room
            assert inside or (fill.reason is FillReason.TARGET and fill.price == target_before)
        fills += new
        opened_at += HOUR
        side = Side.BUY if rng.random() < 0.5 else Side.SELL
        price = Decimal(str(close))
        reach = side.sign * Decimal(int(rng.integers(5, 300))) / 100_000
        intent = make_intent(
            side=side,
            units=1000 * int(rng.integers(1, 200)),
            stop=str(price - reach),
            target=str(price + reach) if rng.random() < 0.8 else None,
            client_order_id=f"open-{number}",
            created_at=opened_at,
        )
        held = book.positions.get("EURUSD")
        if held is not None and rng.random() < 0.2:
            intent = replace(
                intent, client_order_id=f"close-{number}", side=held.side.opposite, units=held.units, purpose=OrderPurpose.CLOSE
            )
        book, answer = place(book, intent)
        assert place(book, intent) == (book, answer)
        assert answer.status is OrderStatus.ACCEPTED or answer.reason
        now = account(book)
        assert now.equity == now.balance + now.open_profit
        assert now.balance == config.starting_balance + sum((fill.profit for fill in fills), Decimal(0))
    assert [fill.sequence for fill in fills] == list(range(1, len(fills) + 1))
    bought = sum((fill.side.sign * fill.units for fill in fills), Decimal(0))
    assert bought == sum((each.side.sign * each.units for each in book.positions.values()), Decimal(0))
    assert book_from_json(book.to_json()) == book


@given(
    equity=st.decimals(allow_nan=False, allow_infinity=False),
    cursor=MOMENTS,
    switch=st.sampled_from(KillSwitch),
    mean=st.floats(0.5, 2.0),
    std=st.floats(0.0, 0.1),
)
def test_state_survives_json_to_the_last_digit(
    equity: Decimal, cursor: datetime, switch: KillSwitch, mean: float, std: float
) -> None:
    state = EngineState(
        kill_switch=switch,
        cursors={"EURUSD": cursor},
        prices={"EURUSD": Decimal("1.10000")},
        forecasts={"EURUSD": LastForecast(prediction=make_prediction({240: (mean, std)}, price=mean), age_bars=3)},
        peak_equity=equity,
        day=(cursor + timedelta(days=1)).date(),
        day_first_equity=equity,
    )
    again: Any = state_from_json(state.to_json())
    assert again == state
    assert again.peak_equity.as_tuple() == equity.as_tuple()
