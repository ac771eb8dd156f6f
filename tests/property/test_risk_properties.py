"""Gates can only reduce, and what passes them is within every limit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from fxcast.domain.calendar import is_open, open_sessions, week_close
from fxcast.domain.instrument import default_instrument
from fxcast.domain.order import Side
from fxcast.trading.config import RiskLimits
from fxcast.trading.gates import CUTS, REFUSALS, session_gate, weekend_gate
from fxcast.trading.risk import RiskView, apply_gates
from fxcast.trading.state import KillSwitch

SYMBOLS = ["EURUSD", "GBPUSD", "USDJPY"]
MONEY = st.decimals("0", "1000000", places=2)
MOMENTS = st.datetimes(datetime(2017, 1, 1), datetime(2018, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # zone given beside
SESSIONS = st.lists(st.sampled_from(["Sydney", "Tokyo", "London", "New York"]), unique=True).map(tuple)
LIMITS = st.builds(
    RiskLimits,
    max_positions=st.integers(1, 4),
    max_symbol_exposure_pct=st.floats(1, 500),
    max_currency_exposure_pct=st.floats(1, 500),
    max_correlation=st.floats(0.1, 1),
    sessions=SESSIONS,
    weekend_cut_off_minutes=st.integers(0, 600),
    min_free_margin_pct=st.floats(0, 99),
)


@st.composite
def risk_views(draw: st.DrawFn) -> RiskView:
    at, exposure, sides = draw(MOMENTS), st.decimals("-1000000", "1000000", places=2), st.sampled_from(Side)
    return RiskView(
        at=at,
        seen_at=at + timedelta(seconds=draw(st.sampled_from([0, 0, 0, 0.5, 60, -0.5, -60, 3600]))),
        instrument=default_instrument("EURUSD"),
        side=draw(sides),
        unit_value=draw(st.decimals("0.5", "2", places=5)),
        equity=draw(st.decimals("-1000", "1000000", places=2)),
        free_margin=draw(st.decimals("-1000", "1000000", places=2)),
        peak_equity=draw(MONEY),
        day_first_equity=draw(MONEY),
        open_symbols=tuple(draw(st.lists(st.sampled_from(SYMBOLS), unique=True))),
        foreign=tuple(draw(st.lists(st.sampled_from(SYMBOLS), unique=True, max_size=1))),
        exposures={currency: draw(exposure) for currency in ("EUR", "USD", "GBP")},
        sides=draw(st.dictionaries(st.sampled_from(SYMBOLS), sides)),
        correlations=draw(st.dictionaries(st.sampled_from(SYMBOLS), st.floats(-1, 1))),
        spread_pips=draw(st.floats(0, 10)),
        forecast_age_bars=draw(st.none() | st.integers(0, 20)),
        forecast_required=draw(st.booleans()),
        kill_switch=draw(st.sampled_from(KillSwitch)),
        cool_off_until=draw(st.none() | MOMENTS),
        limits=draw(LIMITS),
    )


@st.composite
def calm_views(draw: st.DrawFn) -> RiskView:
    """Views that no gate refuses, so that every example comes to the cuts."""
    exposure, equity = st.decimals("-1000000", "1000000", places=2), draw(MONEY)
    noon = datetime(2017, 3, 7, 12, tzinfo=UTC)
    return RiskView(
        at=noon,
        seen_at=noon,
        instrument=default_instrument("EURUSD"),
        side=draw(st.sampled_from(Side)),
        unit_value=draw(st.decimals("0.5", "2", places=5)),
        equity=equity,
        free_margin=equity - draw(MONEY),
        peak_equity=equity,
        day_first_equity=equity,
        open_symbols=(),
        foreign=(),
        exposures={currency: draw(exposure) for currency in ("EUR", "USD")},
        sides={},
        correlations={},
        spread_pips=1.0,
        forecast_age_bars=0,
        forecast_required=True,
        kill_switch=KillSwitch.ACTIVE,
        cool_off_until=None,
        limits=draw(LIMITS.map(lambda limits: limits.model_copy(update={"sessions": ()}))),
    )


@given(view=risk_views() | calm_views(), lots=st.integers(1, 1000))
def test_the_gates_never_increase_a_size_and_each_reduction_has_a_reason(view: RiskView, lots: int) -> None:
    units = Decimal(1000) * lots
    result = apply_gates(units, view)
    assert 0 <= result.units <= units
    assert bool(result.reason) == (result.units < units)
    assert result.units % 1000 == 0


@given(view=risk_views() | calm_views(), lots=st.integers(1, 1000))
def test_no_gate_lets_more_through_than_it_says(view: RiskView, lots: int) -> None:
    units = apply_gates(Decimal(1000) * lots, view).units
    if any(refusal(view) for refusal in REFUSALS):
        assert units == 0
    for cut in CUTS:
        allowed, reason = cut(view)
        assert allowed >= 0
        assert reason
        assert units <= allowed


@given(view=calm_views(), lots=st.integers(1, 1000))
def test_what_passes_keeps_currencies_symbol_and_margin_within_their_limits(view: RiskView, lots: int) -> None:
    units = apply_gates(Decimal(1000) * lots, view).units
    if not units:
        return
    worth, limits = units * view.unit_value, view.limits
    assert worth <= view.equity * Decimal(str(limits.max_symbol_exposure_pct)) / 100
    for currency, sign in (("EUR", view.side.sign), ("USD", -view.side.sign)):
        after = view.exposures[currency] + sign * worth
        assert sign * after <= view.equity * Decimal(str(limits.max_currency_exposure_pct)) / 100
    free = view.free_margin - worth * view.instrument.margin_rate
    assert free >= view.equity * Decimal(str(limits.min_free_margin_pct)) / 100


@given(view=risk_views(), lots=st.integers(1, 1000))
def test_nothing_is_opened_in_a_closed_market_nor_outside_the_sessions(view: RiskView, lots: int) -> None:
    if not apply_gates(Decimal(1000) * lots, view).units:
        return
    assert is_open(view.now)
    assert week_close(view.now) - view.now > timedelta(minutes=view.limits.weekend_cut_off_minutes)
    assert not view.limits.sessions or set(view.limits.sessions) & set(open_sessions(view.now))


@given(view=risk_views(), moment=MOMENTS)
def test_a_gate_sees_the_market_as_the_calendar_does(view: RiskView, moment: datetime) -> None:
    seen = replace(view, at=moment, seen_at=moment)
    assert (weekend_gate(seen) == "the market is closed") == (not is_open(moment))
    wanted = view.limits.sessions
    assert bool(session_gate(seen)) == bool(wanted and not set(wanted) & set(open_sessions(moment)))
