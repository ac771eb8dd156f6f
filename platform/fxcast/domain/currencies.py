"""What currencies are worth, to the order of magnitude: enough to tell a price from a price in points."""

from __future__ import annotations

import re

# Units per US dollar, about. A rate of two of these is right within a factor of nine at nearly any time of the last thirty years;
# less than ten, so that a decimal point gone wrong shows. What lies beyond can be said to be meant: price_scale 1.
_PER_USD: dict[str, float] = {
    "USD": 1, "EUR": 0.9, "GBP": 0.7, "CHF": 1, "JPY": 110, "AUD": 1.4, "NZD": 1.5, "CAD": 1.3,
    "SEK": 9, "NOK": 9, "DKK": 6.5, "ISK": 120, "PLN": 4, "CZK": 23, "HUF": 300, "RON": 4.2, "BGN": 1.8, "TRY": 8, "RUB": 60,
    "ILS": 3.6, "ZAR": 14, "MXN": 17, "BRL": 4, "CLP": 750, "COP": 3300, "PEN": 3.5,
    "SGD": 1.4, "HKD": 7.8, "CNY": 7, "CNH": 7, "KRW": 1200, "TWD": 31, "THB": 34, "INR": 70, "IDR": 14000, "MYR": 4.2, "PHP": 52,
    "VND": 23000, "SAR": 3.75, "AED": 3.67, "KWD": 0.3, "QAR": 3.64,
    "XAU": 1 / 1400, "XAG": 1 / 18, "XPT": 1 / 1000, "XPD": 1 / 1000,
}  # fmt: skip
_BAND = 9.0


def is_plausible_price(symbol: str, price: float) -> bool | None:
    """Tell whether a price can be one of a pair; None if one of its currencies is unknown here."""
    base, quote = _PER_USD.get(symbol[:3]), _PER_USD.get(symbol[3:])
    if base is None or quote is None:
        return None
    return quote / base / _BAND < price < quote / base * _BAND


def typical_price(symbol: str) -> float | None:
    """Return about what a pair costs, None if one of its currencies is unknown here."""
    base, quote = _PER_USD.get(symbol[:3]), _PER_USD.get(symbol[3:])
    return None if base is None or quote is None else quote / base


def points_per_unit(symbol: str) -> int:
    """Return how many points make one unit of price, as MetaTrader counts them: 1,000 against JPY, else 100,000."""
    return 1_000 if symbol.endswith("JPY") else 100_000


def symbols_named_in(text: str) -> list[str]:
    """Return the currency pairs that a text such as a file name mentions, each once, in order."""
    found: list[str] = []
    # Overlapping matches, not inside a longer word: DAT_ASCII_EURUSD_M1, eur-usd, 20140501_eurusd_minute.
    for match in re.finditer(r"(?<![A-Z])(?=([A-Z]{3})[_/-]?([A-Z]{3})(?![A-Z]))", text.upper()):
        base, quote = match.groups()
        if base in _PER_USD and quote in _PER_USD and base != quote and base + quote not in found:
            found.append(base + quote)
    return found
