"""What a currency is worth in another, and what can be bought and sold at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

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
    for currency, symbol, known in _steps(tuple(sorted(prices)), account_currency):
        rate = prices[symbol] if symbol[3:] == known else 1 / prices[symbol]
        worth[currency] = rate * worth[known]
    return Rates(currency=account_currency, worth=worth)


def missing_rates(symbols: Iterable[str], account_currency: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the currencies of pairs that can't be converted to the account's through any chain of known pairs, sorted."""
    rates = rates_from_prices(dict.fromkeys(known, Decimal(1)), account_currency)
    wanted = {currency for symbol in symbols for currency in (symbol[:3], symbol[3:])}
    return tuple(sorted(wanted - rates.worth.keys()))


@lru_cache(maxsize=64)  # the same pairs are asked for at every candle, and every position
def _steps(symbols: tuple[str, ...], account_currency: str) -> tuple[tuple[str, str, str], ...]:
    """Return each currency that can be reached, nearest first, with the pair and the currency that it is reached by."""
    steps: list[tuple[str, str, str]] = []
    known = {account_currency}
    reached = [account_currency]
    for currency in reached:  # which grows meanwhile: nearest first
        for symbol in symbols:
            other = symbol[:3] if symbol[3:] == currency else symbol[3:] if symbol[:3] == currency else currency
            if other not in known:
                known.add(other)
                reached.append(other)
                steps.append((other, symbol, currency))
    return tuple(steps)
