"""How many units: a fixed fraction of equity lost at the stop, less where the forecast is uncertain."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from fxcast.domain.instrument import Instrument
from fxcast.errors import BadSetup


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Units of base currency, both rounded down to the lot: before and after scaling by uncertainty."""

    base_units: Decimal
    units: Decimal


def check_currency(symbol: str, account_currency: str) -> None:
    """Refuse a pair whose profit we could not convert.

    Raises:
        BadSetup: If the account's currency is neither the base nor the quote currency of the pair.
    """
    if account_currency not in {symbol[:3], symbol[3:]}:
        raise BadSetup(f"an account in {account_currency} can't trade {symbol}: its currency must be {symbol[:3]} or {symbol[3:]}")


def unit_value(symbol: str, price: Decimal, account_currency: str) -> Decimal:
    """Return what one unit of base currency is worth in account currency.

    Raises:
        BadSetup: If the account's currency is neither the base nor the quote currency of the pair.
    """
    check_currency(symbol, account_currency)
    return price if account_currency == symbol[3:] else Decimal(1)


def quote_to_account(symbol: str, amount: Decimal, price: Decimal, account_currency: str) -> Decimal:
    """Convert an amount in quote currency at a price: exact in the quote currency, not rounded in the base currency.

    Raises:
        BadSetup: If the account's currency is neither the base nor the quote currency of the pair.
    """
    check_currency(symbol, account_currency)
    return amount if account_currency == symbol[3:] else amount / price


def size_position(
    *,
    equity: Decimal,
    risk_pct: Decimal,
    price: Decimal,
    stop: Decimal,
    spread_pips: Decimal,
    instrument: Instrument,
    account_currency: str,
    uncertainty_pct: float | None,
    uncertainty_threshold: float,
) -> Size:
    """Size a position so that its stop costs at most `risk_pct` of equity, the spread included.

    Args:
        uncertainty_pct: 100 · std / price of the forecast in use; None leaves the size unscaled. The factor is
            max(0, 1 − uncertainty / threshold).

    Raises:
        BadSetup: If the account's currency is neither the base nor the quote currency of the pair.
    """
    loss_per_unit = quote_to_account(
        instrument.symbol, abs(price - stop) + spread_pips * instrument.pip, min(price, stop), account_currency
    )
    if equity <= 0 or price == stop:
        return Size(base_units=Decimal(0), units=Decimal(0))
    base = equity * risk_pct / 100 / loss_per_unit
    factor = Decimal(1) if uncertainty_pct is None else uncertainty_factor(uncertainty_pct, uncertainty_threshold)
    return Size(base_units=instrument.round_units(base), units=instrument.round_units(base * factor))


def uncertainty_factor(uncertainty_pct: float, threshold: float) -> Decimal:
    """Return max(0, 1 − uncertainty / threshold)."""
    return max(Decimal(0), 1 - Decimal(repr(uncertainty_pct)) / Decimal(repr(threshold)))
