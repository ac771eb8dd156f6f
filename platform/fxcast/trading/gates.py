"""The gates themselves: those that refuse, and those that cut."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from fxcast.domain.calendar import is_open, open_sessions, week_close
from fxcast.trading.state import KillSwitch

if TYPE_CHECKING:  # risk.py passes its view through these gates
    from fxcast.trading.risk import RiskView

Refusal = Callable[["RiskView"], str]  # why nothing may be opened; empty: it may
Cut = Callable[["RiskView"], tuple[Decimal, str]]  # the most units allowed, not rounded, and by what

_NOTHING = Decimal(0)
_CLOCK_TOLERANCE = timedelta(seconds=1)  # of two machines that both keep time
_UNLIMITED = Decimal("Infinity")


def kill_switch_gate(view: RiskView) -> str:
    """Open nothing unless the switch is active."""
    return "" if view.kill_switch is KillSwitch.ACTIVE else f"the kill switch is {view.kill_switch.value}"


def weekend_gate(view: RiskView) -> str:
    """Open nothing shortly before the week closes, nor while the market is closed."""
    now = view.now
    opened, closes = _week(_minute(now))
    if not opened:
        return "the market is closed"
    remaining, cut_off = closes - now, view.limits.weekend_cut_off_minutes
    if remaining > timedelta(minutes=cut_off):
        return ""
    return f"the week closes in {remaining.total_seconds() / 60:.0f} minutes, cut-off {cut_off}"


def session_gate(view: RiskView) -> str:
    """Open nothing outside the sessions that the trader named."""
    wanted = view.limits.sessions
    if not wanted or not set(wanted).isdisjoint(_sessions(_minute(view.now))):
        return ""
    return f"none of the sessions {', '.join(wanted)} is open"


def stale_candle_gate(view: RiskView) -> str:
    """Open nothing on an old candle, nor on one that the clock says has not closed."""
    age, limit_s = view.seen_at - view.at, view.limits.max_candle_age_s
    if age < -_CLOCK_TOLERANCE:
        return f"the clock stands {-age.total_seconds():.0f} s before the candle's close"
    if age <= timedelta(seconds=limit_s):
        return ""
    return f"the candle closed {age.total_seconds():.0f} s ago, more than {limit_s:g}"


def stale_forecast_gate(view: RiskView) -> str:
    """Open nothing without a fresh forecast where one is required: no forecast, no idea of the uncertainty."""
    age, limit = view.forecast_age_bars, view.limits.max_forecast_age_bars
    if not view.forecast_required:
        return ""
    if age is None:
        return f"no forecast of the last {limit} candles"
    return "" if age <= limit else f"the forecast is {age} candles old, more than {limit}"


def spread_gate(view: RiskView) -> str:
    """Open nothing at a wide spread."""
    spread, limit = view.spread_pips, view.limits.max_spread_pips
    return "" if spread <= limit else f"a spread of {spread:g} pips is above {limit:g}"


def daily_loss_gate(view: RiskView) -> str:
    """Open nothing after losing the day's limit."""
    lost, limit = _loss_pct(view.day_first_equity, view.equity), view.limits.max_daily_loss_pct
    return "" if lost < Decimal(str(limit)) else f"{lost:.2f} % lost today, limit {limit:g} %"


def drawdown_gate(view: RiskView) -> str:
    """Open nothing far below the peak of equity."""
    lost, limit = _loss_pct(view.peak_equity, view.equity), view.limits.max_drawdown_pct
    return "" if lost < Decimal(str(limit)) else f"{lost:.2f} % below the peak, limit {limit:g} %"


def cool_off_gate(view: RiskView) -> str:
    """Open nothing for a while after losses in a row."""
    until = view.cool_off_until
    return "" if until is None or view.now >= until else f"cooling off after losses in a row until {until:%Y-%m-%d %H:%M} UTC"


def foreign_gate(view: RiskView) -> str:
    """Open nothing where the broker holds a position that is not ours."""
    symbol = view.instrument.symbol
    return f"the broker holds a position in {symbol} that is not ours" if symbol in view.foreign else ""


def one_position_gate(view: RiskView) -> str:
    """Open nothing in a symbol that has a position or an entry order."""
    symbol = view.instrument.symbol
    return f"a position in {symbol} is open or being opened" if symbol in view.open_symbols else ""


def max_positions_gate(view: RiskView) -> str:
    """Open nothing beyond the number of positions allowed."""
    count, limit = len(view.open_symbols), view.limits.max_positions
    return "" if count < limit else f"{count} positions are open, limit {limit}"


def correlation_gate(view: RiskView) -> str:
    """Open nothing that wins and loses with an open position; what nobody knows counts as doing so."""
    limit = view.limits.max_correlation
    if limit >= 1:
        return ""
    for symbol in view.open_symbols:
        correlation, side = view.correlations.get(symbol), view.sides.get(symbol)
        if correlation is None or side is None or math.isnan(correlation):
            return f"the correlation with {symbol} is unknown, and counts as 1"
        together = correlation * view.side.sign * side.sign
        if together > limit:
            return f"goes with the {side.value} position in {symbol}: correlation {together:.2f}, limit {limit:g}"
    return ""


def symbol_exposure_cut(view: RiskView) -> tuple[Decimal, str]:
    """Keep the worth of one symbol's position within its share of equity."""
    limit = view.limits.max_symbol_exposure_pct
    return _share_of_equity(view, limit) / view.unit_value, f"one symbol is limited to {limit:g} % of equity"


def currency_exposure_cut(view: RiskView) -> tuple[Decimal, str]:
    """Keep the net exposure to either currency within its share of equity.

    Buying EUR/USD makes euros longer and dollars shorter by the same worth; what reduces an exposure passes.
    """
    share = view.limits.max_currency_exposure_pct
    limit = _share_of_equity(view, share)
    base, quote, sign = view.instrument.base_currency, view.instrument.quote_currency, view.side.sign
    base_room = limit - sign * view.exposures.get(base, _NOTHING)
    quote_room = limit + sign * view.exposures.get(quote, _NOTHING)
    room, tightest = (quote_room, quote) if quote_room < base_room else (base_room, base)
    return max(room, _NOTHING) / view.unit_value, f"{tightest} exposure is limited to {share:g} % of equity"


def margin_cut(view: RiskView) -> tuple[Decimal, str]:
    """Keep a share of equity free of margin."""
    share = view.limits.min_free_margin_pct
    words = f"{share:g} % of equity has to stay free of margin"
    margin_per_unit = view.unit_value * view.instrument.margin_rate
    if not margin_per_unit:
        return _UNLIMITED, words
    return max(view.free_margin - _share_of_equity(view, share), _NOTHING) / margin_per_unit, words


# Cheap and absolute first: the first refusal is the reason that is stored.
REFUSALS: tuple[Refusal, ...] = (
    kill_switch_gate,
    weekend_gate,
    session_gate,
    stale_candle_gate,
    stale_forecast_gate,
    spread_gate,
    daily_loss_gate,
    drawdown_gate,
    cool_off_gate,
    foreign_gate,
    one_position_gate,
    max_positions_gate,
    correlation_gate,
)
CUTS: tuple[Cut, ...] = (symbol_exposure_cut, currency_exposure_cut, margin_cut)


def _share_of_equity(view: RiskView, per_cent: float) -> Decimal:
    return max(view.equity, _NOTHING) * Decimal(str(per_cent)) / 100


def _loss_pct(before: Decimal, now: Decimal) -> Decimal:
    return 100 * (before - now) / before if before > 0 else Decimal(100)


def _minute(moment: datetime) -> datetime:
    """Nothing on the calendar begins or ends within a minute, and all symbols of a minute share one look at it."""
    return moment.replace(second=0, microsecond=0)


@lru_cache(maxsize=64)
def _week(minute: datetime) -> tuple[bool, datetime]:
    return is_open(minute), week_close(minute)


@lru_cache(maxsize=64)
def _sessions(minute: datetime) -> tuple[str, ...]:
    return open_sessions(minute)
