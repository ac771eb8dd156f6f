"""What holds in the paper market whatever is ordered and whatever the prices do."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.domain.candle import Candle
from fxcast.domain.instrument import default_instrument
from fxcast.domain.order import Fill, FillReason, OrderIntent, OrderPurpose, OrderStatus, ProtectionChange, Side, Transaction
from fxcast.trading.config import CandleSide, PaperMarketConfig
from fxcast.trading.fill_simulation import Book, account, book_from_json, modify, observe, open_book, place
from tests.factories import HOUR, make_candle, make_intent

STARTS = {"EURUSD": 1.10, "GBPUSD": 1.25, "EURGBP": 0.88, "USDJPY": 110.0}
# Wednesday evening: a triple swap is near, the weekend and the change of clocks after it are in reach.
START = datetime.fromisoformat("2017-03-08T18:00+00:00")


@dataclass(frozen=True, slots=True)
class Seen:
    """A candle that the market observes."""

    symbol: str
    candle: Candle
    closed_at: datetime


Step = Seen | OrderIntent | ProtectionChange

PIPS = st.decimals("0", "5", places=1)
SHARES = st.sampled_from([0.0, 0.3])
RATES = st.dictionaries(st.sampled_from(sorted(STARTS)), st.decimals("-5", "5", places=2))
CONFIGS = st.builds(
    PaperMarketConfig,
    account_currency=st.sampled_from(["USD", "EUR", "GBP", "JPY"]),
    starting_balance=st.sampled_from([Decimal(3_000), Decimal(1_000_000)]),
    leverage=st.sampled_from([Decimal(30), Decimal(500)]),
    margin_closeout_pct=st.sampled_from([Decimal(0), Decimal(50), Decimal(100)]),
    spread_pips=PIPS,
    spread_pips_by_hour=st.dictionaries(st.integers(0, 23), PIPS, max_size=4),
    slippage_pips=st.decimals("0", "1", places=1),
    commission_per_million=st.sampled_from([Decimal(0), Decimal(35)]),
    swap_pct_long=RATES,
    swap_pct_short=RATES,
    latency_s=st.sampled_from([Decimal(0), Decimal("0.25"), Decimal(900), Decimal(3600), Decimal(9000)]),
    rejection_probability=SHARES,
    partial_fill_probability=SHARES,
    seed=st.integers(0, 5),
    candle_side=st.sampled_from(CandleSide),
)


def played(config: PaperMarketConfig, steps: Sequence[Step]) -> tuple[Book, list[Transaction]]:
    """Walk a new account through steps."""
    book, transactions = open_book(config), list[Transaction]()
    for step in steps:
        book = advanced(book, step, transactions)
    return book, transactions


def advanced(book: Book, step: Step, transactions: list[Transaction]) -> Book:
    match step:
        case Seen():
            book, new = observe(book, step.symbol, step.candle, step.closed_at)
            transactions += new
        case OrderIntent():
            book, _ = place(book, step)
        case ProtectionChange():
            book, _ = modify(book, step)
    return book


def widest(config: PaperMarketConfig, symbol: str) -> Decimal:
    """The widest spread of a symbol, and a pip."""
    return default_instrument(symbol).pip * (max([config.spread_pips, *config.spread_pips_by_hour.values()]) + 1)


def life(config: PaperMarketConfig, seed: int, hours: int = 40) -> list[Step]:
    """A random life of an account: candles with gaps, entries, closes of all or a part, changes of protection."""
    rng = np.random.default_rng(seed)
    prices, now, steps = dict(STARTS), START, list[Step]()
    book, transactions = open_book(config), list[Transaction]()

    def take(step: Step) -> None:
        nonlocal book
        steps.append(step)
        book = advanced(book, step, transactions)

    for number in range(hours):
        closed_at = now + HOUR
        for symbol, price in prices.items():
            digits = 3 if symbol.endswith("JPY") else 5
            sigma = price * float(rng.choice([0.0005, 0.002, 0.01]))
            open_ = round(price + float(rng.normal(0, sigma / 2)), digits)
            close = round(open_ + float(rng.normal(0, sigma)), digits)
            high = round(max(open_, close) + abs(float(rng.normal(0, sigma / 2))), digits)
            low = round(min(open_, close) - abs(float(rng.normal(0, sigma / 2))), digits)
            prices[symbol] = close
            take(Seen(symbol, make_candle(open_, high, low, close, open_time=now), closed_at))
        now = closed_at if rng.random() < 0.8 else closed_at + timedelta(hours=int(rng.integers(1, 60)))
        for symbol, price in prices.items():
            tick = Decimal("0.001") if symbol.endswith("JPY") else Decimal("0.00001")
            near = Decimal(str(price)).quantize(tick)
            reach = (near * Decimal(int(rng.integers(1, 200))) / 10_000).quantize(tick)
            position = book.positions.get(symbol)
            chance = rng.random()
            if position is None and chance < 0.4:
                side = Side.BUY if rng.random() < 0.5 else Side.SELL
                entry = make_intent(
                    symbol=symbol,
                    side=side,
                    units=1000 * int(rng.integers(1, 100)),
                    stop=str(near - side.sign * reach),
                    target=str(near + side.sign * reach) if rng.random() < 0.7 else None,
                    client_order_id=f"{symbol}-{number}",
                    created_at=closed_at,
                )
                take(entry)
            elif position is not None and chance < 0.15:
                close_ = make_intent(
                    symbol=symbol,
                    side=position.side.opposite,
                    units=1000 * int(rng.integers(1, int(position.units) // 1000 + 1)),
                    client_order_id=f"{symbol}-{number}-close",
                    purpose=OrderPurpose.CLOSE,
                    created_at=closed_at,
                )
                take(close_)
            elif position is not None and chance < 0.5:
                change = ProtectionChange(
                    change_id=f"{symbol}-{number}-p",
                    client_order_id=position.client_order_id,
                    symbol=symbol,
                    stop=near - position.side.sign * reach,
                    target=None if rng.random() < 0.3 else near + position.side.sign * reach,
                    reason="random",
                    created_at=closed_at,
                )
                take(change)
    return steps


@settings(deadline=None, max_examples=60)
@given(config=CONFIGS, seed=st.integers(0, 10_000))
def test_account_adds_up_at_every_step(config: PaperMarketConfig, seed: int) -> None:
    book, transactions = open_book(config), list[Transaction]()
    bought: dict[str, Decimal] = {}
    for step in life(config, seed):
        before = len(transactions)
        book = advanced(book, step, transactions)
        for each in transactions[before:]:
            if isinstance(each, Fill):
                bought[each.symbol] = bought.get(each.symbol, Decimal(0)) + each.side.sign * each.units
                assert (each.commission > 0) is (config.commission_per_million > 0)
        earned = (each.profit - each.commission if isinstance(each, Fill) else each.amount for each in transactions)
        now = account(book)
        assert now.balance == config.starting_balance + sum(earned, Decimal(0))
        assert now.equity == now.balance + now.open_profit
        assert (now.margin_used > 0) is bool(book.positions)
        held = {symbol: position.side.sign * position.units for symbol, position in book.positions.items()}
        assert held == {symbol: units for symbol, units in bought.items() if units}
        if isinstance(step, Seen) and config.margin_closeout_pct:
            assert not book.positions or now.equity > 0
    assert [each.sequence for each in transactions] == list(range(1, len(transactions) + 1))
    assert book.sequence == len(transactions)
    assert book_from_json(book.to_json()) == book


@settings(deadline=None, max_examples=60)
@given(config=CONFIGS, seed=st.integers(0, 10_000))
def test_no_fill_is_better_than_its_candle_and_no_position_outlives_its_stop(config: PaperMarketConfig, seed: int) -> None:
    book, transactions = open_book(config), list[Transaction]()
    for step in life(config, seed):
        before, known = book, len(transactions)
        book = advanced(book, step, transactions)
        if not isinstance(step, Seen):
            continue
        new = transactions[known:]
        fills = [each for each in new if isinstance(each, Fill) and each.symbol == step.symbol]
        for fill in fills:
            # Nobody buys below what the low could be asked at, nor sells above the high; a gapped target is what it was.
            room = widest(config, step.symbol)
            if fill.side is Side.BUY and fill.reason is not FillReason.TARGET:
                assert fill.price >= Decimal(str(step.candle.low)) - room
            if fill.side is Side.SELL and fill.reason is not FillReason.TARGET:
                assert fill.price <= Decimal(str(step.candle.high)) + room
            assert step.candle.open_time <= fill.filled_at <= step.closed_at
            position = before.positions.get(fill.symbol)
            if position is not None and fill.reason is FillReason.STOP:
                assert position.side.sign * (position.stop - fill.price) >= 0
            if position is not None and fill.reason is FillReason.TARGET:
                assert fill.price == position.target
        position = book.positions.get(step.symbol)
        if position is not None:
            touched = Decimal(str(step.candle.low if position.side is Side.BUY else step.candle.high))
            assert position.side.sign * (touched - position.stop) > -widest(config, step.symbol)


@settings(deadline=None, max_examples=40)
@given(config=CONFIGS, seed=st.integers(0, 10_000), order_of_repeats=st.randoms(use_true_random=False))
def test_repeated_orders_changes_and_candles_and_restarts_change_nothing(
    config: PaperMarketConfig, seed: int, order_of_repeats: random.Random
) -> None:
    steps = life(config, seed)
    expected = played(config, steps)
    book, transactions = open_book(config), list[Transaction]()
    past: list[OrderIntent | Seen] = []
    for step in steps:
        book = advanced(book, step, transactions)
        if isinstance(step, ProtectionChange):
            book = advanced(book, step, transactions)
        else:
            past.append(step)
        for repeated in order_of_repeats.sample(past, min(3, len(past))):
            book = advanced(book, repeated, transactions)
        if order_of_repeats.random() < 0.1:
            book = book_from_json(book.to_json())
    assert (book, transactions) == expected


@settings(deadline=None, max_examples=40)
@given(config=CONFIGS, seed=st.integers(0, 10_000))
def test_every_order_ends_with_a_status_that_tells_what_was_filled(config: PaperMarketConfig, seed: int) -> None:
    steps = life(config, seed)
    book, transactions = played(config, steps)
    by_order: dict[str, Decimal] = {}
    for each in transactions:
        if isinstance(each, Fill) and each.reason is FillReason.MARKET:
            by_order[each.client_order_id] = by_order.get(each.client_order_id, Decimal(0)) + each.units
    for intent in (step for step in steps if isinstance(step, OrderIntent)):
        answer = place(book, intent)[1]
        filled = by_order.get(intent.client_order_id, Decimal(0))
        assert answer.filled_units == filled
        assert (answer.status is OrderStatus.FILLED) is (filled == intent.units)
        if answer.status in {OrderStatus.REJECTED, OrderStatus.CANCELLED}:
            assert answer.reason
        if answer.status is OrderStatus.REJECTED:
            assert filled == 0


@given(
    config=CONFIGS,
    side=st.sampled_from(Side),
    latency_s=st.integers(1, 3599),
    ticks=st.tuples(st.integers(-300, 300), st.integers(0, 300), st.integers(0, 300)),
)
def test_latency_never_makes_an_entry_cheaper(
    config: PaperMarketConfig, side: Side, latency_s: int, ticks: tuple[int, int, int]
) -> None:
    close, above, below = (Decimal(each) / 100_000 for each in ticks)
    high, low = max(close, Decimal(0)) + above, min(close, Decimal(0)) - below
    flat = make_candle(1.1, 1.1, 1.1, 1.1, open_time=START - HOUR)
    candle = make_candle(1.1, *(float(Decimal("1.1") + each) for each in (high, low, close)), open_time=START)
    entry = make_intent(
        side=side, units=1000, stop="0.5" if side is Side.BUY else "2", target=None, created_at=START, symbol="EURUSD"
    )
    steps = [Seen("EURUSD", flat, START), entry, Seen("EURUSD", candle, START + HOUR)]
    always = config.model_copy(update={"account_currency": "USD", "rejection_probability": 0.0})
    prices: list[Decimal] = []
    for latency in (0, latency_s):
        _, (fill, *_) = played(always.model_copy(update={"latency_s": Decimal(latency)}), steps)
        assert isinstance(fill, Fill)
        prices.append(fill.price)
    assert side.sign * (prices[1] - prices[0]) >= 0
