"""What a currency is worth in another, and what can be bought and sold at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from fxcast.domain.order import Side
from fxcast.errors import BadSetup


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What one can sell at (bid) and buy at (ask), and when that was."""

    bid: Decimal
    ask: Decimal
    at: datetime

    @property
    def spread(self) -> Decimal:
        return self.ask - self.bid

    @property
    def mid(self) -> Decimal:
        return (self.bid + self.ask) / 2

    def opening(self, side: Side) -> Decimal:
        """Return the price at which a position of a side is opened."""
        return self.ask if side is Side.BUY else self.bid

    def closing(self, side: Side) -> Decimal:
        """Return the price at which a position of a side is closed."""
        return self.bid if side is Side.BUY else self.ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What one unit of each currency is worth in the account's."""

    currency: str
    worth: Mapping[str, Decimal]

    def convert(self, amount: Decimal, currency: str) -> Decimal:
        """Return an amount in the account's currency; exact where it is that already.

        Raises:
            BadSetup: If no rate of the currency is known.
        """
        if currency == self.currency:
            return amount
        if currency not in self.worth:
            raise BadSetup(
                f"no rate from {currency} to the account's {self.currency}: add a pair of the two to the symbols that are followed"
            )
        return amount * self.worth[currency]

    def pip_value(self, symbol: str, pip: Decimal) -> Decimal:
        """Return what a move of one pip is worth for one unit of the base currency, in account currency."""
        return self.convert(pip, symbol[3:])


def rates_from_prices(prices: Mapping[str, Decimal], account_currency: str) -> Rates:
    """Derive what each currency is worth from the prices of pairs: directly, inverted, or over others by the fewest steps.

    Args:
        prices: By symbol, quote currency per base currency.
    """
    worth: dict[str, Decimal] = {account_currency: Decimal(1)}
    reached = [account_currency]
    while reached:
        following: list[str] = []
        for known in reached:
            for other, rate in _neighbours(prices, known):
                if other not in worth:
                    worth[other] = rate * worth[known]
                    following.append(other)
        reached = following
    return Rates(currency=account_currency, worth=worth)


def missing_rates(symbols: Iterable[str], account_currency: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the currencies of pairs that can't be converted to the account's through any chain of known pairs, sorted."""
    rates = rates_from_prices(dict.fromkeys(known, Decimal(1)), account_currency)
    wanted = {currency for symbol in symbols for currency in (symbol[:3], symbol[3:])}
    return tuple(sorted(wanted - rates.worth.keys()))


def _neighbours(prices: Mapping[str, Decimal], currency: str) -> Iterable[tuple[str, Decimal]]:
    """Yield each currency that is one pair away, and what one unit of it is worth in this one."""
    for symbol in sorted(prices):
        price = prices[symbol]
        if symbol[3:] == currency:
            yield symbol[:3], price
        elif symbol[:3] == currency:
            yield symbol[3:], 1 / price
