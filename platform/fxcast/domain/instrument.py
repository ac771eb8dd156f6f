"""What a broker says of a symbol: pip, tick and lot."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """A tradable pair: prices are multiples of `tick`, sizes (units of base currency) of `lot_step`.

    Attributes:
        margin_rate: Margin as a share of a position's worth; 1 / leverage.
        max_units: Of one order.
        min_stop_distance: How far from the price a stop or a target must lie at least, in quote currency.
    """

    symbol: str
    pip: Decimal
    tick: Decimal
    lot_step: Decimal
    min_units: Decimal
    margin_rate: Decimal = Decimal("0.05")
    max_units: Decimal = Decimal(10_000_000)
    min_stop_distance: Decimal = Decimal(0)

    @property
    def base_currency(self) -> str:
        return self.symbol[:3]

    @property
    def quote_currency(self) -> str:
        return self.symbol[3:]

    def round_price(self, price: float | Decimal) -> Decimal:
        """Round a price to the nearest tick."""
        return Decimal(repr(float(price)) if isinstance(price, float) else price).quantize(self.tick, rounding=ROUND_HALF_EVEN)

    def round_units(self, units: float | Decimal) -> Decimal:
        """Round a size down to the lot step and to the most of one order; below the minimum it is zero."""
        steps = int((min(Decimal(units), self.max_units) / self.lot_step).to_integral_value(rounding=ROUND_DOWN))
        rounded = steps * self.lot_step  # of a whole number: a quotient may have an exponent, and reads as 2.000E+4
        return rounded if rounded >= self.min_units else Decimal(0)


def default_instrument(symbol: str) -> Instrument:
    """Return the usual conventions of a pair: pip 0.0001 (0.01 against JPY), tick a tenth of it, lots of 1,000."""
    pip = Decimal("0.01") if symbol.endswith("JPY") else Decimal("0.0001")
    return Instrument(symbol=symbol, pip=pip, tick=pip / 10, lot_step=Decimal(1000), min_units=Decimal(1000))
