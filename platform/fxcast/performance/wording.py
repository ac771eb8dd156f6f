"""Figures in words that a trader reads: signs, thousands, per cent, and the interval below."""

from __future__ import annotations

from fxcast.performance.measures import Interval

UNTOLD = "–"  # where a figure can't be told


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """Return a figure with thousands separators and a true minus."""
    if value is None:
        return UNTOLD
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    return (text if any(digit in text for digit in "123456789") else text.lstrip("+-")).replace("-", "−")


def percent(share: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """Return a share of 1 in per cent."""
    return UNTOLD if share is None else f"{number(100.0 * share, digits, signed=signed)} %"


def probability(value: float | None) -> str:
    """Return a probability in per cent, which never reads as certain."""
    if value is None or 0.001 <= value <= 0.999:
        return percent(value)
    return "> 99.9 %" if value > 0.5 else "< 0.1 %"


def money(amount: float | None, currency: str = "", *, signed: bool = False) -> str:
    """Return an amount to the cent."""
    text = number(amount, signed=signed)
    return f"{text} {currency}" if currency and amount is not None else text


def with_interval(interval: Interval, *, digits: int = 2, share: bool = False, signed: bool = False, unit: str = "") -> str:
    """Return a figure, and its interval in brackets on a line below.

    Args:
        interval: The figure.
        share: Whether it is a share of 1, to be told in per cent.
        unit: Follows the figure, a currency for instance.
    """
    scale = 100.0 if share else 1.0
    value = None if interval.value is None else scale * interval.value
    text = number(value, digits, signed=signed)
    if value is not None and (share or unit):
        text += " %" if share else f" {unit}"
    if interval.low is None or interval.high is None:
        return text
    low, high = (number(scale * end, digits, signed=signed) for end in (interval.low, interval.high))
    return f"{text}\n[{low}, {high}]"


def count(amount: int, noun: str) -> str:
    """Return `1 trade`, `1,204 trades`."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def duration(days: float) -> str:
    """Return a time in days, or in hours where it is shorter than two days."""
    return f"{number(days * 24.0, 0)} hours" if days < 2.0 else f"{number(days, 0)} days"
