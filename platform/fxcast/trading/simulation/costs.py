"""What things are worth in the account's currency: profit, commission, margin, the interest at 17:00 New York, and what fills cost.

What is in another currency is converted at the mids of the last prices seen, over as few pairs as it takes; a pair's own price is
the one that is traded at. The result is rounded to a hundredth of a cent, half to even; a profit in the account's own
currency is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from fxcast.domain.calendar import NEW_YORK
from fxcast.domain.money import Rates, rates_from_prices
from fxcast.domain.order import Fill, FillReason, Financing, Side, Transaction
from fxcast.domain.portfolio import Account, Position
from fxcast.trading.simulation.book import Book
from fxcast.trading.simulation.prices import slippage, widest_spread

_MONEY_STEP = Decimal("0.0001")
_ROLL = time(17)  # New York
_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
# Spot settles two working days later, so that Wednesday's roll moves the settlement over the weekend.
_DAYS_OF_INTEREST = {0: 1, 1: 1, 2: 3, 3: 1, 4: 1}


def rates(book: Book, *, symbol: str | None = None, price: Decimal | None = None) -> Rates:
    """Return what each currency is worth in the account's at the last mids, or with another price of one symbol."""
    prices = {name: mark.mid for name, mark in book.marks.items()}
    if symbol is not None and price is not None:
        prices[symbol] = price
    return rates_from_prices(prices, book.config.account_currency)


def profit(book: Book, position: Position, price: Decimal) -> Decimal:
    """Return a position's profit if it were closed at a price, in account currency."""
    return _convert(book, position.profit_at(price), position.symbol[3:], position.symbol, price)


def commission(book: Book, symbol: str, units: Decimal, price: Decimal) -> Decimal:
    """Return what a fill costs, in account currency."""
    per_million = book.config.commission_per_million
    if not per_million:
        return Decimal(0)
    return rounded(worth(book, symbol, units, price) * per_million / 1_000_000)


def worth(book: Book, symbol: str, units: Decimal, price: Decimal) -> Decimal:
    """Return what units of a pair are worth at a price, in account currency, not rounded."""
    if symbol[:3] == book.config.account_currency:
        return units
    return rates(book, symbol=symbol, price=price).convert(units, symbol[:3])


def margin_used(book: Book) -> Decimal:
    """Return the margin of all positions, at the last mids."""
    if not book.positions:
        return Decimal(0)
    known = rates(book)
    held = sum((known.convert(each.units, each.symbol[:3]) for each in book.positions.values()), Decimal(0))
    return rounded(held / book.config.leverage)


def account(book: Book) -> Account:
    """Return the account; open profit is marked at the side that would close each position at the last close."""
    marked = ((each, book.marks[each.symbol].closing(each.side)) for each in book.positions.values())
    return Account(
        currency=book.config.account_currency,
        balance=book.balance,
        open_profit=sum((profit(book, position, price) for position, price in marked), Decimal(0)),
        margin_used=margin_used(book),
    )


def book_interest(book: Book, symbol: str, *, after: datetime, until: datetime, transactions: list[Transaction]) -> Book:
    """Book the interest on a symbol's position for every roll after a moment, up to another and including it."""
    position = book.positions.get(symbol)
    if position is None:
        return book
    by_symbol = book.config.swap_pct_long if position.side is Side.BUY else book.config.swap_pct_short
    yearly_pct = by_symbol.get(symbol)
    if not yearly_pct:
        return book
    a_day = worth(book, symbol, position.units, book.marks[symbol].mid) * yearly_pct / 100 / 365
    for roll, days in _rolls(max(after, position.opened_at), until):
        financing = Financing(
            sequence=book.sequence + 1,
            client_order_id=position.client_order_id,
            symbol=symbol,
            amount=rounded(a_day * days),
            booked_at=roll,
        )
        transactions.append(financing)
        book = replace(book, sequence=financing.sequence, balance=book.balance + financing.amount)
    return book


def execution_cost(book: Book, fill: Fill, *, opened_at: datetime | None = None) -> tuple[Decimal, Decimal]:
    """Return what a fill cost against the mid of its moment, in account currency: half the spread, and the slippage.

    Both are in the fill's price, and so in the profit, already; the commission is in neither. Nor is what is not bid, ask or slip:
    how far a late order's price was moved against the trader, what a gap took beyond a stop, or kept of a price beyond a target.

    A fill does not say which spread was in its price. At an open, and of a late order, it is that of the fill's moment. At the
    extremes of a candle it is the widest of the candle's hours: known from `opened_at`, or, without it, taken to be that of the
    hour before the close, which is the same for every candle within an hour and too low only if an earlier hour of a longer one
    was wider (a late order's likewise). When the margin is gone, it is the last known one for a position closed at its last price.

    Args:
        book: As it was right after the candle that brought the fill: its last prices convert what is in other currencies, and tell
            a fill at a candle's close from one at the next one's open.
        fill: Of the paper market.
        opened_at: When that candle opened.
    """
    mark, config = book.marks[fill.symbol], book.config
    slip = Decimal(0) if fill.reason is FillReason.TARGET else slippage(config, fill.symbol)
    if fill.reason is FillReason.MARGIN_CLOSEOUT and fill.price - fill.side.sign * slip == mark.opening(fill.side):
        spread = mark.spread
    elif fill.filled_at == mark.at:
        spread = widest_spread(config, fill.symbol, opened_at or mark.at - _MICROSECOND, mark.at)
    else:
        spread = widest_spread(config, fill.symbol, opened_at or fill.filled_at, fill.filled_at + _MICROSECOND)
    halves = _convert(book, fill.units * spread / 2, fill.symbol[3:], fill.symbol, fill.price)
    return halves, _convert(book, fill.units * slip, fill.symbol[3:], fill.symbol, fill.price)


def rounded(amount: Decimal) -> Decimal:
    """Round money to a hundredth of a cent, half to even, so that sums stay exact."""
    return amount.quantize(_MONEY_STEP, rounding=ROUND_HALF_EVEN)


def _convert(book: Book, amount: Decimal, currency: str, symbol: str, price: Decimal) -> Decimal:
    if currency == book.config.account_currency:
        return amount
    return rounded(rates(book, symbol=symbol, price=price).convert(amount, currency))


def _rolls(after: datetime, until: datetime) -> Iterator[tuple[datetime, int]]:
    """Yield each 17:00 New York (in UTC) on which interest is due, and for how many days."""
    day = after.astimezone(NEW_YORK).date()
    while (roll := datetime.combine(day, _ROLL, tzinfo=NEW_YORK).astimezone(UTC)) <= until:
        days = _DAYS_OF_INTEREST.get(day.weekday())
        if roll > after and days is not None:
            yield roll, days
        day += _DAY
