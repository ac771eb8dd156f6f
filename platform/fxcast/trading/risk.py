"""Gates between a decision and an order. Each can only reduce the size, and says why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from fxcast.domain.calendar import is_open, week_close
from fxcast.domain.instrument import Instrument
from fxcast.domain.order import Side
from fxcast.trading.config import RiskLimits
from fxcast.trading.sizing import unit_value
from fxcast.trading.state import KillSwitch

WEEKEND_CUT_OFF = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskView:
    """What the gates look at; money is in account currency.

    Attributes:
        unit_value: Worth of one unit of base currency.
        open_symbols: Symbols with a position or an entry order.
        exposures: Net exposure by currency, positions and entry orders together, positive if long.
        forecast_age_bars: Age of the newest forecast; None without one.
        forecast_required: Whether new risk needs a fresh forecast (LDM4TS is in use).
    """

    at: datetime
    instrument: Instrument
    side: Side
    unit_value: Decimal
    equity: Decimal
    peak_equity: Decimal
    day_first_equity: Decimal
    open_symbols: tuple[str, ...]
    exposures: Mapping[str, Decimal]
    spread_pips: float
    forecast_age_bars: int | None
    forecast_required: bool
    kill_switch: KillSwitch
    limits: RiskLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """The units that a gate lets through, and why there are fewer (empty if there are not)."""

    units: Decimal
    reason: str = ""


Gate = Callable[[Decimal, RiskView], GateResult]

_NOTHING = Decimal(0)


def apply_gates(units: Decimal, view: RiskView) -> GateResult:
    """Pass a size through every gate, until none is left; reasons are joined by `; `."""
    reasons: list[str] = []
    for gate in GATES:
        result = gate(units, view)
        units = result.units
        if result.reason:
            reasons.append(result.reason)
        if not units:
            break
    return GateResult(units=units, reason="; ".join(reasons))


def kill_switch_gate(units: Decimal, view: RiskView) -> GateResult:
    """Open nothing unless the switch is active."""
    if view.kill_switch is KillSwitch.ACTIVE:
        return GateResult(units=units)
    return GateResult(units=_NOTHING, reason=f"the kill switch is {view.kill_switch.value}")


def weekend_gate(units: Decimal, view: RiskView) -> GateResult:
    """Open nothing in the last hour of the week, nor while the market is closed."""
    if not is_open(view.at):
        return GateResult(units=_NOTHING, reason="the market is closed")
    if week_close(view.at) - view.at <= WEEKEND_CUT_OFF:
        return GateResult(units=_NOTHING, reason="the week closes within the hour")
    return GateResult(units=units)


def stale_forecast_gate(units: Decimal, view: RiskView) -> GateResult:
    """Open nothing without a fresh forecast when LDM4TS is in use: no forecast, no idea of the uncertainty."""
    if not view.forecast_required:
        return GateResult(units=units)
    limit = view.limits.max_forecast_age_bars
    if view.forecast_age_bars is None:
        return GateResult(units=_NOTHING, reason=f"no forecast of the last {limit} candles")
    if view.forecast_age_bars > limit:
        return GateResult(units=_NOTHING, reason=f"the forecast is {view.forecast_age_bars} candles old, more than {limit}")
    return GateResult(units=units)


def spread_gate(units: Decimal, view: RiskView) -> GateResult:
    """Open nothing at a wide spread."""
    if view.spread_pips <= view.limits.max_spread_pips:
        return GateResult(units=units)
    reason = f"a spread of {view.spread_pips:g} pips is above {view.limits.max_spread_pips:g}"
    return GateResult(units=_NOTHING, reason=reason)


def daily_loss_gate(units: Decimal, view: RiskView) -> GateResult:
    """Open nothing after losing the day's limit."""
    lost = _loss_pct(view.day_first_equity, view.equity)
    if lost < Decimal(repr(view.limits.max_daily_loss_pct)):
        return GateResult(units=units)
    return GateResult(units=_NOTHING, reason=f"{lost:.2f} % lost today, limit {view.limits.max_daily_loss_pct:g} %")


def drawdown_gate(units: Decimal, view: RiskView) -> GateResult:
    """Open nothing far below the peak of equity."""
    lost = _loss_pct(view.peak_equity, view.equity)
    if lost < Decimal(repr(view.limits.max_drawdown_pct)):
        return GateResult(units=units)
    return GateResult(units=_NOTHING, reason=f"{lost:.2f} % below the peak, limit {view.limits.max_drawdown_pct:g} %")


def one_position_gate(units: Decimal, view: RiskView) -> GateResult:
    """Open nothing in a symbol that has a position or an entry order."""
    if view.instrument.symbol not in view.open_symbols:
        return GateResult(units=units)
    return GateResult(units=_NOTHING, reason=f"a position in {view.instrument.symbol} is open or being opened")


def max_positions_gate(units: Decimal, view: RiskView) -> GateResult:
    """Open nothing beyond the number of positions allowed."""
    if len(view.open_symbols) < view.limits.max_positions:
        return GateResult(units=units)
    return GateResult(units=_NOTHING, reason=f"{len(view.open_symbols)} positions are open, limit {view.limits.max_positions}")


def exposure_gate(units: Decimal, view: RiskView) -> GateResult:
    """Cut the size so that neither currency's net exposure exceeds its share of equity.

    Buying EUR/USD makes euros longer and dollars shorter by the same worth; what reduces an exposure passes.
    """
    limit = max(view.equity, _NOTHING) * Decimal(repr(view.limits.max_currency_exposure_pct)) / 100
    allowed, tightest = units, ""
    for currency, sign in ((view.instrument.base_currency, view.side.sign), (view.instrument.quote_currency, -view.side.sign)):
        room = max(limit - sign * view.exposures.get(currency, _NOTHING), _NOTHING)
        if allowed * view.unit_value > room:
            allowed, tightest = view.instrument.round_units(room / view.unit_value), currency
    if not tightest:
        return GateResult(units=units)
    reason = f"{tightest} exposure is limited to {view.limits.max_currency_exposure_pct:g} % of equity: {units} cut to {allowed}"
    return GateResult(units=min(allowed, units), reason=reason)


GATES: tuple[Gate, ...] = (
    kill_switch_gate,
    weekend_gate,
    stale_forecast_gate,
    spread_gate,
    daily_loss_gate,
    drawdown_gate,
    one_position_gate,
    max_positions_gate,
    exposure_gate,
)


def currency_exposures(
    holdings: Iterable[tuple[str, Side, Decimal]], prices: Mapping[str, Decimal], account_currency: str
) -> dict[str, Decimal]:
    """Return net exposure by currency, in account currency.

    Args:
        holdings: Symbol, side and units of each position and entry order.
        prices: By symbol.
    """
    exposures: dict[str, Decimal] = {}
    for symbol, side, units in holdings:
        worth = side.sign * units * unit_value(symbol, prices[symbol], account_currency)
        exposures[symbol[:3]] = exposures.get(symbol[:3], _NOTHING) + worth
        exposures[symbol[3:]] = exposures.get(symbol[3:], _NOTHING) - worth
    return exposures


def _loss_pct(before: Decimal, now: Decimal) -> Decimal:
    return 100 * (before - now) / before if before > 0 else Decimal(100)
