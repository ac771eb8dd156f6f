"""The paper market of the tests: ask candles of one hour, a spread of 1.0 pip (0.00010) and a slippage of 0.2 pips (0.00002).

A candle that opens at 1.10000 offers 1.09990 to a seller and asks 1.10000 of a buyer.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from fxcast.domain.order import Fill, Financing, OrderIntent, OrderPurpose, OrderStatus, ProtectionChange, Side, Transaction
from fxcast.trading.config import CandleSide, PaperMarketConfig
from fxcast.trading.fill_simulation import Book, observe, open_book, place
from tests.factories import HOUR, NOON, make_candle, make_intent

CONFIG = PaperMarketConfig(
    starting_balance=Decimal(10_000),
    spread_pips=Decimal("1.0"),
    slippage_pips=Decimal("0.2"),
    candle_side=CandleSide.ASK,
)
FLAT = (1.10000, 1.10000, 1.10000, 1.10000)


def d(text: str) -> Decimal:
    return Decimal(text)


def configured(base: PaperMarketConfig = CONFIG, **changes: object) -> PaperMarketConfig:
    """The market with other settings, checked as any are."""
    return PaperMarketConfig.model_validate({**base.model_dump(), **changes})


def watch(
    book: Book, open_: float, high: float, low: float, close: float, *, at: datetime = NOON, symbol: str = "EURUSD"
) -> tuple[Book, tuple[Transaction, ...]]:
    """Let the book observe a one-hour candle that opens at `at`; return what happened."""
    return observe(book, symbol, make_candle(open_, high, low, close, open_time=at), at + HOUR)


def see(
    book: Book, open_: float, high: float, low: float, close: float, *, at: datetime = NOON, symbol: str = "EURUSD"
) -> tuple[Book, tuple[Fill, ...]]:
    """As `watch`, but return the fills alone."""
    book, transactions = watch(book, open_, high, low, close, at=at, symbol=symbol)
    return book, tuple(each for each in transactions if isinstance(each, Fill))


def quoted(config: PaperMarketConfig = CONFIG) -> Book:
    """A book that has seen one flat candle at 1.10000, closed at noon."""
    return see(open_book(config), *FLAT, at=NOON - HOUR)[0]


def taken(book: Book, intent: OrderIntent) -> Book:
    """Place an order that the market must take."""
    book, answer = place(book, intent)
    assert answer.status is OrderStatus.ACCEPTED, answer.reason
    return book


def filled(book: Book, intent: OrderIntent, candle: tuple[float, float, float, float] = FLAT) -> tuple[Book, tuple[Fill, ...]]:
    """Place at noon and observe the candle that opens then."""
    return see(taken(book, intent), *candle, symbol=intent.symbol)


def interest_of(transactions: Iterable[Transaction]) -> tuple[Financing, ...]:
    return tuple(each for each in transactions if isinstance(each, Financing))


def close_intent(
    side: Side, *, at: datetime, units: int | str = 10_000, client_order_id: str = "EURUSD-1-close", symbol: str = "EURUSD"
) -> OrderIntent:
    return make_intent(
        side=side, purpose=OrderPurpose.CLOSE, client_order_id=client_order_id, created_at=at, units=units, symbol=symbol
    )


def change(
    stop: str, target: str | None = "1.11000", *, client_order_id: str = "EURUSD-1-open", symbol: str = "EURUSD"
) -> ProtectionChange:
    return ProtectionChange(
        change_id=f"{client_order_id}-p1",
        client_order_id=client_order_id,
        symbol=symbol,
        stop=Decimal(stop),
        target=None if target is None else Decimal(target),
        reason="a test",
        created_at=NOON + HOUR,
    )
