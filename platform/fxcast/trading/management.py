"""What becomes of an open position at a candle's close: when it is closed, and where its stop and target move."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from fxcast.domain.calendar import is_open, week_close
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Quote
from fxcast.domain.order import Side
from fxcast.trading.config import ManagementConfig
from fxcast.trading.state import HeldPosition


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementView:
    """What is known at a candle's close; prices are in quote currency.

    Attributes:
        at: The close.
        prediction: The fresh forecast made of this candle, None without one.
        horizon_minutes: Of the position's signal.
        uncertainty_pct: 100 · std / price of the newest usable forecast.
    """

    at: datetime
    close: Decimal
    quote: Quote
    instrument: Instrument
    prediction: LDM4TSPrediction | None
    horizon_minutes: int
    uncertainty_pct: float | None
    spread: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Managed:
    """What should become of a position.

    Attributes:
        close_reason: Why to close it; empty if it stays.
        stop: Where its stop should be.
        target: The same of its target.
        reasons: Why stop or target move; empty if neither does.
    """

    close_reason: str
    stop: Decimal
    target: Decimal | None
    reasons: tuple[str, ...]


def manage(held: HeldPosition, view: ManagementView, config: ManagementConfig) -> Managed:
    """Decide what becomes of an open position.

    A change that the broker has not answered yet counts as made, so that a stop never falls behind one already asked for. A
    position that was filled at its own stop has no R to count in: its stop stays.
    """
    stop, target = _standing(held)
    close_reason = _exit(held, view, config)
    if close_reason:
        return Managed(close_reason=close_reason, stop=stop, target=target, reasons=())
    stop, stop_reason = _tightened(held, stop, view, config)
    target, target_reason = _followed(held.position.side, target, view, config)
    return Managed(close_reason="", stop=stop, target=target, reasons=tuple(filter(None, (stop_reason, target_reason))))


def holding_bars(held: HeldPosition, config: ManagementConfig) -> int:
    """Return after how many candles a position is closed if `exit_at_horizon` is on."""
    return max(1, round(config.holding_multiple * held.horizon_bars))


def better_price(held: HeldPosition, close: Decimal) -> Decimal:
    """Return the best close since the position was opened, with this one."""
    return _further(held.position.side, held.best_price, close)


def _standing(held: HeldPosition) -> tuple[Decimal, Decimal | None]:
    """Return the stop and the target that the broker holds, or will once it has answered."""
    position, change = held.position, held.change
    if change is None:
        return position.stop, position.target
    return _further(position.side, position.stop, change.stop), change.target


def _further(side: Side, first: Decimal, second: Decimal) -> Decimal:
    """Return the price that lies further in the position's favour."""
    return max(first, second) if side is Side.BUY else min(first, second)


def _exit(held: HeldPosition, view: ManagementView, config: ManagementConfig) -> str:
    if not is_open(view.at):  # the order would be refused, or wait for Monday's opening
        return ""
    most_bars = holding_bars(held, config)
    if config.exit_at_horizon and held.bars_held >= most_bars:
        if most_bars == held.horizon_bars:
            return f"the horizon of {held.horizon_bars} candles has passed"
        return f"{most_bars} candles have passed, {config.holding_multiple:g} × the horizon of {held.horizon_bars}"
    limit_pct = config.exit_uncertainty_pct
    if limit_pct is not None and view.uncertainty_pct is not None and view.uncertainty_pct >= limit_pct:
        return f"uncertainty {view.uncertainty_pct:.3g} % has grown to the exit threshold of {limit_pct:g} %"
    minutes = config.exit_before_weekend_minutes
    if minutes is not None:
        remaining = week_close(view.at) - view.at
        candle = timedelta(minutes=view.horizon_minutes) / held.horizon_bars
        # Long candles: at the next close the week would be over.
        if remaining <= max(timedelta(minutes=minutes), candle):
            return f"the week closes in {remaining.total_seconds() / 60:.0f} minutes, exit at {minutes}"
    return ""


def _tightened(held: HeldPosition, stop: Decimal, view: ManagementView, config: ManagementConfig) -> tuple[Decimal, str]:
    """Return the tightest stop that a rule gives, the broker takes and is worth sending; else the one there is."""
    sign, risk, entry = held.position.side.sign, held.risk, held.position.entry_price
    closing = view.quote.closing(held.position.side)
    nearest = max(view.instrument.min_stop_distance, view.instrument.tick)
    material = Decimal(str(config.min_target_change_pips)) * view.instrument.pip
    best = better_price(held, view.close)
    rules: list[tuple[Decimal, Decimal, str]] = []  # the stop, the least change that is worth sending, why
    if config.break_even_at_r is not None and risk and sign * (closing - entry) >= Decimal(str(config.break_even_at_r)) * risk:
        rules.append((entry + sign * view.spread, view.instrument.tick, f"break-even at {config.break_even_at_r:g} R"))
    if config.trail_at_r is not None and risk and sign * (best - entry) >= Decimal(str(config.trail_at_r)) * risk:
        trailing = best - sign * Decimal(str(config.trail_distance_r)) * risk
        rules.append((trailing, material, f"trailing {config.trail_distance_r:g} R behind {best}"))
    tightest, reason = stop, ""
    for price, least_change, rule in rules:
        wanted = view.instrument.round_price(price)
        allowed = sign * (closing - wanted) >= nearest
        if allowed and sign * (wanted - stop) >= least_change and sign * (wanted - tightest) > 0:
            tightest, reason = wanted, f"stop {stop} to {wanted}: {rule}"
    return tightest, reason


def _followed(side: Side, target: Decimal | None, view: ManagementView, config: ManagementConfig) -> tuple[Decimal | None, str]:
    """Return the target that a fresh forecast gives if it still pays to go there and is far enough from the target there is.

    That is the forecast's mean, or with `target_multiple` so many times as far from the price. A position without a target was left
    so by a person: it gets none.
    """
    if not config.follow_targets or target is None or view.prediction is None:
        return target, ""
    forecast = view.prediction.horizons.get(view.horizon_minutes)
    if forecast is None:
        return target, ""
    times, price = config.target_multiple, view.prediction.price
    wanted = forecast.mean if times == 1.0 else price + times * (forecast.mean - price)
    wanted, closing = max(view.instrument.round_price(wanted), view.instrument.tick), view.quote.closing(side)
    distance = side.sign * (wanted - closing)
    if distance <= view.spread or distance < view.instrument.min_stop_distance:
        return target, ""
    if abs(wanted - target) < Decimal(str(config.min_target_change_pips)) * view.instrument.pip:
        return target, ""
    where = "the mean of the fresh forecast"
    return wanted, f"target {target} to {wanted}: {where if times == 1.0 else f'{times:g} × the way to {where}'}"
