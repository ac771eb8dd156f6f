"""How many units: a share of equity that the stop may cost, less where the forecast is uncertain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from fxcast.domain.forecast import HorizonForecast
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Rates
from fxcast.domain.order import Side
from fxcast.domain.signal import Regime
from fxcast.trading.config import SizingConfig, SizingMethod
from fxcast.trading.kelly import growth_optimal_share, trade_outcomes

_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeView:
    """What a size depends on; prices are in quote currency, equity and margin in the account's.

    Attributes:
        price: At which the position could be closed now, the bid for a buy and the ask for a sell: where stop and target are
            watched. Entering costs the spread on top.
        horizon: The forecast in use at the signal's horizon, and `forecast_price` the price at which it was made.
        bar_volatility: Standard deviation of one candle's log returns.
        horizon_bars: The signal's horizon.
        uncertainty_pct: 100 · std / price of the forecast in use; None leaves the size unscaled.
        uncertainty_threshold: Per cent of price at which the size is zero.
        regime: The likeliest now; None leaves the size unscaled.
    """

    equity: Decimal
    free_margin: Decimal
    price: Decimal
    stop: Decimal
    target: Decimal
    spread: Decimal
    side: Side
    instrument: Instrument
    rates: Rates
    horizon: HorizonForecast | None
    forecast_price: float | None
    bar_volatility: float
    horizon_bars: int
    uncertainty_pct: float | None
    uncertainty_threshold: float
    regime: Regime | None = None

    @property
    def stop_distance(self) -> Decimal:
        """How far the stop lies on the losing side of the price."""
        return self.side.sign * (self.price - self.stop)

    @property
    def target_distance(self) -> Decimal:
        """How far the target lies on the winning side of the price."""
        return self.side.sign * (self.target - self.price)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Units of base currency, both rounded down to the lot: before and after scaling by uncertainty; both scaled by the regime.

    Attributes:
        arithmetic: How the units came about, step by step in words.
    """

    base_units: Decimal
    units: Decimal
    arithmetic: tuple[str, ...]


def size_position(view: SizeView, config: SizingConfig) -> Size:
    """Size a position so that its stop, the spread included, costs the share of equity that the method gives.

    - fixed_fraction: `risk_per_trade_pct`.
    - kelly: `kelly_fraction` of the share that grows fastest if the forecast is right; nothing without a forecast or an edge.
    - volatility_target: such that the profit over the horizon has a standard deviation of `volatility_target_pct` of equity, by
      the forecast, or without one by the candles' own volatility.

    No method risks more than `risk_per_trade_pct`. The units are then multiplied with the regime's multiplier, which gives the base
    size, and with max(0, 1 − uncertainty / threshold), kept within the free margin, and rounded down to the instrument's lot and to
    the most of one order.

    Raises:
        BadSetup: If a currency of the pair can't be converted to the account's.
    """
    if view.equity <= 0:
        return _no_size(f"nothing to risk: equity {_money(view.equity)} {view.rates.currency}")
    if view.stop_distance <= 0:
        beyond = "below" if view.side is Side.BUY else "above"
        return _no_size(f"the stop {view.stop} does not lie {beyond} the price {view.price}")
    loss, loss_words = _loss_per_unit(view)
    share_pct, words = _share_at_stop(view, config, loss)
    if share_pct <= 0:
        return _no_size(*words)
    risked = view.equity * share_pct / 100
    base = risked / loss
    currency = view.rates.currency
    words += (
        f"equity {_money(view.equity)} {currency} × {float(share_pct):.4g} % = {_money(risked)} {currency} at risk",
        f"{loss_words}: {_money(base)} units",
    )
    base, regime_words = _for_regime(base, view, config)
    words += regime_words
    units, scale_words = _scaled(base, view)
    units, margin_words = _within_margin(units, view)
    rounded = view.instrument.round_units(units)
    words += (*scale_words, *margin_words, _rounding_words(units, rounded, view.instrument))
    return Size(base_units=view.instrument.round_units(base), units=rounded, arithmetic=words)


def uncertainty_factor(uncertainty_pct: float, threshold: float) -> Decimal:
    """Return max(0, 1 − uncertainty / threshold)."""
    return max(_NOTHING, 1 - Decimal(str(uncertainty_pct)) / Decimal(str(threshold)))


def margin_needed(symbol: str, units: Decimal, instrument: Instrument, rates: Rates) -> Decimal:
    """Return the margin of a position in account currency: its worth times the instrument's margin rate.

    Raises:
        BadSetup: If the base currency can't be converted to the account's.
    """
    return rates.convert(units, symbol[:3]) * instrument.margin_rate


def _loss_per_unit(view: SizeView) -> tuple[Decimal, str]:
    """Return what one unit loses at the stop in account currency, and how that comes about.

    Below the entry the quote currency is worth more of the base currency. In an account of neither, nobody knows which of the two
    will have moved: the dearer conversion counts.
    """
    quote, pip = view.instrument.quote_currency, view.instrument.pip
    worth = view.rates.convert(Decimal(1), quote)
    if quote != view.rates.currency:
        worth *= max(Decimal(1), view.price / view.stop)
    distance = view.stop_distance + view.spread
    words = (
        f"stop {view.stop_distance / pip:.1f} pips + spread {view.spread / pip:.1f} pips = "
        f"{_number(distance)} × {_number(worth)} {view.rates.currency} per unit"
    )
    return distance * worth, words


def _share_at_stop(view: SizeView, config: SizingConfig, loss: Decimal) -> tuple[Decimal, tuple[str, ...]]:
    """Return the share of equity that the stop may cost, in per cent, and how it comes about."""
    most = Decimal(str(config.risk_per_trade_pct))
    match config.method:
        case SizingMethod.FIXED_FRACTION:
            return most, ()
        case SizingMethod.KELLY:
            share, words = _kelly_share(view, config)
        case SizingMethod.VOLATILITY_TARGET:
            share, words = _volatility_share(view, config, loss)
    if share > most:
        return most, (*words, f"at most {config.risk_per_trade_pct:g} % may be lost at the stop")
    return share, words


def _kelly_share(view: SizeView, config: SizingConfig) -> tuple[Decimal, tuple[str, ...]]:
    if view.horizon is None or view.forecast_price is None or not view.horizon.std > 0:
        return _NOTHING, ("no distribution to bet on: no Kelly bet without a forecast",)
    if view.target_distance <= 0:
        return _NOTHING, (f"no edge: the target {view.target} is not beyond the price {view.price}",)
    outcomes = trade_outcomes(
        view.horizon,
        origin=view.forecast_price,
        price=float(view.price),
        side=view.side,
        stop_distance=float(view.stop_distance),
        target_distance=float(view.target_distance),
        spread=float(view.spread),
    )
    law = f"{len(view.horizon.samples)} samples" if view.horizon.samples else "the normal law"
    words = (
        f"by {law}: target first {100 * outcomes.target_first:.1f} %, stop first {100 * outcomes.stop_first:.1f} %, "
        f"{outcomes.expectation:+.3f} of the risk expected after the spread"
    )
    if outcomes.expectation <= 0:
        return _NOTHING, (words, "no edge after the spread: no Kelly bet")
    bet_pct = 100 * growth_optimal_share(outcomes)
    share = Decimal(str(bet_pct)) * Decimal(str(config.kelly_fraction))
    return share, (
        words,
        f"Kelly bet {bet_pct:.3g} % of equity × {config.kelly_fraction:g} = {float(share):.4g} % at the stop",
    )


def _volatility_share(view: SizeView, config: SizingConfig, loss: Decimal) -> tuple[Decimal, tuple[str, ...]]:
    if view.horizon is not None and view.horizon.std > 0:
        deviation, source = view.horizon.std, "the forecast"
    else:
        deviation = view.bar_volatility * math.sqrt(view.horizon_bars) * float(view.price)
        source = f"the volatility of {view.horizon_bars} candles"
    if not deviation > 0:
        return _NOTHING, (f"no size by volatility: {source} shows no movement",)
    pips = deviation / float(view.instrument.pip)
    per_unit = view.rates.convert(Decimal(str(deviation)), view.instrument.quote_currency)
    share = Decimal(str(config.volatility_target_pct)) * loss / per_unit
    words = (
        f"std {pips:.1f} pips by {source} = {_number(per_unit)} {view.rates.currency} per unit, to be "
        f"{config.volatility_target_pct:g} % of equity: {float(share):.4g} % at the stop"
    )
    return share, (words,)


def _for_regime(units: Decimal, view: SizeView, config: SizingConfig) -> tuple[Decimal, tuple[str, ...]]:
    multiplier = 1.0 if view.regime is None else config.multiplier(view.regime)
    if view.regime is None or multiplier == 1.0:
        return units, ()
    scaled = units * Decimal(str(multiplier))
    return scaled, (f"{view.regime.value} market: × {multiplier:g} = {_money(scaled)} units",)


def _scaled(units: Decimal, view: SizeView) -> tuple[Decimal, tuple[str, ...]]:
    if view.uncertainty_pct is None:
        return units, ()
    factor = uncertainty_factor(view.uncertainty_pct, view.uncertainty_threshold)
    words = f"uncertainty {view.uncertainty_pct:.3g} % of {view.uncertainty_threshold:g} %: × {float(factor):.3f}"
    return units * factor, (words,)


def _within_margin(units: Decimal, view: SizeView) -> tuple[Decimal, tuple[str, ...]]:
    """Ask for no more than the broker would accept; how much margin has to stay free is a matter of the risk gates."""
    needed = margin_needed(view.instrument.symbol, units, view.instrument, view.rates)
    free = max(view.free_margin, _NOTHING)
    if needed <= free:
        return units, ()
    currency, allowed = view.rates.currency, units * free / needed
    return allowed, (f"margin {_money(needed)} {currency} needed, {_money(free)} {currency} free: {_money(allowed)} units",)


def _rounding_words(units: Decimal, rounded: Decimal, instrument: Instrument) -> str:
    if rounded == 0:
        return f"below the smallest order of {instrument.min_units:,f}: 0"
    if units > instrument.max_units:
        return f"at most {instrument.max_units:,f} in one order: {rounded:,f}"
    return f"rounded down to {instrument.lot_step:,f}: {rounded:,f}"


def _no_size(*words: str) -> Size:
    return Size(base_units=_NOTHING, units=_NOTHING, arithmetic=words)


def _money(amount: Decimal) -> str:
    return f"{amount:,.2f}"


def _number(amount: Decimal) -> str:
    return f"{float(amount):.6g}"
