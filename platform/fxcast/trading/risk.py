"""Between a decision and an order: gates that can only reduce the size, and say why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Rates
from fxcast.domain.order import Side
from fxcast.trading.config import RiskLimits
from fxcast.trading.gates import CUTS, REFUSALS
from fxcast.trading.state import KillSwitch

_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskView:
    """What the gates look at; money is in account currency.

    Attributes:
        at: The candle's close.
        seen_at: When the engine came to it.
        unit_value: Worth of one unit of base currency.
        open_symbols: Symbols with a position or an entry order.
        foreign: Symbols in which the broker holds a position that is not ours.
        exposures: Net exposure by currency, positions and entry orders together, positive if long.
        sides: Of the position or entry order in each open symbol.
        correlations: Of this symbol's returns with those of each open one; one that is missing is unknown.
        forecast_age_bars: Age of the newest forecast; None without one.
        forecast_required: Whether new risk needs a fresh forecast.
        cool_off_until: No new risk before it.
    """

    at: datetime
    seen_at: datetime
    instrument: Instrument
    side: Side
    unit_value: Decimal
    equity: Decimal
    free_margin: Decimal
    peak_equity: Decimal
    day_first_equity: Decimal
    open_symbols: tuple[str, ...]
    foreign: tuple[str, ...]
    exposures: Mapping[str, Decimal]
    sides: Mapping[str, Side]
    correlations: Mapping[str, float]
    spread_pips: float
    forecast_age_bars: int | None
    forecast_required: bool
    kill_switch: KillSwitch
    cool_off_until: datetime | None
    limits: RiskLimits

    @property
    def now(self) -> datetime:
        """The later of the candle's close and the clock: it is at least that late."""
        return max(self.at, self.seen_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """The units that the gates let through, and why there are fewer (empty if there are not)."""

    units: Decimal
    reason: str = ""


def apply_gates(units: Decimal, view: RiskView) -> GateResult:
    """Refuse for the first reason there is, else cut until nothing is left; the reasons of cuts are joined by `; `."""
    for refusal in REFUSALS:
        reason = refusal(view)
        if reason:
            return GateResult(units=_NOTHING, reason=reason)
    reasons: list[str] = []
    for cut in CUTS:
        allowed, limit = cut(view)
        if units <= allowed:
            continue
        rounded = view.instrument.round_units(allowed)
        reasons.append(f"{limit}: {units:,f} cut to {rounded:,f}")
        units = rounded
        if not units:
            break
    return GateResult(units=units, reason="; ".join(reasons))


def currency_exposures(holdings: Iterable[tuple[str, Side, Decimal]], rates: Rates) -> dict[str, Decimal]:
    """Return net exposure by currency, in account currency.

    Args:
        holdings: Symbol, side and units of each position and entry order.

    Raises:
        BadSetup: If a base currency can't be converted to the account's.
    """
    exposures: dict[str, Decimal] = {}
    for symbol, side, units in holdings:
        worth = side.sign * rates.convert(units, symbol[:3])
        exposures[symbol[:3]] = exposures.get(symbol[:3], _NOTHING) + worth
        exposures[symbol[3:]] = exposures.get(symbol[3:], _NOTHING) - worth
    return exposures
